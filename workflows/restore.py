"""RestoreEnvironment: brings a snapshot's data into an environment, a new one or one that stands."""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._cluster import StepFailed, on_cluster
from workflows._options import CAPTURE_ATTEMPT, CAPTURE_TOTAL, LEDGER_RETRY, LEDGER_TIMEOUT
from workflows._services import ServicesFrame
from workflows.contracts.operation import (
    CANCEL_SIGNAL,
    CancelRequest,
    OperationInput,
    OperationPlan,
    OperationResult,
)
from workflows.contracts.restore import RESTORE_ENVIRONMENT, Load, RestoreActivities
from workflows.contracts.snapshot import SnapshotLedgerActivities, StreamKeysWanted
from workflows.domain import manifests
from workflows.domain.failures import FailureKind, failure
from workflows.domain.operations import Cleanup, Output, PlannedStep, StepKind


@workflow.defn(name=RESTORE_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class RestoreEnvironment(ServicesFrame):
    """Loads a snapshot's data before what depends on it starts. Data are not taken back."""

    @workflow.init
    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)

    @workflow.run
    async def run(self, operation: OperationInput) -> OperationResult:  # noqa: ARG002 - taken by __init__
        """Run the operation to its end."""
        return await self.run_operation()

    @workflow.signal(name=CANCEL_SIGNAL)
    def cancel(self, request: CancelRequest) -> None:
        """Stop; what is half loaded stays so until it is loaded again."""
        self.request_cancel(request)

    async def undo(self, plan: OperationPlan) -> Cleanup:
        """Take a new environment away; of one that stands say what was loaded, and let it run."""
        cleanup = await super().undo(plan)
        loaded = tuple(
            f"{step.name}: its data may be replaced, in part or whole"
            for step in plan.steps
            if step.kind is StepKind.LOAD and self.begun(step.name)
        )
        if plan.change is None or not loaded:
            return cleanup
        return cleanup.model_copy(update={"complete": False, "not_undone": (*cleanup.not_undone, *loaded)})

    async def _run_step(self, plan: OperationPlan, step: PlannedStep) -> None:
        match step.kind:
            case StepKind.LOAD:
                await self.noted(step, lambda: self._load(plan, step))
            case StepKind.STOP_SERVICE:
                stopped = plan.overrides.model_copy(update={"stopped": True})
                await super()._run_step(plan.model_copy(update={"overrides": stopped}), step)
            case _:
                await super()._run_step(plan, step)

    async def _load(self, plan: OperationPlan, step: PlannedStep) -> Output:
        assert plan.snapshot is not None  # noqa: S101 - it is accepted with one
        name, snapshot_id = step.service or "", plan.snapshot.snapshot_id
        stored = await workflow.execute_local_activity_method(
            SnapshotLedgerActivities.stream_keys,
            StreamKeysWanted(operation_id=self.operation.operation_id, snapshot_id=snapshot_id, service=name),
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary=f"keys of what is stored of {name}",
        )
        component = stored.component
        request = Load(
            context=plan.context,
            snapshot_id=snapshot_id,
            service=manifests.running_as(self._blueprint.service(name)),
            stored=stored,
        )
        loaded = await on_cluster(
            RestoreActivities.load,
            request,
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{name}: {component.store} from {snapshot_id}",
            attempt_limit=CAPTURE_ATTEMPT,
            total_limit=CAPTURE_TOTAL,
        )
        output: Output = {
            "snapshot": snapshot_id,
            "parts": loaded.parts,
            "plainBytes": loaded.plain_bytes,
        }
        if plan.snapshot.prove:
            output["proved"] = await self._prove(plan, step, request)
        return output

    async def _prove(self, plan: OperationPlan, step: PlannedStep, request: Load) -> int:
        """Return how many streams were found to be the same once more; StepFailed when one was not."""
        proof = await on_cluster(
            RestoreActivities.prove,
            request,
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{request.service.name}: is it what was captured?",
            attempt_limit=CAPTURE_ATTEMPT,
            total_limit=CAPTURE_TOTAL,
        )
        if proof.differences:
            told = "; ".join(proof.differences)
            message = f"{request.service.name} is not what was captured: {told}"
            raise StepFailed(failure(FailureKind.SNAPSHOT_CORRUPT, message, step=step.name))
        return proof.compared
