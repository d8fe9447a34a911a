"""WebSockets of applications through the service proxy: messages and close codes pass, both ways.

Each has a connection of its own to one ready pod. A message is passed on before the next is taken, so that
who reads slowly slows the other side, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
from fastapi import WebSocket, WebSocketDisconnect
from starlette.responses import Response

from activities.db.errors import Deleting
from activities.db.records import Actor
from activities.db.tables import EventType, Role
from api.access.handshake import PROTOCOL, Handshake
from api.access.headers import ANSWERED_BY, request_headers, response_headers
from api.access.paths import service_path, service_query
from api.access.sockets import socket_problem
from api.access.target import ServiceTarget
from api.access.upstream_socket import Answered, Closed, UpstreamSocket
from api.auth import BEARER
from api.middleware import nothing_there
from api.open_streams import Ending, OpenStream
from api.problems import ProblemError, RequestProblem
from api.sockets import close_with
from api.state import AppState
from clusters.errors import ClusterError
from clusters.exchange import Headers, UpstreamBroke, UpstreamSilent
from workflows.domain.operations import OperationKind

DELETED: Final = Ending(4410, "deleted", "the environment is being deleted")
IDLE: Final = Ending(4504, "upstream_timeout", "nothing passed for too long")
TOO_LONG: Final = Ending(4504, "upstream_timeout", "it was open for too long")
_NO_CODE: Final = 1005
_NORMAL: Final = 1000
_GOING_AWAY: Final = 1001
_MINUTE: Final = 60.0

_log = structlog.get_logger("perdure.api.proxy")


@dataclass(frozen=True, slots=True)
class _Left:
    """The client has left."""

    code: int
    reason: str


async def serve(websocket: WebSocket, least: Role, environment_id: str, named: str) -> None:
    """Open a WebSocket to a service, then one to the client, and carry messages until either side closes."""
    shake = Handshake(websocket)
    try:
        if "\0" in websocket.scope["path"]:
            raise nothing_there()
        actor = await shake.actor(least)
        state = shake.state
        path = service_path(websocket.scope["raw_path"])
        query = service_query(websocket.scope["query_string"])
        state.streams.admit(actor)
        target, _ = await state.wakes.target(state, actor, environment_id, named)
        if target.record.delete_requested_at is not None:
            raise Deleting(target.record.id, target.record.name)
        with state.access.admitted(), state.streams.open(actor) as stream:
            await _Carried(shake, target, actor, stream).serve(path, query)
    except WebSocketDisconnect:
        return
    except Answered as answered:
        await _hand_on(websocket, target, path, answered)
    except Exception as error:  # noqa: BLE001 - whatever it is, the client is told as far as it concerns it
        await _refuse(shake, error)


class _Carried:
    """One WebSocket of an application and the client's that belongs to it."""

    def __init__(self, shake: Handshake, target: ServiceTarget, actor: Actor, stream: OpenStream) -> None:
        self._shake = shake
        self._socket = shake.websocket
        self._state: AppState = shake.state
        self._target = target
        self._actor = actor
        self._stream = stream

    async def serve(self, path: bytes, query: bytes) -> None:
        """Open both, carry, close both. What goes wrong before the client's is open is raised."""
        record, port = self._target.record, self._target.port.container_port
        offered = [str(name) for name in self._socket.scope.get("subprotocols", ())]
        # Ours are spoken with us alone, and one of them is the key.
        theirs = [name for name in offered if name != PROTOCOL and not name.startswith(BEARER)]
        cluster = await self._state.clusters.get(record.cluster)
        try:
            async with cluster.tunnel(record.namespace, self._target.pod, port) as tunnel:
                upstream = UpstreamSocket(tunnel, host=self._target.host, subprotocols=theirs)
                async with upstream.writing():
                    chosen = await self._open(upstream, path + (b"?" + query if query else b""))
                    # Ours in its place: a browser that offered some takes no answer without one.
                    await self._shake.open(chosen)
                    self._note()
                    await self._carry(upstream)
        except (UpstreamBroke, UpstreamSilent, ClusterError):
            self._state.targets.forget(self._target)
            raise

    async def _open(self, upstream: UpstreamSocket, address: bytes) -> str | None:
        limit = self._state.settings.proxy_answer_seconds
        try:
            async with asyncio.timeout(limit):
                return await upstream.open(address, self._headers())
        except TimeoutError as error:
            raise UpstreamSilent(f"no answer to the handshake within {limit:g} s") from error

    def _headers(self) -> Headers:
        try:
            return request_headers(
                self._socket.scope["headers"],
                host=self._target.host,
                prefix=self._target.prefix,
                request_id=self._shake.request_id,
            )
        except ValueError as error:
            raise ProblemError(
                RequestProblem.BAD_REQUEST, f"The request cannot be handed on: {error}."
            ) from error

    async def _carry(self, upstream: UpstreamSocket) -> None:
        """Carry until something ends it, and tell both sides."""
        ended = await self._first_end(upstream)
        match ended:
            case _Left(code=code, reason=reason):
                await upstream.close(code, reason)
            case Ending():
                _log.info("proxied_socket_ended", environment=self._target.record.id, code=ended.code)
                await close_with(self._socket, _ours(ended))
                await upstream.close(_GOING_AWAY, "")
            case Closed(code=code, reason=reason):
                ending = Ending(_NORMAL if code == _NO_CODE else code, "closed", reason)
                await close_with(self._socket, ending)
                await upstream.close(_GOING_AWAY, "")

    async def _first_end(self, upstream: UpstreamSocket) -> _Left | Ending | Closed:
        """Run both directions and the watches; return what ended first."""
        ways: dict[str, Callable[[], Awaitable[_Left | Ending | None]]] = {
            "told": self._told,
            "outward": lambda: self._outward(upstream),
            "deleted": self._deleted,
            "idle": lambda: self._idle(upstream),
            "inward": lambda: self._inward(upstream),
        }
        tasks = [asyncio.ensure_future(way()) for way in ways.values()]
        try:
            seconds = self._state.settings.proxy_total_seconds
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            # In their order: the way out knows better how it ended than the way in.
            for task in tasks:
                if task in done and (ended := _end_of(task)) is not None:
                    return ended
            return TOO_LONG
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _inward(self, upstream: UpstreamSocket) -> _Left:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return _Left(int(message.get("code") or _NO_CODE), str(message.get("reason") or ""))
            self._note()
            text = message.get("text")
            await upstream.send(text if text is not None else message.get("bytes") or b"")

    async def _outward(self, upstream: UpstreamSocket) -> None:
        while True:
            message = await upstream.receive()
            self._note()
            if isinstance(message, str):
                await self._socket.send_text(message)
            else:
                await self._socket.send_bytes(message)

    async def _told(self) -> Ending | None:
        await self._stream.ended()
        return self._stream.ending

    async def _deleted(self) -> Ending:
        record = self._target.record
        organization_id, after = self._actor.organization_id, record.last_event
        while True:
            async with self._state.tail.subscribe(organization_id, record.id, after) as events:
                while not events.closed:
                    for event in await events.next(_MINUTE):
                        deletes = event.data.get("kind") == OperationKind.DELETE.value
                        if event.type is EventType.OPERATION and deletes:
                            return DELETED
                after = events.position
                if not events.slow:
                    # The process stops, and says so in another way.
                    await asyncio.get_running_loop().create_future()

    async def _idle(self, upstream: UpstreamSocket) -> Ending:
        loop, limit = asyncio.get_running_loop(), self._state.settings.proxy_idle_seconds
        while True:
            left = upstream.last_frame + limit - loop.time()
            if left <= 0:
                return IDLE
            await asyncio.sleep(left)

    def _note(self) -> None:
        self._state.activity.note(self._actor.organization_id, self._target.record.id)


