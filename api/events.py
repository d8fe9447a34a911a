"""The event log as streams: one tail per process reads the database, however many clients listen.

An event's number is per environment and given out under the lock of its row, so that a reader which goes on
after a number misses nothing. A subscriber first reads what is behind it, then what the tail hands on. Who
resumes is told of what was forgotten meanwhile: the numbers have no other gaps.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog
from pydantic_core import to_json

from activities.db.engine import Database
from activities.db.records import EventRecord
from activities.db.repositories.bulk import last_event_numbers
from activities.db.repositories.events import after as events_after
from activities.db.tables import EventType
from api.open_streams import SLOW, STOPPING, Ending, OpenStream
from workflows.domain.operations import TERMINAL_STATES

POLL_SECONDS: Final = 0.25
PING_SECONDS: Final = 15.0
PAGE: Final = 500
BUFFER: Final = 2_000
"""Events kept for a subscriber that reads slowly; beyond that it is dropped, and may resume."""
GAP: Final = "gap"
"""The type, among those of events, of what tells that some were forgotten."""
_OUTAGE_SECONDS: Final = 2.0

_log = structlog.get_logger("perdure.api.events")


class EventLog(Protocol):
    """Where events are read from."""

    async def latest(self, environments: Sequence[str]) -> dict[str, int]:
        """The number of the last event of each environment."""
        ...

    async def after(
        self, organization_id: str, environment_id: str, number: int, limit: int
    ) -> Sequence[EventRecord]:
        """The events of an organisation's environment above a number, in order."""
        ...


@dataclass(slots=True, eq=False)
class Subscription:
    """One reader of one environment's events. `position`: the last number that it was given, or that is gone.

    `known`: a number that was given out before it began; what it does not find up to there is forgotten.
    """

    organization_id: str
    environment_id: str
    position: int
    log: EventLog
    known: int = 0
    _buffer: deque[EventRecord] = field(default_factory=deque)
    _behind: bool = True
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False
    slow: bool = False
    """It was closed because it did not keep up."""

    def offer(self, events: Sequence[EventRecord]) -> None:
        """Take events from the tail; a reader that was up to date and let its buffer run full is dropped."""
        if self._behind:
            return  # it reads the database next, where these are
        if len(self._buffer) + len(events) > BUFFER:
            self._buffer.clear()
            self.slow = True
            self.close()
            return
        self._buffer.extend(events)
        self._news.set()

    def look_again(self) -> None:
        """Read the database once more: the tail has only begun to follow this environment."""
        self._behind = True
        self._news.set()

    def close(self) -> None:
        """End the subscription: whoever waits gets an empty batch."""
        self.closed = True
        self._news.set()

    async def next(self, seconds: float) -> Sequence[EventRecord]:
        """Wait for events above `position`; empty after `seconds`, or when the subscription was closed.

        Empty at once, too, when there are none up to `known`: then `position` goes on to there.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.closed:
            before = self.position
            batch = await self._take()
            if batch or self.position > before:
                return batch
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                return ()
        return ()

    async def _take(self) -> Sequence[EventRecord]:
        self._news.clear()
        if self._behind:
            # What arrives while this reads is in the database or in the buffer by the time it is looked for.
            self._behind = False
            batch = await self.log.after(self.organization_id, self.environment_id, self.position, PAGE)
            whole = len(batch) < PAGE
            self._behind = self._behind or not whole
            self._reach(batch, self.known if whole else 0)
            return batch
        batch = [event for event in self._buffer if event.number > self.position]
        self._buffer.clear()
        self._reach(batch)
        return batch

    def _reach(self, batch: Sequence[EventRecord], known: int = 0) -> None:
        self.position = max(self.position, known, batch[-1].number if batch else 0)


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers of events that were forgotten before a reader that resumes had them."""

    environment_id: str
    first: int
    last: int


async def with_gaps(subscription: Subscription, seconds: float) -> Sequence[EventRecord | Gap]:
    """Wait as `Subscription.next` does, for events and for what is missing before, between and after them.

    Who begins at 0 has had nothing: then the first that is kept is the first.
    """
    position = subscription.position
    events = await subscription.next(seconds)
    return list(_joined(subscription.environment_id, position, events, subscription.position))


def _joined(
    environment_id: str, position: int, events: Sequence[EventRecord], reached: int
) -> Iterator[EventRecord | Gap]:
    for event in events:
        if position and event.number > position + 1:
            yield Gap(environment_id, position + 1, event.number - 1)
        yield event
        position = event.number
    if position and reached > position:
        yield Gap(environment_id, position + 1, reached)


@dataclass(frozen=True, slots=True)
class DatabaseLog:
    """The event log in the database, a short reading transaction per call."""

    database: Database

    async def latest(self, environments: Sequence[str]) -> dict[str, int]:
        """The number of the last event of each environment."""
        async with self.database.reading() as session:
            return await last_event_numbers(session, environments)

    async def after(
        self, organization_id: str, environment_id: str, number: int, limit: int
    ) -> Sequence[EventRecord]:
        """The events of an organisation's environment above a number, in order."""
        async with self.database.reading() as session:
            return await events_after(session, organization_id, environment_id, number, limit=limit)


