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
