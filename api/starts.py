"""Workflow starts beside the requests: a committed operation is answered at once and started right after.

A start costs the Temporal server more than the whole acceptance costs this process. Waited for, a burst of
requests would each wait for the starts of all the others; a few at a time, the answers come first. And what
is started works too, on a small machine with the same processors: while a crowd writes, each start steps
back for a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from activities.temporal import OperationStart, TemporalError, WorkflowStarter
from api.metrics import Metrics

AT_ONCE: Final = 4
"""Starts under way at the same time."""
MOST_WAITING: Final = 1_000
"""What comes on top is left to the reconciler at once."""
START_SECONDS: Final = 3.0
"""Longest wait for Temporal to take one; also how long a stopping process goes on starting."""
CROWD: Final = 4
"""So many requests that write, or wait for their turn to, are a crowd: each waits for those before it."""
STEP_BACK_SECONDS: Final = 4.0
"""A start that was put so long ago steps back no longer, however many write: soon after, the reconciler would
make it."""
_LOOK_SECONDS: Final = 0.05

_log = structlog.get_logger("perdure.api")


class WorkflowStarts:
    """The operations that this process has committed and not yet started.

    Nothing is lost with them: they are rows, and the reconciler starts those that nobody has begun.
    """

    def __init__(self, starter: WorkflowStarter, metrics: Metrics, writers: Callable[[], int]) -> None:
        """`writers`: how many requests write now, or wait for their turn to."""
        self._starter = starter
        self._metrics = metrics
        self._writers = writers
        self._waiting: asyncio.Queue[tuple[float, OperationStart]] = asyncio.Queue(MOST_WAITING)
        """With the time until which each may step back."""

    def put(self, start: OperationStart) -> None:
        """Start a committed operation's workflow soon. Never fails, never waits."""
        try:
            self._waiting.put_nowait((time.monotonic() + STEP_BACK_SECONDS, start))
        except asyncio.QueueFull:
            self._left_to_the_reconciler(start, "too many are waiting already")

    async def idle(self) -> None:
        """Return once everything that was put has been started, or left to the reconciler."""
        await self._waiting.join()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start what is put while the body runs; what still waits at its end gets `START_SECONDS`."""
        senders = [asyncio.create_task(self._send(), name=f"workflow-starts-{n}") for n in range(AT_ONCE)]
        try:
            yield
            try:
                async with asyncio.timeout(START_SECONDS):
                    await self.idle()
            except TimeoutError:
                _log.warning("workflow_starts_left", count=self._waiting.qsize())
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            until, start = await self._waiting.get()
            try:
                await self._step_back(until)
                async with asyncio.timeout(START_SECONDS):
                    await self._starter.start(start)
            except (TemporalError, TimeoutError) as error:
                self._left_to_the_reconciler(start, str(error) or "Temporal takes too long")
            except Exception:  # noqa: BLE001 - logged whole
                # A fault of ours in one start must not end the sender: the others would wait for ever.
                _log.exception("workflow_start_failed", operationId=start.operation_id)
                self._metrics.starts_deferred.inc()
            finally:
                self._waiting.task_done()

    async def _step_back(self, until: float) -> None:
        while time.monotonic() < until and self._writers() >= CROWD:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_LOOK_SECONDS)

    def _left_to_the_reconciler(self, start: OperationStart, reason: str) -> None:
        self._metrics.starts_deferred.inc()
        _log.warning("workflow_start_deferred", operationId=start.operation_id, error=reason)
