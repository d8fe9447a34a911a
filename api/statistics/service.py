"""From counts to figures."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from activities.db.repositories.statistics import Figures, figures
from activities.temporal import TemporalError
from api.state import AppState
from api.statistics.schemas import (
    DurationFigures,
    EnvironmentFigures,
    OperationFigures,
    QueueFigures,
    StatsOut,
    WorkerFigures,
)
from workflows.contracts.queues import CONTROL_QUEUE, cluster_queue
from workflows.domain.operations import TERMINAL_STATES, OperationState

PERIOD: Final = timedelta(hours=24)
QUEUE_SECONDS: Final = 3.0
"""The answer waits for Temporal no longer than this."""
_FAILED: Final = (OperationState.FAILED, OperationState.ROLLED_BACK)


async def stats(state: AppState, organization_id: str) -> StatsOut:
    """Return an organisation's figures; without Temporal they lack the workers and no more."""
    now = datetime.now(UTC)
    async with state.database.reading() as session:
        found = await figures(session, organization_id, now - PERIOD)
    return StatsOut(
        since=now - PERIOD,
        environments=EnvironmentFigures(
            total=sum(found.environments.values()),
            by_status={phase.value: count for phase, count in sorted(found.environments.items())},
        ),
        operations=_operations(found),
        workers=await _workers(state),
        observed_at=now,
    )


def _operations(found: Figures) -> OperationFigures:
    by_state: Counter[OperationState] = Counter()
    by_kind: dict[str, dict[str, int]] = {}
    for (kind, state), count in sorted(found.operations.items()):
        by_state[state] += count
        by_kind.setdefault(kind.value, {})[state.value] = count
    ended = sum(by_state[state] for state in TERMINAL_STATES)
    failed = sum(by_state[state] for state in _FAILED)
    return OperationFigures(
        total=by_state.total(),
        by_state={state.value: count for state, count in sorted(by_state.items())},
        by_kind=by_kind,
        failure_rate=round(failed / ended, 4) if ended else None,
        durations={kind.value: durations(each) for kind, each in sorted(found.durations.items())},
    )


def durations(found: Sequence[timedelta]) -> DurationFigures:
    """Median and 95th percentile (nearest rank) of at least one duration, in seconds, shortest first."""
    seconds = [each.total_seconds() for each in found]
    return DurationFigures(
        count=len(seconds),
        median_seconds=round(statistics.median(seconds), 3),
        p95_seconds=round(seconds[math.ceil(0.95 * len(seconds)) - 1], 3),
    )


async def _workers(state: AppState) -> WorkerFigures:
    names = [CONTROL_QUEUE, *(cluster_queue(cluster) for cluster in sorted(state.settings.all_clusters))]
    try:
        async with asyncio.timeout(QUEUE_SECONDS):
            queues = await asyncio.gather(*(state.starter.queue(name) for name in names))
    except (TemporalError, TimeoutError):
        return WorkerFigures(known=False, queues=[])
    return WorkerFigures(
        known=True,
        queues=[
            QueueFigures(name=queue.name, workers=len(queue.workers), backlog=queue.backlog)
            for queue in queues
        ],
    )
