"""The route of the installation's checks."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.auth import Admin
from api.checks import service
from api.checks.schemas import ChecksOut
from api.documentation import documented
from api.envelope import Envelope, answer
from api.state import State

router = APIRouter(prefix="/v1/status", tags=["health"])


@router.get(
    "/checks",
    response_model=Envelope[ChecksOut],
    summary="Check the installation",
    operation_id="status_checks",
    **documented(),
)
async def checks(request: Request, state: State, actor: Admin) -> Response:
    """Database, keys, Temporal, clusters and object store: what works, what does not, how to mend it.

    200 also when something fails. `perdure doctor` shows it.
    """
    return answer(request, await service.check_all(state, actor.role))
