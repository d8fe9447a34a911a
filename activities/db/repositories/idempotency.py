"""Idempotency-Key records: written in the transaction of the work, so that both happen or neither does."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, delete
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import IdempotencyInFlight, IdempotencyMismatch, NotFound
from activities.db.records import Actor, JsonObject
from activities.db.tables import IdempotencyRecord
from activities.db.types import utc_now

KEPT_FOR: Final = timedelta(hours=24)


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
    first one's transaction ends. Raises IdempotencyMismatch for another body, IdempotencyInFlight when the
    first request left no answer.
    """
    identity = _identity(actor, route, key)
    known = await session.get(IdempotencyRecord, identity, populate_existing=True)
    now = utc_now()
    if known is not None and known.expires_at <= now:
        await session.delete(known)
        await session.flush()
        known = None
    if known is None:
        try:
            async with session.begin_nested():
                session.add(_new(identity, fingerprint, now))
        except IntegrityError:
            known = await session.get(IdempotencyRecord, identity, populate_existing=True)
            if known is None:
                raise
        else:
            return None
    if known.fingerprint != fingerprint:
        raise IdempotencyMismatch(key)
    if known.status is None or known.body is None:
        raise IdempotencyInFlight(key)
    return StoredAnswer(status=known.status, body=known.body, headers=known.headers or {})


async def keep(session: AsyncSession, actor: Actor, route: str, key: str, answer: StoredAnswer) -> None:
    """Store the answer of a claimed key; leave this out when it holds a one-time secret. Raises NotFound."""
    row = await session.get(IdempotencyRecord, _identity(actor, route, key))
    if row is None:
        raise NotFound("idempotency record", key)
    row.status = answer.status
    row.body = answer.body
    row.headers = answer.headers
    await session.flush()


async def purge(session: AsyncSession, now: datetime) -> None:
    """Remove what has expired, of all organisations."""
    await session.exec(delete(IdempotencyRecord).where(col(IdempotencyRecord.expires_at) <= now))


def _identity(actor: Actor, route: str, key: str) -> tuple[str, str, str, str]:
    return (actor.organization_id, actor.key_id or actor.principal_id, route, key)


def _new(identity: tuple[str, str, str, str], fingerprint: str, now: datetime) -> IdempotencyRecord:
    organization_id, key_id, route, key = identity
    return IdempotencyRecord(
        organization_id=organization_id,
        key_id=key_id,
        route=route,
        key=key,
        fingerprint=fingerprint,
        created_at=now,
        expires_at=now + KEPT_FOR,
    )