class EventTail:
    """Reads new events of all environments that somebody listens to, and hands them on."""

    def __init__(self, log: EventLog, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._log = log
        self._poll_seconds = poll_seconds
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._positions: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @asynccontextmanager
    async def subscribe(
        self, organization_id: str, environment_id: str, after: int, *, known: int = 0
    ) -> AsyncIterator[Subscription]:
        """Listen to the events above a number of an environment, which is one of this organisation.

        `known`: the number of its last event as it was read before this.
        """
        subscription = Subscription(organization_id, environment_id, after, self._log, known)
        if self._closed:
            subscription.close()
        self._subscriptions.setdefault(environment_id, set()).add(subscription)
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._run(), name="event-tail")
        try:
            yield subscription
        finally:
            listeners = self._subscriptions[environment_id]
            listeners.discard(subscription)
            if not listeners:
                del self._subscriptions[environment_id]
                self._positions.pop(environment_id, None)

    async def close(self) -> None:
        """End all subscriptions and stop reading."""
        self._closed = True
        for listeners in self._subscriptions.values():
            for subscription in listeners:
                subscription.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while self._subscriptions:
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - a tail that ends would leave its listeners waiting for ever
                _log.warning("event_tail_failed", exc_info=True)
                await asyncio.sleep(_OUTAGE_SECONDS)
            await asyncio.sleep(self._poll_seconds)
        self._task = None

    async def _look(self) -> None:
        latest = await self._log.latest(list(self._subscriptions))
        for environment_id, number in latest.items():
            if environment_id not in self._subscriptions:
                continue
            known = self._positions.get(environment_id)
            if known is None:
                # First sight: subscribers read for themselves what is up to here, and anything they miss.
                self._positions[environment_id] = number
                self._hand_on(environment_id, None)
            elif number > known:
                organization_id = next(iter(self._subscriptions[environment_id])).organization_id
                events = await self._log.after(organization_id, environment_id, known, PAGE)
                if events:
                    self._positions[environment_id] = events[-1].number
                    self._hand_on(environment_id, events)

    def _hand_on(self, environment_id: str, events: Sequence[EventRecord] | None) -> None:
        for subscription in self._subscriptions.get(environment_id, ()):
            if events is None:
                subscription.look_again()
            else:
                subscription.offer(events)


def ends_operation(event: EventRecord, operation_id: str) -> bool:
    """Whether this is the last event of an operation: the one that says how it ended."""
    return (
        event.type is EventType.OPERATION
        and event.operation_id == operation_id
        and event.data.get("state") in TERMINAL_STATES
    )


def event_json(event: EventRecord | Gap) -> bytes:
    """Write an event, or a gap between them, as every stream has it: one line of JSON."""
    if isinstance(event, Gap):
        # Its number is one to resume after, as that of an event is.
        gone = {"from": event.first, "to": event.last}
        return to_json(
            {"number": event.last, "type": GAP, "environmentId": event.environment_id, "data": gone}
        )
    data = {
        "number": event.number,
        "type": event.type,
        "environmentId": event.environment_id,
        **({} if event.operation_id is None else {"operationId": event.operation_id}),
        "at": event.at,
        "data": event.data,
    }
    return to_json(data)


def sse(event: EventRecord | Gap) -> bytes:
    """Write an event for SSE: `id` is its number, `event` its type, `data` the JSON."""
    number, type_ = (event.last, GAP) if isinstance(event, Gap) else (event.number, event.type)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, type_.encode(), event_json(event))


def sse_end(ending: Ending) -> bytes:
    """Write why a stream was ended by us, as its last event; it has no number."""
    data = {"code": ending.code, "name": ending.name, "reason": ending.reason}
    return b"event: end\ndata: %b\n\n" % to_json(data)


async def stream(  # noqa: PLR0913 - a stream is chosen by where, from when, which, and until when
    tail: EventTail,
    organization_id: str,
    environment_id: str,
    after: int,
    *,
    open_stream: OpenStream,
    wanted: Callable[[EventRecord], bool],
    last: Callable[[EventRecord], bool],
    known: int,
    ends_there: bool = False,
    ping_seconds: float = PING_SECONDS,
) -> AsyncIterator[bytes]:
    """The body of an event stream: ends after what `last` picks, or with the process.

    `known`: number of the last event as it was read before; `ends_there`: nothing is to come after that.
    """
    if ends_there and after >= known:
        yield b": end\n\n"
        return
    async with tail.subscribe(organization_id, environment_id, after, known=known) as subscription:
        open_stream.on_end(subscription.close)
        yield b"retry: 1000\n\n"
        while True:
            events = await with_gaps(subscription, ping_seconds)
            for event in events:
                if isinstance(event, Gap) or wanted(event):
                    yield sse(event)
                if not isinstance(event, Gap) and last(event):
                    yield b": end\n\n"
                    return
            if ends_there and subscription.position >= known:
                yield b": end\n\n"
                return
            if subscription.slow:
                open_stream.end(SLOW)
            if subscription.closed and open_stream.ending not in (None, STOPPING):
                yield sse_end(open_stream.ending)
                return
            if subscription.closed:
                yield b": the server is stopping; reconnect\n\n"
                return
            if not events:
                yield b": ping\n\n"
