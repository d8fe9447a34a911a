"""Locked reads of single rows, always in this order: organisation, environment, operation.

The lock is FOR NO KEY UPDATE: it excludes other writers of the row, and lets others insert rows that refer
to it. SQLite has no row locks; there the whole writing transaction is exclusive.
"""

from typing import Final

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import NotFound
from activities.db.tables import Environment, Operation, Organization


async def locked_organization(session: AsyncSession, organization_id: str) -> Organization:
    """Lock and return the organisation's row. Raises NotFound."""
    query = select(Organization).where(col(Organization.id) == organization_id)
    row = (await session.exec(query.with_for_update(key_share=True), execution_options=FRESH)).one_or_none()
    if row is None:
        raise NotFound("organization", organization_id)
    return row


async def locked_environment(
    session: AsyncSession, environment_id: str, organization_id: str | None = None
) -> Environment:
    """Lock and return an environment's row; of this organisation only when one is given. Raises NotFound."""
    query = select(Environment).where(col(Environment.id) == environment_id)
    if organization_id is not None:
        query = query.where(col(Environment.organization_id) == organization_id)
    row = (await session.exec(query.with_for_update(key_share=True), execution_options=FRESH)).one_or_none()
    if row is None:
        raise NotFound("environment", environment_id)
    return row


async def locked_operation(
    session: AsyncSession, operation_id: str, organization_id: str | None = None
) -> tuple[Environment, Operation]:
    """Lock the environment's row, then the operation's; return both. Raises NotFound."""
    query = select(Operation).where(col(Operation.id) == operation_id)
    if organization_id is not None:
        query = query.where(col(Operation.organization_id) == organization_id)
    found = (await session.exec(query)).one_or_none()
    if found is None:
        raise NotFound("operation", operation_id)
    environment = await locked_environment(session, found.environment_id)
    locked = (await session.exec(query.with_for_update(key_share=True), execution_options=FRESH)).one()
    return environment, locked


FRESH: Final = {"populate_existing": True}
"""What was read before the lock may have changed while waiting for it."""
