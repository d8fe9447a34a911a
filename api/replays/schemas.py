"""Replays as the API is asked for them and answers them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from api.envelope import ApiInput, ApiModel
from api.problems import ProblemField
from workflows.domain.masking import MaskingRules
from workflows.domain.operations import StepKind
from workflows.domain.replay import Why


class Target(StrEnum):
    """Where a replay is run."""

    SAME = "same"
    NEW = "new"


class Action(StrEnum):
    """What becomes of a step."""

    RUN = "run"
    SKIP = "skip"


class ReplayOperation(ApiInput):
    """What `POST /environments/{id}/replay` may be sent."""

    operation_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Which operation; absent: the newest that made the environment what it is",
    )
    from_step: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="This step and all that depends on it, whatever else is known; in place only",
    )
    snapshot_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Whose data are loaded before what depends on them starts; absent: data stay as they are",
    )
    masking: MaskingRules | None = Field(
        default=None, description="With snapshotId: what is hidden on the way; see docs/masking.md"
    )
    run_init: bool = Field(
        default=False,
        description="With snapshotId: run the init of the services whose data are loaded, over these, "
        "whether it ever ran",
    )
    target: Target = Field(default=Target.SAME, description="In place, or as a new environment")
    name: str | None = Field(
        default=None, min_length=1, max_length=40, description="Of the new environment: `target: new` only"
    )


class ReplayStepOut(ApiModel):
    """What a replay does with one step."""

    step: str = Field(examples=["service/api"])
    kind: StepKind
    service: str | None = None
    action: Action
    reason: Why
    message: str = Field(description="The reason for people; the ledger's step has it as `output.reason`")


class ReplayOut(ApiModel):
    """What a replay would do."""

    environment_id: str = Field(description="The environment whose operation is replayed")
    replay_of: str
    snapshot_id: str | None = Field(default=None, description="Whose data would be loaded")
    target: Target
    steps: list[ReplayStepOut]
    warnings: list[ProblemField] = Field(
        default=[], description="Services that would keep their data only as long as their pod is there"
    )
