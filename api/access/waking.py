"""Use wakes what went to sleep for want of use: one resume, however many ask, and the requests wait for it.

Nothing that counts is kept here: the resume is a row, accepted under the environment's lock, and goes on
without this process and without those who asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from activities.db.acceptance import Accepted, may_be_woken, wake_environment
from activities.db.records import Actor, JsonObject, OperationRecord
from activities.db.repositories import operations
from activities.db.tables import EventType
from activities.db.types import utc_now
from api.access.target import ServiceTarget
from api.deferred import start_workflow
from api.events import Subscription, ends_operation
from api.problems import ProblemError, RequestProblem
from api.state import AppState
from workflows.domain.operations import (
    EnvironmentPhase,
    OperationKind,
    OperationState,
    StepKind,
    StepState,
)

RETRY_SECONDS: Final = 5
MOST_HELD: Final = 256
"""Requests that wait in one process; what comes on top is answered at once, and wakes all the same."""
MOST_HELD_OF_ONE: Final = 64
"""As many of them may wait for one environment: others have theirs."""
UNBEGUN_SECONDS: Final = 10
"""With a worker an operation begins within a second."""
_LONGEST_SECONDS: Final = 900.0
"""Longest that a wake is followed; whoever asks after that begins to follow anew."""
_UP: Final = frozenset({StepState.SUCCEEDED.value, StepState.SKIPPED.value})

_log = structlog.get_logger("perdure.api.waking")


class _Wake:
    """An environment that is being woken, as far as this process knows; many requests wait on one."""

    def __init__(self) -> None:
        self.operation: OperationRecord | None = None
        """What is waited for: the stop that is under way, then the resume."""
        self.begun = False
        """Whether a worker has taken it up."""
        self.up: set[str] = set()
        """Services that the resume has brought up."""
        self.state: str = ""
        """How the resume ended."""
        self.over = False
        """Nothing more will be known here."""
        self.settled = False
        """It was followed to its end: the environment is awake, or is not going to be."""
        self.fault: Exception | None = None
        self.waiting = 0
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, seconds: float | None) -> None:
        """Wait until something changed, for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    @property
    def unsuccessful(self) -> bool:
        """Whether the resume ended in another way than well."""
        return self.state not in ("", OperationState.SUCCEEDED.value)


