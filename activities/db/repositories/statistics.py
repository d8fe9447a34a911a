"""Figures over an organisation's environments and operations."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.tables import Environment, Operation
from workflows.domain.operations import EnvironmentPhase, OperationKind, OperationState

MOST_MEASURED: Final = 10_000
"""Durations that are read; of more operations than that, the newest."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts as of now; operations are those accepted since some time."""

    environments: Mapping[EnvironmentPhase, int]
    operations: Mapping[tuple[OperationKind, OperationState], int]
    durations: Mapping[OperationKind, tuple[timedelta, ...]]
    """From start to end of those that succeeded, shortest first."""


async def figures(session: AsyncSession, organization_id: str, since: datetime) -> Figures:
    """Count an organisation's environments that are not deleted, and its operations accepted since then."""
    phases = (
        select(col(Environment.phase), func.count())
        .where(col(Environment.organization_id) == organization_id, col(Environment.deleted_at).is_(None))
        .group_by(col(Environment.phase))
    )
    recent = (
        col(Operation.organization_id) == organization_id,
        col(Operation.created_at) >= since,
    )
    states = (
        select(col(Operation.kind), col(Operation.state), func.count())
        .where(*recent)
        .group_by(col(Operation.kind), col(Operation.state))
    )
    times = (
        select(col(Operation.kind), col(Operation.started_at), col(Operation.finished_at))
        .where(*recent, col(Operation.state) == OperationState.SUCCEEDED)
        .order_by(col(Operation.created_at).desc(), col(Operation.id).desc())
        .limit(MOST_MEASURED)
    )
    durations: dict[OperationKind, list[timedelta]] = {}
    for kind, started, finished in (await session.exec(times)).all():
        if started is not None and finished is not None:
            durations.setdefault(OperationKind(kind), []).append(finished - started)
    return Figures(
        environments={EnvironmentPhase(phase): count for phase, count in (await session.exec(phases)).all()},
        operations={
            (OperationKind(kind), OperationState(state)): count
            for kind, state, count in (await session.exec(states)).all()
        },
        durations={kind: tuple(sorted(found)) for kind, found in durations.items()},
    )
