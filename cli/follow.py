"""Following an operation to its end: its events folded into what was last read of it."""

import json
import time
from collections.abc import Callable
from typing import Final, Protocol

from pydantic import JsonValue, ValidationError

from cli.client import Answer, ApiClient
from cli.errors import ApiUnreachable, WaitTimeout
from cli.models import STEP_ENDED, Failure, Operation, Progress, Step
from cli.problems import ApiError
from cli.stream import Connected, Event, EventFeed, Lost, Refused

REREAD_SECONDS: Final = 20.0
"""Without events for so long the operation is read anew: some proxies swallow streams."""
MOVING_SECONDS: Final = 2.0
"""While a step streams data: how far it is makes no events, for their log would grow with the data."""
AWAY_SECONDS: Final = 2.0
"""After a read that failed because the API is away."""
_TICK_SECONDS: Final = 1.0
_STEP_RANK: Final = {"pending": 0, "running": 1}
_STEP_FIELDS: Final = ("state", "attempt", "startedAt", "finishedAt", "failure", "blockedBy")


class Observer(Protocol):
    """Is told how an operation goes on."""

    def updated(self, operation: Operation) -> None:
        """Something changed (or may have)."""

    def lost(self, away: float) -> None:
        """The API has not been heard of for `away` seconds; it is tried again."""

    def restored(self) -> None:
        """The API answers again."""

    def missed(self, gone: str) -> None:
        """Events were forgotten before they were read; what they led to is read by other ways."""


def follow(
    client: ApiClient,
    operation_id: str,
    observer: Observer,
    *,
    timeout: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Answer[Operation]:
    """Wait until the operation is over; returns it as read after its end.

    `timeout` in seconds, None waits for ever. Raises WaitTimeout, ApiError, ApiUnreachable; KeyboardInterrupt
    passes through. The operation itself is never touched.
    """
    deadline = None if timeout is None else clock() + timeout
    reread_at = clock() + REREAD_SECONDS
    operation: Operation | None = None
    with EventFeed(client, lambda after: client.operation_events(operation_id, after=after)) as feed:
        while True:
            left = _TICK_SECONDS if deadline is None else min(_TICK_SECONDS, deadline - clock())
            item = feed.next(left)
            reread = False
            match item:
                case Connected():
                    observer.restored()
                    reread = True
                case Event(type="gap", data=data):
                    observer.missed(gone_of(data))
                    reread = True
                case Event(data=data):
                    changed = fold(operation, data) if operation is not None else None
                    reread = changed is None or changed.terminal
                    if changed is not None and not reread:
                        operation = changed
                        observer.updated(operation)
                        reread_at = clock() + REREAD_SECONDS if not changed.moving else reread_at
                        reread_at = min(reread_at, clock() + reread_after(changed))
                case Lost(away=away):
                    observer.lost(away)
                case Refused(error=error):
                    raise error
                case None:
                    reread = clock() >= reread_at
            if reread:
                answer = read_operation(client, operation_id)
                reread_at = clock() + reread_after(None if answer is None else answer.value)
                if answer is not None:
                    operation = answer.value
                    observer.updated(operation)
                    if operation.terminal:
                        return answer
            if deadline is not None and clock() >= deadline:
                raise WaitTimeout(f"Operation {operation_id} is not over after {timeout:g} s.")


def reread_after(operation: Operation | None) -> float:
    """Return in how many seconds to read an operation anew; None: the API did not answer."""
    if operation is None:
        return AWAY_SECONDS
    return MOVING_SECONDS if operation.moving else REREAD_SECONDS


def read_operation(client: ApiClient, operation_id: str) -> Answer[Operation] | None:
    """Read the operation; None while the API is away, which the feed notices and limits."""
    try:
        return client.operation(operation_id)
    except ApiUnreachable:
        return None
    except ApiError as error:
        if error.status < 500:
            raise
        return None


def fold(operation: Operation, data: str) -> Operation | None:
    """Return the operation with one event applied; None when the event tells too little to do so.

    A stream may begin with changes older than what was read: a step never goes back.
    """
    change = _change(data)
    detail = change.get("data")
    fields = {**change, **(detail if isinstance(detail, dict) else {})}
    name, state = fields.get("step"), fields.get("state")
    if fields.get("operationId", operation.id) != operation.id or not isinstance(state, str):
        return None
    if isinstance(name, str):
        return _with_step(operation, name, fields)
    if state == operation.state or operation.terminal or state == "accepted":
        return operation
    return operation.model_copy(update={"state": state})


def gone_of(data: str) -> str:
    """Say in one line which events a gap of a stream stands for."""
    numbers = _change(data).get("data")
    first, last = (numbers.get("from"), numbers.get("to")) if isinstance(numbers, dict) else (None, None)
    return f"events {first} to {last} are forgotten: they were too old to be kept"


def _with_step(operation: Operation, name: str, fields: dict[str, JsonValue]) -> Operation | None:
    steps = list(operation.steps)
    index = next((index for index, step in enumerate(steps) if step.name == name), None)
    changed = None if index is None else _step_after(steps[index], fields)
    if index is None or changed is None:
        return None
    steps[index] = changed
    return operation.model_copy(update={"steps": tuple(steps), "progress": _progress(steps)})


def _change(data: str) -> dict[str, JsonValue]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _step_after(step: Step, fields: dict[str, JsonValue]) -> Step | None:
    at = fields.get("at")
    wire = step.model_dump(mode="json", by_alias=True)
    wire |= {key: fields[key] for key in _STEP_FIELDS if fields.get(key) is not None}
    if wire["state"] == "running":
        if (wire["attempt"] or 0) > step.attempt:
            wire |= {"startedAt": fields.get("startedAt") or at, "finishedAt": None, "transfer": None}
        wire["startedAt"] = wire["startedAt"] or at
    elif wire["state"] in STEP_ENDED:
        wire["finishedAt"] = fields.get("finishedAt") or wire["finishedAt"] or at
    try:
        changed = Step.model_validate(wire)
    except ValidationError:
        return None
    older = (changed.attempt, _rank(changed)) < (step.attempt, _rank(step))
    return step if older else changed


def _rank(step: Step) -> int:
    return _STEP_RANK.get(step.state, 2)


def _progress(steps: list[Step]) -> Progress:
    return Progress(
        done=sum(step.state in {"succeeded", "skipped"} for step in steps),
        total=len(steps),
        running=tuple(step.name for step in steps if step.state == "running"),
    )


def current_failure(operation: Operation) -> Failure | None:
    """Return what to show as the reason of trouble: the operation's failure, else a failed step's."""
    if operation.failure is not None:
        return operation.failure
    return next((step.failure for step in operation.steps if step.failure is not None), None)
