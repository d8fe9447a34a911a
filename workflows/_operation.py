"""The frame that every operation's workflow shares: begin, run, cancel, undo, end, and what people see."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows._cluster import StepFailed
from workflows._ledger import LedgerWriter
from workflows.contracts.operation import CancelRequest, OperationInput, OperationPlan, OperationResult
from workflows.contracts.search_attributes import FAILURE_KIND, PHASE
from workflows.domain.failures import Failure, FailureKind, failure
from workflows.domain.operations import (
    Cleanup,
    OnFailure,
    OperationState,
    Output,
    PlannedStep,
    StepChange,
    StepState,
)

_MARKS = {
    StepState.PENDING: "·",
    StepState.RUNNING: "▶",
    StepState.SUCCEEDED: "✔",
    StepState.FAILED: "✘",
    StepState.SKIPPED: "↷",
    StepState.CANCELLED: "◼",
}


class OperationFrame(ABC):
    """Runs one operation. A workflow class fills in `steps` and `undo`.

    Ends exactly once in the ledger, whatever happens: an end of the steps, a failure, a cancel by our signal
    or from the Temporal UI. The workflow itself ends as failed when the operation failed, so that a list of
    workflows tells the truth by itself.
    """

    def __init__(self, operation: OperationInput) -> None:
        """Prepare; called by the workflow's `@workflow.init`."""
        self.operation = operation
        self.ledger = LedgerWriter(operation)
        self.plan: OperationPlan | None = None
        self._cancel: CancelRequest | None = None
        self._states: dict[str, StepState] = {}
        self._notes: dict[str, str] = {}

    @abstractmethod
    async def steps(self, plan: OperationPlan) -> None:
        """Run the operation's steps; raise `StepFailed` at the first failure."""

    @abstractmethod
    async def undo(self, plan: OperationPlan) -> Cleanup:
        """Take back what the steps made; says what is left, never raises `StepFailed`."""

    def request_cancel(self, request: CancelRequest) -> None:
        """Ask for the end; the first request counts, except that a later one may add the clean-up."""
        if self._cancel is None or (request.cleanup and not self._cancel.cleanup):
            self._cancel = request

    def note(self, change: StepChange, note: str = "") -> None:
        """Note a step's change in the ledger and in what the Temporal UI shows."""
        self._states[change.step] = change.state
        self._notes[change.step] = note or (change.failure.message if change.failure else "")
        self.ledger.note(change)
        self.show()

    async def noted(self, step: PlannedStep, work: Callable[[], Awaitable[Output]]) -> None:
        """Run `work` between the step's notes in the ledger."""
        self.note(StepChange(step=step.name, state=StepState.RUNNING))
        try:
            output = await work()
        except StepFailed as failed:
            self.note(StepChange(step=step.name, state=StepState.FAILED, failure=failed.failure))
            raise
        except asyncio.CancelledError:
            self.note(StepChange(step=step.name, state=StepState.CANCELLED))
            raise
        self.note(StepChange(step=step.name, state=StepState.SUCCEEDED, output=output))

    def begun(self, step: str) -> bool:
        """Whether a step has run, or began to."""
        return self._states.get(step, StepState.PENDING) not in (StepState.PENDING, StepState.SKIPPED)

    def show(self, headline: str = "") -> None:
        """Write the current details: a headline, then one line for each step."""
        lines = [f"**{headline}**", ""] if headline else []
        for step, state in self._states.items():
            note = f" — {self._notes[step]}" if self._notes.get(step) else ""
            lines.append(f"- {_MARKS[state]} `{step}` {state}{note}")
        workflow.set_current_details("\n".join(lines))

    async def run_operation(self) -> OperationResult:
        """Run to the end and return it; raises `ApplicationError` when the operation failed."""
        story = asyncio.create_task(self._story())
        while True:
            try:
                result = await asyncio.shield(story)
                break
            except asyncio.CancelledError:
                # A cancel from the Temporal UI reaches only this frame; the story ends by the same road as
                # with our own signal, so that the ledger is told.
                if story.cancelled():
                    raise
                self.request_cancel(CancelRequest(reason="cancelled in the Temporal UI"))
        if result.state in (OperationState.FAILED, OperationState.ROLLED_BACK) and result.failure is not None:
            raise ApplicationError(
                result.failure.message, result, type=result.failure.kind, non_retryable=True
            )
        return result

    async def _story(self) -> OperationResult:
        try:
            plan = await self.ledger.begin()
        except StepFailed as failed:
            # Nothing has begun: there is no plan to go by, and nothing to take back.
            return await self._finish(failed.failure, None, cancelled=False)
        if not plan.proceed:
            self.show("Ended before it began: it was cancelled, or the environment is being deleted.")
            return OperationResult(operation_id=self.operation.operation_id, state=OperationState.CANCELLED)
        self.plan = plan
        if plan.cancel is not None:
            self.request_cancel(plan.cancel)
        self._states = {step.name: StepState.PENDING for step in plan.steps}
        self.ledger.start()
        self.show()
        reason, cancelled = await self._run_steps(plan)
        cleanup = await self._clean_up(plan, reason, cancelled=cancelled)
        return await self._finish(reason, cleanup, cancelled=cancelled)

    async def _run_steps(self, plan: OperationPlan) -> tuple[Failure | None, bool]:
        """Run the steps until they end or a cancel is asked for; return the failure and whether cancelled."""
        work = asyncio.create_task(self.steps(plan))
        await workflow.wait_condition(lambda: work.done() or self._cancel is not None)
        cancelled = not work.done()
        if cancelled:
            work.cancel()
            self.show("Cancelling: waiting for what runs to stop.")
        try:
            await work
        except asyncio.CancelledError:
            return None, True
        except StepFailed as failed:
            # A step that failed because everything was being cancelled is a cancel, not a failure.
            return (None, True) if cancelled else (failed.failure, False)
        # All steps ended before the cancel arrived: the operation succeeded.
        return None, False

    async def _clean_up(
        self, plan: OperationPlan, reason: Failure | None, *, cancelled: bool
    ) -> Cleanup | None:
        wanted = (cancelled and self._cancel is not None and self._cancel.cleanup) or (
            reason is not None and plan.on_failure is OnFailure.ROLLBACK
        )
        if not wanted:
            return None
        self.show("Undoing what this operation made.")
        await self.ledger.flush()
        return await self.undo(plan)

    async def _finish(
        self, reason: Failure | None, cleanup: Cleanup | None, *, cancelled: bool
    ) -> OperationResult:
        if cancelled:
            state = OperationState.CANCELLED
            text = self._cancel.reason if self._cancel else ""
            reason = failure(FailureKind.CANCELLED, text or "Cancelled on request.")
        elif reason is None:
            state = OperationState.SUCCEEDED
        elif cleanup is not None and cleanup.complete:
            state = OperationState.ROLLED_BACK
        else:
            state = OperationState.FAILED
        result = await self.ledger.finish(
            OperationResult(
                operation_id=self.operation.operation_id,
                state=state,
                failure=reason,
                cleanup=cleanup,
                finished_at=workflow.now(),
            )
        )
        attributes = [PHASE.value_set(str(result.state))]
        if result.failure is not None:
            attributes.append(FAILURE_KIND.value_set(str(result.failure.kind)))
        workflow.upsert_search_attributes(attributes)
        self.show(f"{result.state}" + (f": {result.failure.message}" if result.failure else ""))
        return result
