"""SweepSnapshots and FreeStorage: what their activities are asked, and what they answer."""

from typing import Final

from temporalio import activity

from workflows.contracts.snapshot import Discard
from workflows.domain.failures import WireModel

SWEEP_SNAPSHOTS: Final = "SweepSnapshots"
SNAPSHOT_SWEEP_SCHEDULE: Final = "sweep-snapshots"
"""Id of the schedule that starts it."""

FREE_STORAGE: Final = "FreeStorage"
FREE_STORAGE_SCHEDULE: Final = "free-storage"
"""Id of the schedule that starts it."""


class SnapshotsSwept(WireModel):
    """What a sweep did, in numbers of snapshots."""

    taken: int = 0
    """By policies."""
    expired: int = 0
    removed: int = 0
    started: int = 0
    """Verifications whose workflow was started, or had been already."""
    orphans: int = 0
    """Of which the database knows nothing, or that they are of no use."""
    withheld: int = 0
    """Of this installation, and unknown to its database, and left alone: `perdure doctor` says why."""
    foreign: int = 0
    """Of other installations, or of nobody that is known."""

    def plus(self, other: "SnapshotsSwept") -> "SnapshotsSwept":
        """Return the sums."""
        return SnapshotsSwept(
            taken=self.taken + other.taken,
            expired=self.expired + other.expired,
            removed=self.removed + other.removed,
            orphans=self.orphans + other.orphans,
            started=self.started + other.started,
            withheld=self.withheld + other.withheld,
            foreign=self.foreign + other.foreign,
        )


class AtStorage(WireModel):
    """A snapshot that is of no use, of which the storage of a cluster may have something."""

    cluster: str
    discard: Discard


class KeptByStorage(WireModel):
    """Some of them, of each cluster those first that were not asked for or the longest ago."""

    snapshots: tuple[AtStorage, ...] = ()


class StorageFreed(WireModel):
    """What FreeStorage did, in numbers of snapshots."""

    asked: int = 0
    """Those that were found; not all may have been come to."""
    freed: int = 0


class Standing(WireModel):
    """What a cluster's storage would not remove of a snapshot, and why."""

    snapshot_id: str
    message: str


class SnapshotSweepActivities:
    """The sweep as its workflow sees it; in `activities.snapshots.sweep`, on the control queue."""

    @activity.defn(name="snapshots.take_due")
    async def take_due(self) -> SnapshotsSwept:
        """Take the snapshots that policies ask for by now: accept operations, as a request does."""
        raise NotImplementedError

    @activity.defn(name="snapshots.expire")
    async def expire(self) -> SnapshotsSwept:
        """Take snapshots out of use whose time is over, or of which a policy keeps newer ones."""
        raise NotImplementedError

    @activity.defn(name="snapshots.start_verifications")
    async def start_verifications(self) -> SnapshotsSwept:
        """Ask for the verifications that policies want, and start those whose start was lost."""
        raise NotImplementedError

    @activity.defn(name="snapshots.at_storage")
    async def at_storage(self) -> KeptByStorage:
        """Find snapshots of no use that a cluster has to remove."""
        raise NotImplementedError

    @activity.defn(name="snapshots.forget_volumes")
    async def forget_volumes(self, snapshot_id: str) -> None:
        """Note that a cluster has removed what it kept of a snapshot."""
        raise NotImplementedError

    @activity.defn(name="snapshots.note_standing")
    async def note_standing(self, standing: Standing) -> None:
        """Note what it has not; the next sweep asks it again."""
        raise NotImplementedError

    @activity.defn(name="snapshots.remove")
    async def remove(self) -> SnapshotsSwept:
        """Remove from the store what is left of snapshots that are of no use."""
        raise NotImplementedError

    @activity.defn(name="snapshots.remove_orphans")
    async def remove_orphans(self) -> SnapshotsSwept:
        """Remove from the store what belongs to no snapshot, and did so an hour ago; not each time."""
        raise NotImplementedError
