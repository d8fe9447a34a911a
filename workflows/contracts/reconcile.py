"""ReconcileOperations: repairs what a crash between a commit and a call left undone."""

from typing import Final

from temporalio import activity

from workflows.domain.failures import WireModel

RECONCILE_OPERATIONS: Final = "ReconcileOperations"
RECONCILE_SCHEDULE: Final = "reconcile-operations"
"""Id of the schedule that starts it."""


class Reconciled(WireModel):
    """How many operations were started, told again what was asked, or closed as lost; `examined` in all."""

    examined: int = 0
    started: int = 0
    delivered: int = 0
    failed: int = 0


class ReconcileActivities:
    """The reconciler as its workflow sees it; implemented in `activities.reconcile` on the control queue."""

    @activity.defn(name="operation.reconcile")
    async def reconcile(self) -> Reconciled:
        """Go over all live operations once."""
        raise NotImplementedError
