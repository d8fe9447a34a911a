"""How far an attempt is that moves data: counted as it goes by, told with each heartbeat."""

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from temporalio import activity

from activities._step import Life
from workflows.domain.transfer import TransferKind, TransferProgress

_BEATS: Final = 6
"""A rate is that of the last five times between heartbeats: ten seconds."""
_LEAST_SECONDS: Final = 1.0
"""A rate over less than this says nothing."""


@dataclass(slots=True)
class Meter:
    """Counts what one attempt moves, one stream after the other; `total`: bytes of all of them, if known."""

    life: Life
    kind: TransferKind
    total: int | None = None
    clock: Callable[[], float] = time.monotonic
    _service: str = ""
    _stream: str = ""
    _before: int = 0
    """Of the streams that are over."""
    _taken: int = 0
    _beats: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_BEATS))
    """When the count was told, and what it was."""

    def stream(self, service: str, name: str) -> Callable[[int], None]:
        """Begin with the next stream; return what is told how many bytes of it have gone by.

        It raises LeaseLost once this attempt is over: a process that stood still has been replaced by now,
        and what it goes on storing is nobody's.
        """
        self._before += self._taken
        self._taken = 0
        self._service, self._stream = service, name
        if not self._beats:
            self._beats.append((self.clock(), 0))
        self.life.progress = self.reading

        def told(taken: int) -> None:
            self.life.lease.check()
            self._taken = taken

        return told

    async def counting(self, service: str, name: str, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Yield what the source yields, as the next stream. Raises LeaseLost."""
        told = self.stream(service, name)
        taken = 0
        async for piece in source:
            taken += len(piece)
            told(taken)
            yield piece

    def reading(self) -> TransferProgress:
        """Return where it stands, for a heartbeat.

        The rate is that between these calls, so that a stream which has come to a halt is told as one.
        """
        now, done = self.clock(), self._before + self._taken
        self._beats.append((now, done))
        since, then = self._beats[0]
        return TransferProgress(
            kind=self.kind,
            service=self._service,
            stream=self._stream,
            attempt=activity.info().attempt,
            done_bytes=done,
            total_bytes=self.total,
            bytes_per_second=round((done - then) / (now - since)) if now - since >= _LEAST_SECONDS else None,
        )