class Wakes:
    """The environments that requests of this process wait for."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, str], _Wake] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0

    async def target(
        self, state: AppState, actor: Actor, environment_id: str, named: str
    ) -> tuple[ServiceTarget, bool]:
        """Return the target of `service` or `service:port`, and whether it was waited for.

        An environment that the sweeper put to sleep is woken as the actor, who may resume it, and its service
        is waited for. Raises as `Targets.find` does, and ProblemError 503 `waking` when that takes longer.
        """
        found: ServiceTarget | None = None
        unready: ProblemError | None = None
        try:
            found = await state.targets.find(state, actor.organization_id, environment_id, named)
        except ProblemError as error:
            if error.kind is not RequestProblem.SERVICE_NOT_READY:
                raise
            unready = error
        # The pods of an environment that is being stopped would be gone before they have answered.
        if found is not None and found.record.phase is not EnvironmentPhase.STOPPING:
            return found, False
        service = named.partition(":")[0]
        wake = await self._wake(state, actor, environment_id, service)
        if wake is not None:
            await self._wait(state, wake, service)
            return await _after(state, actor, environment_id, named, wake), True
        if found is None:
            assert unready is not None  # noqa: S101 - one of the two is there
            raise unready
        return found, False

    async def close(self) -> None:
        """Follow nothing any longer; what was accepted goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wake(self, state: AppState, actor: Actor, environment_id: str, service: str) -> _Wake | None:
        key = (actor.organization_id, environment_id)
        if key not in self._under_way:
            async with state.database.reading() as session:
                if not await may_be_woken(session, *key):
                    return None
        known = self._under_way.get(key)
        if known is None:
            known = self._under_way[key] = _Wake()
            # Of nobody's request: who leaves ends nothing.
            task = asyncio.create_task(self._see_to(state, actor, environment_id, service, known))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return known

    async def _see_to(
        self, state: AppState, actor: Actor, environment_id: str, service: str, wake: _Wake
    ) -> None:
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                while await _step(state, actor, environment_id, service, wake):
                    pass
        except TimeoutError:
            _log.warning("wake_not_followed_further", environment=environment_id)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it, as if it were of their own request
            wake.fault = error
        finally:
            del self._under_way[actor.organization_id, environment_id]
            wake.over = True
            wake.tell()

    async def _wait(self, state: AppState, wake: _Wake, service: str) -> None:
        """Return once the service is up, or nothing more is to be expected. ProblemError 503 `waking`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + state.settings.wake_hold_seconds
        with self._counted(wake) as held:
            while not wake.over and service not in wake.up:
                left = deadline - loop.time() if held else 0.0
                if wake.operation is not None and left <= 0:
                    raise still_waking(wake.operation, begun=wake.begun)
                # Until there is an operation, a transaction is waited for.
                await wake.changed(None if wake.operation is None else left)

    @contextmanager
    def _counted(self, wake: _Wake) -> Iterator[bool]:
        held = self._held < MOST_HELD and wake.waiting < MOST_HELD_OF_ONE
        if not held:
            yield False
            return
        self._held += 1
        wake.waiting += 1
        try:
            yield True
        finally:
            self._held -= 1
            wake.waiting -= 1


def still_waking(operation: OperationRecord, *, begun: bool) -> ProblemError:
    """The answer for what cannot wait any longer; it says so when nobody takes the operation up."""
    what = (
        "is still going to sleep, and is woken then" if operation.kind is OperationKind.STOP else "wakes up"
    )
    seconds = int((utc_now() - operation.created_at).total_seconds())
    late = ""
    if not begun and seconds >= UNBEGUN_SECONDS:
        late = f" No worker has begun that for {seconds} s: there may be none, `perdure doctor` shows it."
    return ProblemError(
        RequestProblem.WAKING,
        f"The environment was asleep, as nobody used it. It {what}: operation {operation.id}.{late}",
        headers={"Retry-After": str(RETRY_SECONDS)},
        extensions={"operationId": operation.id, "operationKind": operation.kind.value},
    )


async def _after(
    state: AppState, actor: Actor, environment_id: str, named: str, wake: _Wake
) -> ServiceTarget:
    """Find the target of an environment that is awake, or has not been woken."""
    if wake.fault is not None:
        raise wake.fault
    try:
        return await state.targets.find(state, actor.organization_id, environment_id, named)
    except ProblemError as error:
        operation = wake.operation
        if error.kind is not RequestProblem.SERVICE_NOT_READY or operation is None:
            raise
        if wake.over and not wake.settled:
            # This process stops, or followed it for too long.
            raise still_waking(operation, begun=wake.begun) from error
        if wake.unsuccessful:
            raise ProblemError(
                RequestProblem.SERVICE_NOT_READY,
                f"The environment was asleep and could not be woken: operation {operation.id} ended as "
                f"{wake.state}. {error.detail}",
                headers=error.headers,
                extensions={**error.extensions, "operationId": operation.id},
            ) from error
        raise


async def _step(state: AppState, actor: Actor, environment_id: str, service: str, wake: _Wake) -> bool:
    """Wake the environment, and follow what it waits for to its end; whether there is more to do then."""
    async with state.database.transaction() as session:
        accepted = await wake_environment(session, actor, environment_id, service, keys=state.master_keys)
    if accepted is None:
        wake.settled = True
        return False
    if not accepted.repeated:
        _log.info("environment_woken", environment=environment_id, operationId=accepted.operation.id)
        start_workflow(state, accepted)
    wake.operation = accepted.operation
    wake.begun = accepted.operation.state is not OperationState.ACCEPTED
    wake.tell()
    after = accepted.environment.last_event
    async with state.tail.subscribe(actor.organization_id, environment_id, after) as events:
        ended = await _follow(state, events, accepted, wake)
    if accepted.operation.kind is OperationKind.STOP:
        return ended
    wake.settled = ended
    return False


async def _follow(state: AppState, events: Subscription, accepted: Accepted, wake: _Wake) -> bool:
    """Note which services come up, until the operation ends; False: there is nothing more to read before."""
    operation = accepted.operation
    resuming = operation.kind is OperationKind.RESUME
    if resuming and accepted.repeated:
        async with state.database.reading() as session:
            steps = await operations.steps(session, operation.organization_id, operation.id)
        wake.up |= {
            step.service
            for step in steps
            if step.kind is StepKind.SERVICE and step.service and step.state.value in _UP
        }
        wake.tell()
    while not events.closed:
        for event in await events.next(_LONGEST_SECONDS):
            # After the event of its acceptance the next one is that of its begin.
            wake.begun |= event.operation_id == operation.id
            if ends_operation(event, operation.id):
                if resuming:
                    wake.state = str(event.data["state"])
                return True
            if resuming and event.operation_id == operation.id and event.type is EventType.STEP:
                _note_step(wake, event.data)
    return False


def _note_step(wake: _Wake, data: JsonObject) -> None:
    service = data.get("service")
    if data.get("kind") == StepKind.SERVICE.value and data.get("state") in _UP and isinstance(service, str):
        wake.up.add(service)
        wake.tell()
