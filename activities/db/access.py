"""Who may act for an organisation, and what it keeps for Blueprints: each change with its audit entry.

All under the organisation's lock: of two revocations at once, the second sees what the first has left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, func, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.errors import InUse, LastOwnerKey, RoleTooHigh
from activities.db.records import (
    Actor,
    ApiKeyRecord,
    JsonObject,
    PrincipalRecord,
    RegistryCredentialRecord,
    principal_record,
)
from activities.db.repositories import keys, registry_credentials, secrets
from activities.db.repositories._rows import locked_organization, owned_row
from activities.db.repositories.audit import add_entry
from activities.db.repositories.keys import CreatedKey
from activities.db.repositories.organizations import create_principal
from activities.db.repositories.paging import ByTimeOrName, Filter, Listing, Page, holding, only
from activities.db.tables import ApiKey, Environment, Principal, PrincipalKind, Revision, Role, Secret
from activities.db.types import utc_now
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, secret_sources
from workflows.domain.manifests import pull_credential_names

_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class WantedKey:
    """A key to be made. `unlimited`: exempt from the rate limit; only an owner gives that."""

    principal_id: str
    name: str
    role: Role
    unlimited: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PrincipalFilter(Filter):
    """Which principals a list holds. `part` stands in the name."""

    kind: PrincipalKind | None = None
    part: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        return [*only(col(Principal.kind), self.kind), *holding(col(Principal.name), self.part)]


_TABLE: Final = table_of(Principal)
_PRINCIPALS: Final = Listing(
    name="principals",
    copy=principal_record,
    by={"createdAt": _TABLE.c.created_at, "name": _TABLE.c.name},
    identifier=_TABLE.c.id,
)


async def add_principal(
    session: AsyncSession, actor: Actor, kind: PrincipalKind, name: str
) -> PrincipalRecord:
    """Add a person or service to the actor's organisation."""
    await locked_organization(session, actor.organization_id)
    principal = await create_principal(session, actor.organization_id, kind, name)
    data: JsonObject = {"kind": kind.value, "name": name}
    await add_entry(session, actor, "principal.create", principal.id, data)
    return principal


