"""Share links: made, listed, revoked; and what guests do with them: views, and PINs that are tried.

What guests ask for goes by the id of a share alone, which its signed token vouches for: they belong to no
organisation. Everything else is scoped by the organisation like all queries.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, and_, delete
from sqlmodel import col, func, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.errors import NotFound
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, JsonObject
from activities.db.repositories._rows import FRESH, locked_environment
from activities.db.repositories.audit import add_entry
from activities.db.repositories.paging import Filter, Listing, Page, holding
from activities.db.tables import Environment, Share
from activities.db.types import utc_now

MOST_WRONG_PINS: Final = 5
"""Wrong PINs in a row before a share is locked."""
LOCKED_FOR: Final = timedelta(minutes=15)
_REMEMBERED: Final = timedelta(days=90)
"""Shares that are over stay in the list for so long."""


class ShareState(StrEnum):
    """Whether a share opens. `locked`: too many wrong PINs, for a while."""

    OPEN = "open"
    LOCKED = "locked"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ShareSort(StrEnum):
    """Order of a list of shares; `-`: the latest first."""

    OLDEST = "createdAt"
    NEWEST = "-createdAt"
    EXPIRES = "expiresAt"
    EXPIRES_LAST = "-expiresAt"


@dataclass(frozen=True, slots=True)
class ShareRecord:
    """A share link, without the link."""

    id: str
    organization_id: str
    environment_id: str
    label: str
    key_id: str
    pin_hash: str | None = field(repr=False)
    show_images: bool
    views: int
    last_viewed_at: datetime | None
    locked_until: datetime | None
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None

    def state(self, now: datetime) -> ShareState:
        """Tell whether it opens, as `_in_state` asks the database."""
        if self.revoked_at is not None:
            return ShareState.REVOKED
        if now >= self.expires_at:
            return ShareState.EXPIRED
        return ShareState.LOCKED if self.locked(now) else ShareState.OPEN

    def opens(self, now: datetime) -> bool:
        """Tell whether it shows anything: not revoked, not expired."""
        return self.revoked_at is None and now < self.expires_at

    def locked(self, now: datetime) -> bool:
        """Tell whether no PIN is taken, for too many were wrong."""
        return _locks(self.locked_until, now)


@dataclass(frozen=True, slots=True)
class NewShare:
    """What a share is to be. `key_id`: the key that signs it and has hashed its PIN."""

    key_id: str
    pin_hash: str | None = field(repr=False)
    label: str
    show_images: bool
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class ShareFilter(Filter):
    """Which shares a list holds, by what they are when it is read. `part` stands in the label."""

    states: frozenset[ShareState] = frozenset()
    part: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        now = utc_now()
        states = [or_(*(_in_state(each, now) for each in sorted(self.states)))] if self.states else []
        return [*states, *holding(col(Share.label), self.part)]


async def create_share(
    session: AsyncSession,
    actor: Actor,
    environment_id: str,
    wish: NewShare,
) -> ShareRecord:
    """Add a share of an environment that the caller holds the lock of, and forget those long over."""
    now = utc_now()
    over = now - _REMEMBERED
    await session.exec(
        delete(Share).where(
            col(Share.organization_id) == actor.organization_id,
            col(Share.environment_id) == environment_id,
            or_(col(Share.expires_at) < over, col(Share.revoked_at) < over),
        )
    )
    row = Share(
        id=new_id(IdPrefix.SHARE),
        organization_id=actor.organization_id,
        environment_id=environment_id,
        label=wish.label,
        key_id=wish.key_id,
        pin_hash=wish.pin_hash,
        show_images=wish.show_images,
        created_by=actor.principal_id,
        created_at=now,
        expires_at=now + wish.lifetime,
    )
    session.add(row)
    facts: JsonObject = {
        "environmentId": environment_id,
        "label": wish.label,
        "expiresAt": row.expires_at.isoformat(),
        "pin": wish.pin_hash is not None,
        "showImages": wish.show_images,
    }
    await add_entry(session, actor, "share.create", row.id, facts)
    await session.flush()
    return _record(row)


async def open_shares(session: AsyncSession, organization_id: str, environment_id: str) -> int:
    """Return how many shares of an environment show something now."""
    query = (
        select(func.count())
        .select_from(Share)
        .where(
            col(Share.organization_id) == organization_id,
            col(Share.environment_id) == environment_id,
            col(Share.revoked_at).is_(None),
            col(Share.expires_at) > utc_now(),
        )
    )
    return (await session.exec(query)).one()


async def list_shares(
    session: AsyncSession,
    organization_id: str,
    environment_id: str,
    *,
    wanted: ShareFilter = ShareFilter(),
    sort: ShareSort = ShareSort.NEWEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[ShareRecord]:
    """Return a page of an environment's shares, over or not. Raises InvalidCursor."""
    query = select(Share).where(
        col(Share.organization_id) == organization_id, col(Share.environment_id) == environment_id
    )
    return await _LISTING.page(
        session, query, environment_id, sort=sort, wanted=wanted, limit=limit, cursor=cursor
    )


