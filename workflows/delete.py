"""DeleteEnvironment: end what runs, delete the namespace, say what holds it, release the name."""

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ActivityError

from workflows._cluster import StepFailed, as_failure, on_cluster, unless
from workflows._graph import run_graph
from workflows._operation import OperationFrame
from workflows._options import (
    CANCEL_RUNNING_TIMEOUT,
    CLUSTER_RETRY,
    HEARTBEAT_TIMEOUT,
    NAMESPACE_MARGIN,
    NAMESPACE_WAIT,
)
from workflows.contracts.delete import (
    DELETE_ENVIRONMENT,
    FORCE_SIGNAL,
    DeleteActivities,
    DeleteNamespace,
    NamespaceDeleted,
)
from workflows.contracts.operation import OperationInput, OperationPlan, OperationResult
from workflows.domain.failures import Blocker
from workflows.domain.operations import Cleanup, Output, PlannedStep, StepChange, StepKind, StepState


@workflow.defn(name=DELETE_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class DeleteEnvironment(OperationFrame):
    """Runs one delete. It cannot be undone, and no signal cancels it; one forces it on."""

    @workflow.init
    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)
        self._forced = False

    @workflow.run
    async def run(self, operation: OperationInput) -> OperationResult:  # noqa: ARG002 - taken by __init__
        """Run the operation to its end."""
        return await self.run_operation()

    @workflow.signal(name=FORCE_SIGNAL)
    def force(self) -> None:
        """Take off foreign finalizers, at once if one holds the namespace now."""
        self._forced = True

    async def steps(self, plan: OperationPlan) -> None:
        """Run the steps, one after the other."""
        self._forced = self._forced or plan.force
        await run_graph(plan.steps, lambda step: self._run_step(plan, step))

    async def undo(self, plan: OperationPlan) -> Cleanup:  # noqa: ARG002 - part of the frame
        """Undo nothing: what is deleted is gone."""
        return Cleanup(complete=False)

    async def _run_step(self, plan: OperationPlan, step: PlannedStep) -> None:
        match step.kind:
            case StepKind.CANCEL_RUNNING:
                await self.noted(step, lambda: self._cancel_running(step))
            case StepKind.DELETE_NAMESPACE:
                await self.noted(step, lambda: self._delete_namespace(plan, step))
            case _:
                raise AssertionError(f"{step.kind} is not a step of a delete")

    async def _cancel_running(self, step: PlannedStep) -> Output:
        try:
            cancelled = await workflow.execute_activity_method(
                DeleteActivities.cancel_running,
                self.operation,
                start_to_close_timeout=CANCEL_RUNNING_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=CLUSTER_RETRY,
                summary="end the operation that runs on this environment",
            )
        except ActivityError as error:
            raise StepFailed(as_failure(error, step.name, "control")) from error
        if cancelled.operation_id is None:
            return {}
        return {"operation": cancelled.operation_id, "terminated": cancelled.terminated}

    async def _delete_namespace(self, plan: OperationPlan, step: PlannedStep) -> Output:
        blocked_by: tuple[Blocker, ...] = ()
        while True:
            answer = await self._wait_for_namespace(plan, step, blocked_by)
            if answer is None:
                self.show("Forced: taking off the finalizers of others.")
                continue
            if answer.gone:
                return {"namespace": plan.context.namespace}
            blocked_by = answer.blocked_by
            self.note(
                StepChange(step=step.name, state=StepState.RUNNING, blocked_by=blocked_by),
                "held by " + ", ".join(_title(blocker) for blocker in blocked_by) if blocked_by else "",
            )

    async def _wait_for_namespace(
        self, plan: OperationPlan, step: PlannedStep, blocked_by: tuple[Blocker, ...]
    ) -> NamespaceDeleted | None:
        """Delete the namespace and wait for news of it; None: it was forced meanwhile, so ask anew."""
        context, release = plan.context, self._forced
        return await unless(
            lambda: self._forced and not release,
            on_cluster(
                DeleteActivities.delete_namespace,
                DeleteNamespace(
                    context=context,
                    known_blockers=blocked_by,
                    wait_seconds=int(NAMESPACE_WAIT.total_seconds()),
                    release_finalizers=release,
                ),
                cluster=context.cluster,
                step=step.name,
                summary=f"delete namespace {context.namespace}"
                + (f", held by {blocked_by[0].object}" if blocked_by else "")
                + (", taking off foreign finalizers" if release else ""),
                attempt_limit=NAMESPACE_WAIT + NAMESPACE_MARGIN,
            ),
        )


def _title(blocker: Blocker) -> str:
    finalizers = f" (finalizer {', '.join(blocker.finalizers)})" if blocker.finalizers else ""
    return blocker.object + finalizers
