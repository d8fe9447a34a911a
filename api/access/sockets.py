"""WebSockets into a service: raw TCP to one of its ports, and commands in its containers.

Both pass each frame on before they take the next, so that neither side can fill this process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, TypeVar

from fastapi import WebSocket, WebSocketDisconnect
from pydantic import Field, ValidationError

from activities.db.records import Actor, EnvironmentRecord, JsonObject
from activities.db.repositories import audit
from activities.db.tables import Role
from api.access.handshake import Handshake
from api.access.target import declared_service, is_up, why_not_ready
from api.envelope import ApiInput
from api.environments.documents import problem_field
from api.environments.service import known_blueprint
from api.open_streams import DONE, Ending
from api.problem_handlers import as_problem
from api.problems import ProblemError, RequestProblem
from api.sockets import close_with
from api.state import AppState
from clusters.errors import Forbidden, NotFound, NotStarted, Unavailable
from clusters.exchange import UpstreamBroke, UpstreamSilent
from clusters.objects import Manifest, ObjectRef
from workflows.domain.json_reading import children, mapping, text
from workflows.domain.names import ENVIRONMENT, NAME

if TYPE_CHECKING:
    from clusters.gateway import Cluster
    from clusters.interactive import Conversation

Model = TypeVar("Model", bound=ApiInput)

PROBLEM: Final = 4000
"""Close code of a socket that ended by a problem; the reason is its `code` and detail."""
_FIRST_MESSAGE_SECONDS: Final = 10.0
_STDIN: Final = 0
_STDERR: Final = 2
_SHELLS_WORDS: Final = {126: "permission denied", 127: "command not found in the container"}
"""What a shell says of a command that it cannot start, by the exit code that it ends with then."""


class Start(ApiInput):
    """The first message of a command's socket."""

    command: list[str] = Field(min_length=1, max_length=1_000)
    stdin: bool = False
    tty: bool = False
    width: int | None = Field(default=None, ge=1, le=10_000)
    height: int | None = Field(default=None, ge=1, le=10_000)
    pod: str | None = Field(default=None, max_length=253)


class Control(ApiInput):
    """A later text message."""

    end_input: bool = Field(default=False, alias="endInput")
    width: int | None = Field(default=None, ge=1, le=10_000)
    height: int | None = Field(default=None, ge=1, le=10_000)


async def serve_tunnel(websocket: WebSocket, least: Role, environment_id: str, named: str) -> None:
    """Carry bytes between the socket's binary frames and a port of a service."""
    shake = Handshake(websocket)
    try:
        actor = await shake.actor(least)
        state = shake.state
        target, _ = await state.wakes.target(state, actor, environment_id, named)
        cluster = await state.clusters.get(target.record.cluster)
        data: JsonObject = {"service": target.service.name, "port": target.port.container_port}
        await _note_in_audit(state, actor, "service.tunnel", target.record, data)
        with state.access.admitted():
            await _tunnel(
                shake,
                cluster,
                (target.record.namespace, target.pod, target.port.container_port),
                lambda: state.activity.note(actor.organization_id, target.record.id),
            )
    except WebSocketDisconnect:
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the client is told as far as it concerns it
        await _end_with(shake, error)


async def _tunnel(
    shake: Handshake, cluster: Cluster, where: tuple[str, str, int], note: Callable[[], None]
) -> None:
    async with cluster.tunnel(*where) as tunnel:
        await shake.open()
        note()

        async def inward() -> None:
            while True:
                message = await shake.websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if message.get("bytes"):
                    await tunnel.send(message["bytes"])
                    note()

        async def outward() -> None:
            while data := await tunnel.receive():
                note()
                await shake.websocket.send_bytes(data)
            await close_with(shake.websocket, DONE)

        await _first_of(inward, outward, shake.state.settings.proxy_total_seconds)


async def serve_exec(websocket: WebSocket, least: Role, environment_id: str, service: str) -> None:
    """Run a command in a container of a service; the first message says which."""
    shake = Handshake(websocket)
    try:
        actor = await shake.actor(least)
        state = shake.state
        record, blueprint = await known_blueprint(state, actor.organization_id, environment_id)
        name = declared_service(blueprint, service).name
        cluster = await state.clusters.get(record.cluster)
        with state.access.admitted():
            await shake.open()
            start = await _start_message(websocket)
            pod = await _running_pod(cluster, record, name, start.pod)
            command: JsonObject = {
                "service": name,
                "pod": pod,
                # Arguments may hold passwords.
                "command": PurePosixPath(start.command[0]).name[:100],
            }
            await _note_in_audit(state, actor, "service.exec", record, command)

            def note() -> None:
                state.activity.note(actor.organization_id, record.id)

            await _exec(shake, cluster, (record.namespace, pod, name), start, note)
    except WebSocketDisconnect:
        return
    except Exception as error:  # noqa: BLE001 - as above
        await _end_with(shake, error)


async def _exec(
    shake: Handshake, cluster: Cluster, where: tuple[str, str, str], start: Start, note: Callable[[], None]
) -> None:
    namespace, pod, container = where
    async with cluster.converse(
        namespace, pod, start.command, container=container, stdin=start.stdin, tty=start.tty
    ) as conversation:
        note()
        if start.tty and start.width and start.height:
            await conversation.resize(start.width, start.height)

        async def inward() -> None:
            await _take_input(shake.websocket, conversation, start, note)

        async def outward() -> None:
            async for channel, data in conversation.output():
                note()
                await shake.websocket.send_bytes(bytes((channel,)) + data)
            code = await _exit_code(shake, conversation, start.command[0])
            if code == 0:
                await _check_still_there(cluster, namespace, pod)
            await shake.websocket.send_text(json.dumps({"exitCode": code}))
            await close_with(shake.websocket, DONE)

        await _first_of(inward, outward, shake.state.settings.proxy_total_seconds)


