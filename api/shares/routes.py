"""Routes of share links for those who own the environment; guests' own are in `public`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from api.auth import Developer, Viewer
from api.documentation import REPEAT_PROBLEMS, documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.filters import ShareQuery
from api.idempotency import IdempotencyKey, answer_outcome
from api.parameters import DEFAULT_LIMIT, Cursor, Id, Limit
from api.shares import service
from api.shares.schemas import CreateShare, ShareCreatedOut, ShareOut
from api.state import State
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/environments", tags=["sharing"])

_EXAMPLES = {
    "plain": {},
    "pin": {"label": "for the review", "expiresInSeconds": 86_400, "pin": "4711-blue", "showImages": False},
}


@router.post(
    "/{id}/share",
    status_code=201,
    response_model=Envelope[ShareCreatedOut],
    summary="Make a link that shows the environment to guests",
    operation_id="shares_create",
    **documented(
        FailureKind.CONFLICT,
        FailureKind.QUOTA_EXCEEDED,
        *REPEAT_PROBLEMS,
        body=json_body(CreateShare, _EXAMPLES, required=False),
        audit="share.create",
    ),
)
async def create(
    request: Request, state: State, actor: Developer, environment_id: Id, key: IdempotencyKey = None
) -> Response:
    """The link is in this answer only: it is not kept, and a repetition under the same key gets 409."""
    outcome = await service.create(request, state, actor, environment_id, key)
    return answer_outcome(request, outcome)


@router.get(
    "/{id}/shares",
    response_model=ListEnvelope[ShareOut],
    summary="List the share links of an environment",
    operation_id="shares_list",
    **documented(),
)
async def list_all(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    query: Annotated[ShareQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise, without the links themselves.

    Those that are over stay for 90 days. `state` is what they are now.
    """
    shaped, following = await service.find(
        state, actor.organization_id, environment_id, query, limit=limit, cursor=cursor
    )
    return answer_list(request, shaped, following)


@router.delete(
    "/{id}/shares/{shareId}",
    response_model=Envelope[ShareOut],
    summary="Revoke a share link",
    operation_id="shares_revoke",
    **documented(audit="share.revoke"),
)
async def revoke(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    share_id: Annotated[str, Path(alias="shareId", description="Id of the link, `shr_...`")],
) -> Response:
    """The next request through it is refused. A second time changes nothing."""
    return answer(request, await service.revoke(state, actor, environment_id, share_id))
