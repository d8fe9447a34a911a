"""Revisions, their differences and their names, as the API answers them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, JsonValue

from api.envelope import ApiInput, ApiModel
from api.operations.schemas import ServiceChangeOut
from api.parameters import LAST_REVISION


class RevisionOut(ApiModel):
    """One accepted Blueprint of an environment. `changes`: from its parent; absent when that was pruned."""

    number: int
    parent: int | None = None
    message: str
    current: bool
    checkpoints: list[str] = []
    created_at: datetime
    created_by: str
    changes: list[ServiceChangeOut] | None = None


class RevisionDetailOut(RevisionOut):
    """A revision with its Blueprint; secrets that were written out are references."""

    blueprint: dict[str, JsonValue]


class DiffOut(ApiModel):
    """What differs between two revisions of an environment."""

    environment_id: str
    source: int = Field(description="Number of the revision before")
    target: int = Field(description="Number of the revision after")
    changes: list[ServiceChangeOut]


class CheckpointOut(ApiModel):
    """A name for a revision, which then is not pruned."""

    name: str
    revision: int
    created_at: datetime
    created_by: str


class CreateCheckpoint(ApiInput):
    """What `POST /environments/{id}/checkpoints` is sent."""

    name: str = Field(
        pattern=r"^([A-Za-z]|[0-9]+[A-Za-z._-])[A-Za-z0-9._-]*$",
        max_length=40,
        examples=["before-migration"],
        description="Not of digits alone: that is how revisions are named.",
    )
    revision: int | None = Field(
        default=None, ge=1, le=LAST_REVISION, description="The present one when absent"
    )
