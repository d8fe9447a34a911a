"""Idempotency-Key records: written in the transaction of the work, so that both happen or neither does."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, delete, update
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.errors import IdempotencyMismatch, IdempotencyUsed, NotFound
from activities.db.records import Actor, JsonObject
from activities.db.tables import IdempotencyRecord
from activities.db.types import utc_now

KEPT_FOR: Final = timedelta(hours=24)
_TABLE: Final = table_of(IdempotencyRecord)
_CLAIM_ON_SQLITE: Final = sqlite.insert(_TABLE).on_conflict_do_nothing()
_CLAIM_ON_POSTGRES: Final = postgresql.insert(_TABLE).on_conflict_do_nothing()
_KEEP: Final = (
    update(_TABLE)
    .where(
        _TABLE.c.organization_id == bindparam("of_organization"),
        _TABLE.c.key_id == bindparam("of_key_id"),
        _TABLE.c.route == bindparam("of_route"),
        _TABLE.c.key == bindparam("of_key"),
    )
    .values(status=bindparam("status"), body=bindparam("body"), headers=bindparam("headers"))
)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The first answer to a request, to be given again."""

    status: int
    body: JsonObject
    headers: dict[str, str]


async def claim(
    session: AsyncSession, actor: Actor, route: str, key: str, fingerprint: str
) -> StoredAnswer | None:
    """Claim a key for this request; None: it is ours, do the work and `keep` the answer in this transaction.

    `fingerprint` is a SHA-256 of the body in hex. A twin that runs at the same time waits here until the
    first one's transaction ends. Raises IdempotencyMismatch for another body, IdempotencyUsed when the
    answer of the first was not kept.
    """
    identity = _identity(actor, route, key)
    now = utc_now()
    if await _insert(session, identity, fingerprint, now):
        return None
    known = await session.get_one(IdempotencyRecord, identity, populate_existing=True)
    if known.expires_at <= now:
        await session.delete(known)
        await session.flush()
        if await _insert(session, identity, fingerprint, now):
            return None
        known = await session.get_one(IdempotencyRecord, identity, populate_existing=True)
    if known.fingerprint != fingerprint:
        raise IdempotencyMismatch(key)
    if known.status is None or known.body is None:
        raise IdempotencyUsed(key)
    return StoredAnswer(status=known.status, body=known.body, headers=known.headers or {})


async def keep(session: AsyncSession, actor: Actor, route: str, key: str, answer: StoredAnswer) -> None:
    """Store the answer of a claimed key; leave this out when it holds a one-time secret. Raises NotFound."""
    organization_id, key_id, _, _ = _identity(actor, route, key)
    changed = await session.exec(
        _KEEP,
        params={
            "of_organization": organization_id,
            "of_key_id": key_id,
            "of_route": route,
            "of_key": key,
            "status": answer.status,
            "body": answer.body,
            "headers": answer.headers,
        },
    )
    if changed.rowcount == 0:
        raise NotFound("idempotency record", key)


async def purge(session: AsyncSession, now: datetime) -> None:
    """Remove what has expired, of all organisations."""
    await session.exec(delete(IdempotencyRecord).where(col(IdempotencyRecord.expires_at) <= now))


def _identity(actor: Actor, route: str, key: str) -> tuple[str, str, str, str]:
    return (actor.organization_id, actor.key_id or actor.principal_id, route, key)


async def _insert(
    session: AsyncSession, identity: tuple[str, str, str, str], fingerprint: str, now: datetime
) -> bool:
    """Insert the record unless there is one; Postgres waits here for a twin that is about to."""
    organization_id, key_id, route, key = identity
    on_postgres = session.get_bind().dialect.name == "postgresql"
    result = await session.exec(
        _CLAIM_ON_POSTGRES if on_postgres else _CLAIM_ON_SQLITE,
        params={
            "organization_id": organization_id,
            "key_id": key_id,
            "route": route,
            "key": key,
            "fingerprint": fingerprint,
            "created_at": now,
            "expires_at": now + KEPT_FOR,
        },
    )
    return result.rowcount == 1
