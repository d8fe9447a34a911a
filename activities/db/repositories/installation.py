"""Which installation this database belongs to."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.tables import Installation
from activities.db.types import utc_now


@dataclass(frozen=True, slots=True)
class Restored:
    """That this database was restored at a time, to what it was when the backup was taken."""

    at: datetime
    to: datetime


async def last_restore(session: AsyncSession) -> Restored | None:
    """Return when this database was last restored, None for never."""
    row = (await session.exec(select(Installation))).one_or_none()
    if row is None or row.restored_at is None or row.restored_to is None:
        return None
    return Restored(row.restored_at, row.restored_to)


async def note_restore(session: AsyncSession, restored: Restored) -> None:
    """Note that this database was restored; what was unknown after an earlier restore stays so."""
    for row in await session.exec(select(Installation)):
        row.restored_at, row.restored_to = restored.at, restored.to
        row.unknown_since = min(restored.to, row.unknown_since or restored.to)
        row.store_note = ""
    await session.flush()


@dataclass(frozen=True, slots=True)
class Claim:
    """What this database may take for its own in an object store.

    Snapshots that were made since `unknown_since` may be good ones that it does not know; None: it knows all.
    """

    installation_id: str
    unknown_since: datetime | None


async def claim(session: AsyncSession) -> Claim:
    """Return what this database may take for its own. Needs a writing transaction."""
    identifier = await installation_id(session)
    row = (await session.exec(select(Installation))).one()
    return Claim(identifier, row.unknown_since)


async def store_note(session: AsyncSession) -> str:
    """Return what the last look through the object store left alone, and why; empty: nothing."""
    row = (await session.exec(select(Installation))).one_or_none()
    return "" if row is None else row.store_note


async def note_store(session: AsyncSession, note: str) -> None:
    """Note what a look through the object store left alone."""
    for row in await session.exec(select(Installation)):
        row.store_note = note
    await session.flush()


async def installation_id(session: AsyncSession) -> str:
    """Return the installation's UUID; made at the first call, for good. Needs a writing transaction."""
    known = (await session.exec(select(Installation))).one_or_none()
    if known is not None:
        return known.uuid
    try:
        async with session.begin_nested():
            session.add(Installation(uuid=str(uuid.uuid4()), created_at=utc_now()))
    except IntegrityError:
        # Another process was faster: its answer holds.
        pass
    return (await session.exec(select(Installation))).one().uuid
