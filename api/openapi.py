"""The OpenAPI document: FastAPI's, with the schemas, security and problems that its models do not show.

`python -m api.openapi` writes `openapi.json`; a test compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, APIWebSocketRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.discover.schemas import DiscoverBlueprint
from api.environments.schemas import (
    ChangeEnvironment,
    CloneEnvironment,
    CreateEnvironment,
    ExtendEnvironment,
    ImportCompose,
    RestartService,
    RollbackEnvironment,
    ScaleService,
    UpdateEnvironment,
    ValidateBlueprint,
)
from api.keys.schemas import CreateApiKey, CreatePrincipal
from api.methods import without_head
from api.operations.schemas import CancelOperation, EventOut
from api.organization_secrets.schemas import PutSecret
from api.problems import Problem
from api.registry_credentials.schemas import CreateRegistryCredential, ReplaceRegistryCredential
from api.replays.schemas import ReplayOperation
from api.revisions.schemas import CreateCheckpoint
from api.seeds.schemas import PublishSeed, RunSeed, RunSeedPackage
from api.shares.schemas import CreateShare
from api.snapshots.schemas import CreateSnapshot, PutSnapshotPolicy, RestoreSnapshot, VerifySnapshot
from api.stubs.schemas import GenerateStub
from api.templates.schemas import InstantiateTemplate, TemplateIn

FILE: Final = Path(__file__).parent.parent / "openapi.json"
_MODELS: Final[tuple[type[BaseModel], ...]] = (
    Problem,
    ChangeEnvironment,
    CreateEnvironment,
    UpdateEnvironment,
    RollbackEnvironment,
    CloneEnvironment,
    ScaleService,
    RestartService,
    ExtendEnvironment,
    CreateCheckpoint,
    CreatePrincipal,
    CreateApiKey,
    ValidateBlueprint,
    ImportCompose,
    CancelOperation,
    CreateRegistryCredential,
    ReplaceRegistryCredential,
    PutSecret,
    CreateShare,
    TemplateIn,
    InstantiateTemplate,
    RunSeed,
    PublishSeed,
    RunSeedPackage,
    CreateSnapshot,
    RestoreSnapshot,
    VerifySnapshot,
    PutSnapshotPolicy,
    ReplayOperation,
    GenerateStub,
    DiscoverBlueprint,
    EventOut,
)
SOCKET: Final = "WEBSOCKET"
"""Stands for the method of a route that is a WebSocket."""
_SCHEME: Final = "apiKey"
_OWN_ERROR_SCHEMAS: Final = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI) -> None:
    """Make the application answer this document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def build(app: FastAPI) -> dict[str, Any]:
    """Build the document."""
    schema = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=api_routes(app),
        openapi_version="3.1.0",
    )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _, extra = models_json_schema(
        [(model, "serialization") for model in _MODELS], ref_template="#/components/schemas/{model}"
    )
    schemas.update(extra["$defs"])
    for name in _OWN_ERROR_SCHEMAS:
        schemas.pop(name, None)
    components["securitySchemes"] = {
        _SCHEME: {"type": "http", "scheme": "bearer", "description": "An API key, `pdr_...`"}
    }
    roles = least_roles(app)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            _document_wait(operation)
            role = roles.get((method.upper(), path))
            if role is not None:
                operation["security"] = [{_SCHEME: []}]
                operation["x-least-role"] = role
    components["schemas"] = dict(sorted(schemas.items()))
    return schema


def _document_wait(operation: dict[str, Any]) -> None:
    """Who may wait for the end of what was accepted is answered 202 before it, and 200 when it is over."""
    if not any(each["name"] == "wait" for each in operation.get("parameters", ())):
        return
    responses = operation["responses"]
    content = responses["202" if "202" in responses else "200"]["content"]
    said = {
        "200": {"description": "With `wait`: it is over; or nothing was to be done", "content": content},
        "202": {"description": "Accepted", "content": content},
    }
    operation["responses"] = dict(sorted({**said, **responses}.items()))


def least_roles(app: FastAPI) -> dict[tuple[str, str], str | None]:
    """The least role of every route, WebSockets' too, by method and path; None for those open to all."""
    roles: dict[tuple[str, str], str | None] = {}
    sockets = [route for route in app.routes if isinstance(route, APIWebSocketRoute)]
    routes: list[APIRoute | APIWebSocketRoute] = [*api_routes(app), *sockets]
    for route in routes:
        role = next(
            (
                str(found)
                for dependant in route.dependant.dependencies
                if (found := getattr(dependant.call, "least_role", None)) is not None
            ),
            None,
        )
        methods = {SOCKET} if isinstance(route, APIWebSocketRoute) else route.methods or ()
        for method in methods:
            roles[method, route.path_format] = role
    return roles


def api_routes(app: FastAPI) -> list[APIRoute]:
    """All routes of the application with their full paths, and the methods that the document has."""
    return [without_head(route) for route in app.routes if isinstance(route, APIRoute)]


def rendered() -> str:
    """The document as `openapi.json` holds it."""
    from api.app import create_app  # noqa: PLC0415 - the application installs this module
    from api.settings import ApiSettings  # noqa: PLC0415

    return json.dumps(build(create_app(ApiSettings.model_construct())), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write `openapi.json`."""
    FILE.write_text(rendered())
    sys.stdout.write(f"wrote {FILE.name}\n")


if __name__ == "__main__":
    main()
