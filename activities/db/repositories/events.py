"""The event log of an environment: numbers without gaps, given out under the lock of the environment's row.

A global sequence would let a late commit slip in behind a reader that has gone on; here the lock makes
numbers commit in their order.
"""

from typing import Final

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import insert_rows, values_of
from activities.db.records import EventRecord, JsonObject, event_record
from activities.db.tables import Environment, Event, EventType
from activities.db.types import utc_now

CHANNEL: Final = "perdure_events"
"""Postgres notifies this channel with the environment's id when events are committed."""


async def append(
    session: AsyncSession,
    environment: Environment,
    operation_id: str | None,
    type_: EventType,
    data: JsonObject,
) -> None:
    """Append one event. `environment` must be the locked row: its counter gives the number."""
    environment.last_event += 1
    await insert_event(
        session,
        EventRecord(
            environment_id=environment.id,
            organization_id=environment.organization_id,
            number=environment.last_event,
            operation_id=operation_id,
            type=type_,
            data=data,
            at=utc_now(),
        ),
    )


async def insert_event(session: AsyncSession, event: EventRecord) -> None:
    """Insert an event that has its number: one that its environment's counter counts already."""
    await insert_rows(session, Event, values_of(event))


async def announce(session: AsyncSession, environment_id: str) -> None:
    """Wake listeners when this transaction commits; SQLite has no such thing, its readers poll."""
    if session.get_bind().dialect.name == "postgresql":
        await session.exec(select(func.pg_notify(CHANNEL, environment_id)))


async def after(
    session: AsyncSession,
    organization_id: str,
    environment_id: str,
    number: int,
    *,
    limit: int = 200,
    operation_id: str | None = None,
) -> tuple[EventRecord, ...]:
    """Return the events after `number` in order, of one operation when that is given; none when unknown."""
    query = select(Event).where(
        col(Event.organization_id) == organization_id,
        col(Event.environment_id) == environment_id,
        col(Event.number) > number,
    )
    if operation_id is not None:
        query = query.where(col(Event.operation_id) == operation_id)
    rows = await session.exec(query.order_by(col(Event.number)).limit(limit))
    return tuple(event_record(row) for row in rows)
