"""Seeds as the API takes and answers them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, JsonValue, StrictStr

from api.envelope import ApiInput, ApiModel
from api.templates.schemas import ParameterIn, ParameterOut, Value
from workflows.domain.seeds import LONGEST_SCRIPT, SeedType
from workflows.domain.seeds_http import (
    LONGEST_ANSWER_SECONDS,
    LONGEST_BODY,
    LONGEST_HEADER,
    MOST_HEADERS,
    HttpMethod,
)
from workflows.domain.templates import LONGEST_TEXT

_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_Variable = Annotated[str, Field(pattern=VARIABLE, max_length=63)]
_Word = Annotated[StrictStr, Field(max_length=32_768, pattern=r"^[^\x00]*$")]


class SeedParameterIn(ParameterIn):
    """One parameter of a seed package."""

    name: str = Field(pattern=VARIABLE, max_length=63)
    secret: bool = Field(default=False, description="Its value names a secret that the environment uses")


class SeedHttpIn(ApiInput):
    """The request of a seed of type `http`, to the service itself."""

    method: HttpMethod = HttpMethod.POST
    path: str = Field(
        min_length=1, max_length=LONGEST_HEADER, description="With its query; `${{ name }}` is encoded"
    )
    port: (
        Annotated[int, Field(ge=1, le=65_535)] | Annotated[str, Field(min_length=1, max_length=15)] | None
    ) = Field(default=None, description="Number or name of a declared port; the exposed or first if absent")
    headers: dict[
        Annotated[str, Field(min_length=1, max_length=100)], Annotated[str, Field(max_length=LONGEST_HEADER)]
    ] = Field(default={}, max_length=MOST_HEADERS)
    body: JsonValue = Field(default=None, description="A document; it is sent as JSON")
    text: str | None = Field(
        default=None, max_length=LONGEST_BODY, description="A body that is sent as it is written"
    )
    expect: list[Annotated[int, Field(ge=200, le=499)]] = Field(
        default=[], max_length=20, description="Status codes of success; every 2xx if empty"
    )
    idempotent: bool | None = Field(
        default=None,
        description="Whether it may be sent again when it has had no answer, with the same Idempotency-Key; "
        "if absent, PUT and DELETE may",
    )
    timeout_seconds: int = Field(default=30, ge=1, le=LONGEST_ANSWER_SECONDS)


class _SeedIn(ApiInput):
    """What a seed does."""

    type: SeedType
    script: str | None = Field(default=None, max_length=LONGEST_SCRIPT, description="Of `sql` and `shell`")
    image: str | None = Field(default=None, max_length=1024, description="Of a `job`")
    command: list[_Word] = Field(default=[], max_length=100, description="Of a `job`")
    args: list[_Word] = Field(default=[], max_length=100, description="Of a `job`")
    http: SeedHttpIn | None = Field(default=None, description="Of `http`")


class PublishSeed(_SeedIn):
    """What a seed package is published with; a version never changes."""

    name: str = Field(pattern=_NAME, max_length=40)
    version: str = Field(max_length=100, description="A semantic version without build metadata")
    description: str = Field(default="", max_length=LONGEST_TEXT)
    service: str | None = Field(
        default=None, min_length=1, max_length=63, description="Against which service, when a run names none"
    )
    parameters: list[SeedParameterIn] = Field(default=[], max_length=100)


class RunSeed(_SeedIn):
    """What `POST /environments/{id}/seed` is sent: a seed of its own."""

    service: str = Field(min_length=1, max_length=63, description="Against which service it runs")
    secrets: dict[_Variable, Annotated[str, Field(max_length=253)]] = Field(
        default={}, max_length=100, description="By parameter: name of a secret that the environment uses"
    )
    force: bool = Field(default=False, description="Run it although it has run before")


class RunSeedPackage(ApiInput):
    """What `POST /seeds/run/{name}/{environmentId}` is sent."""

    version: str | None = Field(default=None, max_length=100, description="The newest release if absent")
    service: str | None = Field(default=None, min_length=1, max_length=63)
    parameters: dict[str, Value] = Field(default={}, max_length=100)
    force: bool = Field(default=False, description="Run it although it has run before")


class SeedParameterOut(ParameterOut):
    """One parameter of a seed package."""

    secret: bool


class SeedHttpOut(ApiModel):
    """The request of a seed of type `http`."""

    method: HttpMethod
    path: str
    port: int | str | None = None
    headers: dict[str, str]
    body: JsonValue = None
    text: str | None = None
    expect: list[int]
    idempotent: bool | None = None
    timeout_seconds: int


class SeedPackageOut(ApiModel):
    """One version of a seed package, without what it runs."""

    id: str
    name: str
    version: str
    description: str
    digest: str = Field(examples=["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"])
    type: SeedType
    service: str | None = None
    parameters: list[SeedParameterOut]
    created_by: str
    created_at: datetime


class SeedOut(SeedPackageOut):
    """One version of a seed package with what it runs."""

    script: str | None = None
    image: str | None = None
    command: list[str]
    args: list[str]
    http: SeedHttpOut | None = None