async def principals(
    session: AsyncSession,
    organization_id: str,
    *,
    wanted: PrincipalFilter = PrincipalFilter(),
    sort: ByTimeOrName = ByTimeOrName.OLDEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[PrincipalRecord]:
    """Return a page of an organisation's principals. Raises InvalidCursor."""
    query = select(Principal).where(col(Principal.organization_id) == organization_id)
    return await _PRINCIPALS.page(session, query, sort=sort, wanted=wanted, limit=limit, cursor=cursor)


async def add_key(session: AsyncSession, actor: Actor, wanted: WantedKey) -> CreatedKey:
    """Make a key for a principal. Raises NotFound, or RoleTooHigh beyond what the actor has."""
    await locked_organization(session, actor.organization_id)
    if _RANK[wanted.role] > _RANK[actor.role] or (wanted.unlimited and actor.role is not Role.OWNER):
        raise RoleTooHigh(wanted.role, actor.role)
    created = await keys.create_key(
        session,
        actor.organization_id,
        wanted.principal_id,
        name=wanted.name,
        role=wanted.role,
        unlimited=wanted.unlimited,
        expires_at=wanted.expires_at,
    )
    data: JsonObject = {
        "name": wanted.name,
        "role": wanted.role.value,
        "principal": wanted.principal_id,
        "unlimited": wanted.unlimited,
        "expiresAt": None if wanted.expires_at is None else wanted.expires_at.isoformat(),
    }
    await add_entry(session, actor, "api_key.create", created.key.id, data)
    return created


async def take_key(session: AsyncSession, actor: Actor, key_id: str) -> ApiKeyRecord:
    """Revoke a key; one that was revoked before stays as it is.

    Raises NotFound, RoleTooHigh for one of a higher role, or LastOwnerKey: nobody could make another.
    """
    await locked_organization(session, actor.organization_id)
    row = await owned_row(session, ApiKey, key_id, actor.organization_id, "API key")
    if _RANK[row.role] > _RANK[actor.role]:
        raise RoleTooHigh(row.role, actor.role)
    if row.revoked_at is None:
        if row.role is Role.OWNER and not await _other_owner_keys(session, row):
            raise LastOwnerKey(row.id)
        await add_entry(session, actor, "api_key.revoke", row.id, {"name": row.name})
    return await keys.revoke_key(session, actor.organization_id, key_id)


async def keep_secret(
    session: AsyncSession, actor: Actor, name: str, value: str, master_keys: MasterKeys
) -> bool:
    """Store a secret of the organisation, encrypted; return whether it is a new one."""
    await locked_organization(session, actor.organization_id)
    known = await secrets.existing_names(session, actor.organization_id, [name])
    key = await secrets.data_key(session, actor.organization_id, master_keys)
    stored = await secrets.store_secret(session, actor.organization_id, name, value, key=key)
    action = "secret.replace" if known else "secret.create"
    await add_entry(session, actor, action, stored.id, {"name": name})
    return not known


async def forget_secret(session: AsyncSession, actor: Actor, name: str) -> bool:
    """Destroy a secret of the organisation; False: there was none. Raises InUse, naming environments."""
    await locked_organization(session, actor.organization_id)
    query = select(Secret).where(
        col(Secret.organization_id) == actor.organization_id,
        col(Secret.environment_id).is_(None),
        col(Secret.name) == name,
    )
    row = (await session.exec(query)).one_or_none()
    if row is None:
        return False

    def refers(blueprint: Blueprint) -> bool:
        return any(source.stored == name for source in secret_sources(blueprint).values())

    users = await _users_of(session, actor.organization_id, refers)
    if users:
        raise InUse("secret", name, users)
    await session.delete(row)
    await add_entry(session, actor, "secret.delete", row.id, {"name": name})
    await session.flush()
    return True


async def forget_registry_credential(
    session: AsyncSession, actor: Actor, id_or_name: str
) -> RegistryCredentialRecord:
    """Remove a registry login for good; return what it was. Raises NotFound, or InUse with its users."""
    await locked_organization(session, actor.organization_id)
    found = await registry_credentials.find_registry_credential(session, actor.organization_id, id_or_name)

    def refers(blueprint: Blueprint) -> bool:
        return found.name in pull_credential_names(blueprint)

    users = await _users_of(session, actor.organization_id, refers)
    if users:
        raise InUse("registry credential", found.name, users)
    await registry_credentials.delete_registry_credential(session, actor, found.id)
    return found


async def _other_owner_keys(session: AsyncSession, row: ApiKey) -> int:
    query = (
        select(func.count())
        .select_from(ApiKey)
        .where(
            col(ApiKey.organization_id) == row.organization_id,
            col(ApiKey.role) == Role.OWNER,
            col(ApiKey.id) != row.id,
            col(ApiKey.revoked_at).is_(None),
            or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > utc_now()),
        )
    )
    return (await session.exec(query)).one()


async def _users_of(
    session: AsyncSession, organization_id: str, refers: Callable[[Blueprint], bool]
) -> tuple[str, ...]:
    """Names of the living environments whose present Blueprint refers to something of the organisation's."""
    query = (
        select(col(Environment.name), col(Revision.blueprint))
        .join(
            Revision,
            (col(Revision.environment_id) == col(Environment.id))
            & (col(Revision.number) == col(Environment.revision)),
        )
        .where(
            col(Environment.organization_id) == organization_id,
            col(Environment.deleted_at).is_(None),
        )
        .order_by(col(Environment.name))
    )
    return tuple(
        name for name, document in await session.exec(query) if refers(Blueprint.model_validate(document))
    )
