"""The route of figures."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.auth import Viewer
from api.documentation import documented
from api.envelope import Envelope, answer
from api.state import State
from api.statistics import service
from api.statistics.schemas import StatsOut

router = APIRouter(prefix="/v1/status", tags=["health"])


@router.get(
    "/stats",
    response_model=Envelope[StatsOut],
    summary="Get an organisation's figures",
    operation_id="status_stats",
    **documented(),
)
async def stats(request: Request, state: State, actor: Viewer) -> Response:
    """Environments by status, operations of the last 24 hours, and the workers behind them."""
    return answer(request, await service.stats(state, actor.organization_id))
