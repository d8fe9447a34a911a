"""Operations and their steps: states, legal moves, and what may run beside what."""

from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from workflows.domain.blueprint_models import OnFailure as OnFailure  # noqa: PLC0414 - part of this vocabulary too
from workflows.domain.environment import ObjectName, Overrides
from workflows.domain.failures import Blocker, Failure, WireModel


class OperationKind(StrEnum):
    """What an operation does to its environment; also the first part of its workflow id."""

    PROVISION = "provision"
    UPDATE = "update"
    STOP = "stop"
    RESUME = "resume"
    SCALE = "scale"
    RESTART = "restart"
    SEED = "seed"
    SNAPSHOT = "snapshot"
    RESTORE = "restore"
    REPLAY = "replay"
    DELETE = "delete"


class OperationState(StrEnum):
    """Where an operation stands. The last four are terminal: they never change."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ROLLED_BACK = "rolled_back"


class StepState(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class StepKind(StrEnum):
    """What a step does."""

    NAMESPACE = "namespace"
    SECRETS = "secrets"
    SERVICE = "service"
    ENDPOINTS = "endpoints"
    STOP_SERVICE = "stop_service"
    REMOVE_SERVICE = "remove_service"
    SEED = "seed"
    SURVEY = "survey"
    CAPTURE = "capture"
    PUBLISH = "publish"
    CHECK = "check"
    CLAIM = "claim"
    LOAD = "load"
    CANCEL_RUNNING = "cancel_running"
    DELETE_NAMESPACE = "delete_namespace"


class EnvironmentPhase(StrEnum):
    """What an environment is doing, as one word."""

    PENDING = "pending"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"
    RESUMING = "resuming"
    ERROR = "error"
    DELETING = "deleting"
    DELETED = "deleted"


TERMINAL_STATES: Final = frozenset(
    {OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED, OperationState.ROLLED_BACK}
)
LIVE_STATES: Final = frozenset(OperationState) - TERMINAL_STATES
TERMINAL_STEP_STATES: Final = frozenset(
    {StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED, StepState.CANCELLED}
)

SETTLED_PHASES: Final = frozenset(
    {
        EnvironmentPhase.RUNNING,
        EnvironmentPhase.DEGRADED,
        EnvironmentPhase.STOPPED,
        EnvironmentPhase.ERROR,
        EnvironmentPhase.DELETED,
    }
)
"""Phases in which nothing more happens by itself: `terminal: true` in a status answer."""

ASIDE: Final = frozenset({OperationKind.SEED, OperationKind.SNAPSHOT})
"""Operations that run beside what an environment is: however one ends, its phase and conditions stay."""

LOADING: Final = frozenset({OperationKind.RESTORE, OperationKind.REPLAY})
"""Operations that load a snapshot, or may."""
WITH_SNAPSHOT: Final = LOADING | {OperationKind.SNAPSHOT}
"""Operations that take a snapshot or load one."""

MOVES_DATA: Final = frozenset({StepKind.CAPTURE, StepKind.CHECK, StepKind.LOAD})
"""Steps that stream a service's data."""

FENCES_PER_OPERATION: Final = 2
"""An operation writes under its fence; its clean-up writes under fence + 1, so that a worker of the same
operation that was frozen before the clean-up cannot write after it."""


Output = dict[str, str | int | bool]
"""What a step answers: small facts, shown as they are."""


class PlannedStep(WireModel):
    """One step of an operation's graph, known before the first one runs."""

    name: str
    """Unique in the operation: `namespace`, `secrets`, `service/api`, `endpoints`."""
    kind: StepKind
    service: str | None = None
    depends_on: tuple[str, ...] = ()
    input_hash: str = ""
    """Digest of all that the step is made from; keyed (HMAC) wherever secret material takes part."""


class Earlier(WireModel):
    """What an earlier run of the same step left: its hash and the object that it made."""

    input_hash: str
    uid: str


class Cleanup(WireModel):
    """How far an undo got: `complete`, or what is left (`Kind/name`).

    Complete, of an operation that failed: it was refused before it touched anything.
    """

    complete: bool
    left: tuple[str, ...] = ()
    not_undone: tuple[str, ...] = ()
    """Steps on data that no undo takes back: init scripts that ran, volumes that were made anew."""


class StepChange(WireModel):
    """A step's new state, as the workflow saw it. Fields that are None leave the ledger as it is."""

    step: str
    state: StepState
    attempt: int | None = None
    output: Output | None = None
    failure: Failure | None = None
    blocked_by: tuple[Blocker, ...] | None = None
    """What holds a running step up; empty clears it."""


class SettingChange(WireModel):
    """What a setting of an environment was and became."""

    before: JsonValue
    after: JsonValue


class Change(WireModel):
    """What an operation changes of the desired state: from where, to which its undo goes back, and how."""

    revision: int
    """The one before."""
    phase: EnvironmentPhase
    """The one before."""
    ready: dict[str, JsonValue] | None = None
    """The environment's Ready condition before; None of an operation of a version that did not note it."""
    overrides: Overrides = Overrides()
    """Those before."""
    plan: str | None = None
    """The plan that was applied to the Blueprint before."""
    replaced: dict[str, tuple[str, ...]] = {}
    """By service whose workload is deleted and made anew: its volumes that are, too, and lose their data."""
    obsolete: dict[str, tuple[ObjectName, ...]] = {}
    """By service: the objects that are no longer part of it, in the order in which they go."""
    settings: dict[str, SettingChange] = {}
    """By field: the environment's settings that came with another Blueprint."""


def workflow_id(kind: OperationKind, environment_name: str, operation_id: str) -> str:
    """Return the Temporal workflow id of an operation, readable in a list: `provision/shop/op_01J...`."""
    return f"{kind}/{environment_name}/{operation_id}"
