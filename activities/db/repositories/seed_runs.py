"""What operations of kind `seed` run."""

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import NotFound
from activities.db.tables import SeedRun as Row
from workflows.domain.seeds import SeedRun


async def add_run(session: AsyncSession, organization_id: str, operation_id: str, run: SeedRun) -> None:
    """Keep what a new operation runs."""
    row = Row(operation_id=operation_id, organization_id=organization_id, run=run.model_dump(mode="json"))
    session.add(row)
    await session.flush()


async def get_run(session: AsyncSession, operation_id: str) -> SeedRun:
    """Return what an operation of kind `seed` runs. Raises NotFound."""
    row = await session.get(Row, operation_id)
    if row is None:
        raise NotFound("seed run", operation_id)
    return SeedRun.model_validate(row.run)
