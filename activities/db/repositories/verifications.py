"""Verifications of snapshots: asked for, under way, and what they found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.errors import NotFound, SnapshotBusy, SnapshotNotReady
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, JsonObject
from activities.db.repositories import events
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.audit import add_entry
from activities.db.repositories.paging import ByTime, Filter, Listing, Page, among, only
from activities.db.repositories.snapshots import locked_snapshot
from activities.db.tables import EventType, Snapshot, SnapshotVerification
from activities.db.types import utc_now
from workflows.contracts.verify import VerificationResult
from workflows.domain.snapshot_manifest import SnapshotState
from workflows.domain.verification import Check, VerificationState, VerifyLevel


@dataclass(frozen=True, slots=True)
class VerificationRecord:
    """One verification. `environment_id` and `operation_id`: of the environment that it restores into."""

    id: str
    organization_id: str
    snapshot_id: str
    level: VerifyLevel
    state: VerificationState
    checks: tuple[Check, ...]
    environment_id: str | None
    operation_id: str | None
    requested_by: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class VerificationFilter(Filter):
    """Which verifications a list holds."""

    states: frozenset[VerificationState] = frozenset()
    level: VerifyLevel | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        level = None if self.level is None else int(self.level)
        return [
            *among(col(SnapshotVerification.state), self.states),
            *only(col(SnapshotVerification.level), level),
        ]


async def ask(
    session: AsyncSession, actor: Actor, snapshot_id: str, level: VerifyLevel
) -> VerificationRecord:
    """Accept that a snapshot is verified. Raises NotFound, SnapshotNotReady, SnapshotBusy."""
    snapshot = await locked_snapshot(session, snapshot_id, actor.organization_id)
    if snapshot.state is not SnapshotState.AVAILABLE:
        raise SnapshotNotReady(snapshot.id, snapshot.state)
    running = select(SnapshotVerification).where(
        col(SnapshotVerification.snapshot_id) == snapshot_id,
        col(SnapshotVerification.state) == VerificationState.RUNNING,
    )
    other = (await session.exec(running)).one_or_none()
    if other is not None:
        raise SnapshotBusy(snapshot_id, f"verification {other.id}")
    row = SnapshotVerification(
        id=new_id(IdPrefix.VERIFICATION),
        organization_id=snapshot.organization_id,
        snapshot_id=snapshot.id,
        level=int(level),
        state=VerificationState.RUNNING,
        requested_by=actor.principal_id,
        created_at=utc_now(),
    )
    session.add(row)
    await add_entry(session, actor, "snapshot.verify", snapshot.id, {"level": int(level), "id": row.id})
    await session.flush()
    return _record(row)


async def by_id(session: AsyncSession, verification_id: str) -> VerificationRecord:
    """Return a verification, whoever's it is. Raises NotFound."""
    row = await session.get(SnapshotVerification, verification_id)
    if row is None:
        raise NotFound("verification", verification_id)
    return _record(row)


async def locked(session: AsyncSession, verification_id: str) -> VerificationRecord:
    """Lock a verification and return it. Raises NotFound."""
    return _record(await _locked(session, verification_id))


async def note_trial(
    session: AsyncSession, verification_id: str, environment_id: str, operation_id: str
) -> None:
    """Note the environment that a locked verification restores into."""
    row = await _locked(session, verification_id)
    row.environment_id, row.operation_id = environment_id, operation_id
    await session.flush()