async def _exit_code(shake: Handshake, conversation: Conversation, program: str) -> int:
    """Return how a command ended; one that could not be started ends as in a shell, and says why."""
    try:
        return conversation.exit_code()
    except NotStarted as error:
        code = code_of_a_shell(str(error))
        if code is None:
            raise
    told = f"{program}: {_SHELLS_WORDS[code]}\n".encode()
    await shake.websocket.send_bytes(bytes((_STDERR,)) + told)
    return code


def code_of_a_shell(said: str) -> int | None:
    """Return how a shell would end when runc or crun says this of a program; None for anything else."""
    said = said.lower()
    if "executable file not found" in said or "no such file or directory" in said:
        return 127
    if "permission denied" in said or "operation not permitted" in said:
        return 126
    return None


async def _take_input(
    websocket: WebSocket, conversation: Conversation, start: Start, note: Callable[[], None]
) -> None:
    """Hand input on until the client hangs up."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        note()
        if data := message.get("bytes"):
            if start.stdin and data[0] == _STDIN and len(data) > 1:
                await conversation.write(data[1:])
        elif (told := message.get("text")) is not None:
            control = _read(Control, told)
            if control.end_input and start.stdin:
                await conversation.end_input()
            if start.tty and control.width and control.height:
                await conversation.resize(control.width, control.height)


async def _check_still_there(cluster: Cluster, namespace: str, pod: str) -> None:
    """Doubt a success when the pod goes: the protocol reports one for a command that was cut with it."""
    live = await cluster.get(ObjectRef("Pod", pod, namespace))
    if live is None or text(live, "metadata", "deletionTimestamp"):
        raise Unavailable(
            f"pod {pod} was deleted meanwhile: whether the command came to its end is not known"
        )


async def _running_pod(cluster: Cluster, record: EnvironmentRecord, service: str, wanted: str | None) -> str:
    """Return a pod of the service whose container runs, a ready one if there is; ProblemError 404 or 503."""
    try:
        found = (
            await cluster.list("Pod", record.namespace, labels={ENVIRONMENT: record.id, NAME: service})
        ).items
    except (NotFound, Forbidden):
        found = ()
    if wanted is not None:
        found = tuple(pod for pod in found if text(pod, "metadata", "name") == wanted)
        if not found:
            raise ProblemError(
                RequestProblem.NOT_FOUND, f"The service {service!r} has no pod {wanted[:253]!r}."
            )
    running = [pod for pod in found if _runs(pod, service)]
    if not running:
        raise ProblemError(
            RequestProblem.SERVICE_NOT_READY,
            f"No container of the service {service!r} runs: {why_not_ready(found)}.",
        )
    running.sort(key=lambda pod: not is_up(pod))
    return text(running[0], "metadata", "name")


def _runs(pod: Manifest, container: str) -> bool:
    return any(
        text(status, "name") == container and mapping(status, "state", "running")
        for status in children(pod, "status", "containerStatuses")
    )


async def _start_message(websocket: WebSocket) -> Start:
    try:
        async with asyncio.timeout(_FIRST_MESSAGE_SECONDS):
            message = await websocket.receive()
    except TimeoutError as error:
        raise ProblemError(RequestProblem.BAD_REQUEST, "No first message came.") from error
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", DONE.code))
    return _read(Start, message.get("text") or "")


def _read(model: type[Model], told: str) -> Model:
    try:
        return model.model_validate_json(told)
    except ValidationError as error:
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "The message is not valid.",
            errors=[problem_field(fault) for fault in error.errors(include_url=False)],
        ) from error


async def _note_in_audit(
    state: AppState, actor: Actor, action: str, record: EnvironmentRecord, data: JsonObject
) -> None:
    async with state.database.transaction() as session:
        await audit.add_entry(session, actor, action, record.id, data)


async def _first_of(
    inward: Callable[[], Awaitable[None]], outward: Callable[[], Awaitable[None]], seconds: float
) -> None:
    """Run both directions until one ends; the other is broken off. Raises what it ended with."""
    tasks = [asyncio.ensure_future(inward()), asyncio.ensure_future(outward())]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise ProblemError(
                RequestProblem.UPSTREAM_TIMEOUT, f"It was open for {seconds:g} s, the longest."
            )
        # The way out first: it knows how it ended.
        for task in reversed(tasks):
            if task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end_with(shake: Handshake, error: Exception) -> None:
    """Tell the client why it ends: as an answer before the socket is open, after that as its last message."""
    if shake.opened:
        problem = socket_problem(error)
        try:
            await shake.websocket.send_text(json.dumps({"problem": shake.body(problem)}))
        except (RuntimeError, WebSocketDisconnect):
            return
        kind = problem.kind.value
        await close_with(shake.websocket, Ending(PROBLEM, kind, f"{kind}: {problem.detail}"))
    else:
        await shake.refuse(socket_problem(error))


def socket_problem(error: Exception) -> ProblemError:
    """Say what went wrong on a WebSocket into a service."""
    # Late, like the gateway: `aiohttp` comes with it.
    from clusters.tunnel import Cut, Refused  # noqa: PLC0415

    if isinstance(error, Refused | Cut | UpstreamBroke):
        return ProblemError(RequestProblem.UPSTREAM_FAILED, f"{error}.")
    if isinstance(error, UpstreamSilent):
        return ProblemError(RequestProblem.UPSTREAM_TIMEOUT, f"{error}.")
    if isinstance(error, NotFound):
        return ProblemError(RequestProblem.SERVICE_NOT_READY, "The pod went while it was asked.")
    return as_problem(error)
