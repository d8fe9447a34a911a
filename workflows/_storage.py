"""Having clusters remove what their storage keeps of snapshots of no use: FreeStorage does; sweeps did."""

from collections.abc import Callable

from temporalio import workflow

from workflows._cluster import StepFailed, on_cluster
from workflows._options import (
    HEARTBEAT_TIMEOUT,
    LEDGER_RETRY,
    LEDGER_TIMEOUT,
    SHORT_STEP_TOTAL,
    STORE_SWEEP_TOTAL,
    SWEEP_STEP,
)
from workflows.contracts.snapshot import SnapshotActivities
from workflows.contracts.sweep_snapshots import AtStorage, KeptByStorage, SnapshotSweepActivities, Standing
from workflows.domain.failures import Failure


async def kept_at_storage() -> KeptByStorage:
    """Return the snapshots of no use of which a cluster's storage keeps something."""
    return await workflow.execute_activity_method(
        SnapshotSweepActivities.at_storage,
        start_to_close_timeout=SWEEP_STEP,
        schedule_to_close_timeout=STORE_SWEEP_TOTAL,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=LEDGER_RETRY,
        summary="snapshots that a cluster's storage keeps",
    )


async def free(each: AtStorage, *, noted: Callable[[], bool] = lambda: True) -> Failure | None:
    """Have a cluster remove what it keeps of one snapshot; return why it has not.

    `noted`: whether that is written down; asked only then.
    """
    snapshot_id = each.discard.snapshot_id
    try:
        await on_cluster(
            SnapshotActivities.discard,
            each.discard,
            cluster=each.cluster,
            step="discard",
            summary=f"{snapshot_id}: volumes that {each.cluster} keeps",
            attempt_limit=SHORT_STEP_TOTAL,
            total_limit=SHORT_STEP_TOTAL,
        )
    except StepFailed as failed:
        workflow.logger.warning("volumes of %s stay: %s", snapshot_id, failed.failure.message)
        if noted():
            await workflow.execute_activity_method(
                SnapshotSweepActivities.note_standing,
                Standing(snapshot_id=snapshot_id, message=failed.failure.message),
                start_to_close_timeout=LEDGER_TIMEOUT,
                retry_policy=LEDGER_RETRY,
                summary=f"{snapshot_id} stands",
            )
        return failed.failure
    await workflow.execute_activity_method(
        SnapshotSweepActivities.forget_volumes,
        snapshot_id,
        start_to_close_timeout=LEDGER_TIMEOUT,
        retry_policy=LEDGER_RETRY,
        summary=f"{snapshot_id} has no volumes any more",
    )
    return None