async def finish(session: AsyncSession, result: VerificationResult, now: datetime) -> VerificationResult:
    """End a verification, unless it has ended; return the end that holds. Raises NotFound.

    One that passed is the snapshot's `last_verified_at`; the highest level that has passed stays. Of one that
    failed there is an event.
    """
    row = await _locked(session, result.verification_id)
    if row.state is VerificationState.RUNNING:
        row.state = result.state
        row.checks = [check.model_dump(mode="json") for check in result.checks]
        row.finished_at = now
        if result.state is VerificationState.PASSED:
            snapshot = await locked_snapshot(session, row.snapshot_id)
            snapshot.last_verified_at = now
            snapshot.verified_level = max(
                row.level, -1 if snapshot.verified_level is None else snapshot.verified_level
            )
        await session.flush()
        if result.state is VerificationState.FAILED:
            await _tell(session, row, result)
    found = _record(row)
    return VerificationResult(verification_id=found.id, state=found.state, checks=found.checks)


async def list_verifications(
    session: AsyncSession,
    organization_id: str,
    snapshot_id: str,
    *,
    wanted: VerificationFilter = VerificationFilter(),
    sort: ByTime = ByTime.NEWEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[VerificationRecord]:
    """Return a page of a snapshot's verifications. Raises InvalidCursor."""
    query = select(SnapshotVerification).where(
        col(SnapshotVerification.organization_id) == organization_id,
        col(SnapshotVerification.snapshot_id) == snapshot_id,
    )
    return await _LISTING.page(
        session, query, snapshot_id, sort=sort, wanted=wanted, limit=limit, cursor=cursor
    )


async def get_verification(
    session: AsyncSession, organization_id: str, snapshot_id: str, verification_id: str
) -> VerificationRecord:
    """Return a verification of a snapshot. Raises NotFound."""
    row = await session.get(SnapshotVerification, verification_id)
    if row is None or (row.organization_id, row.snapshot_id) != (organization_id, snapshot_id):
        raise NotFound("verification", verification_id)
    return _record(row)


async def unfinished(
    session: AsyncSession, older_than: datetime, *, after: str = "", limit: int
) -> Sequence[VerificationRecord]:
    """Return verifications that have not ended, asked for before that, by id; `after` the one given."""
    query = select(SnapshotVerification).where(
        col(SnapshotVerification.state) == VerificationState.RUNNING,
        col(SnapshotVerification.created_at) < older_than,
        col(SnapshotVerification.id) > after,
    )
    rows = await session.exec(query.order_by(col(SnapshotVerification.id)).limit(limit))
    return [_record(row) for row in rows]


async def _tell(session: AsyncSession, row: SnapshotVerification, result: VerificationResult) -> None:
    """Tell those who follow the environment that a snapshot of it is not what it says."""
    snapshot = await session.get_one(Snapshot, row.snapshot_id)
    environment = await locked_environment(session, snapshot.environment_id)
    if environment.deleted_at is not None:
        return
    fault = next((check for check in result.checks if not check.ok), None)
    data: JsonObject = {
        "snapshotId": snapshot.id,
        "verificationId": row.id,
        "level": row.level,
        "state": result.state,
        "message": "" if fault is None else f"{fault.subject}: {fault.message}",
    }
    await events.append(session, environment, None, EventType.VERIFICATION, data)
    await events.announce(session, environment.id)


async def _locked(session: AsyncSession, verification_id: str) -> SnapshotVerification:
    query = select(SnapshotVerification).where(col(SnapshotVerification.id) == verification_id)
    found = await session.exec(query.with_for_update(), execution_options={"populate_existing": True})
    row = found.one_or_none()
    if row is None:
        raise NotFound("verification", verification_id)
    return row


def _record(row: SnapshotVerification) -> VerificationRecord:
    return VerificationRecord(
        id=row.id,
        organization_id=row.organization_id,
        snapshot_id=row.snapshot_id,
        level=VerifyLevel(row.level),
        state=row.state,
        checks=tuple(Check.model_validate(each) for each in row.checks),
        environment_id=row.environment_id,
        operation_id=row.operation_id,
        requested_by=row.requested_by,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


_LISTING: Final = Listing(
    name="verifications",
    copy=_record,
    by={"createdAt": table_of(SnapshotVerification).c.created_at},
    identifier=table_of(SnapshotVerification).c.id,
)