async def revoke_share(
    session: AsyncSession, actor: Actor, environment_id: str, share_id: str
) -> ShareRecord:
    """Revoke a share of this environment; a second time changes nothing. Raises NotFound."""
    await locked_environment(session, environment_id, actor.organization_id)
    row = await _locked(session, share_id)
    if row is None or row.environment_id != environment_id or row.organization_id != actor.organization_id:
        raise NotFound("share", share_id)
    if row.revoked_at is None:
        row.revoked_at = utc_now()
        await add_entry(session, actor, "share.revoke", row.id, {"environmentId": environment_id})
        await session.flush()
    return _record(row)


# What follows serves guests.


async def find_share(session: AsyncSession, share_id: str) -> ShareRecord | None:
    """Return the share that a signed token names; None when it is forgotten."""
    row = await session.get(Share, share_id)
    return None if row is None else _record(row)


async def count_view(session: AsyncSession, share_id: str) -> None:
    """Count one look at the environment."""
    await session.exec(
        update(Share).where(col(Share.id) == share_id).values(views=Share.views + 1, last_viewed_at=utc_now())
    )


async def claim_attempt(session: AsyncSession, share_id: str) -> ShareRecord | None:
    """Count an attempt at the PIN before it is looked at; None: no attempt is left, or no such share.

    Before, and in a transaction of its own: whoever tries many at once, at many processes, or while they are
    killed, has no more attempts than one who tries one after the other. The right PIN settles it.
    """
    row = await _locked(session, share_id)
    now = utc_now()
    if row is None or _locks(row.locked_until, now):
        return None
    if row.locked_until is not None:
        row.failed_pins, row.locked_until = 0, None
    row.failed_pins += 1
    if row.failed_pins >= MOST_WRONG_PINS:
        row.locked_until = now + LOCKED_FOR
    await session.flush()
    return _record(row)


async def settle_attempt(session: AsyncSession, share_id: str) -> None:
    """Note that the PIN was right: what was tried before no longer counts."""
    await session.exec(
        update(Share).where(col(Share.id) == share_id).values(failed_pins=0, locked_until=None)
    )


async def _locked(session: AsyncSession, share_id: str) -> Share | None:
    query = select(Share).where(col(Share.id) == share_id).with_for_update(key_share=True)
    return (await session.exec(query, execution_options=FRESH)).one_or_none()


def _locks(until: datetime | None, now: datetime) -> bool:
    """Tell whether a lock holds.

    One that would last far longer than any is of a clock that was turned back since. Twice, for the clocks
    of two processes may differ: what one has just locked is locked for the other.
    """
    return until is not None and now < until <= now + 2 * LOCKED_FOR


def _in_state(state: ShareState, now: datetime) -> ColumnElement[bool]:
    """The condition that a share is in a state, as `ShareRecord.state` tells it."""
    revoked, over = col(Share.revoked_at).is_not(None), col(Share.expires_at) <= now
    until = col(Share.locked_until)
    locked = and_(until.is_not(None), until > now, until <= now + 2 * LOCKED_FOR)
    match state:
        case ShareState.REVOKED:
            return revoked
        case ShareState.EXPIRED:
            return and_(~revoked, over)
        case ShareState.LOCKED:
            return and_(~revoked, ~over, locked)
        case ShareState.OPEN:
            return and_(~revoked, ~over, ~locked)


def _record(row: Share) -> ShareRecord:
    return ShareRecord(
        id=row.id,
        organization_id=row.organization_id,
        environment_id=row.environment_id,
        label=row.label,
        key_id=row.key_id,
        pin_hash=row.pin_hash,
        show_images=row.show_images,
        views=row.views,
        last_viewed_at=row.last_viewed_at,
        locked_until=row.locked_until,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


_TABLE: Final = table_of(Share)
_LISTING: Final = Listing(
    name="shares",
    copy=_record,
    by={"createdAt": _TABLE.c.created_at, "expiresAt": _TABLE.c.expires_at},
    identifier=_TABLE.c.id,
)


@dataclass(frozen=True, slots=True)
class SignedLinks:
    """Links that open, by the master key behind their signature; `last_expires_at` of all of them."""

    key_id: str
    count: int
    last_expires_at: datetime


async def links_by_key(session: AsyncSession) -> tuple[SignedLinks, ...]:
    """Return how many links of all organisations open, by master key; none of what is deleted does."""
    query = (
        select(Share.key_id, func.count(), func.max(col(Share.expires_at)))
        .join(Environment)
        .where(
            col(Share.revoked_at).is_(None),
            col(Share.expires_at) > utc_now(),
            col(Environment.deleted_at).is_(None),
        )
        .group_by(col(Share.key_id))
        .order_by(col(Share.key_id))
    )
    return tuple(SignedLinks(*row) for row in (await session.exec(query)).all())
