"""Operations and their steps, read; what changes them is in `acceptance` and `ledger`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, bindparam, func, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.errors import NotFound
from activities.db.records import OperationRecord, StepRecord, operation_record, step_record
from activities.db.repositories._rows import owned_row
from activities.db.repositories.paging import ByTime, Filter, Listing, Page, among, only, since
from activities.db.tables import Environment, Operation, Step
from workflows.domain.operations import LIVE_STATES, OperationKind, OperationState

_STEPS: Final = (
    select(Step)
    .where(
        col(Step.organization_id) == bindparam("organization_id"),
        col(Step.operation_id) == bindparam("operation_id"),
    )
    .order_by(col(Step.position))
)


_LISTING: Final = Listing(
    name="operations",
    copy=operation_record,
    by={"createdAt": table_of(Operation).c.created_at},
    identifier=table_of(Operation).c.id,
)


@dataclass(frozen=True, slots=True)
class OperationFilter(Filter):
    """Which operations a list holds. `since`: not asked for before that."""

    environment_id: str | None = None
    kinds: frozenset[OperationKind] = frozenset()
    states: frozenset[OperationState] = frozenset()
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        return [
            *only(col(Operation.environment_id), self.environment_id),
            *among(col(Operation.kind), self.kinds),
            *among(col(Operation.state), self.states),
            *since(col(Operation.created_at), self.since),
        ]


@dataclass(frozen=True, slots=True)
class OperationRef:
    """What starting an operation's workflow takes."""

    operation_id: str
    organization_id: str
    environment_id: str
    environment_name: str
    kind: OperationKind
    workflow_id: str


async def get_operation(session: AsyncSession, organization_id: str, operation_id: str) -> OperationRecord:
    """Return an operation of this organisation. Raises NotFound."""
    row = await owned_row(session, Operation, operation_id, organization_id, "operation")
    return operation_record(row)


async def list_operations(
    session: AsyncSession,
    organization_id: str,
    *,
    wanted: OperationFilter = OperationFilter(),
    sort: ByTime = ByTime.NEWEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[OperationRecord]:
    """Return a page of operations, by the time they were asked for. Raises InvalidCursor."""
    query = select(Operation).where(col(Operation.organization_id) == organization_id)
    return await _LISTING.page(session, query, sort=sort, wanted=wanted, limit=limit, cursor=cursor)


async def list_replays(
    session: AsyncSession,
    organization_id: str,
    environment_id: str,
    *,
    wanted: OperationFilter = OperationFilter(),
    sort: ByTime = ByTime.NEWEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[OperationRecord]:
    """Return a page of replays: those in an environment, and those of its operations elsewhere.

    Raises InvalidCursor.
    """
    own = select(col(Operation.id)).where(col(Operation.environment_id) == environment_id)
    query = select(Operation).where(
        col(Operation.organization_id) == organization_id,
        col(Operation.kind) == OperationKind.REPLAY,
        or_(col(Operation.environment_id) == environment_id, col(Operation.replay_of).in_(own)),
    )
    return await _LISTING.page(
        session, query, "replays", environment_id, sort=sort, wanted=wanted, limit=limit, cursor=cursor
    )


async def latest(
    session: AsyncSession, organization_id: str, environment_ids: Sequence[str]
) -> dict[str, OperationRecord]:
    """Return the newest operation of each of these environments, by environment id."""
    # One look into the index for each environment, however many operations it has had.
    newest = (
        select(func.max(col(Operation.fence)))
        .where(col(Operation.environment_id) == col(Environment.id))
        .correlate(Environment)
        .scalar_subquery()
    )
    query = (
        select(Operation)
        .join(Environment, col(Environment.id) == col(Operation.environment_id))
        .where(
            col(Environment.organization_id) == organization_id,
            col(Environment.id).in_(environment_ids),
            col(Operation.fence) == newest,
        )
    )
    return {row.environment_id: operation_record(row) for row in await session.exec(query)}


async def live(
    session: AsyncSession, organization_id: str, environment_id: str
) -> tuple[OperationRecord, ...]:
    """Return the environment's live operations: at most one delete and one other, a delete first."""
    rows = await live_rows(session, environment_id)
    return tuple(operation_record(row) for row in rows if row.organization_id == organization_id)


async def steps(session: AsyncSession, organization_id: str, operation_id: str) -> tuple[StepRecord, ...]:
    """Return an operation's steps in the order of the plan; none for an unknown operation."""
    wanted = {"organization_id": organization_id, "operation_id": operation_id}
    return tuple(step_record(row) for row in await session.exec(_STEPS, params=wanted))


async def live_rows(session: AsyncSession, environment_id: str) -> Sequence[Operation]:
    """Return the rows of an environment's live operations, a delete first. For use under its lock."""
    query = select(Operation).where(
        col(Operation.environment_id) == environment_id, col(Operation.state).in_(LIVE_STATES)
    )
    rows = (await session.exec(query, execution_options={"populate_existing": True})).all()
    return sorted(rows, key=lambda row: row.kind is not OperationKind.DELETE)


# What follows serves the control worker, which works for all organisations and goes by operation ids.


async def live_beside(session: AsyncSession, operation_id: str) -> OperationRecord | None:
    """Return the live operation, other than a delete, of the environment that `operation_id` works on."""
    row = await session.get(Operation, operation_id)
    if row is None:
        raise NotFound("operation", operation_id)
    beside = [
        other
        for other in await live_rows(session, row.environment_id)
        if other.id != operation_id and other.kind is not OperationKind.DELETE
    ]
    return operation_record(beside[0]) if beside else None


async def operation_ref(session: AsyncSession, operation_id: str) -> OperationRef:
    """Return what starting the operation's workflow takes. Raises NotFound."""
    query = select(Operation, Environment).join(Environment).where(col(Operation.id) == operation_id)
    found = (await session.exec(query)).one_or_none()
    if found is None:
        raise NotFound("operation", operation_id)
    return _ref(*found)


async def lost_starts(session: AsyncSession, now: datetime, grace: timedelta) -> tuple[OperationRef, ...]:
    """Return operations that no workflow has begun and that nobody is starting: to be started (again).

    That is those accepted longer than `grace` ago; and those of a later time than it is, for the clock was
    turned back since: waiting for it to come there again may take hours.
    """
    query = select(Operation, Environment).join(Environment)
    accepted_at = col(Operation.created_at)
    query = query.where(
        col(Operation.state) == OperationState.ACCEPTED,
        or_(accepted_at < now - grace, accepted_at > now + grace),
    )
    rows = await session.exec(query.order_by(col(Operation.created_at)))
    return tuple(_ref(*row) for row in rows)


async def live_running(session: AsyncSession) -> tuple[OperationRef, ...]:
    """Return the operations that say they run; one whose workflow does not is to be closed as lost."""
    query = select(Operation, Environment).join(Environment)
    rows = await session.exec(query.where(col(Operation.state) == OperationState.RUNNING))
    return tuple(_ref(*row) for row in rows)


async def undelivered(session: AsyncSession) -> tuple[OperationRecord, ...]:
    """Return running operations of which something was asked that their workflows have not been told."""
    query = select(Operation).where(
        col(Operation.state) == OperationState.RUNNING, col(Operation.told) < col(Operation.asked)
    )
    return tuple(operation_record(row) for row in await session.exec(query))


def _ref(operation: Operation, environment: Environment) -> OperationRef:
    return OperationRef(
        operation_id=operation.id,
        organization_id=operation.organization_id,
        environment_id=environment.id,
        environment_name=environment.name,
        kind=operation.kind,
        workflow_id=operation.workflow_id,
    )
