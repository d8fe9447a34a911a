"""Reads of single rows: of an organisation's own ones, and locked ones.

Locks are taken in this order: organisation, environment, operation, snapshot. A lock is FOR NO KEY UPDATE: it
excludes other writers of the row, and lets others insert rows that refer to it. SQLite has no row locks;
there the whole writing transaction is exclusive.
"""

from typing import Final, Protocol, TypeVar

from sqlalchemy import bindparam
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.errors import NotFound
from activities.db.records import Caps, OrganizationRecord
from activities.db.tables import Environment, Operation, Organization


class _Owned(Protocol):
    """A row of an organisation."""

    organization_id: str


Row = TypeVar("Row", bound=_Owned)


async def owned_row(
    session: AsyncSession, table: type[Row], key: str | tuple[str, int], organization_id: str, what: str
) -> Row:
    """Return the row with this primary key; `what` names it. Raises NotFound, for another's row alike."""
    row = await session.get(table, key)
    if row is None or row.organization_id != organization_id:
        raise NotFound(what, key if isinstance(key, str) else str(key[-1]))
    return row


async def locked_organization(session: AsyncSession, organization_id: str) -> OrganizationRecord:
    """Lock the organisation's row and return what it says. Raises NotFound."""
    found = (await session.exec(_LOCKED_ORGANIZATION, params={"id": organization_id})).one_or_none()
    if found is None:
        raise NotFound("organization", organization_id)
    name, caps, guard_rails, created_at = found
    return OrganizationRecord(
        id=organization_id,
        name=name,
        caps=Caps.model_validate(caps),
        guard_rails=guard_rails,
        created_at=created_at,
    )


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

_TABLE: Final = table_of(Organization)
_LOCKED_ORGANIZATION: Final = (
    select(_TABLE.c.name, _TABLE.c.caps, _TABLE.c.guard_rails, _TABLE.c.created_at)
    .where(_TABLE.c.id == bindparam("id"))
    .with_for_update(key_share=True)
)
