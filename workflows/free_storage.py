"""FreeStorage: what storages of clusters keep of snapshots of no use is removed there.

By itself, beside the sweep: a cluster that is away holds up neither policies and expiry nor other clusters.
"""

import asyncio
from typing import Final

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._cluster import StepFailed, on_cluster
from workflows._options import (
    FREE_STORAGE_BUDGET,
    HEARTBEAT_TIMEOUT,
    LEDGER_RETRY,
    LEDGER_TIMEOUT,
    SHORT_STEP_TOTAL,
    STORE_SWEEP_TOTAL,
    SWEEP_STEP,
)
from workflows.contracts.snapshot import SnapshotActivities
from workflows.contracts.sweep_snapshots import (
    FREE_STORAGE,
    AtStorage,
    SnapshotSweepActivities,
    Standing,
    StorageFreed,
)
from workflows.domain.failures import FailureKind

_AWAY: Final = (FailureKind.CLUSTER_UNAVAILABLE, FailureKind.TIMEOUT)
"""After these nothing else is asked of the cluster this time."""


@workflow.defn(name=FREE_STORAGE, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class FreeStorage:
    """Asks each cluster once; its schedule starts it again, and then others come first."""

    @workflow.run
    async def run(self) -> StorageFreed:
        """Run once and say what was done."""
        kept = await workflow.execute_activity_method(
            SnapshotSweepActivities.at_storage,
            start_to_close_timeout=SWEEP_STEP,
            schedule_to_close_timeout=STORE_SWEEP_TOTAL,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary="snapshots that a cluster's storage keeps",
        )
        by_cluster: dict[str, list[AtStorage]] = {}
        for each in kept.snapshots:
            by_cluster.setdefault(each.cluster, []).append(each)
        freed = await asyncio.gather(*(_free(theirs) for theirs in by_cluster.values()))
        return StorageFreed(asked=len(kept.snapshots), freed=sum(freed))


async def _free(theirs: list[AtStorage]) -> int:
    """Have one cluster remove what it keeps, for a while, one snapshot after the other; return how many."""
    freed = 0
    until = workflow.now() + FREE_STORAGE_BUDGET
    for each in theirs:
        if workflow.now() >= until:
            break
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
            await workflow.execute_activity_method(
                SnapshotSweepActivities.note_standing,
                Standing(snapshot_id=snapshot_id, message=failed.failure.message),
                start_to_close_timeout=LEDGER_TIMEOUT,
                retry_policy=LEDGER_RETRY,
                summary=f"{snapshot_id} stands",
            )
            if failed.failure.kind in _AWAY:
                break
            continue
        await workflow.execute_activity_method(
            SnapshotSweepActivities.forget_volumes,
            snapshot_id,
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary=f"{snapshot_id} has no volumes any more",
        )
        freed += 1
    return freed
