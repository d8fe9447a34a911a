"""Seeds as the API takes and answers them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StrictStr

from api.envelope import ApiInput, ApiModel
from api.templates.schemas import ParameterIn, ParameterOut, Value
from workflows.domain.seeds import LONGEST_SCRIPT, SeedType
from workflows.domain.templates import LONGEST_TEXT

_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_Variable = Annotated[str, Field(pattern=VARIABLE, max_length=63)]
_Word = Annotated[StrictStr, Field(max_length=32_768, pattern=r"^[^\x00]*$")]


class SeedParameterIn(ParameterIn):
    """One parameter of a seed package."""

    name: str = Field(pattern=VARIABLE, max_length=63)
    secret: bool = Field(default=False, description="Its value names a secret that the environment uses")


class _SeedIn(ApiInput):
    """What a seed does."""

    type: SeedType
    script: str | None = Field(
        default=None, max_length=LONGEST_SCRIPT, description="SQL or shell; `job` has none"
    )
    image: str | None = Field(default=None, max_length=1024, description="Of a `job`")
    command: list[_Word] = Field(default=[], max_length=100, description="Of a `job`")
    args: list[_Word] = Field(default=[], max_length=100, description="Of a `job`")


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
