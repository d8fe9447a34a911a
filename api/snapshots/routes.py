"""Routes of snapshots."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request, Response

from api.auth import Developer, Viewer
from api.bodies import read_document
from api.deferred import Wait
from api.documentation import REPEAT_PROBLEMS, documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.environments.documents import validated
from api.environments.service import Caller
from api.filters import SnapshotQuery, VerificationQuery
from api.idempotency import IdempotencyKey, answer_outcome
from api.operations.answers import answer_accepted
from api.operations.schemas import OperationOut
from api.parameters import DEFAULT_LIMIT, Cursor, Id, Limit
from api.snapshots import policies, service
from api.snapshots.schemas import (
    CreateSnapshot,
    PutSnapshotPolicy,
    RestoreSnapshot,
    SnapshotOut,
    SnapshotPolicyOut,
    VerificationOut,
    VerifySnapshot,
)
from api.state import State
from workflows.domain.failures import FailureKind
from workflows.domain.snapshot_manifest import SnapshotManifest

router = APIRouter(tags=["snapshots"])

_CREATE: Final[dict[str, Any]] = {
    "plain": {},
    "strict": {
        "name": "before-migration",
        "consistencyFloor": "application",
        "expiresInDays": None,
    },
}
_POLICY: Final[dict[str, Any]] = {
    "nightly": {
        "everyMinutes": 1440,
        "keepLast": 14,
        "expiresInDays": None,
        "verifyLevel": 2,
        "verifyEveryHours": 168,
    },
}
_RESTORE: Final[dict[str, Any]] = {
    "new": {"name": "shop-yesterday"},
    "in place": {"environmentId": "env_01J9Z7Q0000000000000000000"},
}


@router.get(
    "/v1/environments/snapshots",
    response_model=ListEnvelope[SnapshotOut],
    summary="List the snapshots of all environments",
    operation_id="snapshots_list",
    **documented(),
)
async def list_all(
    request: Request,
    state: State,
    actor: Viewer,
    query: Annotated[SnapshotQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise; those of environments that are gone, too."""
    items, following = await service.find(state, actor.organization_id, query, limit=limit, cursor=cursor)
    return answer_list(request, items, following)


