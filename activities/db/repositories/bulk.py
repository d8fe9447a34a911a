"""Reads over many rows at once, for lists, event tails and metrics: one query each, however many rows."""

from collections.abc import Collection, Sequence

from sqlalchemy import and_, func, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import JsonObject
from activities.db.tables import Environment, Operation, Revision
from workflows.domain.operations import OperationKind, OperationState


async def last_event_numbers(session: AsyncSession, environment_ids: Collection[str]) -> dict[str, int]:
    """Return the number of the latest event of each of these environments, of whichever organisation."""
    query = select(Environment.id, Environment.last_event).where(col(Environment.id).in_(environment_ids))
    return dict((await session.exec(query)).all())


async def current_blueprints(
    session: AsyncSession, organization_id: str, revisions: Sequence[tuple[str, int]]
) -> dict[str, JsonObject]:
    """Return the Blueprints of (environment id, revision number) pairs, by environment id."""
    if not revisions:
        return {}
    wanted = [
        and_(col(Revision.environment_id) == environment_id, col(Revision.number) == number)
        for environment_id, number in revisions
    ]
    query = select(Revision.environment_id, Revision.blueprint).where(
        col(Revision.organization_id) == organization_id, or_(*wanted)
    )
    return {
        environment_id: dict(blueprint) for environment_id, blueprint in (await session.exec(query)).all()
    }


async def operation_counts(session: AsyncSession) -> dict[tuple[OperationKind, OperationState], int]:
    """Return how many operations of each kind are in each state, over all organisations."""
    query = select(Operation.kind, Operation.state, func.count()).group_by(
        col(Operation.kind), col(Operation.state)
    )
    rows = (await session.exec(query)).all()
    return {(OperationKind(kind), OperationState(state)): count for kind, state, count in rows}
