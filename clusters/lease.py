"""Protection against a process that was frozen: it must not write once others may have taken over."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from clusters.errors import LeaseLost

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def running_time() -> float:
    """Return seconds of a clock that never goes back and counts the time a machine was suspended."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


class Lease:
    """Proof that this process has been running all the time, kept by a task of its own.

    `async with Lease() as lease:` starts the task; `check()` raises `LeaseLost` when it has not run for
    longer than `limit` seconds. Once lost it stays lost, also when the process goes on: what was read before
    the freeze is stale, and the way back is a new attempt with a new lease.
    """

    def __init__(
        self, *, limit: float = 8.0, interval: float = 1.0, clock: Callable[[], float] = running_time
    ) -> None:
        self._limit = limit
        self._interval = interval
        self._clock = clock
        self._seen = clock()
        self._lost = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the ticker."""
        self._seen = self._clock()
        self._task = asyncio.create_task(self._tick(), name="cluster-lease")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the ticker. The lease is lost afterwards."""
        self._lost = True
        if self._task is not None:
            self._task.cancel()

    @property
    def lost(self) -> bool:
        """Return whether the lease is lost, by now."""
        if self._clock() - self._seen > self._limit:
            self._lost = True
        return self._lost

    def check(self) -> None:
        """Raise `LeaseLost` unless the lease is held."""
        if self.lost:
            raise LeaseLost(
                f"the lease has ended: the process stood still for over {self._limit:g} s, or is done"
            )

    async def _tick(self) -> None:
        while not self.lost:
            self._seen = self._clock()
            await asyncio.sleep(self._interval)
