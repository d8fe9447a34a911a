"""Stubs as the API takes and answers them."""

from __future__ import annotations

from typing import Any

from pydantic import Field, JsonValue

from api.envelope import ApiInput, ApiModel
from workflows.domain.blueprint_models import MockMode

DEFAULT_IMAGE = "10.111.0.1:5000/perdure/stub:1"


class RecordedExample(ApiInput):
    """One recorded request with its answer."""

    method: str = Field(default="GET", pattern=r"^[A-Za-z]{3,10}$")
    path: str = Field(min_length=1, max_length=2_000, description="With its query, if there was one")
    status: int = Field(default=200, ge=200, le=599)
    headers: dict[str, str] = Field(default={}, max_length=50)
    body: JsonValue = Field(default=None, description="JSON, or text as it was sent")


class GenerateStub(ApiInput):
    """What `POST /stubs/generate` is sent: an OpenAPI document, or examples."""

    service: str = Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=48)
    openapi: dict[str, Any] | str | None = Field(
        default=None, description="OpenAPI 3.0 or 3.1: the document, or its text in JSON or YAML"
    )
    examples: list[RecordedExample] = Field(default=[], max_length=1_000)
    port: int = Field(default=8080, ge=1, le=65535)
    mode: MockMode = MockMode.REPLACE
    image: str = Field(default=DEFAULT_IMAGE, max_length=512, description="Image of the stub server")


class StubRouteOut(ApiModel):
    """One canned answer."""

    method: str
    path: str
    query: dict[str, str]
    status: int
    headers: dict[str, str]
    body: str


class StubUnsupported(ApiModel):
    """Something of the input that the stub does not do."""

    path: str
    reason: str


class StubOut(ApiModel):
    """A stub, and what of a Blueprint serves it."""

    port: int
    routes: list[StubRouteOut]
    unsupported: list[StubUnsupported]
    mock: dict[str, JsonValue] = Field(description="For `mock` of the service")
    service: dict[str, JsonValue] = Field(description="A whole service with that mock")
    yaml: str = Field(description="The service as YAML text")
