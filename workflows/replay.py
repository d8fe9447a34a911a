"""ReplayEnvironment: the recorded graph of an earlier operation once more, over what is asked for now.

In place, each service is run again or skipped by what the ledger knows of it and what is there; into a new
environment, all of them are made. With a snapshot, its data are loaded before what depends on them starts.
"""

from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._loading import LoadingFrame
from workflows.contracts.operation import (
    CANCEL_SIGNAL,
    CancelRequest,
    OperationInput,
    OperationPlan,
    OperationResult,
)
from workflows.contracts.provision import Replacement
from workflows.contracts.replay import REPLAY_ENVIRONMENT
from workflows.domain.blueprint import Service, ServiceKind
from workflows.domain.environment import Overrides
from workflows.domain.operations import Cleanup, Output, PlannedStep, StepChange, StepKind
from workflows.domain.plan import service_step
from workflows.domain.replay import Decision, Replay, Why, decide


@workflow.defn(name=REPLAY_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class ReplayEnvironment(LoadingFrame):
    """Runs one replay, or a retry of one."""

    @workflow.init
    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)
        self._decisions: dict[str, Decision] = {}
        """By step; none before it is known what is there, and none at all in a new environment."""

    @workflow.run
    async def run(self, operation: OperationInput) -> OperationResult:  # noqa: ARG002 - taken by __init__
        """Run the operation to its end."""
        return await self.run_operation()

    @workflow.signal(name=CANCEL_SIGNAL)
    def cancel(self, request: CancelRequest) -> None:
        """Stop; with `cleanup`, undo."""
        self.request_cancel(request)

    async def undo(self, plan: OperationPlan) -> Cleanup:
        """As any; what a Job did when it ran again stays done, and so do data that were loaded."""
        cleanup = await super().undo(plan)
        again = tuple(
            f"service/{each.name}: its job may have run again"
            for each in self._blueprint.services
            if each.kind is ServiceKind.JOB
            and plan.change is not None
            and self.begun(service_step(each.name))
        )
        return cleanup.model_copy(update={"not_undone": (*cleanup.not_undone, *again)})

    def note(self, change: StepChange, note: str = "") -> None:
        """Say beside each step why it is run again."""
        decision = self._decisions.get(change.step)
        why = decision.text if decision is not None and change.failure is None else ""
        super().note(change, note or why)

    async def _prepare_namespace(self, plan: OperationPlan, step: PlannedStep) -> Output:
        output = await super()._prepare_namespace(plan, step)
        if plan.replay is not None:
            self._decide(plan, plan.replay)
        return output

    def _decide(self, plan: OperationPlan, replay: Replay) -> None:
        """Decide over all steps at once: what is there now is what this operation found.

        What is skipped is noted at once, so that a retry knows of every other step that it is still to run.
        """
        existing = {each.uid for each in self._namespace.objects} if self._namespace is not None else set()
        for decision in decide(plan.steps, replay, plan.earlier, existing):
            self._decisions[decision.step] = decision
        for step in plan.steps:
            if self._decisions[step.name].run:
                continue
            if step.kind is StepKind.SERVICE:
                self._started[step.service or ""] = True
            self.skip(plan, step, self._decisions[step.name].text)

    async def _run_step(self, plan: OperationPlan, step: PlannedStep) -> None:
        if self.runs(step):
            await super()._run_step(plan, step)

    def runs(self, step: PlannedStep) -> bool:
        """Whether a step is run: all are in a new environment, what was decided on elsewhere."""
        decision = self._decisions.get(step.name)
        return decision is None or decision.run

    async def noted(self, step: PlannedStep, work: Callable[[], Awaitable[Output]]) -> None:
        """As any, and the ledger has why the step was run."""
        decision = self._decisions.get(step.name)

        async def reasoned() -> Output:
            output = await work()
            if decision is None or decision.why is Why.ALWAYS:
                return output
            return {"reason": decision.text, **output}

        await super().noted(step, reasoned)

    def _unchanged(self, plan: OperationPlan, step: PlannedStep) -> bool:
        return step.name not in self._decisions and super()._unchanged(plan, step)

    async def _deploy(self, plan: OperationPlan, step: PlannedStep, name: str) -> Output:
        decision = self._decisions.get(step.name)
        if decision is None:
            return await super()._deploy(plan, step, name)
        if self._blueprint.service(name).kind is not ServiceKind.JOB:
            # Before the first write: whatever renders this service later has to find the mark.
            await self.ledger.note_restart(name, plan.context.operation_id)
        return await super()._deploy(plan, step, name)

    def _overrides(self, plan: OperationPlan) -> Overrides:
        """With the marks that give new pods to what is run again, although nothing of it may have changed."""
        marks = {
            step.service: plan.context.operation_id
            for step in plan.steps
            if step.service is not None
            and step.kind is StepKind.SERVICE
            and step.name in self._decisions
            and self._decisions[step.name].run
            and self._blueprint.service(step.service).kind is not ServiceKind.JOB
        }
        return plan.overrides.model_copy(update={"restarts": {**plan.overrides.restarts, **marks}})

    def _replacement(self, plan: OperationPlan, service: Service) -> Replacement | None:
        """A Job runs again only as another one."""
        if service.kind is ServiceKind.JOB and service_step(service.name) in self._decisions:
            return Replacement(again=True)
        return super()._replacement(plan, service)
