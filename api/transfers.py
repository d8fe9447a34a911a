"""How far running steps are with the data they move, as their last heartbeats say, which Temporal keeps.

Nothing is written down of it: a count is worth something as long as its attempt runs. Each API process asks
for itself, at most once a second for each workflow, however many clients want to know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from pydantic import Field

from activities.db.records import StepRecord
from activities.temporal import TemporalError, TemporalServer, TransferReading
from api.envelope import ApiModel
from workflows.domain.operations import StepState
from workflows.domain.transfer import TransferKind, step_of

FRESH_SECONDS: Final = 1.0
"""So long an answer is given again."""
PATIENCE_SECONDS: Final = 1.0
"""An answer of ours waits for Temporal no longer; it then has no bytes in it."""
AWAY_SECONDS: Final = 5.0
"""After a failure Temporal is not asked for so long: no request waits for what is known to be away."""
_MOVING: Final = timedelta(seconds=6)
"""An attempt that has said nothing for longer has no rate: its worker may be dead, which Temporal believes
after ten seconds. Readings are up to four seconds old."""
_MOST_KEPT: Final = 1_000

_log = structlog.get_logger("perdure.api")


class TransferOut(ApiModel):
    """How far the attempt that runs is with the data it moves. Another attempt begins at 0."""

    kind: TransferKind = Field(
        description="`capture`: out of pods into the store; `measure`: read for its length when masked; "
        "`load`: into pods; `prove`: dumped again; `check`: objects in the store; `read`: opened and read"
    )
    service: str = Field(description="Whose data it is just now")
    stream: str = Field(examples=["db/database-shop"])
    done_bytes: int = Field(description="Of all streams of this attempt; uncompressed, but for `check`")
    total_bytes: int | None = Field(default=None, description="Absent: it is not known before the end")
    bytes_per_second: int | None = Field(
        default=None, description="Over the last ten seconds; absent: not measured, or nothing heard lately"
    )
    counted_at: datetime = Field(description="When the worker last said so")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question to Temporal, under way or answered; `until`: it is good for so long."""

    task: asyncio.Task[Sequence[TransferReading]]
    until: float


class Transfers:
    """What runs in Temporal, as far as it moves data."""

    def __init__(self, temporal: TemporalServer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._temporal = temporal
        self._clock = clock
        self._asked: dict[str, _Asked] = {}
        self._away_until = 0.0

    async def of(self, workflow_id: str) -> Sequence[TransferReading]:
        """Return what a workflow's attempts last said. Never raises: empty, too, when Temporal is away."""
        if self._clock() < self._away_until:
            return ()
        asked = self._asked.get(workflow_id)
        if asked is None or (asked.task.done() and asked.until <= self._clock()):
            if len(self._asked) >= _MOST_KEPT:
                self._asked = {key: each for key, each in self._asked.items() if not each.task.done()}
            task = asyncio.create_task(self._ask(workflow_id), name=f"transfers-{workflow_id}")
            asked = self._asked[workflow_id] = _Asked(task, self._clock() + FRESH_SECONDS)
        # Not cancelled with whoever asked: others wait for it too, and it ends by its own time limit.
        await asyncio.wait({asked.task}, timeout=PATIENCE_SECONDS)
        if asked.task.done() and not asked.task.cancelled():
            return asked.task.result()
        self._away_until = self._clock() + AWAY_SECONDS
        return ()

    async def close(self) -> None:
        """End what is under way."""
        tasks = [each.task for each in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, workflow_id: str) -> Sequence[TransferReading]:
        try:
            return await self._temporal.transfers(workflow_id)
        except TemporalError as error:
            _log.warning("transfers_unknown", workflowId=workflow_id, error=str(error))
        except Exception:  # noqa: BLE001 - logged whole; what is shown beside it must not fail with it
            _log.exception("transfers_failed", workflowId=workflow_id)
        self._away_until = self._clock() + AWAY_SECONDS
        return ()


def transfer_out(reading: TransferReading, now: datetime | None = None) -> TransferOut:
    """Shape what an attempt last said."""
    progress = reading.progress
    silent = (now or datetime.now(UTC)) - reading.counted_at > _MOVING
    return TransferOut(
        kind=progress.kind,
        service=progress.service,
        stream=progress.stream,
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
        bytes_per_second=None if silent else progress.bytes_per_second,
        counted_at=reading.counted_at,
    )


def by_step(readings: Sequence[TransferReading], steps: Sequence[StepRecord]) -> dict[str, TransferOut]:
    """Return by step's name what its attempt last said; of steps that run."""
    running = [(step.name, step.kind, step.service) for step in steps if step.state is StepState.RUNNING]
    found: dict[str, TransferOut] = {}
    for reading in readings:
        name = step_of(reading.progress, running)
        if name is not None:
            found[name] = transfer_out(reading)
    return found
