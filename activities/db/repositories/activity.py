"""When environments were last used: what an idle shutdown goes by."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import or_, update
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.tables import Environment

_AT_ONCE: Final = 500
"""Ids in one statement: SQLite takes a bounded number of parameters."""


async def touch(
    session: AsyncSession, organization_id: str, environment_ids: Collection[str], at: datetime
) -> None:
    """Set when these environments of the organisation were last used; never back to an earlier time.

    It is no change of the environment: version and `updated_at` stay. Unknown ids are nothing.
    """
    ids = sorted(environment_ids)
    connection = await session.connection()
    for start in range(0, len(ids), _AT_ONCE):
        known = col(Environment.last_active_at)
        await connection.execute(
            update(Environment)
            .where(
                col(Environment.organization_id) == organization_id,
                col(Environment.id).in_(ids[start : start + _AT_ONCE]),
                or_(known.is_(None), known < at),
            )
            .values(last_active_at=at)
        )
