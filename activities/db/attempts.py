"""What attempts before one did to data: a retry takes nothing of that back, whatever becomes of it."""

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.tables import Operation, Step
from workflows.domain.operations import LOADING, StepKind


async def begun_loads(session: AsyncSession, attempt: str | None) -> dict[str, Step]:
    """Return the loads that an attempt, or one of those that it was a retry of, began, by step name.

    Each as the row of the newest attempt that began it, which says whether the data came to their end.
    """
    begun: dict[str, Step] = {}
    while attempt is not None:
        row = await session.get(Operation, attempt)
        if row is None or row.kind not in LOADING:
            break
        loads = select(Step).where(
            col(Step.operation_id) == row.id,
            col(Step.kind) == StepKind.LOAD,
            col(Step.started_at).is_not(None),
        )
        for step in await session.exec(loads.order_by(col(Step.position))):
            begun.setdefault(step.name, step)
        attempt = row.retry_of
    return begun
