"""Stubs: what stands in for a service, made from its interface."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import yaml
from fastapi import APIRouter, Request, Response
from pydantic import JsonValue

from api.auth import Developer
from api.bodies import read_document
from api.documentation import NOTHING, documented, json_body
from api.envelope import Envelope, answer
from api.environments.documents import parse_text, validated
from api.idempotency import UnneededKey
from api.problems import ProblemError, ProblemField, RequestProblem
from api.stubs.schemas import GenerateStub, StubOut, StubRouteOut, StubUnsupported
from workflows.domain.blueprint_models import MockMode
from workflows.domain.stubs import (
    DEFINITION_FILE,
    Recorded,
    StubDefinition,
    StubInvalid,
    from_openapi,
    from_recordings,
)

router = APIRouter(prefix="/v1/stubs", tags=["stubs"])

_EXAMPLES: Final[dict[str, Any]] = {
    "recorded": {
        "service": "prices",
        "examples": [{"method": "GET", "path": "/prices/1", "status": 200, "body": {"cents": 890}}],
    },
    "openapi": {
        "service": "prices",
        "openapi": {
            "openapi": "3.1.0",
            "info": {"title": "Prices", "version": "1"},
            "paths": {"/prices/{id}": {"get": {"responses": {"200": {"description": "A price"}}}}},
        },
    },
}


@router.post(
    "/generate",
    response_model=Envelope[StubOut],
    summary="Generate a stub of a service",
    operation_id="stubs_generate",
    **documented(body=json_body(GenerateStub, _EXAMPLES), audit=NOTHING),
)
async def generate(request: Request, actor: Developer, key: UnneededKey = None) -> Response:  # noqa: ARG001
    """From an OpenAPI document or recorded examples; the same input gives the same stub. Writes nothing."""
    wish = validated(GenerateStub, await read_document(request))
    if (wish.openapi is None) == (not wish.examples):
        raise _invalid("openapi", "give either an OpenAPI document or examples")
    source: Any = wish.openapi
    if isinstance(source, str):
        source = await parse_text(source, field="openapi")
    field = "openapi" if wish.openapi is not None else "examples"
    try:
        definition = await asyncio.to_thread(_define, wish, source)
    except StubInvalid as error:
        raise _invalid(field, str(error)) from error
    return answer(request, _out(wish, definition))


def _define(wish: GenerateStub, source: Any) -> StubDefinition:
    if source is not None:
        return from_openapi(source, port=wish.port)
    recorded = [Recorded.model_validate(each.model_dump()) for each in wish.examples]
    return from_recordings(recorded, port=wish.port)


def _invalid(field: str, message: str) -> ProblemError:
    return ProblemError(
        RequestProblem.VALIDATION_FAILED,
        "No stub can be made of this.",
        errors=[ProblemField(path=field, message=message)],
    )


def _out(wish: GenerateStub, definition: StubDefinition) -> StubOut:
    ports: list[JsonValue] = [{"containerPort": wish.port, "name": "stub"}]
    mock: dict[str, JsonValue] = {
        "mode": wish.mode.value,
        "image": wish.image,
        "ports": ports,
        "files": {DEFINITION_FILE: definition.rendered()},
    }
    service: dict[str, JsonValue] = {"name": wish.service, "image": wish.image}
    if wish.mode is MockMode.MIRROR:
        # What is copied are the requests to a port of the service's own that is known to speak HTTP.
        service["ports"] = [{"containerPort": wish.port, "name": "http"}]
    service["mock"] = mock
    return StubOut(
        port=definition.port,
        routes=[StubRouteOut.model_validate(each.model_dump()) for each in definition.routes],
        unsupported=[StubUnsupported.model_validate(each.model_dump()) for each in definition.unsupported],
        mock=mock,
        service=service,
        yaml=yaml.safe_dump([service], sort_keys=False, allow_unicode=True, width=100),
    )
