"""SweepSnapshots: what its activities are asked, and what they answer."""

from typing import Final

from temporalio import activity

from workflows.domain.failures import WireModel

SWEEP_SNAPSHOTS: Final = "SweepSnapshots"
SNAPSHOT_SWEEP_SCHEDULE: Final = "sweep-snapshots"
"""Id of the schedule that starts it."""


class SnapshotsSwept(WireModel):
    """What a sweep did, in numbers of snapshots."""

    expired: int = 0
    removed: int = 0
    started: int = 0
    """Verifications whose workflow was started, or had been already."""
    orphans: int = 0
    """Of which the database knows nothing, or that they are of no use."""

    def plus(self, other: "SnapshotsSwept") -> "SnapshotsSwept":
        """Return the sums."""
        return SnapshotsSwept(
            expired=self.expired + other.expired,
            removed=self.removed + other.removed,
            orphans=self.orphans + other.orphans,
            started=self.started + other.started,
        )


class SnapshotSweepActivities:
    """The sweep as its workflow sees it; in `activities.snapshots.sweep`, on the control queue."""

    @activity.defn(name="snapshots.expire")
    async def expire(self) -> SnapshotsSwept:
        """Take snapshots out of use whose time is over."""
        raise NotImplementedError

    @activity.defn(name="snapshots.start_verifications")
    async def start_verifications(self) -> SnapshotsSwept:
        """Start verifications whose start was lost."""
        raise NotImplementedError

    @activity.defn(name="snapshots.remove")
    async def remove(self) -> SnapshotsSwept:
        """Remove from the store what is left of snapshots that are of no use."""
        raise NotImplementedError

    @activity.defn(name="snapshots.remove_orphans")
    async def remove_orphans(self) -> SnapshotsSwept:
        """Remove from the store what belongs to no snapshot, and did so an hour ago already."""
        raise NotImplementedError
