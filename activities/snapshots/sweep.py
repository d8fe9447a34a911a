"""The sweep of snapshots on the control worker: rows first, then the store; each step can be repeated."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity

from activities._step import alive
from activities.db.engine import Database
from activities.db.ids import made_at
from activities.db.repositories import snapshots, verifications
from activities.storage.objects import ObjectStore
from activities.temporal import TemporalServer, VerificationStart
from workflows.contracts.sweep_snapshots import SnapshotsSwept, SnapshotSweepActivities
from workflows.domain.snapshot_manifest import SNAPSHOTS, snapshot_prefix

ORPHAN_AGE: Final = timedelta(hours=1)
"""Younger ones are left alone: somebody may be about to write their row."""
START_GRACE: Final = timedelta(seconds=30)
"""A younger verification is being started by whoever accepted it."""
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class ControlSnapshotSweep(SnapshotSweepActivities):
    """Retention of snapshots over the database and the object store."""

    database: Database
    objects: ObjectStore
    server: TemporalServer

    @activity.defn(name="snapshots.expire")
    async def expire(self) -> SnapshotsSwept:
        """See `SnapshotSweepActivities`."""
        expired = 0
        async with alive():
            while True:
                async with self.database.transaction() as session:
                    done = await snapshots.expire(session, datetime.now(UTC), limit=_BATCH)
                expired += done
                if done < _BATCH:
                    return SnapshotsSwept(expired=expired)

    @activity.defn(name="snapshots.start_verifications")
    async def start_verifications(self) -> SnapshotsSwept:
        """See `SnapshotSweepActivities`. One that runs is found running."""
        started = 0
        async with alive():
            async with self.database.reading() as session:
                lost = await verifications.unfinished(session, datetime.now(UTC) - START_GRACE)
                of = {each.id: await snapshots.environment_of(session, each.snapshot_id) for each in lost}
            for each in lost:
                await self.server.verify(
                    VerificationStart(each.id, each.snapshot_id, each.organization_id, of[each.id])
                )
                started += 1
        return SnapshotsSwept(started=started)

    @activity.defn(name="snapshots.remove")
    async def remove(self) -> SnapshotsSwept:
        """See `SnapshotSweepActivities`."""
        removed = 0
        async with alive() as life:
            while True:
                async with self.database.reading() as session:
                    left = await snapshots.left_in_store(session, limit=_BATCH)
                for organization_id, snapshot_id in left:
                    life.progress = snapshot_id
                    await self.objects.delete_below(snapshot_prefix(organization_id, snapshot_id))
                    async with self.database.transaction() as session:
                        await snapshots.mark_removed(session, snapshot_id, datetime.now(UTC))
                removed += len(left)
                if len(left) < _BATCH:
                    return SnapshotsSwept(removed=removed)

    @activity.defn(name="snapshots.remove_orphans")
    async def remove_orphans(self) -> SnapshotsSwept:
        """See `SnapshotSweepActivities`. Names alone are read, not what is below them."""
        orphans = 0
        old = datetime.now(UTC) - ORPHAN_AGE
        async with alive() as life:
            for organization_id in await self.objects.names_below(SNAPSHOTS):
                life.progress = organization_id
                names = await self.objects.names_below(f"{SNAPSHOTS}/{organization_id}")
                made = {name: made_at(name) for name in names}
                aged = [name for name, at in made.items() if at is not None and at < old]
                for start in range(0, len(aged), _BATCH):
                    batch = aged[start : start + _BATCH]
                    async with self.database.reading() as session:
                        of_use = await snapshots.known(session, batch)
                    for name in batch:
                        if name not in of_use:
                            await self.objects.delete_below(snapshot_prefix(organization_id, name))
                            orphans += 1
        return SnapshotsSwept(orphans=orphans)
