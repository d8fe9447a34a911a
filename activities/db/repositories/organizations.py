"""Organisations, their principals, and the keys that act for them."""

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import NotFound
from activities.db.ids import IdPrefix, new_id
from activities.db.records import (
    Caps,
    OrganizationRecord,
    PrincipalRecord,
    organization_record,
    principal_record,
)
from activities.db.repositories._rows import owned_row
from activities.db.repositories.installation import installation_id
from activities.db.tables import Installation, Organization, Principal, PrincipalKind
from activities.db.types import utc_now
from workflows.domain.environment import GuardRails


async def create_organization(
    session: AsyncSession, name: str, *, caps: Caps | None = None, guard_rails: GuardRails | None = None
) -> OrganizationRecord:
    """Add an organisation. Of `guard_rails` the fields that were set are laid over the cluster's."""
    row = Organization(
        id=new_id(IdPrefix.ORGANIZATION),
        name=name,
        caps=(caps or Caps()).model_dump(mode="json", exclude_none=True),
        guard_rails={} if guard_rails is None else guard_rails.model_dump(mode="json", exclude_unset=True),
        created_at=utc_now(),
    )
    session.add(row)
    await session.flush()
    return organization_record(row)


async def get_organization(session: AsyncSession, organization_id: str) -> OrganizationRecord:
    """Return an organisation. Raises NotFound."""
    row = await session.get(Organization, organization_id)
    if row is None:
        raise NotFound("organization", organization_id)
    return organization_record(row)


async def find_organization(session: AsyncSession, name: str) -> OrganizationRecord | None:
    """Return the oldest organisation of this name."""
    query = select(Organization).where(col(Organization.name) == name)
    row = (await session.exec(query.order_by(col(Organization.created_at)).limit(1))).one_or_none()
    return None if row is None else organization_record(row)


async def claim_name(session: AsyncSession, name: str) -> OrganizationRecord | None:
    """Return the oldest organisation of this name; None: until this transaction ends, nobody else makes one.

    Under the lock of the installation's row. No constraint says it: there may be two of a name from before.
    """
    await installation_id(session)
    await session.exec(select(Installation).with_for_update(key_share=True))
    return await find_organization(session, name)


async def list_organizations(session: AsyncSession) -> tuple[OrganizationRecord, ...]:
    """Return every organisation, oldest first: for whoever runs the installation, and no tenant."""
    query = select(Organization).order_by(col(Organization.created_at), col(Organization.id))
    return tuple(organization_record(row) for row in await session.exec(query))


async def set_caps(session: AsyncSession, organization_id: str, caps: Caps) -> None:
    """Replace the caps of an organisation, which is locked. Raises NotFound."""
    row = await session.get(Organization, organization_id)
    if row is None:
        raise NotFound("organization", organization_id)
    row.caps = caps.model_dump(mode="json", exclude_none=True)
    await session.flush()


async def set_guard_rails(session: AsyncSession, organization_id: str, rails: GuardRails) -> None:
    """Replace the guard rails of a locked organisation by those fields that are set. Raises NotFound."""
    row = await session.get(Organization, organization_id)
    if row is None:
        raise NotFound("organization", organization_id)
    row.guard_rails = rails.model_dump(mode="json", exclude_unset=True)
    await session.flush()


async def create_principal(
    session: AsyncSession, organization_id: str, kind: PrincipalKind, name: str
) -> PrincipalRecord:
    """Add a person or service. Raises NotFound for an unknown organisation."""
    await get_organization(session, organization_id)
    row = Principal(
        id=new_id(IdPrefix.PRINCIPAL),
        organization_id=organization_id,
        kind=kind,
        name=name,
        created_at=utc_now(),
    )
    session.add(row)
    await session.flush()
    return principal_record(row)


async def get_principal(session: AsyncSession, organization_id: str, principal_id: str) -> PrincipalRecord:
    """Return a principal of this organisation. Raises NotFound."""
    row = await owned_row(session, Principal, principal_id, organization_id, "principal")
    return principal_record(row)