def _end_of(task: asyncio.Future[_Left | Ending | None]) -> _Left | Ending | Closed | None:
    fault = task.exception()
    match fault:
        case None:
            return task.result()
        case Closed():
            return fault
        case UpstreamBroke() | ClusterError():
            return Ending(4502, "upstream_failed", str(fault))
        case WebSocketDisconnect() | RuntimeError() | OSError():
            return _Left(_GOING_AWAY, "")
    raise fault


def _ours(ending: Ending) -> Ending:
    """Mark what we say of ourselves: an application may use any code."""
    return Ending(ending.code, ending.name, f"perdure: {ending.name}: {ending.reason}")


async def _hand_on(websocket: WebSocket, target: ServiceTarget, path: bytes, answered: Answered) -> None:
    """Answer the handshake with what the application answered."""
    response = Response(answered.body, answered.status)
    passed = response_headers(answered.headers, prefix=target.prefix, path=path, hosts=target.hosts)
    kept = [(name, value) for name, value in passed if name != b"content-length"]
    response.raw_headers = [*kept, (b"content-length", str(len(answered.body)).encode())]
    await websocket.send_denial_response(response)


async def _refuse(shake: Handshake, error: Exception) -> None:
    problem = socket_problem(error)
    if shake.opened:
        await close_with(shake.websocket, _ours(Ending(1011, problem.kind.value, problem.detail)))
        return
    problem.headers[ANSWERED_BY.decode()] = "perdure"
    await shake.refuse(problem)
