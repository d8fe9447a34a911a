"""Routes of environments. Static segments come before `{id}`."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from api.auth import Developer, Viewer
from api.bodies import read_document
from api.deferred import Wait
from api.documentation import (
    BLUEPRINT_BODY,
    COMPOSE_BODY,
    NOTHING,
    REPEAT_PROBLEMS,
    SETTINGS_BODY,
    VALIDATE_BODY,
    documented,
)
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.environments import importing, logs, service, topology, validation
from api.environments.answers import answer_environment
from api.environments.documents import blueprint_invalid, blueprint_of, read_blueprint_request, validated
from api.environments.schemas import (
    ChangeEnvironment,
    EnvironmentOut,
    ImportOut,
    LogEntry,
    StatusOut,
    TopologyOut,
    ValidationOut,
)
from api.environments.service import Caller
from api.filters import EnvironmentQuery
from api.idempotency import IdempotencyKey, UnneededKey, answer_outcome
from api.operations.answers import answer_accepted
from api.operations.schemas import OperationOut
from api.parameters import DEFAULT_LIMIT, Cursor, Id, Limit
from api.preconditions import IfNoneMatchHeader, answer_tagged, entity_tag
from api.state import State
from api.streams import After, LastEventId, event_stream, start_after
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/environments", tags=["environments"])

Name = Annotated[
    str | None, Query(max_length=100, description="In place of the Blueprint's name, as in the wrapper")
]
Plan = Annotated[
    str | None,
    Query(max_length=100, description="Which of the Blueprint's plans to apply, as there"),
]
_CREATE: Final = frozenset({"blueprint", "name", "plan", "snapshotId"})
_VALIDATE: Final = frozenset({"blueprint", "name", "plan"})
_ACCEPT_PROBLEMS: Final = (FailureKind.CONFLICT, FailureKind.QUOTA_EXCEEDED, *REPEAT_PROBLEMS)


@router.post(
    "",
    status_code=202,
    response_model=Envelope[EnvironmentOut],
    summary="Create an environment from a Blueprint",
    operation_id="environments_create",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        *_ACCEPT_PROBLEMS,
        body=BLUEPRINT_BODY,
        audit="environment.create",
    ),
)
async def create(
    request: Request,
    state: State,
    actor: Developer,
    name: Name = None,
    plan: Plan = None,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """Accept a Blueprint; a workflow provisions it. The answer's `operation` is followed at `Location`.

    With `snapshotId`, the services have that snapshot's data before anything depends on them. The snapshot's
    own Blueprint, and more choices: `POST /v1/snapshots/{id}/restore`.
    """
    found = await read_blueprint_request(request, _CREATE, name=name, plan=plan)
    blueprint, faults = await blueprint_of(found)
    if blueprint is None:
        raise blueprint_invalid(faults)
    outcome = await service.create(
        Caller(request, state, actor, key), blueprint, found.plan, snapshot_id=found.snapshot_id
    )
    return await answer_environment(request, state, actor, outcome, wait)


@router.get(
    "",
    response_model=ListEnvelope[EnvironmentOut],
    summary="List environments",
    operation_id="environments_list",
    **documented(),
)
async def list_all(
    request: Request,
    state: State,
    actor: Viewer,
    query: Annotated[EnvironmentQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise; services without live numbers.

    A cursor goes on in the list that it came from: `sort` and filters have to be the same.
    """
    shaped, following = await service.find(
        state, actor.organization_id, limit=limit, cursor=cursor, wanted=query.wanted, sort=query.sort
    )
    return answer_list(request, shaped, following)


@router.post(
    "/validate",
    response_model=Envelope[ValidationOut],
    summary="Validate a Blueprint",
    operation_id="environments_validate",
    **documented(body=VALIDATE_BODY, audit=NOTHING),
)
async def validate(
    request: Request,
    state: State,
    actor: Viewer,
    name: Name = None,
    plan: Plan = None,
    key: UnneededKey = None,  # noqa: ARG001
) -> Response:
    """Say all that is wrong with a Blueprint, and what could be better. Writes nothing."""
    found = await read_blueprint_request(request, _VALIDATE, name=name, plan=plan)
    return answer(request, await validation.validate(state, actor.organization_id, found))


@router.post(
    "/import",
    response_model=Envelope[ImportOut],
    summary="Turn a Compose file into a Blueprint",
    operation_id="environments_import",
    **documented(
        FailureKind.BLUEPRINT_INVALID, *_ACCEPT_PROBLEMS, body=COMPOSE_BODY, audit="environment.create"
    ),
)
async def import_compose(
    request: Request, state: State, actor: Developer, key: IdempotencyKey = None, wait: Wait = 0
) -> Response:
    """The Blueprint, and what could not be carried over; with `create` the environment too (202)."""
    return await importing.import_compose(Caller(request, state, actor, key), wait)


