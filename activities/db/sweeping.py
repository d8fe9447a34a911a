"""What the sweeper finds and does, in all organisations: timers that ran out, history that is too old."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, or_, tuple_
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance import Accepted, delete_environment, stop_environment
from activities.db.errors import Busy, DomainError
from activities.db.records import SWEEPER, Actor, Condition, JsonObject
from activities.db.repositories import events
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.environments import apply_phase
from activities.db.repositories.revisions import current_blueprint
from activities.db.tables import (
    Environment,
    Event,
    EventType,
    IdempotencyRecord,
    Operation,
    Role,
    SeedRun,
    SnapshotRun,
    Step,
)
from activities.db.timers import reschedule, timers_of
from activities.db.types import utc_now
from workflows.domain.operations import TERMINAL_STATES
from workflows.domain.timers import Due, Timer, TimerAction, due, next_look

PAGE: Final = 200
BUSY_AGAIN: Final = timedelta(minutes=1)
"""A busy environment is looked at again this much later."""

AUTO_SHUTDOWN: Final = "AutoShutdown"
"""Condition of an environment that asks for a shutdown when idle: whether it will get one, and why not."""

_BATCH: Final = 200


class Swept(StrEnum):
    """What came of one look."""

    NOTHING = "nothing"
    WARNED = "warned"
    STOPPED = "stopped"
    DELETED = "deleted"
    BUSY = "skipped: busy"
    UNREADABLE = "skipped: unreadable"
    """Its row or its Blueprint is not as this version writes it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What came of a look at one environment; `accepted` has to be started."""

    environment_id: str
    swept: Swept
    accepted: Accepted | None = None


@dataclass(frozen=True, slots=True)
class DuePage:
    """Environments to look at, and where to go on; None: there are no more."""

    environment_ids: tuple[str, ...]
    following: tuple[datetime, str] | None


async def due_page(session: AsyncSession, now: datetime, after: tuple[datetime, str] | None) -> DuePage:
    """Return the next environments whose look is due: one query, whatever number there are beside them."""
    at, identifier = col(Environment.next_look_at), col(Environment.id)
    query = select(at, identifier).where(at <= now, col(Environment.deleted_at).is_(None))
    if after is not None:
        query = query.where(tuple_(at, identifier) > after)
    rows = (await session.exec(query.order_by(at, identifier).limit(PAGE))).all()
    found = [(when, each) for when, each in rows if when is not None]
    return DuePage(tuple(each for _, each in found), found[-1] if len(found) == PAGE else None)


async def look_at(session: AsyncSession, environment_id: str) -> Look:
    """Look at one environment under its lock, and do what is due. Twice does it once: the state says so."""
    environment = await locked_environment(session, environment_id)
    now = utc_now()
    if environment.deleted_at is not None or environment.delete_requested_at is not None:
        environment.next_look_at = None
        return Look(environment_id, Swept.NOTHING)
    blueprint = await current_blueprint(session, environment)
    timers = timers_of(environment, blueprint)
    _say_whether_it_sleeps(environment, measured=timers.measured, now=now)
    found = due(timers, now)
    environment.next_look_at = next_look(timers)
    if found is None:
        return Look(environment_id, Swept.NOTHING)
    return await _do(session, environment, found, now)


async def _do(session: AsyncSession, environment: Environment, found: Due, now: datetime) -> Look:
    actor = Actor(environment.organization_id, SWEEPER, None, Role.OWNER)
    if found.action is TimerAction.WARN:
        if found.timer is Timer.EXPIRY:
            environment.expiry_warned_for = found.at
        else:
            environment.idle_warned_for = found.at
        await _tell(session, environment, found)
        reschedule(environment)
        return Look(environment.id, Swept.WARNED)
    try:
        async with session.begin_nested():
            await _tell(session, environment, found)
            if found.action is TimerAction.DELETE:
                accepted = await delete_environment(session, actor, environment.id, force=False)
                return Look(environment.id, Swept.DELETED, accepted)
            accepted = await stop_environment(session, actor, environment.id)
            return Look(environment.id, Swept.STOPPED, accepted)
    except Busy:
        await session.refresh(environment)
        environment.next_look_at = now + BUSY_AGAIN
        return Look(environment.id, Swept.BUSY)
    except DomainError:
        # What speaks against it was not so a moment ago, under the same lock: look again.
        await session.refresh(environment)
        environment.next_look_at = now + BUSY_AGAIN
        return Look(environment.id, Swept.NOTHING)


async def _tell(session: AsyncSession, environment: Environment, found: Due) -> None:
    data: JsonObject = {
        "timer": found.timer.value,
        "action": found.action.value,
        "at": found.at.isoformat(),
    }
    await events.append(session, environment, None, EventType.TIMER, data)
    await events.announce(session, environment.id)


def _say_whether_it_sleeps(environment: Environment, *, measured: bool, now: datetime) -> None:
    if not environment.auto_shutdown_enabled:
        return
    condition = Condition(
        type=AUTO_SHUTDOWN,
        status="True" if measured else "False",
        reason="Measured" if measured else "NotMeasured",
        message=(
            ""
            if measured
            else "It is reached by an ingress, where use is not measured: it stays awake unless "
            "autoShutdownUnmeasured says otherwise."
        ),
        since=now,
    )
    apply_phase(environment, environment.phase, condition, now)


async def forget_history(
    session: AsyncSession, *, events_before: datetime, operations_before: datetime
) -> int:
    """Remove some of what is too old, and return how many rows; 0: there is no more.

    Events of operations that ended before `events_before`; operations, with their steps, that ended before
    `operations_before`, save each environment's last one and those that a kept one retries or replays;
    answers kept for idempotency keys that have run out.
    """
    gone = await _forget_events(session, events_before)
    gone += await _forget_operations(session, operations_before)
    expired = select(
        col(IdempotencyRecord.organization_id),
        col(IdempotencyRecord.key_id),
        col(IdempotencyRecord.route),
        col(IdempotencyRecord.key),
    ).where(col(IdempotencyRecord.expires_at) < utc_now())
    rows = (await session.exec(expired.limit(_BATCH))).all()
    for organization_id, key_id, route, key in rows:
        await session.exec(
            delete(IdempotencyRecord).where(
                col(IdempotencyRecord.organization_id) == organization_id,
                col(IdempotencyRecord.key_id) == key_id,
                col(IdempotencyRecord.route) == route,
                col(IdempotencyRecord.key) == key,
            )
        )
    return gone + len(rows)


async def _forget_events(session: AsyncSession, before: datetime) -> int:
    query = (
        select(col(Event.environment_id), col(Event.number))
        .outerjoin(Operation, col(Operation.id) == col(Event.operation_id))
        .where(
            col(Event.at) < before,
            or_(col(Event.operation_id).is_(None), col(Operation.finished_at) < before),
        )
        .limit(_BATCH)
    )
    rows = (await session.exec(query)).all()
    if rows:
        await session.exec(delete(Event).where(_any_of(rows)))
    return len(rows)


def _any_of(rows: Sequence[tuple[str, int]]) -> ColumnElement[bool]:
    return tuple_(col(Event.environment_id), col(Event.number)).in_(rows)


async def _forget_operations(session: AsyncSession, before: datetime) -> int:
    other = select(Operation).subquery()
    query = (
        select(col(Operation.id))
        .where(
            col(Operation.finished_at) < before,
            col(Operation.state).in_(TERMINAL_STATES),
            # A later one of the same environment: the last one stays.
            select(other.c.id)
            .where(
                other.c.environment_id == col(Operation.environment_id),
                other.c.fence > col(Operation.fence),
            )
            .exists(),
            ~select(other.c.id)
            .where(or_(other.c.retry_of == col(Operation.id), other.c.replay_of == col(Operation.id)))
            .exists(),
            ~select(col(Event.number)).where(col(Event.operation_id) == col(Operation.id)).exists(),
        )
        .limit(_BATCH)
    )
    ids = (await session.exec(query)).all()
    if ids:
        await session.exec(delete(Step).where(col(Step.operation_id).in_(ids)))
        await session.exec(delete(SeedRun).where(col(SeedRun.operation_id).in_(ids)))
        await session.exec(delete(SnapshotRun).where(col(SnapshotRun.operation_id).in_(ids)))
        await session.exec(delete(Operation).where(col(Operation.id).in_(ids)))
    return len(ids)
