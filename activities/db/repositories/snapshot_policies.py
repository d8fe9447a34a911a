"""Policies by which environments are taken snapshots of."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, extract, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.errors import AlreadyDeleted, NotFound
from activities.db.records import Actor
from activities.db.repositories._rows import FRESH, locked_environment
from activities.db.repositories.audit import add_entry
from activities.db.tables import Environment, Snapshot
from activities.db.tables import SnapshotPolicy as Row
from activities.db.types import utc_now
from workflows.domain.snapshot_manifest import SnapshotState
from workflows.domain.snapshot_policy import SnapshotPolicy, next_time

PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """A policy of an environment; `next_at` None: it is paused.

    `result_at` is when `last_result` came about. `last_at`: the planned time of the last snapshot that it
    brought about, which is `last_snapshot_id`; `last_snapshot_state`: what has become of that.
    """

    environment_id: str
    organization_id: str
    policy: SnapshotPolicy
    next_at: datetime | None
    last_at: datetime | None
    last_result: str
    result_at: datetime | None
    last_snapshot_id: str | None
    last_snapshot_state: SnapshotState | None
    updated_by: str
    updated_at: datetime


async def put(
    session: AsyncSession, actor: Actor, environment_id: str, policy: SnapshotPolicy
) -> PolicyRecord:
    """Set an environment's policy; the first snapshot is due at once, later ones keep to their times.

    Raises NotFound, AlreadyDeleted.
    """
    environment = await locked_environment(session, environment_id, actor.organization_id)
    if environment.deleted_at is not None:
        raise AlreadyDeleted(environment.id)
    now = utc_now()
    row = await session.get(Row, environment_id, populate_existing=True)
    if row is None:
        row = Row(
            environment_id=environment_id,
            organization_id=actor.organization_id,
            policy={},
            updated_by=actor.principal_id,
            updated_at=now,
        )
        session.add(row)
    row.policy = policy.model_dump(mode="json")
    row.updated_by, row.updated_at = actor.principal_id, now
    if policy.paused:
        row.next_at = None
    elif row.last_at is None:
        row.next_at = now
    else:
        row.next_at = next_time(min(row.last_at, now), policy.every_minutes, now)
    await add_entry(session, actor, "environment.snapshot_policy", environment_id, {**row.policy})
    await session.flush()
    return await _whole(session, row)


async def get(session: AsyncSession, organization_id: str, environment_id: str) -> PolicyRecord:
    """Return an environment's policy. Raises NotFound."""
    row = await session.get(Row, environment_id)
    if row is None or row.organization_id != organization_id:
        raise NotFound("snapshot policy", environment_id)
    return await _whole(session, row)


async def remove(session: AsyncSession, actor: Actor, environment_id: str) -> None:
    """Take an environment's policy away; the snapshots that it brought about stay. Raises NotFound."""
    await locked_environment(session, environment_id, actor.organization_id)
    row = await session.get(Row, environment_id, populate_existing=True)
    if row is None:
        raise NotFound("snapshot policy", environment_id)
    await session.delete(row)
    await add_entry(session, actor, "environment.snapshot_policy", environment_id, {"removed": True})
    await session.flush()


async def due(session: AsyncSession, now: datetime) -> tuple[PolicyRecord, ...]:
    """Return the policies whose time has come, the longest due first."""
    query = (
        select(Row)
        .join(Environment, col(Environment.id) == col(Row.environment_id))
        .where(_is_due(now), col(Environment.deleted_at).is_(None))
        .order_by(col(Row.next_at), col(Row.environment_id))
        .limit(PAGE)
    )
    return tuple(_record(row) for row in await session.exec(query))


async def take_up(session: AsyncSession, environment_id: str, now: datetime) -> PolicyRecord | None:
    """Lock a policy that is due and return it; None when somebody else has taken it up meanwhile."""
    query = select(Row).where(col(Row.environment_id) == environment_id, _is_due(now))
    row = (await session.exec(query.with_for_update(), execution_options=FRESH)).one_or_none()
    return None if row is None else _record(row)


def _is_due(now: datetime) -> ColumnElement[bool]:
    """Its time has come, or was set by a clock that was ahead: none is further away than one interval.

    Two, for clocks are put back by a little, too, and what was taken just before is not taken again.
    """
    minutes = table_of(Row).c.policy["everyMinutes"].as_integer()
    too_far = extract("epoch", col(Row.next_at)) > now.timestamp() + 2 * 60 * minutes
    return or_(col(Row.next_at) <= now, too_far)


async def note(
    session: AsyncSession,
    environment_id: str,
    *,
    now: datetime,
    next_at: datetime,
    result: str,
    at: datetime | None = None,
) -> None:
    """Note what came of a policy's time, and when it is due again.

    `at`: the planned time of the snapshot that it brought about, which is the result then.
    """
    row = await session.get_one(Row, environment_id)
    row.next_at, row.last_result, row.result_at = next_at, result, now
    if at is not None:
        row.last_at, row.last_snapshot_id = at, result
    await session.flush()


async def _whole(session: AsyncSession, row: Row) -> PolicyRecord:
    """Return a policy, and what has become of its last snapshot."""
    last = None if row.last_snapshot_id is None else await session.get(Snapshot, row.last_snapshot_id)
    return _record(row, None if last is None else last.state)


def _record(row: Row, state: SnapshotState | None = None) -> PolicyRecord:
    return PolicyRecord(
        environment_id=row.environment_id,
        organization_id=row.organization_id,
        policy=SnapshotPolicy.model_validate(row.policy),
        next_at=row.next_at,
        last_at=row.last_at,
        last_result=row.last_result,
        result_at=row.result_at,
        last_snapshot_id=row.last_snapshot_id,
        last_snapshot_state=state,
        updated_by=row.updated_by,
        updated_at=row.updated_at,
    )
