"""Revisions: each accepted Blueprint of an environment, without literal secret values."""

from collections.abc import Collection

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import RevisionRecord, revision_record
from activities.db.repositories._rows import owned_row
from activities.db.tables import Environment, Revision
from workflows.domain.blueprint import Blueprint


async def current_blueprint(session: AsyncSession, environment: Environment) -> Blueprint:
    """Return the Blueprint of a locked environment's revision, without literal secrets."""
    revision = await session.get_one(Revision, (environment.id, environment.revision))
    return Blueprint.model_validate(revision.blueprint)


async def get_revision(
    session: AsyncSession, organization_id: str, environment_id: str, number: int
) -> RevisionRecord:
    """Return one revision. Raises NotFound."""
    row = await owned_row(session, Revision, (environment_id, number), organization_id, "revision")
    return revision_record(row)


async def highest_revision(session: AsyncSession, environment_id: str) -> int:
    """Return the highest number that an environment's revisions have had. For use under its lock."""
    query = select(func.max(col(Revision.number))).where(col(Revision.environment_id) == environment_id)
    return (await session.exec(query)).one() or 0


async def revisions_by_number(
    session: AsyncSession, organization_id: str, environment_id: str, numbers: Collection[int]
) -> tuple[RevisionRecord, ...]:
    """Return those of these revisions that are kept."""
    query = select(Revision).where(
        col(Revision.organization_id) == organization_id,
        col(Revision.environment_id) == environment_id,
        col(Revision.number).in_(numbers),
    )
    return tuple(revision_record(row) for row in await session.exec(query))


async def list_revisions(
    session: AsyncSession,
    organization_id: str,
    environment_id: str,
    *,
    limit: int = 50,
    before: int | None = None,
) -> tuple[RevisionRecord, ...]:
    """Return the latest revisions below number `before`, newest first; empty for an unknown environment."""
    query = select(Revision).where(
        col(Revision.organization_id) == organization_id, col(Revision.environment_id) == environment_id
    )
    if before is not None:
        query = query.where(col(Revision.number) < before)
    rows = await session.exec(query.order_by(col(Revision.number).desc()).limit(limit))
    return tuple(revision_record(row) for row in rows)
