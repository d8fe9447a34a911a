"""Templates as the API takes and answers them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, JsonValue, StrictBool, StrictInt, StrictStr

from api.envelope import ApiInput, ApiModel
from api.environments.schemas import EnvironmentOut
from api.problems import ProblemField
from workflows.domain.templates import LONGEST_TEXT, ParameterType

_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
_PARAMETER = r"^[A-Za-z][A-Za-z0-9_-]*$"
Value = StrictBool | StrictInt | StrictStr


class TemplateSource(StrEnum):
    """Where a template comes from; a bundled one cannot be changed."""

    BUNDLED = "bundled"
    ORGANIZATION = "organization"


class ParameterIn(ApiInput):
    """One parameter of a template."""

    name: str = Field(pattern=_PARAMETER, max_length=63)
    description: str = Field(default="", max_length=LONGEST_TEXT)
    type: ParameterType = ParameterType.STRING
    default: Value | None = None
    required: bool = False
    pattern: str | None = Field(default=None, max_length=200, description="Has to match a whole string")
    values: list[str] = Field(default=[], max_length=100, description="Of an enum")


class TemplateIn(ApiInput):
    """What a template is created or replaced with."""

    name: str = Field(pattern=_NAME, max_length=40)
    description: str = Field(default="", max_length=LONGEST_TEXT)
    parameters: list[ParameterIn] = Field(default=[], max_length=100)
    blueprint: dict[str, Any] | str = Field(
        description="A Blueprint, or its text, with `${{ parameter }}` in values"
    )


class InstantiateTemplate(ApiInput):
    """What `POST /templates/{id}/instantiate` is sent."""

    parameters: dict[str, Value] = Field(default={}, max_length=100)
    name: str | None = Field(default=None, max_length=100, description="Name of the environment")
    plan: str | None = Field(default=None, max_length=100)
    create: bool = Field(default=False, description="Create the environment at once")


class ParameterOut(ApiModel):
    """One parameter of a template."""

    name: str
    description: str
    type: ParameterType
    default: str | int | bool | None = None
    required: bool
    pattern: str | None = None
    values: list[str]


class TemplateOut(ApiModel):
    """A template."""

    id: str
    name: str
    description: str
    source: TemplateSource
    parameters: list[ParameterOut]
    blueprint: dict[str, JsonValue]
    created_by: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class InstantiationOut(ApiModel):
    """What became of a template."""

    blueprint: dict[str, JsonValue] = Field(
        description="With `create`: secrets that were given as values are left out"
    )
    yaml: str = Field(description="The same as YAML text")
    warnings: list[ProblemField]
    environment: EnvironmentOut | None = Field(default=None, description="With `create`: the new environment")
