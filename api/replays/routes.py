"""Routes of replays: an earlier operation's steps once more."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from api.auth import Developer, Viewer
from api.bodies import read_document
from api.deferred import Wait
from api.documentation import REPEAT_PROBLEMS, documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.environments.documents import validated
from api.environments.service import Caller
from api.filters import ReplayQuery
from api.idempotency import IdempotencyKey
from api.operations.answers import answer_accepted
from api.operations.schemas import OperationOut
from api.parameters import DEFAULT_LIMIT, Cursor, Id, Limit
from api.replays import service
from api.replays.schemas import ReplayOperation, ReplayOut
from api.state import State
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/environments", tags=["replays"])

DryRun = Annotated[bool, Query(alias="dry_run", description="Only say what the replay would do")]
_EXAMPLES: Final[dict[str, Any]] = {
    "what changed": {},
    "from a step": {"operationId": "op_01JZX5Q1ABCDEFGHJKMNPQRSTV", "fromStep": "service/api"},
    "new environment": {"target": "new", "name": "shop-2"},
    "with data": {"snapshotId": "snap_01JZX5Q1ABCDEFGHJKMNPQRSTV", "target": "new", "name": "shop-yesterday"},
}


@router.post(
    "/{id}/replay",
    status_code=202,
    response_model=Envelope[OperationOut | ReplayOut],
    summary="Run the steps of an earlier operation again",
    operation_id="environments_replay",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        FailureKind.QUOTA_EXCEEDED,
        FailureKind.CONFLICT,
        FailureKind.CLUSTER_UNAVAILABLE,
        *REPEAT_PROBLEMS,
        body=json_body(ReplayOperation, _EXAMPLES, required=False),
        conditional=True,
        audit=("environment.replay", "environment.create"),
    ),
)
async def replay(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    dry_run: DryRun = False,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """In place: what changed since, what is gone, what never succeeded, and all that depends on that.

    The rest is skipped. Into a new environment all of it, as the first operation there. With a snapshot its
    data replace what is there before what depends on them starts. 200 with the list of steps, and why each is
    run or skipped, for a dry run.
    """
    wanted = ReplayOperation()
    if (await request.body()).strip():
        wanted = validated(ReplayOperation, await read_document(request, allow_yaml=False))
    caller = Caller(request, state, actor, key)
    if dry_run:
        return answer(request, await service.preview(caller, environment_id, wanted))
    return await answer_accepted(request, state, await service.replay(caller, environment_id, wanted), wait)


@router.get(
    "/{id}/replays",
    response_model=ListEnvelope[OperationOut],
    summary="List the replays of an environment",
    operation_id="environments_replays",
    **documented(),
)
async def replays(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    query: Annotated[ReplayQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise; those of its operations in place and into new environments.

    Without steps.
    """
    found, following = await service.replays(
        state, actor.organization_id, environment_id, query, limit=limit, cursor=cursor
    )
    return answer_list(request, found, following)
