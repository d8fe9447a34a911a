"""A discovery as the API takes and answers it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from api.envelope import ApiInput, ApiModel
from api.environments.schemas import UnsupportedOut
from api.problems import ProblemField
from workflows.domain.discover_files import LONGEST_PATH, MOST_FILES
from workflows.domain.discover_report import NoteKind, Severity, SourceKind


class RepositoryIn(ApiInput):
    """A public Git repository."""

    url: str = Field(max_length=1_000, description="https, without credentials")
    ref: str | None = Field(
        default=None,
        max_length=250,
        description="Branch, tag or whole commit id; absent: the default branch",
    )
    path: str | None = Field(
        default=None,
        max_length=LONGEST_PATH,
        description="A directory of it, or the one file to make it from",
    )


class FileIn(ApiInput):
    """One file."""

    path: Annotated[str, Field(min_length=1, max_length=LONGEST_PATH)] = Field(
        description="With `/`, relative to the root of the project"
    )
    content: str


class DiscoverBlueprint(ApiInput):
    """What `POST /environments/discover` is sent: a repository, or files."""

    repository: RepositoryIn | None = None
    files: list[FileIn] | None = Field(default=None, min_length=1, max_length=MOST_FILES)
    name: str | None = Field(
        default=None,
        description="Name of the environment; else that of the Compose project, `project` or repository",
    )
    project: str | None = Field(
        default=None, max_length=250, description="What the project is called, if its files do not say it"
    )
    kind: SourceKind | None = Field(
        default=None,
        description="Which kind to take: `compose`, `kubernetes` or `dockerfile`; absent: the first there is",
    )
    images: dict[str, str] = Field(default={}, description="By service: image of those that have none")
    variables: dict[str, str] = Field(default={}, description="Values for `${...}` in a Compose file")
    profiles: list[str] = Field(default=[], description="Compose profiles that are switched on")


class DiscoverNote(ApiModel):
    """One remark on what was found."""

    file: str = Field(description="Empty: about all files")
    path: str = Field(description="Place in the file; empty: all of it")
    kind: NoteKind
    severity: Severity
    message: str


class DiscoverUnsupported(UnsupportedOut):
    """One thing that the Blueprint does not hold; without a path the whole file."""

    file: str


class DiscoverFault(ProblemField):
    """What keeps the Blueprint from being created."""

    file: str = Field(default="", description="Empty: `path` is a place of the Blueprint")


class DiscoverSource(ApiModel):
    """One file that describes services."""

    path: str
    kind: SourceKind
    used: bool = Field(description="Whether the Blueprint was made from it")


class DiscoverOut(ApiModel):
    """What was found, as a Blueprint."""

    valid: bool = Field(description="Whether an environment can be created from the Blueprint as it stands")
    blueprint: dict[str, JsonValue] | None = Field(
        default=None, description="Absent when nothing was found; not complete when there are errors"
    )
    yaml: str | None = Field(default=None, description="The same as YAML text")
    errors: list[DiscoverFault]
    warnings: list[ProblemField] = Field(description="Findings of the quality gate, when it is valid")
    notes: list[DiscoverNote]
    unsupported: list[DiscoverUnsupported]
    sources: list[DiscoverSource]
    commit: str | None = Field(default=None, description="The commit of the repository that was read")
