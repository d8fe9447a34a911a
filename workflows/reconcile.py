"""ReconcileOperations: the scheduled look for operations that a crash left between two places."""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._options import HEARTBEAT_TIMEOUT, LEDGER_RETRY, SHORT_STEP
from workflows.contracts.reconcile import RECONCILE_OPERATIONS, ReconcileActivities, Reconciled


@workflow.defn(name=RECONCILE_OPERATIONS, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class ReconcileOperations:
    """Goes over the live operations once; its schedule starts it again."""

    @workflow.run
    async def run(self) -> Reconciled:
        """Run once and say what was repaired."""
        done = await workflow.execute_activity_method(
            ReconcileActivities.reconcile,
            start_to_close_timeout=SHORT_STEP,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary="lost starts, undelivered requests, lost workflows",
        )
        workflow.set_current_details(
            f"{done.examined} live operations: {done.started} started, {done.delivered} told again, "
            f"{done.failed} closed as lost."
        )
        return done
