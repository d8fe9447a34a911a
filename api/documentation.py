"""What OpenAPI says beyond the routes' own models: problem answers, request bodies, examples."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from fastapi import Depends
from fastapi.params import Depends as Dependency
from pydantic import BaseModel

from api.preconditions import if_match
from api.problems import ProblemKind, RequestProblem, responses
from api.queries import no_body, only_known_parameters
from workflows.domain.failures import FailureKind

_REFERENCE: Final = "#/components/schemas/"
_BODY_PROBLEMS: Final = (
    RequestProblem.MALFORMED_BODY,
    RequestProblem.CONTENT_TOO_LARGE,
    RequestProblem.UNSUPPORTED_MEDIA_TYPE,
    RequestProblem.REQUEST_TIMEOUT,
)
REPEAT_PROBLEMS: Final = (RequestProblem.IDEMPOTENCY_MISMATCH, RequestProblem.IDEMPOTENCY_USED)
"""Of a route that takes an idempotency key."""
NOTHING: Final = ()
"""The audit of a route that changes nothing."""


_CONFLICT: Final = responses(FailureKind.CONFLICT)[409]
_DELETED: Final[dict[int | str, dict[str, Any]]] = {
    410: {"description": "`conflict`: The environment was deleted", "content": _CONFLICT["content"]}
}


class Documentation(TypedDict):
    """Keyword arguments of a route."""

    dependencies: list[Dependency]
    responses: dict[int | str, dict[str, Any]]
    openapi_extra: dict[str, Any]


def documented(  # noqa: PLR0913 - one for each thing that a route may say of itself
    *kinds: ProblemKind,
    body: dict[str, Any] | None = None,
    ok: dict[str, Any] | None = None,
    stream: bool = False,
    open_to_all: bool = False,
    conditional: bool = False,
    deletable: bool = False,
    any_query: bool = False,
    audit: str | tuple[str, ...] | None = None,
    shown: bool = False,
) -> Documentation:
    """Declare a route's problems, and its body (with what can be wrong with any) when it reads that itself.

    Unless it is `open_to_all`, a route may answer 401, 403, 404 and 429 as well. `stream`: it answers with
    events. `ok`: the success of a route without a model. `shown`: it shows an environment, with an `ETag`.
    `conditional`: it changes the environment `{id}` in a transaction that checks `If-Match`; like one that is
    `deletable` it answers 410 once the environment was deleted. `any_query`: it takes query parameters
    and bodies that it does not declare. `audit`: the action of the entry that a success writes, one of these
    if there are several; `NOTHING` for a route that changes nothing. Whatever is no GET has to say it.
    """
    always: tuple[ProblemKind, ...] = (RequestProblem.VALIDATION_FAILED, RequestProblem.UNAVAILABLE)
    guarded: tuple[ProblemKind, ...] = (
        RequestProblem.UNAUTHENTICATED,
        FailureKind.POLICY_DENIED,
        RequestProblem.NOT_FOUND,
        RequestProblem.RATE_LIMITED,
    )
    read = () if body is None else _BODY_PROBLEMS
    stale = (RequestProblem.PRECONDITION_FAILED,) if conditional else ()
    given = dict.fromkeys((*kinds, *stale, *read, *(always if open_to_all else (*always, *guarded))))
    extra: dict[str, Any] = {}
    if audit is not None:
        extra["x-audit"] = [audit] if isinstance(audit, str) else list(audit)
    if body is not None:
        extra["requestBody"] = body
    answers = responses(*given)
    if ok is not None:
        answers[200] = ok
    if conditional or deletable:
        answers |= _DELETED
    if shown:
        answers[304] = {"description": "`If-None-Match` has the tag of what would be answered"}
    if stream:
        answers[200] = {
            "description": "Server-sent events, see docs/streams.md: `id` to resume after, `data` JSON",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EVENT}},
        }
    dependencies = [] if any_query else [Depends(only_known_parameters)]
    if body is None and not any_query:
        dependencies.append(Depends(no_body))
    if conditional:
        dependencies.append(Depends(if_match))
    return {"dependencies": dependencies, "responses": answers, "openapi_extra": extra}


SETTINGS_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": _REFERENCE + "ChangeEnvironment"},
            "examples": {
                "some": {
                    "value": {"description": "for the demo", "labels": {"team": "shop"}, "ttlMinutes": 480}
                },
                "unprotect": {"value": {"protected": False, "ttlMinutes": None}},
            },
        }
    },
}


_EVENT: Final = (
    "id: 7\nevent: step\n"
    'data: {"number":7,"type":"step","environmentId":"env_01JZX5Q0V6H2M9K4T7B3C8D1EF",'
    '"operationId":"op_01JZX5Q1ABCDEFGHJKMNPQRSTV","at":"2026-01-01T12:00:00Z",'
    '"data":{"step":"service/web","state":"running","attempt":1}}\n\n'
)


def json_body(model: type[BaseModel], examples: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """Declare a JSON body that the route reads and checks itself."""
    return {"required": required, "content": {"application/json": _content(model.__name__, examples)}}


def _content(schema: str, examples: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": {"$ref": _REFERENCE + schema},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }


SHOP: Final[dict[str, Any]] = {
    "name": "shop",
    "services": [
        {
            "name": "web",
            "image": "ghcr.io/example/shop:1.4.2",
            "ports": [{"containerPort": 8080, "name": "http"}],
            "expose": True,
            "dependsOn": ["db"],
            "env": {"DATABASE_URL": "postgres://postgres:$(POSTGRES_PASSWORD)@db:5432/shop"},
            "probes": {"readiness": {"http": {"path": "/healthz", "port": 8080}}},
            "resources": {"limits": {"memory": "256Mi"}},
            "secrets": [{"name": "db-password", "envKey": "POSTGRES_PASSWORD", "value": "auto-generated"}],
        },
        {
            "name": "db",
            "image": "postgres:16",
            "ports": [{"containerPort": 5432}],
            "resources": {"limits": {"memory": "512Mi"}},
            "secrets": [{"name": "db-password", "envKey": "POSTGRES_PASSWORD", "value": "auto-generated"}],
            "volumes": [
                {"name": "data", "mountPath": "/var/lib/postgresql/data", "type": "pvc", "size": "5Gi"}
            ],
        },
    ],
}
_SHOP_YAML: Final = """\
name: shop
services:
  web:
    image: ghcr.io/example/shop:1.4.2
    ports: [{containerPort: 8080, name: http}]
    expose: true
    dependsOn: [db]
  db:
    image: postgres:16
    ports: [{containerPort: 5432}]
