"""How a workflow writes its operation's ledger: noted at once, written by one coroutine, coalesced.

Steps run side by side and change often. One local activity for each change would hold the workflow task open
again and again; one writer that takes all changes since its last write costs next to nothing (ADR 0004).
"""

import asyncio
from datetime import timedelta
from typing import Final

from temporalio import workflow

from workflows._cluster import on_state
from workflows._options import LEDGER_RETRY, LEDGER_TIMEOUT
from workflows.contracts.operation import (
    LedgerActivities,
    LedgerEntry,
    OperationInput,
    OperationPlan,
    OperationResult,
    PreImage,
    RecordedPreImage,
    SealedSecrets,
    SealSecrets,
)
from workflows.domain.operations import StepChange

_NO_WAIT_FOR_TIMERS: Final = timedelta(minutes=1)
"""Back-off up to here stays inside the workflow task's heartbeats instead of becoming timers in history."""


UNDO: Final = "undo"
"""What a failure while an operation is taken back names as its step."""


class LedgerWriter:
    """The ledger of one running operation."""

    def __init__(self, operation: OperationInput) -> None:
        """Write for `operation`; nothing is sent before `start`."""
        self._operation = operation
        self._pending: list[StepChange] = []
        self._pre_image: PreImage | None = None
        self._restarts: dict[str, str] = {}
        self._noted = 0
        self._written = 0
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> OperationPlan:
        """Move the operation to running and return its plan. Raises StepFailed when it cannot be had."""
        return await on_state(
            LedgerActivities.begin,
            self._operation,
            step=None,
            summary="begin: accepted → running",
            local_retry_threshold=_NO_WAIT_FOR_TIMERS,
        )

    def start(self) -> None:
        """Start the writer coroutine."""
        self._task = asyncio.create_task(self._write())

    def note(self, change: StepChange) -> None:
        """Note a change; it is written soon, together with others."""
        self._pending.append(change)
        self._noted += 1

    async def note_pre_image(self, pre_image: PreImage) -> None:
        """Record what was there before the operation, and return once that is written."""
        self._pre_image = pre_image
        self._noted += 1
        await self.flush()

    async def note_restart(self, service: str, mark: str) -> None:
        """Record the mark of a service's new pods, and return once that is written."""
        self._restarts[service] = mark
        self._noted += 1
        await self.flush()

    async def flush(self) -> None:
        """Return once everything noted so far is written."""
        target = self._noted
        await workflow.wait_condition(lambda: self._written >= target)

    async def pre_image(self) -> RecordedPreImage:
        """Read back what was there before the operation. Raises StepFailed."""
        return await on_state(
            LedgerActivities.pre_image, self._operation, step=UNDO, summary="read what was there before"
        )

    async def seal_secrets(self, step: str, revision: int | None = None) -> SealedSecrets:
        """Return the environment's secret values, sealed for its cluster; `revision`: those that it uses.

        Raises StepFailed when there is no key for them.
        """
        return await on_state(
            LedgerActivities.seal_secrets,
            SealSecrets(operation_id=self._operation.operation_id, revision=revision),
            step=step,
            summary="seal secret values for the cluster",
        )

    async def finish(self, result: OperationResult) -> OperationResult:
        """Write what is still noted, then the end; return the end that holds (the first one wins)."""
        self._closed = True
        if self._task is not None:
            await self._task
        return await workflow.execute_local_activity_method(
            LedgerActivities.finish,
            result,
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary=f"end: {result.state}",
        )

    async def _write(self) -> None:
        while True:
            await workflow.wait_condition(lambda: self._noted > self._written or self._closed)
            if self._noted == self._written:
                return
            upto = self._noted
            changes, self._pending = tuple(self._pending), []
            pre_image, self._pre_image = self._pre_image, None
            restarts, self._restarts = self._restarts, {}
            await workflow.execute_local_activity_method(
                LedgerActivities.record,
                LedgerEntry(
                    operation_id=self._operation.operation_id,
                    changes=_latest(changes),
                    pre_image=pre_image,
                    restarts=restarts,
                ),
                start_to_close_timeout=LEDGER_TIMEOUT,
                retry_policy=LEDGER_RETRY,
                summary=_summary(changes),
            )
            self._written = upto


def _latest(changes: tuple[StepChange, ...]) -> tuple[StepChange, ...]:
    """Keep each step's states in order, without repeating one that did not change."""
    kept: list[StepChange] = []
    last: dict[str, StepChange] = {}
    for change in changes:
        if last.get(change.step) != change:
            kept.append(change)
            last[change.step] = change
    return tuple(kept)


def _summary(changes: tuple[StepChange, ...]) -> str:
    """Say in one line of the UI what is being written."""
    text = ", ".join(f"{change.step} {change.state}" for change in changes) or "what was there before"
    return text if len(text) <= 180 else text[:179] + "…"
