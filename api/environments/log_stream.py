"""One client's stream of log lines: what was written before, then what is written.

The listener is registered before the past is read, and a line of the live part goes out only when it is later
than what the past had of its container. So the seam has neither a gap nor a repeat. A resumed stream has from
the listener, too, what the cluster does not have any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pydantic import Field

from activities.db.records import EnvironmentRecord
from api.envelope import ApiInput
from api.environments import service
from api.environments.log_hub import Line, LogListener, line_of
from api.environments.logs import MAX_LINES, Selection, check_service, read_entries
from api.events import PING_SECONDS, sse_end
from api.filters import Moment
from api.open_streams import FAILED, SLOW, STOPPING, OpenStream
from api.state import AppState

if TYPE_CHECKING:
    from clusters.gateway import Cluster

DEFAULT_TAIL: Final = 100
OVERLAP_SECONDS: Final = 10
"""Containers are read side by side, so that the last line received is not the last of each."""
_BYTES_PER_CONTAINER: Final = 4 * 1024 * 1024


class Following(ApiInput):
    """Which lines are wanted."""

    service: str | None = Field(default=None, max_length=63, description="Only this service")
    tail: int | None = Field(
        default=None,
        ge=0,
        le=MAX_LINES,
        description="Begin with so many last lines of each container; 100 unless a time is given. "
        "Not when it is resumed",
    )
    since: Moment | None = Field(default=None, description="Begin with lines not older than this time")
    since_seconds: int | None = Field(default=None, ge=1, le=30 * 86_400, description="Not older than this")
    after: Moment | None = Field(
        default=None,
        description="Resume: the timestamp of the last line that was received. Begins ten seconds before it",
    )

    def resumed_from(self) -> datetime | None:
        """When a resumed stream begins; None: it is a new one."""
        return None if self.after is None else self.after - timedelta(seconds=OVERLAP_SECONDS)

    def past(self) -> Selection:
        """The lines to begin with. What a stream is to begin with says nothing about one that is resumed."""
        since, tail = self.since, self.tail
        if self.after is not None:
            since, tail = self.resumed_from(), None
        timed = since is not None or self.since_seconds is not None
        if tail is None:
            tail = MAX_LINES if timed else DEFAULT_TAIL
        # A future `since` of a fast clock still has to give a valid age.
        since = None if since is None else min(since, datetime.now(UTC))
        return Selection.model_validate(
            {
                "service": self.service,
                "tail": max(tail, 1),
                "since": since,
                "sinceSeconds": self.since_seconds,
            }
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stream that may begin."""

    state: AppState
    record: EnvironmentRecord
    cluster: Cluster
    following: Following

    async def lines(self, stream: OpenStream) -> AsyncGenerator[Line | None, None]:
        """Yield lines; None when there was none for a while. Ends when the stream has been told to."""
        async with self.state.log_hub.listen(self.record, self.following.service) as listener:
            stream.on_end(listener.close)
            await listener.positioned()
            past = [] if listener.closed else await self._past(listener)
            last = {line.source: line.at for line in past}
            if self.following.tail == 0 and self.following.after is None:
                past = []
            # Containers are read at different moments when many ask at once. What came of the first ones
            # since goes between the lines of the others: who is cut here resumes by the last line it has.
            came = _unseen(await listener.next(0), last)
            for line in sorted([*past, *came], key=lambda line: line.at):
                yield line
            while True:
                lines = await listener.next(PING_SECONDS)
                for line in _unseen(lines, last):
                    yield line
                if listener.closed:
                    stream.end(SLOW if listener.slow else FAILED)
                    return
                if not lines:
                    yield None

    async def texts(self, stream: OpenStream) -> AsyncIterator[str]:
        """The stream as WebSocket messages; the server's pings keep it alive."""
        async with aclosing(self.lines(stream)) as lines:
            async for line in lines:
                if line is not None:
                    yield line.text

    async def sse(self, stream: OpenStream) -> AsyncIterator[bytes]:
        """The stream as server-sent events; the id of each is its line's timestamp."""
        yield b"retry: 1000\n\n"
        async with aclosing(self.lines(stream)) as lines:
            async for line in lines:
                if line is None:
                    yield b": ping\n\n"
                else:
                    yield f"id: {line.at}\nevent: log\ndata: {line.text}\n\n".encode()
        if stream.ending is STOPPING or stream.ending is None:
            yield b": the server is stopping; reconnect\n\n"
        else:
            yield sse_end(stream.ending)

    async def _past(self, listener: LogListener) -> list[Line]:
        since = self.following.resumed_from()
        if since is None:
            return await self._written(listener)
        # What is here, or comes here later, is taken from here alone: a container that is followed late may
        # lack here what the cluster has already, and its lines still come, in their order.
        here, lacks = listener.kept(since), listener.lacks()
        # The cluster is not asked without need: two hundred who come back would be as many lists of its pods.
        written = [] if listener.has_all(since) else await self._written(listener)
        before = [line for line in written if line.at <= lacks.get(line.source, "")]
        return sorted([*before, *here], key=lambda line: line.at)

    async def _written(self, listener: LogListener) -> list[Line]:
        entries = await read_entries(
            self.cluster, self.record, self.following.past(), limit_bytes=_BYTES_PER_CONTAINER
        )
        redactor = listener.environment.redactor
        return await asyncio.to_thread(
            lambda: [
                line_of(entry.model_copy(update={"line": redactor.redact(entry.line)})) for entry in entries
            ]
        )


def _unseen(lines: Iterable[Line], last: dict[tuple[str, str], str]) -> list[Line]:
    """Those that are later than the last one of their container, which they are from then on."""
    found = []
    for line in lines:
        if line.at > last.get(line.source, ""):
            last[line.source] = line.at
            found.append(line)
    return found


async def prepare(
    state: AppState, organization_id: str, environment_id: str, following: Following
) -> Prepared:
    """Find what is to be followed. Raises NotFound, ProblemError and ClusterError."""
    if following.service is None:
        record = await service.known_environment(state, organization_id, environment_id)
    else:
        record, blueprint = await service.known_blueprint(state, organization_id, environment_id)
        check_service(blueprint, following.service)
    return Prepared(state, record, await state.clusters.get(record.cluster), following)
