"""API keys: made once, shown once, found by digest."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.errors import NotFound, Unauthenticated
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, ApiKeyRecord, api_key_record
from activities.db.repositories._rows import owned_row
from activities.db.repositories.organizations import get_principal
from activities.db.repositories.paging import ByTimeOrName, Filter, Listing, Page, among, holding, only
from activities.db.tables import ApiKey, Role
from activities.db.types import utc_now
from activities.secrets import new_token, token_digest


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key; its token exists nowhere else."""

    key: ApiKeyRecord
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Who a token belongs to, and what it may do."""

    actor: Actor
    key: ApiKeyRecord


class KeyState(StrEnum):
    """Whether a key is good."""

    GOOD = "good"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class KeyFilter(Filter):
    """Which keys a list holds, by what they are when it is read. `part` stands in the name."""

    states: frozenset[KeyState] = frozenset()
    principal_id: str | None = None
    roles: frozenset[Role] = frozenset()
    part: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        now = utc_now()
        states = [or_(*(_in_state(each, now) for each in sorted(self.states)))] if self.states else []
        return [
            *states,
            *only(col(ApiKey.principal_id), self.principal_id),
            *among(col(ApiKey.role), self.roles),
            *holding(col(ApiKey.name), self.part),
        ]


_TABLE: Final = table_of(ApiKey)
_LISTING: Final = Listing(
    name="api keys",
    copy=api_key_record,
    by={"createdAt": _TABLE.c.created_at, "name": _TABLE.c.name},
    identifier=_TABLE.c.id,
)


async def create_key(
    session: AsyncSession,
    organization_id: str,
    principal_id: str,
    *,
    name: str,
    role: Role,
    unlimited: bool = False,
    expires_at: datetime | None = None,
    token: str | None = None,
) -> CreatedKey:
    """Add a key for a principal; `token` only where a key has to be known beforehand. Raises NotFound."""
    await get_principal(session, organization_id, principal_id)
    token = token or new_token()
    row = ApiKey(
        id=new_id(IdPrefix.API_KEY),
        organization_id=organization_id,
        principal_id=principal_id,
        name=name,
        role=role,
        unlimited=unlimited,
        sha256=token_digest(token),
        last8=token[-8:],
        created_at=utc_now(),
        expires_at=expires_at,
    )
    session.add(row)
    await session.flush()
    return CreatedKey(key=api_key_record(row), token=token)


async def authenticate(
    session: AsyncSession, token: str, organization_id: str | None = None
) -> Authenticated:
    """Return who a token stands for.

    Raises Unauthenticated when it is unknown, expired or revoked, NotFound when it is good but
    `organization_id` is not its organisation.
    """
    query = select(ApiKey).where(col(ApiKey.sha256) == token_digest(token))
    row = (await session.exec(query)).one_or_none()
    if row is None or row.revoked_at is not None:
        raise Unauthenticated
    if row.expires_at is not None and row.expires_at <= utc_now():
        raise Unauthenticated
    if organization_id is not None and organization_id != row.organization_id:
        raise NotFound("organization", organization_id)
    actor = Actor(
        organization_id=row.organization_id,
        principal_id=row.principal_id,
        key_id=row.id,
        role=row.role,
        unlimited=row.unlimited,
    )
    return Authenticated(actor=actor, key=api_key_record(row))


async def list_keys(
    session: AsyncSession,
    organization_id: str,
    *,
    wanted: KeyFilter = KeyFilter(),
    sort: ByTimeOrName = ByTimeOrName.NEWEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[ApiKeyRecord]:
    """Return a page of an organisation's keys. Raises InvalidCursor."""
    query = select(ApiKey).where(col(ApiKey.organization_id) == organization_id)
    return await _LISTING.page(session, query, sort=sort, wanted=wanted, limit=limit, cursor=cursor)


async def is_named(session: AsyncSession, organization_id: str, name: str) -> bool:
    """Whether a key of this name is there that was not revoked."""
    query = select(ApiKey.id).where(
        col(ApiKey.organization_id) == organization_id,
        col(ApiKey.name) == name,
        col(ApiKey.revoked_at).is_(None),
    )
    return (await session.exec(query.limit(1))).one_or_none() is not None


async def revoke_key(session: AsyncSession, organization_id: str, key_id: str) -> ApiKeyRecord:
    """Make a key useless from now on; one that was revoked before stays as it is. Raises NotFound."""
    row = await owned_row(session, ApiKey, key_id, organization_id, "API key")
    if row.revoked_at is None:
        row.revoked_at = utc_now()
    await session.flush()
    return api_key_record(row)


async def usable_keys(session: AsyncSession, key_ids: Collection[str]) -> frozenset[str]:
    """Return those of these keys that are neither revoked nor expired."""
    query = select(ApiKey.id).where(col(ApiKey.id).in_(key_ids), _in_state(KeyState.GOOD, utc_now()))
    return frozenset((await session.exec(query)).all())


def _in_state(state: KeyState, now: datetime) -> ColumnElement[bool]:
    """The condition that a key is in a state."""
    revoked, end = col(ApiKey.revoked_at).is_not(None), col(ApiKey.expires_at)
    match state:
        case KeyState.REVOKED:
            return revoked
        case KeyState.EXPIRED:
            return and_(~revoked, end <= now)
        case KeyState.GOOD:
            return and_(~revoked, or_(end.is_(None), end > now))
