"""What every operation's workflow shares: its input, its plan, and the ledger it writes through.

The ledger activities run as *local* activities on the control worker: one short transaction each.
"""

from datetime import datetime
from typing import Final

from pydantic import JsonValue
from temporalio import activity

from workflows.domain.environment import EnvironmentContext, GuardRails, ObjectIdentity, Overrides
from workflows.domain.failures import Failure, WireModel
from workflows.domain.operations import (
    Change,
    Cleanup,
    Earlier,
    OnFailure,
    OperationState,
    PlannedStep,
    StepChange,
)
from workflows.domain.replay import Replay
from workflows.domain.seeds import SeedRun
from workflows.domain.snapshot_manifest import SnapshotRun

CANCEL_SIGNAL: Final = "cancel"
"""Signal, not an Update: a cancel has to be taken while no worker is alive, and its answer is the operation's
state in the ledger (ADR 0006)."""


class OperationInput(WireModel):
    """Input of every operation's workflow: the id under which the plan is found."""

    operation_id: str


class CancelRequest(WireModel):
    """Stop an operation; with `cleanup`, undo what it made."""

    cleanup: bool = False
    reason: str = ""


class SealSecrets(WireModel):
    """Ask for the secrets of an operation's environment, as its own revision or an earlier one uses them."""

    operation_id: str
    revision: int | None = None


class OperationPlan(WireModel):
    """All that a workflow needs to run an operation; holds no secret value.

    `proceed` is False when the operation was ended before it began (cancelled while accepted).
    """

    proceed: bool
    context: EnvironmentContext
    blueprint: dict[str, JsonValue] = {}
    steps: tuple[PlannedStep, ...] = ()
    earlier: dict[str, Earlier] = {}
    """By step name: what a retry or a replay may skip when it is unchanged and still there."""
    replay: Replay | None = None
    """Of a replay in place: what it is to run again. None of one into a new environment: that runs all, save
    another attempt at one from a snapshot, which goes on."""
    touched: tuple[str, ...] = ()
    """Steps that load data and that attempts before this one began: their data are not what they were."""
    on_failure: OnFailure = OnFailure.KEEP
    guard_rails: GuardRails = GuardRails()
    overrides: Overrides = Overrides()
    secret_digests: dict[str, str] = {}
    """By secret name: keyed digests of the values, which make a new value start new pods."""
    change: Change | None = None
    """What it changes of a desired state that was there before; None: it makes what was not there."""
    cancel: CancelRequest | None = None
    """A cancel that was asked for before the workflow began."""
    force: bool = False
    """Delete only: remove foreign finalizers that hold the namespace."""
    seed: SeedRun | None = None
    """Seed only: what is run."""
    snapshot: SnapshotRun | None = None
    """What is done with which snapshot."""


class PreImage(WireModel):
    """What was in the cluster before an operation's first write: the undo goes back to this."""

    namespace_existed: bool
    objects: tuple[ObjectIdentity, ...] = ()
    """Our objects that existed, with UID. Volumes among them are never deleted by an undo."""
    revision: int | None = None
    """Revision that those objects were rendered from."""


class LedgerEntry(WireModel):
    """One write to the ledger: all changes since the last one, in one transaction."""

    operation_id: str
    changes: tuple[StepChange, ...] = ()
    pre_image: PreImage | None = None
    restarts: dict[str, str] = {}
    """By service: the mark of the new pods that it gets now, which stays with it from here on."""


class OperationResult(WireModel):
    """How an operation ended; also the workflow's result."""

    operation_id: str
    state: OperationState
    failure: Failure | None = None
    cleanup: Cleanup | None = None
    finished_at: datetime | None = None


class SealedSecrets(WireModel):
    """Secret values that only the cluster's own worker can open (X25519 sealed boxes, base64)."""

    values: dict[str, str] = {}
    """By secret name."""
    registry_credentials: dict[str, str] = {}
    """By credential name: a sealed `.dockerconfigjson`."""


class RecordedPreImage(WireModel):
    """The pre-image in the ledger, and the Blueprint to go back to when something existed before."""

    pre_image: PreImage | None = None
    blueprint: dict[str, JsonValue] | None = None
    secret_digests: dict[str, str] = {}
    """Of the values that this Blueprint's revision uses."""


class LedgerActivities:
    """The ledger as workflows see it; implemented in `activities.operation`."""

    @activity.defn(name="operation.begin")
    async def begin(self, operation: OperationInput) -> OperationPlan:
        """Move accepted to running (compare-and-set) and return the plan. Idempotent."""
        raise NotImplementedError

    @activity.defn(name="operation.record")
    async def record(self, entry: LedgerEntry) -> None:
        """Write step changes and their events. Changes of an ended operation are dropped."""
        raise NotImplementedError

    @activity.defn(name="operation.pre_image")
    async def pre_image(self, operation: OperationInput) -> RecordedPreImage:
        """Read back what `record` noted: what an undo has to go back to."""
        raise NotImplementedError

    @activity.defn(name="operation.seal_secrets")
    async def seal_secrets(self, request: SealSecrets) -> SealedSecrets:
        """Seal the environment's secret values and pull credentials for its cluster."""
        raise NotImplementedError

    @activity.defn(name="operation.finish")
    async def finish(self, result: OperationResult) -> OperationResult:
        """End the operation (compare-and-set, the first end wins) and return the end that holds."""
        raise NotImplementedError
