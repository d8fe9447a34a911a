"""Routes that change an environment that is there. Static segments come before `{id}`."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel

from activities.db.acceptance import Wanted
from api.auth import Developer
from api.bodies import read_document
from api.deferred import Wait
from api.documentation import REPEAT_PROBLEMS, UPDATE_BODY, documented, json_body
from api.envelope import Envelope, answer
from api.environments import lifecycle
from api.environments.answers import answer_environment
from api.environments.documents import blueprint_invalid, blueprint_of, read_blueprint_request, validated
from api.environments.schemas import (
    CloneEnvironment,
    EnvironmentOut,
    ExtendEnvironment,
    RestartService,
    RollbackEnvironment,
    ScaleService,
    UpdateOut,
)
from api.environments.service import Caller
from api.idempotency import IdempotencyKey, Outcome, Replayed, answer_outcome
from api.operations.answers import answer_accepted
from api.operations.schemas import OperationOut
from api.parameters import Id
from api.problems import ProblemError, ProblemField, RequestProblem
from api.state import AppState, State
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/environments", tags=["environments"])

DryRun = Annotated[bool, Query(alias="dry_run", description="Only say what the update would do")]
Plan = Annotated[str | None, Query(max_length=100, description="Which of the Blueprint's plans to apply")]
Message = Annotated[str | None, Query(max_length=500, description="Why, as in the wrapper")]


class Choices:
    """What the query says beside a body that is a Blueprint."""

    def __init__(self, plan: Plan = None, message: Message = None) -> None:
        self.plan = plan
        self.message = message


_UPDATE: Final = frozenset({"blueprint", "plan", "message", "onFailure"})
_CHANGES: Final = (FailureKind.CONFLICT, *REPEAT_PROBLEMS)


def _body(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    return json_body(model, {"example": example})


@router.put(
    "/by-name/{name}",
    status_code=202,
    response_model=Envelope[OperationOut | UpdateOut],
    summary="Create the environment of this name, or update it",
    operation_id="environments_put_by_name",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        FailureKind.QUOTA_EXCEEDED,
        *_CHANGES,
        body=UPDATE_BODY,
        conditional=True,
        audit=("environment.create", "environment.update"),
    ),
)
async def put_by_name(
    request: Request,
    state: State,
    actor: Developer,
    name: Annotated[str, Path(max_length=100)],
    choices: Annotated[Choices, Depends()],
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """For a pipeline: the same call for the first time and for every later one.

    202 with the operation that brings the environment there; 200 with `noop: true` when it is so already. A
    stopped environment runs afterwards.
    """
    wanted = await _wanted(request, state, name=name, choices=choices)
    outcome = await lifecycle.create_or_update(Caller(request, state, actor, key), wanted)
    return await _answer_update(request, state, outcome, wait)


@router.put(
    "/{id}/blueprint",
    status_code=202,
    response_model=Envelope[OperationOut | UpdateOut],
    summary="Update an environment to another Blueprint",
    operation_id="environments_update",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        FailureKind.QUOTA_EXCEEDED,
        *_CHANGES,
        body=UPDATE_BODY,
        conditional=True,
        audit="environment.update",
    ),
)
async def update(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    choices: Annotated[Choices, Depends()],
    dry_run: DryRun = False,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """A new revision: what changes is rolled in dependency order, what goes is removed last.

    When a service does not become ready, all goes back to the revision before. 200 without an operation for a
    dry run, and with `noop: true` when nothing changes.
    """
    wanted = await _wanted(request, state, name=None, choices=choices)
    caller = Caller(request, state, actor, key)
    if dry_run:
        return answer(request, await lifecycle.preview(caller, environment_id, wanted))
    return await _answer_update(request, state, await lifecycle.update(caller, environment_id, wanted), wait)


@router.post(
    "/{id}/rollback",
    status_code=202,
    response_model=Envelope[OperationOut | UpdateOut],
    summary="Go back to an earlier revision or a checkpoint",
    operation_id="environments_rollback",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        FailureKind.QUOTA_EXCEEDED,
        *_CHANGES,
        body=_body(RollbackEnvironment, {"revision": 3}),
        conditional=True,
        audit="environment.rollback",
    ),
)
async def rollback(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """An update to what that revision was, with the secrets that it had: history is never rewritten.

    When a service does not become ready, all goes back to where it came from, unless `onFailure` is `keep`.
    """
    target = validated(RollbackEnvironment, await read_document(request, allow_yaml=False))
    if (target.revision is None) == (target.checkpoint is None):
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "The body names no target, or two.",
            errors=[ProblemField(path="revision", message="give either revision or checkpoint")],
        )
    outcome = await lifecycle.rollback(
        Caller(request, state, actor, key),
        environment_id,
        revision=target.revision,
        checkpoint=target.checkpoint,
        on_failure=target.on_failure,
    )
    return await _answer_update(request, state, outcome, wait)


@router.post(
    "/{id}/clone",
    status_code=202,
    response_model=Envelope[EnvironmentOut],
    summary="Create another environment of the same Blueprint",
    operation_id="environments_clone",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        FailureKind.QUOTA_EXCEEDED,
        *_CHANGES,
        body=_body(CloneEnvironment, {"name": "shop-2"}),
        deletable=True,
        audit="environment.create",
    ),
)
async def clone(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """Its current revision and scaling; generated secrets are made anew, and data is not copied."""
    target = validated(CloneEnvironment, await read_document(request, allow_yaml=False))
    outcome = await lifecycle.clone(Caller(request, state, actor, key), environment_id, target.name)
    return await answer_environment(request, state, actor, outcome, wait)


@router.post(
    "/{id}/stop",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Stop an environment",
    operation_id="environments_stop",
    **documented(*_CHANGES, conditional=True, audit="environment.stop"),
)
async def stop(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """No pods any more, dependants first; volumes, replicas and secrets stay. A protected one is refused."""
    outcome = await lifecycle.stop(Caller(request, state, actor, key), environment_id)
    return await answer_accepted(request, state, outcome, wait)


@router.post(
    "/{id}/resume",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Resume a stopped environment",
    operation_id="environments_resume",
    **documented(*_CHANGES, conditional=True, audit="environment.resume"),
)
async def resume(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """As it was before the stop, in the order of its dependencies."""
    outcome = await lifecycle.resume(Caller(request, state, actor, key), environment_id)
    return await answer_accepted(request, state, outcome, wait)


@router.patch(
    "/{id}/scale",
    status_code=202,
    response_model=Envelope[OperationOut | UpdateOut],
    summary="Scale one service",
    operation_id="environments_scale",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        FailureKind.QUOTA_EXCEEDED,
        *_CHANGES,
        body=_body(ScaleService, {"service": "web", "replicas": 3}),
        conditional=True,
        audit="environment.scale",
    ),
)
async def scale(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """Kept over updates and stops until it is scaled again; taken back when the pods do not become ready.

    200 with `noop: true` and no operation when the service has that number already.
    """
    target = validated(ScaleService, await read_document(request, allow_yaml=False))
    caller = Caller(request, state, actor, key)
    outcome = await lifecycle.scale(caller, environment_id, target.service, target.replicas)
    return await _answer_update(request, state, outcome, wait)


@router.post(
    "/{id}/restart",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Restart one service",
    operation_id="environments_restart",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        *_CHANGES,
        body=_body(RestartService, {"service": "web"}),
        conditional=True,
        audit="environment.restart",
    ),
)
async def restart(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """New pods of the same template, rolled like an update."""
    target = validated(RestartService, await read_document(request, allow_yaml=False))
    outcome = await lifecycle.restart(Caller(request, state, actor, key), environment_id, target.service)
    return await answer_accepted(request, state, outcome, wait)


@router.post(
    "/{id}/extend",
    response_model=Envelope[EnvironmentOut],
    summary="Put off an environment's end",
    operation_id="environments_extend",
    **documented(
        *_CHANGES,
        body=_body(ExtendEnvironment, {"minutes": 240}),
        conditional=True,
        audit="environment.extend",
    ),
)
async def extend(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
) -> Response:
    """Its expiry by so many minutes, from now when it is past; for a shutdown it counts as used now."""
    wanted = validated(ExtendEnvironment, await read_document(request, allow_yaml=False))
    caller = Caller(request, state, actor, key)
    return answer_outcome(request, await lifecycle.extend(caller, environment_id, wanted.minutes))


async def _wanted(
    request: Request,
    state: AppState,
    *,
    name: str | None,
    choices: Choices,
) -> Wanted:
    """Read what the environment is to become. Raises ProblemError with every fault."""
    found = await read_blueprint_request(request, _UPDATE, name=name, plan=choices.plan)
    blueprint, faults = await blueprint_of(found)
    if blueprint is None:
        raise blueprint_invalid(faults)
    return Wanted(
        blueprint,
        message=found.message or choices.message or "",
        plan=found.plan,
        on_failure=found.on_failure,
        keep=state.settings.keep_revisions,
    )


async def _answer_update(
    request: Request, state: AppState, outcome: lifecycle.Created | Replayed, wait: int
) -> Response:
    """Answer 202 with the operation, or 200 when there is none or its end was waited for."""
    if isinstance(outcome, Replayed) or outcome.result is None:
        return answer_outcome(request, outcome)
    accepted = Outcome(outcome.result, outcome.status, outcome.data, outcome.headers)
    return await answer_accepted(request, state, accepted, wait)
