"""The sweep of snapshots on the control worker: rows first, then the store; each step can be repeated."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import zip_longest
from typing import Final

from temporalio import activity

from activities._state import start_accepted
from activities._step import alive
from activities.db.engine import Database
from activities.db.errors import DomainError
from activities.db.planning import context_of
from activities.db.records import SWEEPER, Actor, EnvironmentRecord
from activities.db.repositories import snapshot_policies, snapshots, verifications
from activities.db.repositories import snapshot_retention as retention
from activities.db.repositories.environments import get_environment
from activities.db.repositories.installation import note_store
from activities.db.repositories.snapshot_retention import Unproved
from activities.db.repositories.snapshots import LeftBehind
from activities.db.repositories.verifications import VerificationRecord
from activities.db.snapshot_schedule import take_due
from activities.db.tables import Role
from activities.db.types import utc_now
from activities.secrets import MasterKeys
from activities.snapshots.janitor import survey
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
from workflows.contracts.verify import VerificationResult
from workflows.domain.snapshot_manifest import snapshot_prefix
from workflows.domain.verification import Check, VerificationState, verification_workflow_id

LISTED_EVERY_SECONDS: Final = 3_600.0
"""How often a process lists all of the store; orphans are rare, and of that age before they go."""
START_GRACE: Final = timedelta(seconds=30)
"""A younger verification is being started by whoever accepted it."""
LOST_GRACE: Final = timedelta(seconds=30)
"""A running verification whose workflow has ended gets this long for its own last write."""
_BATCH: Final = 100
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_LOST: Final = (
    "The workflow of this verification ended without saying what it found (terminated, or it failed "
    "unexpectedly). It says nothing about the snapshot: ask again."
)


@dataclass(slots=True)
class Listing:
    """When this process has listed all of the store: by the monotonic clock, None: not yet."""

    ended: float | None = None

    @property
    def due(self) -> bool:
        """Whether it is time to do so."""
        return self.ended is None or time.monotonic() - self.ended >= LISTED_EVERY_SECONDS


@dataclass(frozen=True, slots=True)
class ControlSnapshotSweep(SnapshotSweepActivities):
    """Retention of snapshots over the database and the object store."""

    database: Database
    objects: ObjectStore
    server: TemporalServer
    keys: MasterKeys
    listing: Listing = field(default_factory=Listing)

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
            for over in (partial(retention.expire, now=utc_now()), retention.expire_surplus):
                done = _BATCH
                while done == _BATCH:
                    async with self.database.transaction() as session:
                        done = await over(session, limit=_BATCH)
                    expired += done
        return SnapshotsSwept(expired=expired)

    async def _ask(self, wanted: Unproved) -> None:
        """Ask for a verification that a policy wants."""
        actor = Actor(wanted.organization_id, SWEEPER, None, Role.OWNER)
        async with self.database.transaction() as session:
            with contextlib.suppress(DomainError):  # deleted or taken up meanwhile: the next sweep sees
                await verifications.ask(session, actor, wanted.snapshot_id, wanted.level)

    @activity.defn(name="snapshots.start_verifications")
    async def start_verifications(self) -> SnapshotsSwept:
        """See `SnapshotSweepActivities`. One that runs is found running."""
        started = 0
        async with alive() as life:
            # In this order: where the newest is to be verified, none is verified anew meanwhile.
            for look in (retention.unproved, retention.stale):
                async with self.database.reading() as session:
                    found = await look(session, utc_now())
                for wanted in found:
                    life.progress = wanted.snapshot_id
                    await self._ask(wanted)
            after, more = "", True
            while more:
                async with self.database.reading() as session:
                    running = await verifications.unfinished(
                        session, utc_now() - START_GRACE, after=after, limit=_BATCH
                    )
                    of = {
                        each.id: await snapshots.environment_of(session, each.snapshot_id) for each in running
                    }
                more = len(running) == _BATCH
                for each in running:
                    after = life.progress = each.id
                    if await self._lost(each):
                        continue
                    await self.server.verify(
                        VerificationStart(each.id, each.snapshot_id, each.organization_id, of[each.id])
                    )
                    started += 1
        return SnapshotsSwept(started=started)

    async def _lost(self, verification: VerificationRecord) -> bool:
        """End a verification whose workflow has ended without saying so; nobody else ever would.

        Not started anew: the same id is never run twice, and asking again is what a person or policy does.
        """
        workflow_id = verification_workflow_id(verification.snapshot_id, verification.id)
        ended = await self.server.ended_at(workflow_id)
        if ended is None:
            return False
        if utc_now() - ended >= LOST_GRACE:
            check = Check(level=verification.level, subject="verification", ok=False, message=_LOST)
            result = VerificationResult(
                verification_id=verification.id, state=VerificationState.ABORTED, checks=(check,)
            )
            async with self.database.transaction() as session:
                await verifications.finish(session, result, utc_now())
        return True

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
        kept: list[LeftBehind] = []
        after, more = "", True
        async with alive() as life:
            while more:
                async with self.database.reading() as session:
                    left = await snapshots.left_behind(session, limit=_BATCH, after=after)
                more = len(left) == _BATCH
                kept += [each for each in left if each.at_storage]
                after = life.progress = left[-1].snapshot_id if left else after
            async with self.database.reading() as session:
                found = [
                    _at_storage(
                        await get_environment(session, each.organization_id, each.environment_id), each
                    )
                    for each in kept
                ]
        asked = {each.snapshot_id: each.standing_at for each in kept}
        return KeptByStorage(snapshots=in_turn(found, asked, limit=_BATCH))

    @activity.defn(name="snapshots.forget_volumes")
    async def forget_volumes(self, snapshot_id: str) -> None:
        """See `SnapshotSweepActivities`."""
        async with self.database.transaction() as session:
            await snapshots.forget_volumes(session, snapshot_id)

    @activity.defn(name="snapshots.note_standing")
    async def note_standing(self, standing: Standing) -> None:
        """See `SnapshotSweepActivities`."""
        async with self.database.transaction() as session:
            await snapshots.note_standing(session, standing.snapshot_id, standing.message, utc_now())

    @activity.defn(name="snapshots.remove_orphans")
    async def remove_orphans(self) -> SnapshotsSwept:
        """See `SnapshotSweepActivities`. Names alone are read, not what is below them.

        Once an hour in each process: a list of all names is as long as there are snapshots.
        """
        if not self.listing.due:
            return SnapshotsSwept()
        async with alive() as life:
            found = await survey(self.database, self.objects, datetime.now(UTC))
            async with self.database.transaction() as session:
                await note_store(session, found.note)
            if found.note:
                activity.logger.warning("%s", found.note)
            for each in found.removable:
                life.progress = each.snapshot_id
                await self.objects.delete_below(snapshot_prefix(each.organization_id, each.snapshot_id))
        self.listing.ended = time.monotonic()
        return SnapshotsSwept(
            orphans=len(found.removable),
            withheld=found.withheld,
            foreign=found.foreign,
        )


def _at_storage(environment: EnvironmentRecord, left: LeftBehind) -> AtStorage:
    # What is removed has no fence; the deletion of what is in a namespace needs none.
    context = context_of(environment, "", revision=environment.revision, fence=0)
    discard = Discard(context=context, snapshot_id=left.snapshot_id)
    return AtStorage(cluster=environment.cluster, discard=discard)


def in_turn(
    found: Sequence[AtStorage], asked: Mapping[str, datetime | None], *, limit: int
) -> tuple[AtStorage, ...]:
    """Return so many, as many of each cluster, and of each those first that were asked for the longest ago.

    `asked`: when, by snapshot; None: never.
    """
    waiting: dict[str, list[AtStorage]] = {}
    for each in sorted(
        found, key=lambda each: (asked[each.discard.snapshot_id] or _NEVER, each.discard.snapshot_id)
    ):
        waiting.setdefault(each.cluster, []).append(each)
    rounds = zip_longest(*(waiting[cluster] for cluster in sorted(waiting)))
    return tuple(each for turn in rounds for each in turn if each is not None)[:limit]
