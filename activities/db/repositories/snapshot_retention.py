"""Which snapshots are over, and which of those that policies brought about are to be proved.

Each question is one query over all policies, however many there are: a sweep asks it every minute.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

from sqlalchemy import ColumnElement, Float, ScalarSelect, Subquery, and_, extract, literal, or_
from sqlalchemy.orm import aliased
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.records import SWEEPER, Actor
from activities.db.repositories.snapshots import take_out_of_use, verifying
from activities.db.tables import (
    Environment,
    Operation,
    Role,
    Snapshot,
    SnapshotPolicy,
    SnapshotRun,
    SnapshotVerification,
)
from workflows.domain.operations import LIVE_STATES
from workflows.domain.snapshot_manifest import SnapshotState
from workflows.domain.verification import VerificationState, VerifyLevel

_POLICY = table_of(SnapshotPolicy).c.policy
"""By the names that `workflows.domain.snapshot_policy` has in JSON."""
_LEVEL: Final = _POLICY["verifyLevel"].as_integer()
_AVAILABLE: Final = (col(Snapshot.scheduled).is_(True), col(Snapshot.state) == SnapshotState.AVAILABLE)
_KEPT: Final = (*_AVAILABLE, col(Environment.deleted_at).is_(None))
"""What a policy keeps: a snapshot that it brought about, and has not let go."""

ASK_AGAIN: Final = timedelta(minutes=10)
"""After the first aborted verification; twice as long after each further one, at most a day."""
ASKED_AT_MOST: Final = 12
"""Times that a policy asks for one verification of one snapshot: about five days."""


@dataclass(frozen=True, slots=True)
class Unproved:
    """A snapshot whose verification a policy wants, and nobody has asked for."""

    organization_id: str
    snapshot_id: str
    level: VerifyLevel


async def expire(session: AsyncSession, now: datetime, *, limit: int) -> int:
    """Take snapshots out of use whose time is over, and return how many; not those that are in use."""
    return await _retire(session, col(Snapshot.expires_at) <= now, limit)


async def expire_surplus(session: AsyncSession, *, limit: int) -> int:
    """Take scheduled snapshots out of use of which their policy keeps newer ones, and return how many.

    Not those that are in use, and where the policy has them verified not the newest that passed and has not
    failed since: no unproved one takes the place of the last proved one. Those that somebody asked for are
    not counted, and stay; so do those of environments that were deleted, until their time is over.
    """
    ranked = _scheduled()
    proof = select(SnapshotVerification.id).where(
        col(SnapshotVerification.id) == _told_last(),
        col(SnapshotVerification.state) == VerificationState.PASSED,
    )
    proved = _scheduled(proof.exists())
    surplus = select(ranked.c.id).where(
        ranked.c.rank > ranked.c.policy["keepLast"].as_integer(),
        ranked.c.id.not_in(select(proved.c.id).where(proved.c.rank == 1)),
    )
    return await _retire(session, col(Snapshot.id).in_(surplus), limit)


async def unproved(session: AsyncSession, now: datetime) -> tuple[Unproved, ...]:
    """Return the newest scheduled snapshot of each policy that wants it verified further than was asked for.

    The order is that of environments. What was asked for counts when it runs, or has told what the snapshot
    is. One that was aborted tells nothing: it is asked for again, later each time (`ask_again`).
    """
    ranked = _scheduled()
    wanted = ranked.c.policy["verifyLevel"].as_integer()
    far_enough = (
        col(SnapshotVerification.snapshot_id) == col(Snapshot.id),
        col(SnapshotVerification.level) >= wanted,
    )
    told = select(SnapshotVerification.id).where(
        *far_enough, col(SnapshotVerification.state) != VerificationState.ABORTED
    )
    query = (
        select(col(Snapshot.organization_id), col(Snapshot.id), wanted)
        .join(ranked, ranked.c.id == col(Snapshot.id))
        .where(ranked.c.rank == 1, wanted.is_not(None), ~told.exists())
        .order_by(ranked.c.environment_id)
    )
    aborted = (
        select(col(Snapshot.id), func.count(), func.max(col(SnapshotVerification.finished_at)))
        .join(ranked, ranked.c.id == col(Snapshot.id))
        .join(SnapshotVerification, and_(*far_enough))
        .where(ranked.c.rank == 1, col(SnapshotVerification.state) == VerificationState.ABORTED)
        .group_by(col(Snapshot.id))
    )
    tried = {snapshot: (times, last) for snapshot, times, last in await session.exec(aborted)}
    return tuple(
        Unproved(organization, snapshot, VerifyLevel(level))
        for organization, snapshot, level in await session.exec(query)
        if snapshot not in tried or _again(*tried[snapshot], now)
    )


async def stale(session: AsyncSession, now: datetime) -> tuple[Unproved, ...]:
    """Return of each policy that wants it the snapshot whose proof is the oldest, if that is too old.

    A proof is the last verification that passed at the policy's level, unless one failed since. There is none
    while one of the policy's snapshots is verified. One that was aborted is asked for again as for the first
    time (`ask_again`), but counts no longer than a proof does: a store that was away ends nothing for good.
    """
    hours = _POLICY["verifyEveryHours"].as_integer()
    every = hours * 3600
    moment = literal(now.timestamp(), Float)
    proof, aborted = aliased(SnapshotVerification), aliased(SnapshotVerification)
    since = and_(
        col(aborted.snapshot_id) == col(Snapshot.id),
        col(aborted.state) == VerificationState.ABORTED,
        col(aborted.level) >= _LEVEL,
        col(aborted.created_at) > col(proof.created_at),
        extract("epoch", col(aborted.finished_at)) + every > moment,
    )
    # The state is written out, for the index of those that run is of this state alone.
    state = table_of(SnapshotVerification).c.state
    running = state == literal(VerificationState.RUNNING, state.type, literal_execute=True)
    busy = (
        select(col(Snapshot.environment_id))
        .join(SnapshotVerification, col(SnapshotVerification.snapshot_id) == col(Snapshot.id))
        .where(*_AVAILABLE, running)
    )
    query = (
        select(col(Snapshot.id), SnapshotPolicy, func.count(col(aborted.id)), func.max(aborted.finished_at))
        .join(SnapshotPolicy, col(SnapshotPolicy.environment_id) == col(Snapshot.environment_id))
        .join(Environment, col(Environment.id) == col(Snapshot.environment_id))
        .join(proof, col(proof.id) == _told_last())
        .outerjoin(aborted, since)
        .where(
            *_KEPT,
            hours.is_not(None),
            col(proof.state) == VerificationState.PASSED,
            extract("epoch", col(proof.finished_at)) + every <= moment,
            col(SnapshotPolicy.environment_id).not_in(busy),
        )
        .group_by(col(Snapshot.id), col(SnapshotPolicy.environment_id), col(proof.id))
        .order_by(col(proof.finished_at), col(Snapshot.id))
    )
    oldest: dict[str, Unproved] = {}
    for snapshot, policy, times, last in await session.exec(query):
        if not times or _again(times, last, now):
            level = VerifyLevel(cast("int", policy.policy["verifyLevel"]))
            oldest.setdefault(policy.environment_id, Unproved(policy.organization_id, snapshot, level))
    return tuple(oldest.values())


def _told_last() -> ScalarSelect[str]:
    """Of a snapshot of a policy the last verification that told what it is, at the policy's level.

    One that passed a lower level has not; one that failed has, at any.
    """
    told = aliased(SnapshotVerification)
    passed = and_(col(told.state) == VerificationState.PASSED, col(told.level) >= _LEVEL)
    return (
        select(told.id)
        .where(
            col(told.snapshot_id) == col(Snapshot.id),
            or_(col(told.state) == VerificationState.FAILED, passed),
        )
        .order_by(col(told.created_at).desc(), col(told.id).desc())
        .limit(1)
        .correlate(Snapshot, SnapshotPolicy)
        .scalar_subquery()
    )


def _again(aborted: int, last: datetime | None, now: datetime) -> bool:
    """Whether it is time to ask for what was aborted so often, and at `last` for the last time."""
    return aborted < ASKED_AT_MOST and last is not None and last + ask_again(aborted) <= now


def ask_again(aborted: int) -> timedelta:
    """Return how long after the last of so many aborted verifications the next one is asked for."""
    return min(ASK_AGAIN * (1 << (aborted - 1)), timedelta(days=1))


def _scheduled(*such: ColumnElement[bool]) -> Subquery:
    """Usable snapshots that policies brought about, numbered by environment from the newest on, from 1."""
    newest_first = func.row_number().over(
        partition_by=col(Snapshot.environment_id),
        order_by=(col(Snapshot.created_at).desc(), col(Snapshot.id).desc()),
    )
    return (
        select(col(Snapshot.id), col(Snapshot.environment_id), _POLICY, newest_first.label("rank"))
        .join(SnapshotPolicy, col(SnapshotPolicy.environment_id) == col(Snapshot.environment_id))
        .join(Environment, col(Environment.id) == col(Snapshot.environment_id))
        .where(*_KEPT, *such)
        .subquery()
    )


async def _retire(session: AsyncSession, over: ColumnElement[bool], limit: int) -> int:
    """Take those out of use that nobody loads or verifies; one that somebody works on is passed over."""
    loading = (
        select(SnapshotRun.operation_id)
        .join(Operation, col(Operation.id) == col(SnapshotRun.operation_id))
        .where(col(SnapshotRun.snapshot_id) == col(Snapshot.id), col(Operation.state).in_(LIVE_STATES))
    )
    unused = (~loading.exists(), ~verifying(col(Snapshot.id)).exists())
    query = select(Snapshot).where(over, col(Snapshot.state) == SnapshotState.AVAILABLE, *unused).limit(limit)
    locked: Sequence[Snapshot] = (await session.exec(query.with_for_update(skip_locked=True))).all()
    # Whoever begins to use a snapshot locks its row and leaves it as it is, and whoever takes another one out
    # of use does not touch it. So what was accepted between the beginning of that query and its lock is seen
    # by the next query only: that one is in use by now, or one of those that its policy keeps.
    still = select(col(Snapshot.id)).where(col(Snapshot.id).in_([row.id for row in locked]), over, *unused)
    free = set(await session.exec(still))
    retired = [row for row in locked if row.id in free]
    for row in retired:
        actor = Actor(row.organization_id, SWEEPER, None, Role.OWNER)
        await take_out_of_use(session, actor, row, "snapshot.expire")
    return len(retired)
