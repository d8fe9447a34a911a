"""Routes of templates: Blueprints with parameters, bundled ones and the organisation's own."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from api.auth import Developer, Viewer
from api.deferred import Wait
from api.documentation import REPEAT_PROBLEMS, documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.environments.service import Caller
from api.idempotency import IdempotencyKey
from api.parameters import DEFAULT_LIMIT, Cursor, Id, Limit
from api.state import State
from api.templates import service
from api.templates.schemas import InstantiateTemplate, InstantiationOut, TemplateIn, TemplateOut
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/templates", tags=["templates"])

_TEMPLATE: Final[dict[str, Any]] = {
    "web": {
        "name": "web",
        "parameters": [{"name": "tag", "type": "string", "required": True, "pattern": "[a-z0-9.-]+"}],
        "blueprint": {
            "name": "web",
            "services": [{"name": "web", "image": "ghcr.io/example/web:${{ tag }}"}],
        },
    }
}
_VALUES: Final[dict[str, Any]] = {
    "web": {"parameters": {"tag": "1.4.2"}, "name": "web-dev", "create": False},
}


@router.get(
    "",
    response_model=ListEnvelope[TemplateOut],
    summary="List templates",
    operation_id="templates_list",
    **documented(),
)
async def list_all(
    request: Request, state: State, actor: Viewer, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response:
    """The bundled ones, then the organisation's own, by name."""
    shaped, following = await service.find(state, actor.organization_id, limit=limit, cursor=cursor)
    return answer_list(request, shaped, following)


@router.post(
    "",
    status_code=201,
    response_model=Envelope[TemplateOut],
    summary="Create a template",
    operation_id="templates_create",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(TemplateIn, _TEMPLATE),
        audit="template.create",
    ),
)
async def create(request: Request, state: State, actor: Developer, key: IdempotencyKey = None) -> Response:
    """`${{ name }}` in a value of the Blueprint stands for a parameter."""
    return await service.create(Caller(request, state, actor, key))


@router.get(
    "/{id}",
    response_model=Envelope[TemplateOut],
    summary="Get one template",
    operation_id="templates_get",
    **documented(),
)
async def get(request: Request, state: State, actor: Viewer, template: Id) -> Response:
    """By id or by name."""
    return answer(request, await service.get(state, actor.organization_id, template))


@router.put(
    "/{id}",
    response_model=Envelope[TemplateOut],
    summary="Replace a template",
    operation_id="templates_update",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        FailureKind.CONFLICT,
        body=json_body(TemplateIn, _TEMPLATE),
        audit="template.update",
    ),
)
async def update(request: Request, state: State, actor: Developer, template: Id) -> Response:
    """Environments that were made of it stay as they are. Bundled ones cannot be replaced."""
    return await service.replace(Caller(request, state, actor), template)


@router.delete(
    "/{id}",
    response_model=Envelope[TemplateOut],
    summary="Delete a template",
    operation_id="templates_delete",
    **documented(FailureKind.CONFLICT, audit="template.delete"),
)
async def delete(request: Request, state: State, actor: Developer, template: Id) -> Response:
    """Environments that were made of it stay as they are. Bundled ones cannot be deleted."""
    return await service.delete(Caller(request, state, actor), template)


@router.post(
    "/{id}/instantiate",
    response_model=Envelope[InstantiationOut],
    summary="Make a Blueprint, or an environment, of a template",
    operation_id="templates_instantiate",
    **documented(
        FailureKind.BLUEPRINT_INVALID,
        FailureKind.CONFLICT,
        FailureKind.QUOTA_EXCEEDED,
        *REPEAT_PROBLEMS,
        body=json_body(InstantiateTemplate, _VALUES),
        audit="environment.create",
    ),
)
async def instantiate(
    request: Request, state: State, actor: Developer, template: Id, key: IdempotencyKey = None, wait: Wait = 0
) -> Response:
    """The Blueprint with the parameters' values; with `create` the environment too (202)."""
    return await service.make(Caller(request, state, actor, key), template, wait)
