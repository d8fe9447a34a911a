"""Which installation this database belongs to."""

import uuid

from sqlalchemy.exc import IntegrityError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.tables import Installation
from activities.db.types import utc_now


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
