"""Snapshots as the API takes and answers them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from api.envelope import ApiInput, ApiModel
from api.transfers import TransferOut
from workflows.domain.blueprint_models import DataStore
from workflows.domain.masking import MaskingRules
from workflows.domain.snapshot import Consistency, Engine, Scope
from workflows.domain.snapshot_manifest import SnapshotState
from workflows.domain.snapshot_policy import LONGEST_MINUTES, LONGEST_VERIFY_HOURS, SHORTEST_MINUTES
from workflows.domain.verification import VerificationState, VerifyLevel

DEFAULT_DAYS = 30


def _number(given: object) -> object:
    """Let whole numbers through alone: `true` would be level 1, and so would text."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise ValueError("is the number of a level: 0, 1 or 2")
    return given


AskedLevel = Annotated[VerifyLevel, BeforeValidator(_number)]


class CreateSnapshot(ApiInput):
    """What `POST /environments/{id}/snapshots` may be sent."""

    name: str = Field(default="", max_length=63, pattern=r"^[^\x00]*$", description="For people")
    consistency_floor: Consistency | None = Field(
        default=None, description="Below it there is to be no snapshot: the operation fails"
    )
    expires_in_days: StrictInt | None = Field(
        default=DEFAULT_DAYS, ge=1, le=3650, description="null: it is kept until it is deleted"
    )


class PutSnapshotPolicy(ApiInput):
    """What `PUT /environments/{id}/snapshot-policy` is sent: all of it, each time."""

    every_minutes: StrictInt = Field(ge=SHORTEST_MINUTES, le=LONGEST_MINUTES)
    keep_last: StrictInt | None = Field(
        default=None, ge=1, le=1000, description="Of those that this policy brought about"
    )
    expires_in_days: StrictInt | None = Field(
        default=DEFAULT_DAYS, ge=1, le=3650, description="null: they do not expire"
    )
    consistency_floor: Consistency | None = None
    verify_level: AskedLevel | None = Field(default=None, description="To which each new one is verified")
    verify_every_hours: StrictInt | None = Field(
        default=None,
        ge=1,
        le=LONGEST_VERIFY_HOURS,
        description="Needs `verifyLevel`: those that are kept are verified to it anew when the last "
        "verification that passed is that old; null: they are not",
    )
    paused: StrictBool = False

    @field_validator("verify_every_hours")
    @classmethod
    def _has_level(cls, given: int | None, others: ValidationInfo) -> int | None:
        # Here, not once all is valid: every fault is told, and one of the level is told as that.
        if given is not None and others.data.get("verify_level", given) is None:
            raise ValueError("needs verifyLevel, which says how far")
        return given


class SnapshotPolicyOut(ApiModel):
    """By what an environment is taken a snapshot of."""

    environment_id: str
    every_minutes: int
    keep_last: int | None = None
    expires_in_days: int | None = None
    consistency_floor: Consistency | None = None
    verify_level: VerifyLevel | None = None
    verify_every_hours: int | None = None
    paused: bool
    next_at: datetime | None = Field(default=None, description="Absent: it is paused")
    last_result: str = Field(description="The snapshot's id, or `skipped: ` and why")
    last_result_at: datetime | None = Field(default=None, description="When `lastResult` came about")
    last_at: datetime | None = Field(
        default=None, description="The planned time of the last snapshot that it brought about"
    )
    last_snapshot_id: str | None = Field(default=None, description="That snapshot")
    last_snapshot_state: SnapshotState | None = Field(
        default=None, description="What has become of it: accepted is not taken"
    )
    updated_by: str
    updated_at: datetime


class RestoreSnapshot(ApiInput):
    """What `POST /snapshots/{id}/restore` is sent: one of `environmentId` and `name`."""

    environment_id: StrictStr | None = Field(
        default=None, max_length=100, description="Replace the data of this environment, which runs"
    )
    name: str | None = Field(default=None, max_length=100, description="Make a new environment of this name")
    storage_classes: dict[str, str] = Field(
        default={},
        max_length=100,
        description='Of a new environment: by storage class in the snapshot ("": none), the one to use',
    )

    masking: MaskingRules | None = Field(
        default=None, description="By service, what is hidden on the way; see docs/masking.md"
    )
    run_init: bool = Field(
        default=False,
        description="Run the init of the services whose data are loaded, over these, whether it ever ran",
    )
    current_images: bool = Field(
        default=False,
        description="Of a new environment: run what the tags mean now, not the images that the snapshot saw",
    )

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.environment_id is None) == (self.name is None):
            raise ValueError("one of environmentId and name says where to")
        if self.environment_id is not None and self.storage_classes:
            raise ValueError("storageClasses belongs to a new environment: the volumes of one that runs stay")
        if self.environment_id is not None and self.current_images:
            raise ValueError(
                "currentImages belongs to a new environment: one that runs has images of its own"
            )
        return self


class VerifySnapshot(ApiInput):
    """What `POST /snapshots/{id}/verify` may be sent."""

    level: AskedLevel = Field(
        default=VerifyLevel.READABLE,
        description="0: objects, sizes, digests; 1: opened and read to the end; 2: restored and compared",
    )


class CheckOut(ApiModel):
    """One thing that was looked at."""

    level: VerifyLevel
    subject: str
    ok: bool
    message: str = ""


class VerificationOut(ApiModel):
    """A look at whether a snapshot is what it says. `checks` are there at its end."""

    id: str
    snapshot_id: str
    level: VerifyLevel
    state: VerificationState = Field(description="`aborted`: it could not be told, either way")
    checks: list[CheckOut]
    environment_id: str | None = Field(default=None, description="Into which it was restored; level 2")
    operation_id: str | None = None
    transfer: TransferOut | None = Field(
        default=None,
        description="While it or its restore moves data, and Temporal can be asked; not in lists",
    )
    requested_by: str
    created_at: datetime
    finished_at: datetime | None = None


class ComponentOut(ApiModel):
    """A service in a snapshot."""

    service: str
    store: DataStore | None = Field(default=None, description="Absent: it keeps no data")
    engine: Engine
    consistency: Consistency
    quiesced: bool = Field(description="Its own hook held it still")
    captured_at: datetime | None = None
    instead_of: Engine | None = Field(
        default=None, description="The engine that had been chosen, and could not do it"
    )
    because: str | None = Field(default=None, description="Why it could not")
    parts: int = Field(description="Streams in the store")
    volumes: int = Field(description="Volumes that the cluster's own storage keeps a snapshot of")
    plain_bytes: int
    stored_bytes: int


class SnapshotOut(ApiModel):
    """What an environment was at one time. `components` are absent in lists."""

    id: str
    name: str
    scheduled: bool = Field(description="By the environment's policy")
    state: SnapshotState
    environment_id: str
    environment_name: str
    operation_id: str
    revision: int | None = None
    consistency: Consistency | None = Field(
        default=None, description="The least of all components that keep data"
    )
    scope: Scope | None = Field(default=None, description="`one-point`: all data is of one moment")
    plain_bytes: int
    stored_bytes: int = Field(description="After compression, encrypted")
    created_by: str
    created_at: datetime
    published_at: datetime | None = None
    expires_at: datetime | None = None
    last_verified_at: datetime | None = None
    verified_level: VerifyLevel | None = Field(default=None, description="The highest that has passed")
    standing: str | None = Field(
        default=None,
        description="What a cluster's storage has not removed yet of a snapshot that is of no use, and why",
    )
    components: list[ComponentOut] | None = None
