"""The sweep of snapshots on the control worker: rows first, then the store; each step can be repeated."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity

from activities._state import start_accepted
from activities._step import alive
from activities.db.engine import Database
from activities.db.errors import DomainError
from activities.db.ids import made_at
from activities.db.planning import context_of
from activities.db.records import SWEEPER, Actor
from activities.db.repositories import snapshot_policies, snapshots, verifications
from activities.db.repositories.environments import get_environment
from activities.db.repositories.snapshot_policies import PolicyRecord
from activities.db.snapshot_schedule import take_due
from activities.db.tables import Role
from activities.db.types import utc_now
from activities.secrets import MasterKeys
from activities.storage.objects import ObjectStore
from activities.temporal import TemporalServer, VerificationStart
from workflows.contracts.snapshot import Discard
from workflows.contracts.sweep_snapshots import (
    AtStorage,
    KeptByStorage,
    SnapshotsSwept,
    SnapshotSweepActivities,
    Standing,
)
from workflows.domain.snapshot_manifest import SNAPSHOTS, snapshot_prefix
from workflows.domain.verification import VerifyLevel

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
    keys: MasterKeys

    @activity.defn(name="snapshots.take_due")
    async def take_due(self) -> SnapshotsSwept:
        """See `SnapshotSweepActivities`. A start that gets lost is made by the reconciler."""
        taken = 0
        async with alive() as life:
            now = utc_now()
            async with self.database.reading() as session:
                due = await snapshot_policies.due(session, now)
            for policy in due:
                life.progress = policy.environment_id
                async with self.database.transaction() as session:
                    accepted = await take_due(session, policy.environment_id, now, keys=self.keys)
                if accepted is not None:
                    taken += 1
                    await start_accepted(self.server, accepted)
        return SnapshotsSwept(taken=taken)

    @activity.defn(name="snapshots.expire")
    async def expire(self) -> SnapshotsSwept:
        """See `SnapshotSweepActivities`."""
        expired = 0
        async with alive():
            for policy in await self._policies():
                if policy.policy.keep_last is not None:
                    async with self.database.transaction() as session:
                        expired += await snapshots.keep_last(
                            session, policy.environment_id, policy.policy.keep_last
                        )
            while True:
                async with self.database.transaction() as session:
                    done = await snapshots.expire(session, utc_now(), limit=_BATCH)
                expired += done
                if done < _BATCH:
                    return SnapshotsSwept(expired=expired)

    async def _policies(self) -> list[PolicyRecord]:
        found: list[PolicyRecord] = []
        while True:
            async with self.database.reading() as session:
                page = await snapshot_policies.page(session, found[-1].environment_id if found else "")
            if not page:
                return found
            found += page

    async def _ask(self, policy: PolicyRecord, level: VerifyLevel) -> None:
        """Ask for the verification of a policy's newest snapshot, once."""
        async with self.database.transaction() as session:
            found = await snapshots.unproved(session, policy.environment_id, int(level))
            if found is None:
                return
            actor = Actor(policy.organization_id, SWEEPER, None, Role.OWNER)
            with contextlib.suppress(DomainError):  # deleted or taken up meanwhile: the next sweep sees
                await verifications.ask(session, actor, found, level)

    @activity.defn(name="snapshots.start_verifications")
    async def start_verifications(self) -> SnapshotsSwept:
        """See `SnapshotSweepActivities`. One that runs is found running."""
        started = 0
        async with alive():
            for policy in await self._policies():
                if policy.policy.verify_level is not None:
                    await self._ask(policy, policy.policy.verify_level)
            async with self.database.reading() as session:
                lost = await verifications.unfinished(session, utc_now() - START_GRACE)
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
        removed, after = 0, ""
        async with alive() as life:
            while True:
                async with self.database.reading() as session:
                    left = await snapshots.left_behind(session, limit=_BATCH, after=after)
                for each in left:
                    after = life.progress = each.snapshot_id
                    if each.at_storage:
                        continue  # its cluster has not removed all of it yet, and is asked again
                    await self.objects.delete_below(snapshot_prefix(each.organization_id, each.snapshot_id))
                    async with self.database.transaction() as session:
                        await snapshots.mark_removed(session, each.snapshot_id, datetime.now(UTC))
                    removed += 1
                if len(left) < _BATCH:
                    return SnapshotsSwept(removed=removed)

    @activity.defn(name="snapshots.at_storage")
    async def at_storage(self) -> KeptByStorage:
        """See `SnapshotSweepActivities`."""
        found: list[AtStorage] = []
        after = ""
        async with alive():
            while len(found) < _BATCH:
                async with self.database.reading() as session:
                    left = await snapshots.left_behind(session, limit=_BATCH, after=after)
                    for each in left:
                        after = each.snapshot_id
                        if not each.at_storage:
                            continue
                        environment = await get_environment(
                            session, each.organization_id, each.environment_id
                        )
                        # What is removed has no fence; the deletion of what is in a namespace needs none.
                        context = context_of(environment, "", revision=environment.revision, fence=0)
                        discard = Discard(context=context, snapshot_id=each.snapshot_id)
                        found.append(AtStorage(cluster=environment.cluster, discard=discard))
                if len(left) < _BATCH:
                    break
        return KeptByStorage(snapshots=tuple(found))

    @activity.defn(name="snapshots.forget_volumes")
    async def forget_volumes(self, snapshot_id: str) -> None:
        """See `SnapshotSweepActivities`."""
        async with self.database.transaction() as session:
            await snapshots.forget_volumes(session, snapshot_id)

    @activity.defn(name="snapshots.note_standing")
    async def note_standing(self, standing: Standing) -> None:
        """See `SnapshotSweepActivities`."""
        async with self.database.transaction() as session:
            await snapshots.note_standing(session, standing.snapshot_id, standing.message)

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
