"""Reads over many rows at once, for lists, event tails and metrics: one query each, however many rows."""

from collections.abc import Collection

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import JsonObject
from activities.db.tables import Environment, Operation, Override, Revision
from workflows.domain.operations import OperationKind, OperationState


async def last_event_numbers(session: AsyncSession, environment_ids: Collection[str]) -> dict[str, int]:
    """Return the number of the latest event of each of these environments, of whichever organisation."""
    query = select(Environment.id, Environment.last_event).where(col(Environment.id).in_(environment_ids))
    return dict((await session.exec(query)).all())


async def current_blueprints(
    session: AsyncSession, organization_id: str, environment_ids: Collection[str]
) -> dict[str, JsonObject]:
    """Return the Blueprints of the current revisions of these environments, by environment id."""
    query = (
        select(Revision.environment_id, Revision.blueprint)
        .join(Environment, col(Environment.id) == col(Revision.environment_id))
        .where(
            col(Environment.organization_id) == organization_id,
            col(Environment.id).in_(environment_ids),
            col(Revision.number) == col(Environment.revision),
        )
    )
    return {
        environment_id: dict(blueprint) for environment_id, blueprint in (await session.exec(query)).all()
    }


async def scaled(
    session: AsyncSession, organization_id: str, environment_ids: Collection[str]
) -> dict[str, dict[str, int]]:
    """Return the replicas that were set by scale, by environment id and service; only of those with any."""
    query = select(Override.environment_id, Override.service, Override.replicas).where(
        col(Override.organization_id) == organization_id,
        col(Override.environment_id).in_(environment_ids),
        col(Override.replicas).is_not(None),
    )
    found: dict[str, dict[str, int]] = {}
    for environment_id, service, replicas in (await session.exec(query)).all():
        if replicas is not None:
            found.setdefault(environment_id, {})[service] = replicas
    return found


async def operation_counts(session: AsyncSession) -> dict[tuple[OperationKind, OperationState], int]:
    """Return how many operations of each kind are in each state, over all organisations."""
    query = select(Operation.kind, Operation.state, func.count()).group_by(
        col(Operation.kind), col(Operation.state)
    )
    rows = (await session.exec(query)).all()
    return {(OperationKind(kind), OperationState(state)): count for kind, state, count in rows}