@router.get(
    "/{id}",
    response_model=Envelope[EnvironmentOut],
    summary="Get one environment",
    operation_id="environments_get",
    **documented(shown=True),
)
async def get(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    if_none_match: IfNoneMatchHeader = None,
) -> Response:
    """The environment, with what the cluster says about its services."""
    found = await service.get(state, actor.organization_id, environment_id)
    return answer_tagged(request, found, entity_tag(found.version, found), if_none_match)


@router.patch(
    "/{id}",
    response_model=Envelope[EnvironmentOut],
    summary="Change an environment's settings",
    operation_id="environments_change",
    **documented(
        FailureKind.CONFLICT, body=SETTINGS_BODY, conditional=True, audit="environment.update_settings"
    ),
)
async def change(request: Request, state: State, actor: Developer, environment_id: Id) -> Response:
    """Settings only: nothing in the cluster changes, and no operation is made.

    What is not named stays as it is. A rename is for people: namespace, objects and workflows keep the
    name that the environment was created with.
    """
    wanted = validated(ChangeEnvironment, await read_document(request, allow_yaml=False))
    outcome = await service.change(Caller(request, state, actor), environment_id, wanted)
    return answer_outcome(request, outcome)


@router.delete(
    "/{id}",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Delete an environment",
    operation_id="environments_delete",
    **documented(
        FailureKind.CONFLICT, conditional=True, audit=("environment.delete", "environment.force_delete")
    ),
)
async def delete(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    force: Annotated[
        bool,
        Query(
            description="Take off foreign finalizers that hold the deletion up, also of one that runs already"
        ),
    ] = False,
    wait: Wait = 0,
) -> Response:
    """Cancel what runs, then delete. A second request answers the deletion that runs already."""
    outcome = await service.delete(Caller(request, state, actor), environment_id, force=force)
    return await answer_accepted(request, state, outcome, wait)


@router.post(
    "/{id}/retry",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Retry provisioning after a failure, or repair what is degraded",
    operation_id="environments_retry",
    **documented(*_ACCEPT_PROBLEMS, conditional=True, audit="environment.retry"),
)
async def retry(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """Go on from where the last operation stood: steps that succeeded and did not change are skipped.

    After an operation that succeeded it is accepted while the environment is degraded, and skips nothing:
    what is missing is made again, a deleted namespace included. Data that went with it does not come back.
    """
    outcome = await service.retry(Caller(request, state, actor, key), environment_id)
    return await answer_accepted(request, state, outcome, wait)


@router.get(
    "/{id}/status",
    response_model=Envelope[StatusOut],
    summary="Get the live status of an environment and its services",
    operation_id="environments_status",
    **documented(shown=True),
)
async def status(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    if_none_match: IfNoneMatchHeader = None,
) -> Response:
    """Read from the cluster, at most once in two seconds.

    304: it was looked at again (`observedAt`), and nothing else is different.
    """
    found = await state.live.status(actor.organization_id, environment_id)
    tag = entity_tag(found.version, found, without=frozenset({"observed_at"}))
    return answer_tagged(request, found, tag, if_none_match)


@router.get(
    "/{id}/logs",
    response_model=ListEnvelope[LogEntry],
    summary="Fetch recent log lines of an environment's services",
    operation_id="environments_logs",
    **documented(FailureKind.CLUSTER_UNAVAILABLE),
)
async def get_logs(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    selection: Annotated[logs.Selection, Query()],
) -> Response:
    """Lines of all pods by time; with `Accept: application/x-ndjson` one JSON object per line.

    Known secret values are replaced.
    """
    return await logs.answer_logs(request, state, actor.organization_id, environment_id, selection)


@router.get(
    "/{id}/topology",
    response_model=Envelope[TopologyOut],
    summary="Get the graph of services",
    operation_id="environments_topology",
    **documented(),
)
async def get_topology(request: Request, state: State, actor: Viewer, environment_id: Id) -> Response:
    """Services, what waits for what, and what is reached from outside."""
    return answer(request, await topology.topology(state, actor.organization_id, environment_id))


@router.get(
    "/{id}/events",
    response_class=Response,
    summary="Follow an environment's events (SSE)",
    operation_id="environments_events",
    **documented(stream=True),
)
async def events(
    state: State, actor: Viewer, environment_id: Id, last_event_id: LastEventId = None, after: After = None
) -> Response:
    """Every change of its operations and their steps, from the number given on; does not end by itself.

    As a WebSocket: `/v1/environments/{id}/progress`, see docs/streams.md.
    """
    record = await service.known_environment(state, actor.organization_id, environment_id)
    return event_stream(
        state,
        actor,
        record.id,
        start_after(last_event_id, after),
        wanted=lambda _: True,
        last=lambda _: False,
        known=record.last_event,
    )
