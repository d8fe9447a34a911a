"""Routes of an environment's revisions and checkpoints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api.auth import Developer, Viewer
from api.bodies import read_document
from api.documentation import REPEAT_PROBLEMS, documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.environments.documents import validated
from api.environments.service import Caller
from api.filters import CheckpointQuery, RevisionQuery
from api.idempotency import IdempotencyKey, answer_outcome
from api.parameters import DEFAULT_LIMIT, LAST_REVISION, Cursor, Id, Limit
from api.revisions import service
from api.revisions.schemas import CheckpointOut, CreateCheckpoint, DiffOut, RevisionDetailOut, RevisionOut
from api.state import State
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/environments/{id}", tags=["revisions"])

Number = Annotated[int, Path(ge=1, le=LAST_REVISION, description="Number of a revision")]
_Revision = Annotated[int | None, Query(ge=1, le=LAST_REVISION)]


@router.get(
    "/revisions",
    response_model=ListEnvelope[RevisionOut],
    summary="List the revisions of an environment",
    operation_id="revisions_list",
    **documented(),
)
async def list_all(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    query: Annotated[RevisionQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise, each with what it changed.

    A rolled-back one stays: history is never rewritten.
    """
    items, following = await service.find(
        state, actor.organization_id, environment_id, query, limit=limit, cursor=cursor
    )
    return answer_list(request, items, following)


@router.get(
    "/revisions/{number}",
    response_model=Envelope[RevisionDetailOut],
    summary="Get one revision with its Blueprint",
    operation_id="revisions_get",
    **documented(),
)
async def get(request: Request, state: State, actor: Viewer, environment_id: Id, number: Number) -> Response:
    """Its Blueprint can be sent as an update: references to its own secrets keep their values."""
    return answer(request, await service.get(state, actor.organization_id, environment_id, number))


@router.get(
    "/diffs",
    response_model=Envelope[DiffOut],
    summary="Compare two revisions",
    operation_id="revisions_diff",
    **documented(),
)
async def diff(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    source: Annotated[_Revision, Query(alias="from", description="The target's parent when absent")] = None,
    target: Annotated[_Revision, Query(alias="to", description="The present one when absent")] = None,
) -> Response:
    """Per service what changes and which fields; of secrets only that they are named otherwise."""
    found = await service.diff(state, actor.organization_id, environment_id, source=source, target=target)
    return answer(request, found)


@router.post(
    "/checkpoints",
    status_code=201,
    response_model=Envelope[CheckpointOut],
    summary="Name a revision",
    operation_id="checkpoints_create",
    **documented(
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(CreateCheckpoint, {"present": {"name": "before-migration"}}),
        conditional=True,
        audit="environment.checkpoint",
    ),
)
async def create_checkpoint(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
) -> Response:
    """A named revision is not pruned, and can be gone back to by its name."""
    wanted = validated(CreateCheckpoint, await read_document(request, allow_yaml=False))
    return answer_outcome(
        request, await service.name(Caller(request, state, actor, key), environment_id, wanted)
    )


@router.get(
    "/checkpoints",
    response_model=ListEnvelope[CheckpointOut],
    summary="List the checkpoints of an environment",
    operation_id="checkpoints_list",
    **documented(),
)
async def list_checkpoints(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    query: Annotated[CheckpointQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise."""
    shaped, following = await service.names(
        state, actor.organization_id, environment_id, query, limit=limit, cursor=cursor
    )
    return answer_list(request, shaped, following)


@router.delete(
    "/checkpoints/{name}",
    status_code=204,
    response_class=Response,
    summary="Take a checkpoint's name away",
    operation_id="checkpoints_delete",
    **documented(conditional=True, audit="environment.remove_checkpoint"),
)
async def delete_checkpoint(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    name: Annotated[str, Path(max_length=100)],
) -> Response:
    """Its revision stays until it is pruned."""
    await service.unname(Caller(request, state, actor), environment_id, name)
    return Response(status_code=204)