"""
_COMPOSE: Final = """\
services:
  web:
    build: .
    ports: ["8080:8080"]
    depends_on: {db: {condition: service_healthy}}
  db:
    image: postgres:16
    environment: {POSTGRES_PASSWORD: "${DB_PASSWORD:-example}"}
"""


def _blueprint_body(schema: str) -> dict[str, Any]:
    wrapped = {
        "document": {"blueprint": SHOP},
        "text": {"blueprint": _SHOP_YAML},
    }
    yaml_content = {
        "schema": {"type": "object", "description": "A Blueprint", "additionalProperties": True},
        "examples": {"blueprint": {"value": _SHOP_YAML}},
    }
    return {
        "required": True,
        "content": {"application/json": _content(schema, wrapped), "application/yaml": yaml_content},
    }


BLUEPRINT_BODY: Final = _blueprint_body("CreateEnvironment")
VALIDATE_BODY: Final = _blueprint_body("ValidateBlueprint")
UPDATE_BODY: Final = _blueprint_body("UpdateEnvironment")
COMPOSE_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": _content(
            "ImportCompose",
            {
                "text": {
                    "compose": _COMPOSE,
                    "name": "shop",
                    "images": {"web": "ghcr.io/example/shop:1.4.2"},
                    "create": False,
                }
            },
        )
    },
}