@router.post(
    "/v1/environments/{id}/snapshots",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Take a snapshot",
    operation_id="environments_snapshot",
    **documented(
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(CreateSnapshot, _CREATE, required=False),
        conditional=True,
        audit="environment.snapshot",
    ),
)
async def take(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """Configuration and data; it can be used once the operation has succeeded, and is named in the answer."""
    wish = CreateSnapshot()
    if (await request.body()).strip():
        wish = validated(CreateSnapshot, await read_document(request, allow_yaml=False))
    outcome = await service.take(Caller(request, state, actor, key), environment_id, wish)
    return await answer_accepted(request, state, outcome, wait)


@router.get(
    "/v1/environments/{id}/snapshots",
    response_model=ListEnvelope[SnapshotOut],
    summary="List the snapshots of an environment",
    operation_id="environments_snapshots",
    **documented(),
)
async def list_of_environment(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    query: Annotated[SnapshotQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise."""
    items, following = await service.find(
        state, actor.organization_id, query, limit=limit, cursor=cursor, environment_id=environment_id
    )
    return answer_list(request, items, following)


@router.put(
    "/v1/environments/{id}/snapshot-policy",
    response_model=Envelope[SnapshotPolicyOut],
    summary="Set by what an environment is taken a snapshot of",
    operation_id="snapshot_policies_put",
    **documented(
        FailureKind.CONFLICT,
        body=json_body(PutSnapshotPolicy, _POLICY),
        conditional=True,
        audit="environment.snapshot_policy",
    ),
)
async def put_policy(request: Request, state: State, actor: Developer, environment_id: Id) -> Response:
    """The first snapshot is due at once. A busy environment is asked again a minute later."""
    wish = validated(PutSnapshotPolicy, await read_document(request, allow_yaml=False))
    return answer(request, await policies.put(Caller(request, state, actor), environment_id, wish))


@router.get(
    "/v1/environments/{id}/snapshot-policy",
    response_model=Envelope[SnapshotPolicyOut],
    summary="Get an environment's snapshot policy",
    operation_id="snapshot_policies_get",
    **documented(),
)
async def get_policy(request: Request, state: State, actor: Viewer, environment_id: Id) -> Response:
    """With what came of it last, and when it is due again."""
    return answer(request, await policies.get(state, actor.organization_id, environment_id))


@router.delete(
    "/v1/environments/{id}/snapshot-policy",
    status_code=204,
    response_class=Response,
    summary="Take an environment's snapshot policy away",
    operation_id="snapshot_policies_delete",
    **documented(conditional=True, audit="environment.snapshot_policy"),
)
async def delete_policy(request: Request, state: State, actor: Developer, environment_id: Id) -> Response:
    """The snapshots that it brought about stay, as long as they live."""
    await policies.remove(Caller(request, state, actor), environment_id)
    return Response(status_code=204)


@router.get(
    "/v1/snapshots/{id}",
    response_model=Envelope[SnapshotOut],
    summary="Get a snapshot with its components",
    operation_id="snapshots_get",
    **documented(),
)
async def get(request: Request, state: State, actor: Viewer, snapshot_id: Id) -> Response:
    """With what was reached for each service, not what was hoped for."""
    return answer(request, await service.get(state, actor.organization_id, snapshot_id))


@router.get(
    "/v1/snapshots/{id}/manifest",
    response_model=Envelope[SnapshotManifest],
    summary="Download a snapshot's manifest",
    operation_id="snapshots_manifest",
    **documented(FailureKind.CONFLICT),
)
async def manifest(request: Request, state: State, actor: Viewer, snapshot_id: Id) -> Response:
    """Everything but bytes and secrets: Blueprint, images, streams with sizes and digests."""
    return answer(request, await service.manifest(state, actor.organization_id, snapshot_id))


@router.post(
    "/v1/snapshots/{id}/restore",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Restore a snapshot",
    operation_id="snapshots_restore",
    **documented(
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(RestoreSnapshot, _RESTORE),
        deletable=True,
        audit=("environment.restore", "snapshot.restore"),
    ),
)
async def restore(
    request: Request,
    state: State,
    actor: Developer,
    snapshot_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """As a new environment, or its data in the place of that of one that runs, whose Blueprint stays."""
    wish = validated(RestoreSnapshot, await read_document(request, allow_yaml=False))
    outcome = await service.restore(Caller(request, state, actor, key), snapshot_id, wish)
    return await answer_accepted(request, state, outcome, wait)


@router.post(
    "/v1/snapshots/{id}/verify",
    status_code=202,
    response_model=Envelope[VerificationOut],
    summary="Verify a snapshot",
    operation_id="snapshots_verify",
    **documented(
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(VerifySnapshot, {"restored": {"level": 2}}, required=False),
        audit="snapshot.verify",
    ),
)
async def verify(
    request: Request, state: State, actor: Developer, snapshot_id: Id, key: IdempotencyKey = None
) -> Response:
    """Level 2 restores it into an environment of its own, which is deleted afterwards."""
    wish = VerifySnapshot()
    if (await request.body()).strip():
        wish = validated(VerifySnapshot, await read_document(request, allow_yaml=False))
    outcome = await service.verify(Caller(request, state, actor, key), snapshot_id, wish.level)
    return answer_outcome(request, outcome)


@router.get(
    "/v1/snapshots/{id}/verifications",
    response_model=ListEnvelope[VerificationOut],
    summary="List the verifications of a snapshot",
    operation_id="snapshots_verifications",
    **documented(),
)
async def list_verifications(
    request: Request,
    state: State,
    actor: Viewer,
    snapshot_id: Id,
    query: Annotated[VerificationQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise, each with all that was found."""
    items, following = await service.find_verifications(
        state, actor.organization_id, snapshot_id, query, limit=limit, cursor=cursor
    )
    return answer_list(request, items, following)


@router.get(
    "/v1/snapshots/{id}/verifications/{verificationId}",
    response_model=Envelope[VerificationOut],
    summary="Get a verification",
    operation_id="snapshots_verification",
    **documented(),
)
async def get_verification(
    request: Request,
    state: State,
    actor: Viewer,
    snapshot_id: Id,
    verification_id: Annotated[str, Path(alias="verificationId", description="Id of the verification")],
) -> Response:
    """Its state, and at its end what was looked at and found."""
    found = await service.get_verification(state, actor.organization_id, snapshot_id, verification_id)
    return answer(request, found)


@router.delete(
    "/v1/snapshots/{id}",
    status_code=202,
    response_model=Envelope[SnapshotOut],
    summary="Delete a snapshot",
    operation_id="snapshots_delete",
    **documented(FailureKind.CONFLICT, audit="snapshot.delete"),
)
async def delete(request: Request, state: State, actor: Developer, snapshot_id: Id) -> Response:
    """It cannot be used from now on; what is stored of it is removed within minutes."""
    return answer_outcome(request, await service.delete(Caller(request, state, actor), snapshot_id))
