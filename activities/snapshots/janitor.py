"""What in the object store belongs to no snapshot of use, and which of it may be removed.

Of what a row says that it is of no use, all. Of what no row knows: a database that was restored, is new or
is another one looks just like many orphans, so only what this installation signed, what was not made since a
backup that was restored, and nothing at all when many look so at once.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from activities.db.engine import Database
from activities.db.ids import made_at
from activities.db.repositories import snapshots
from activities.db.repositories.installation import Claim, claim
from activities.snapshots.ownership import is_signed
from activities.storage.objects import ObjectStore
from workflows.domain.snapshot_manifest import SNAPSHOTS
from workflows.domain.wording import listed

ORPHAN_AGE: Final = timedelta(hours=1)
"""Younger ones are left alone: somebody may be about to write their row."""
MOST_ORPHANED: Final = 0.10
"""Of the snapshots of this installation in the store; more look like a database that is not the right one."""
_BATCH: Final = 100
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot of which something is in the store."""

    organization_id: str
    snapshot_id: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look through the store found.

    `known`: how many are of use. `useless`: a row says that they are of none. `orphans`: signed by this
    installation, and no row knows them. `since_backup`: those of them, made since a backup that was restored.
    `foreign`: no row knows them, and this installation has not signed them.
    """

    known: int
    useless: tuple[Stored, ...]
    orphans: tuple[Stored, ...]
    since_backup: tuple[Stored, ...]
    foreign: int

    @property
    def too_many(self) -> bool:
        """Whether so many look orphaned that the database may be at fault."""
        return len(self.orphans) > MOST_ORPHANED * (self.known + len(self.useless) + len(self.orphans))

    @property
    def removable(self) -> tuple[Stored, ...]:
        """Those that may be removed."""
        return self.useless if self.too_many else (*self.useless, *self.orphans)

    @property
    def withheld(self) -> int:
        """How many of ours no row knows, and are left alone."""
        return len(self.since_backup) + (len(self.orphans) if self.too_many else 0)

    @property
    def note(self) -> str:
        """Say what of ours is left alone, and why; empty: nothing."""
        parts = []
        if self.too_many:
            of = self.known + len(self.useless) + len(self.orphans)
            parts.append(
                f"{len(self.orphans)} of {of} snapshots of this installation in the object store are not in "
                f"the database, more than {MOST_ORPHANED:.0%}: none of them is removed "
                f"({_named(self.orphans)})"
            )
        if self.since_backup:
            parts.append(
                f"{len(self.since_backup)} were made since the backup that the database was restored from, "
                f"and are kept ({_named(self.since_backup)})"
            )
        return "; ".join(parts)


async def survey(database: Database, objects: ObjectStore, now: datetime) -> Survey:
    """Look through all of the store, by names. Raises StoreUnavailable."""
    async with database.transaction() as session:
        ours = await claim(session)
    known = foreign = 0
    useless: list[Stored] = []
    orphans: list[Stored] = []
    since_backup: list[Stored] = []
    async for batch in _batches(objects, now - ORPHAN_AGE):
        async with database.reading() as session:
            of_use = await snapshots.of_use(session, [each.snapshot_id for each in batch])
        for each in batch:
            use = of_use.get((each.organization_id, each.snapshot_id))
            if use is None:
                if not await is_signed(objects, each.organization_id, each.snapshot_id, ours.installation_id):
                    foreign += 1
                elif _since_backup(ours, each):
                    since_backup.append(each)
                else:
                    orphans.append(each)
            elif use:
                known += 1
            else:
                useless.append(each)
    return Survey(known, tuple(useless), tuple(orphans), tuple(since_backup), foreign)


def _since_backup(ours: Claim, stored: Stored) -> bool:
    # Clocks differ a little, and a backup takes a while.
    return ours.unknown_since is not None and stored.made_at >= ours.unknown_since - ORPHAN_AGE


async def _batches(objects: ObjectStore, before: datetime) -> AsyncIterator[list[Stored]]:
    """Yield what was made before, some at a time; what is no id of a snapshot is left out."""
    for organization_id in await objects.names_below(SNAPSHOTS):
        aged = [
            Stored(organization_id, name, at)
            for name in await objects.names_below(f"{SNAPSHOTS}/{organization_id}")
            if (at := made_at(name)) is not None and at < before
        ]
        for start in range(0, len(aged), _BATCH):
            yield aged[start : start + _BATCH]


def _named(found: tuple[Stored, ...]) -> str:
    return listed([each.snapshot_id for each in found], _NAMED)
