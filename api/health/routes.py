"""Routes of health and metrics: open to all, answered raw."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Response

from activities.db.repositories.bulk import operation_counts
from activities.version import VERSION
from api.health.service import HealthOut, examine
from api.metrics import CONTENT_TYPE
from api.state import AppState, State

router = APIRouter(tags=["health"])

_DOWN: Final[dict[int | str, dict[str, Any]]] = {503: {"model": HealthOut, "description": "Not ready"}}


@router.get("/health", response_model=HealthOut, summary="Health summary", operation_id="health_get")
async def health(state: State) -> Response:
    """Whether Perdure and its parts are up; answers 200 also when they are not."""
    found = await examine(state, VERSION)
    return _raw(found.model_copy(update={"parts": {}}), 200)


@router.get("/health/live", response_model=HealthOut, summary="Liveness", operation_id="health_live")
async def live() -> Response:
    """That this process answers; asks nobody else."""
    return _raw(HealthOut(status="up", version=VERSION, parts={}), 200)


@router.get(
    "/health/ready",
    response_model=HealthOut,
    responses=_DOWN,
    summary="Readiness",
    operation_id="health_ready",
)
async def ready(state: State) -> Response:
    """Whether requests can be taken: 503 without the database."""
    return await _readiness(state)


@router.get(
    "/health/details",
    response_model=HealthOut,
    responses=_DOWN,
    summary="Health of each part",
    operation_id="health_details",
)
async def details(state: State) -> Response:
    """Database, Temporal and clusters, each with latency and reason."""
    return await _readiness(state)


@router.get(
    "/ready",
    response_model=HealthOut,
    responses=_DOWN,
    summary="Readiness by its other address",
    operation_id="health_ready_alias",
)
async def ready_alias(state: State) -> Response:
    """The same as `/health/ready`."""
    return await _readiness(state)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "Prometheus text format", "content": {"text/plain": {}}}},
    summary="Prometheus metrics",
    operation_id="metrics_get",
)
async def metrics(state: State) -> Response:
    """Requests of this process, and the operations in the database."""
    async with state.database.reading() as session:
        counts = await operation_counts(session)
    state.metrics.operations({(kind.value, each.value): count for (kind, each), count in counts.items()})
    return Response(state.metrics.render(), media_type=CONTENT_TYPE)


async def _readiness(state: AppState) -> Response:
    found = await examine(state, VERSION)
    return _raw(found, 200 if found.ready else 503)


def _raw(found: HealthOut, status: int) -> Response:
    return Response(found.model_dump_json(exclude_none=True), status, media_type="application/json")
