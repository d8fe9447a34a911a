"""Figures as the API answers them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from api.envelope import ApiModel


class EnvironmentFigures(ApiModel):
    """Environments that are not deleted."""

    total: int
    by_status: dict[str, int] = Field(description="As last noted; statuses that none has are left out")


class DurationFigures(ApiModel):
    """How long operations of one kind took that succeeded, from start to end."""

    count: int
    median_seconds: float
    p95_seconds: float


class OperationFigures(ApiModel):
    """Operations accepted in the last 24 hours."""

    total: int
    by_state: dict[str, int]
    by_kind: dict[str, dict[str, int]] = Field(description="By kind, then state")
    failure_rate: float | None = Field(
        default=None, description="Failed and rolled back, of all that ended; absent while none has"
    )
    durations: dict[str, DurationFigures] = Field(description="By kind")


class QueueFigures(ApiModel):
    """A task queue of the installation."""

    name: str
    workers: int = Field(description="Processes that asked for work in the last five minutes")
    backlog: int | None = Field(
        default=None, description="Tasks that wait for a worker, by Temporal's estimate"
    )


class WorkerFigures(ApiModel):
    """Who does the work, for all organisations."""

    known: bool = Field(description="False: Temporal does not answer")
    queues: list[QueueFigures]


class StatsOut(ApiModel):
    """An organisation's environments and operations in figures, and the workers behind them."""

    since: datetime = Field(description="Operations are counted from here")
    environments: EnvironmentFigures
    operations: OperationFigures
    workers: WorkerFigures
    observed_at: datetime
