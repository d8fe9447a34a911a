"""Operations as the API answers them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, JsonValue

from api.envelope import ApiInput, ApiModel
from api.problems import ProblemField
from api.transfers import TransferOut
from workflows.domain.failures import FailureKind
from workflows.domain.operations import OperationKind, OperationState, StepKind, StepState
from workflows.domain.update import Effect


class BlockerOut(ApiModel):
    """An object that holds something up, and the finalizers that keep it."""

    object: str = Field(examples=["PersistentVolumeClaim/data-db-0"])
    finalizers: list[str] = []


class FailureOut(ApiModel):
    """Why something failed."""

    kind: FailureKind
    message: str
    help: str
    step: str | None = None
    retryable: bool
    evidence: list[JsonValue] = Field(
        default=[], description="Events and log lines of the pod at fault; in lists only the documents' keys"
    )
    blocked_by: list[BlockerOut] = []


class StepOut(ApiModel):
    """One step of an operation's graph."""

    name: str
    kind: StepKind
    service: str | None = None
    depends_on: list[str]
    state: StepState
    attempt: int
    started_at: datetime | None = None
    finished_at: datetime | None = None
    output: dict[str, JsonValue] | None = None
    failure: FailureOut | None = None
    blocked_by: list[BlockerOut] | None = Field(
        default=None, description="What holds the running step up; absent when nothing does"
    )
    transfer: TransferOut | None = Field(
        default=None, description="While it moves data, and Temporal can be asked; in `GET /operations/{id}`"
    )


class ProgressOut(ApiModel):
    """How far an operation is."""

    done: int
    total: int
    running: list[str]


class CleanupOut(ApiModel):
    """How far an undo got, and what is left."""

    complete: bool
    left: list[str] = []
    not_undone: list[str] = Field(default=[], description="Steps on data that no undo takes back")


class FieldChangeOut(ApiModel):
    """One field of a service that differs; of secrets the name only."""

    field: str = Field(examples=["env.LOG_LEVEL"])
    before: JsonValue = None
    after: JsonValue = None


class ServiceChangeOut(ApiModel):
    """What an update does to one service."""

    service: str
    effect: Effect
    fields: list[FieldChangeOut] = []
    reason: str | None = None
    lost_volumes: list[str] = Field(default=[], description="Made anew, empty; only with `allowReplace`")


class OperationOut(ApiModel):
    """One change to an environment. `progress` and `steps` are absent in lists."""

    id: str
    kind: OperationKind
    state: OperationState
    environment_id: str
    environment_name: str | None = None
    revision: int
    retry_of: str | None = None
    replay_of: str | None = None
    snapshot_id: str | None = Field(
        default=None, description="That it takes or loads; in lists only of replays"
    )
    from_step: str | None = Field(default=None, description="Of a replay: the step it was to begin with")
    requested_by: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: ProgressOut | None = None
    steps: list[StepOut] | None = None
    failure: FailureOut | None = None
    cleanup: CleanupOut | None = None
    changes: list[ServiceChangeOut] | None = Field(
        default=None, description="Of an update, in the answer that accepts it"
    )
    warnings: list[ProblemField] | None = Field(
        default=None,
        description="Of what loads a snapshot's data, in the answer that accepts it: services that keep them "
        "only as long as their pod is there",
    )
    cancel_requested_at: datetime | None = None
    workflow_id: str
    temporal_url: str


class CancelOperation(ApiInput):
    """What `POST /operations/{id}/cancel` may be sent."""

    cleanup: bool = Field(default=False, description="Undo what the operation made")
    reason: str = Field(default="", max_length=500)


class EventOut(ApiModel):
    """The `data` of one event of a stream."""

    number: int
    type: str
    environment_id: str
    operation_id: str | None = Field(
        default=None,
        description="Absent: of the environment itself (`settings`, `timer`, `condition`, `verification`)",
    )
    at: datetime
    data: dict[str, JsonValue]
