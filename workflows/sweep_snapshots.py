"""SweepSnapshots: the scheduled end of snapshots, and the removal of what the store has of no use.

Deleting has two phases: a snapshot is taken out of use in the database, and then its objects go. Whatever
dies in between leaves a row that says so, for the next sweep.
"""

from typing import Final

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._options import HEARTBEAT_TIMEOUT, LEDGER_RETRY, STORE_SWEEP_TOTAL, SWEEP_STEP
from workflows._storage import free, kept_at_storage
from workflows.contracts.sweep_snapshots import SWEEP_SNAPSHOTS, SnapshotsSwept, SnapshotSweepActivities

NOTES_STANDING: Final = "notes-standing"
"""Patch: a cluster that has not removed all is written down. Sweeps that began before it did not."""
STORAGE_BY_ITSELF: Final = "storage-by-itself"
"""Patch: storages of clusters are freed by FreeStorage. Sweeps that began before it did so first."""


@workflow.defn(name=SWEEP_SNAPSHOTS, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class SweepSnapshots:
    """Goes over the snapshots once; its schedule starts it again."""

    @workflow.run
    async def run(self) -> SnapshotsSwept:
        """Run once and say what was done."""
        if not workflow.patched(STORAGE_BY_ITSELF):
            for each in (await kept_at_storage()).snapshots:
                await free(each, noted=lambda: workflow.patched(NOTES_STANDING))
        done = SnapshotsSwept()
        for step, summary in (
            (SnapshotSweepActivities.take_due, "snapshots that policies ask for"),
            (SnapshotSweepActivities.expire, "snapshots whose time is over"),
            (
                SnapshotSweepActivities.start_verifications,
                "verifications that policies ask for, or whose start was lost",
            ),
            (SnapshotSweepActivities.remove, "objects of deleted and failed snapshots"),
            (SnapshotSweepActivities.remove_orphans, "objects of no snapshot"),
        ):
            done = done.plus(
                await workflow.execute_activity_method(
                    step,
                    start_to_close_timeout=SWEEP_STEP,
                    schedule_to_close_timeout=STORE_SWEEP_TOTAL,
                    heartbeat_timeout=HEARTBEAT_TIMEOUT,
                    retry_policy=LEDGER_RETRY,
                    summary=summary,
                )
            )
            workflow.set_current_details(
                f"{done.taken} snapshots to be taken, {done.expired} expired, "
                f"{done.removed} removed from the store, {done.orphans} orphans removed"
                + (f", {done.withheld} left alone: see `perdure doctor`." if done.withheld else ".")
            )
        return done
