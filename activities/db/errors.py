"""What the database layer refuses, each with what a caller needs to answer it: kind, HTTP status, fields."""

from typing import ClassVar

from workflows.domain.errors import FieldError
from workflows.domain.failures import FAILURES, FailureKind
from workflows.domain.operations import EnvironmentPhase, OperationKind, OperationState
from workflows.domain.wording import listed


class DomainError(Exception):
    """A request that cannot be done as things stand: its failure kind, and the HTTP status of an answer."""

    kind: ClassVar[FailureKind] = FailureKind.CONFLICT
    status: ClassVar[int | None] = None

    @property
    def http_status(self) -> int:
        """Status of an HTTP answer about it."""
        return self.status if self.status is not None else FAILURES[self.kind].http_status


class NotFound(DomainError):
    """There is no such thing in this organisation; another organisation's ids look just so."""

    status = 404

    def __init__(self, resource: str, identifier: str) -> None:
        super().__init__(f"no {resource} {identifier!r}")
        self.resource = resource
        self.identifier = identifier


class Unauthenticated(DomainError):
    """The token is unknown, expired or revoked."""

    kind = FailureKind.FORBIDDEN
    status = 401

    def __init__(self) -> None:
        super().__init__("the API key is unknown, expired or revoked")


class NameTaken(DomainError):
    """The name is in use; `existing_id` is what holds it."""

    def __init__(self, resource: str, name: str, existing_id: str) -> None:
        super().__init__(f"{resource} {name!r} exists already ({existing_id})")
        self.resource = resource
        self.name = name
        self.existing_id = existing_id


class Busy(DomainError):
    """Another operation holds the environment."""

    def __init__(self, operation_id: str, operation_kind: OperationKind) -> None:
        super().__init__(f"the environment is busy with {operation_kind} {operation_id}")
        self.operation_id = operation_id
        self.operation_kind = operation_kind


class Deleting(DomainError):
    """The environment's deletion was asked for; nothing else is taken any more."""

    def __init__(self, environment_id: str, name: str) -> None:
        super().__init__(f"environment {name!r} is being deleted")
        self.environment_id = environment_id
        self.name = name


class NotApplicable(DomainError):
    """What was asked makes no sense in the environment's present phase."""

    def __init__(self, action: str, name: str, phase: EnvironmentPhase) -> None:
        super().__init__(f"environment {name!r} is {phase}: {action}")
        self.name = name
        self.phase = phase


class UpdateRefused(DomainError):
    """An update that would lose data, or is not possible; every such place is listed."""

    kind = FailureKind.BLUEPRINT_INVALID

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(str(error) for error in errors[:5]))
        self.errors = errors


class NotRetryable(DomainError):
    """There is nothing to retry; `state` is that of the last operation, if there is one."""

    def __init__(self, reason: str, state: OperationState | None = None) -> None:
        super().__init__(reason)
        self.state = state


class NotReplayable(DomainError):
    """This operation has no steps that could be run again."""


class ReplayInvalid(DomainError):
    """A replay that cannot be run as it was asked for; every fault is listed."""

    kind = FailureKind.BLUEPRINT_INVALID

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(str(error) for error in errors[:5]))
        self.errors = errors


class NotCancellable(DomainError):
    """This kind of operation cannot be cancelled."""

    def __init__(self, operation_id: str, operation_kind: OperationKind) -> None:
        super().__init__(f"a {operation_kind} cannot be cancelled ({operation_id})")
        self.operation_id = operation_id
        self.operation_kind = operation_kind


class AlreadyEnded(DomainError):
    """The operation has ended."""

    def __init__(self, operation_id: str, state: OperationState) -> None:
        super().__init__(f"operation {operation_id} has ended: {state}")
        self.operation_id = operation_id
        self.state = state


class AlreadyDeleted(DomainError):
    """The environment is gone."""

    status = 410

    def __init__(self, environment_id: str) -> None:
        super().__init__(f"environment {environment_id} was deleted")
        self.environment_id = environment_id


class Protected(DomainError):
    """The environment is protected against delete, stop and another's data in place of its own."""

    kind = FailureKind.POLICY_DENIED

    def __init__(self, environment_id: str, name: str) -> None:
        super().__init__(f"environment {name!r} is protected; take `protected` off first")
        self.environment_id = environment_id
        self.name = name


class RoleTooHigh(DomainError):
    """A role beyond what the key that asks has."""

    kind = FailureKind.POLICY_DENIED

    def __init__(self, wanted: str, own: str) -> None:
        super().__init__(f"that takes a higher role than the key has: {wanted} by one that is {own}")


class LastOwnerKey(DomainError):
    """Without this key nobody could act as owner of the organisation any more."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"{key_id} is the last usable key of an owner; make another one first")


class InUse(DomainError):
    """Something is still referred to; `users` are the names of what refers to it."""

    def __init__(self, resource: str, name: str, users: tuple[str, ...]) -> None:
        super().__init__(f"{resource} {name!r} is used by {listed(users, 5)}")
        self.users = users


class CapExceeded(DomainError):
    """The organisation's cap would be exceeded. `used` counts what exists, `asked` what was to be added."""

    kind = FailureKind.QUOTA_EXCEEDED

    def __init__(self, cap: str, *, limit: str, used: str, asked: str) -> None:
        super().__init__(f"the organisation's cap on {cap} is {limit}: {used} in use, {asked} asked for")
        self.cap = cap
        self.limit = limit
        self.used = used
        self.asked = asked


class InvalidReferences(DomainError):
    """The Blueprint names things that do not exist; every such place is listed."""

    kind = FailureKind.BLUEPRINT_INVALID

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(str(error) for error in errors[:5]))
        self.errors = errors


class SeedInvalid(DomainError):
    """A seed that cannot be run as it was asked for; every fault is listed."""

    kind = FailureKind.BLUEPRINT_INVALID

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(str(error) for error in errors[:5]))
        self.errors = errors


class SnapshotUnfit(DomainError):
    """A snapshot cannot be restored as it was asked for; every reason is listed."""

    kind = FailureKind.BLUEPRINT_INVALID

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(str(error) for error in errors[:5]))
        self.errors = errors


class SnapshotNotReady(DomainError):
    """The snapshot is not available: it is being taken, was not completed, or is being deleted."""

    def __init__(self, snapshot_id: str, state: str) -> None:
        super().__init__(f"snapshot {snapshot_id} is {state}: only one that is available can be used")
        self.snapshot_id = snapshot_id
        self.state = state


class SnapshotInUse(DomainError):
    """The snapshot is being taken or restored; `operation_id` does it."""

    def __init__(self, snapshot_id: str, operation_id: str, operation_kind: OperationKind) -> None:
        super().__init__(
            f"snapshot {snapshot_id} is used by {operation_kind} {operation_id}: cancel that first"
        )
        self.operation_id = operation_id


class SnapshotBusy(DomainError):
    """Something else is done with the snapshot already; `what` names it."""

    def __init__(self, snapshot_id: str, what: str) -> None:
        super().__init__(f"snapshot {snapshot_id} is busy with {what}: wait for its end")
        self.snapshot_id = snapshot_id


class InvalidCursor(DomainError):
    """The list cursor was not made by this API."""

    kind = FailureKind.BLUEPRINT_INVALID
    status = 422

    def __init__(self, *, foreign: bool = False) -> None:
        super().__init__(
            "the cursor belongs to a list in another order or with other filters"
            if foreign
            else "the cursor is not one that a list answer gave"
        )
        self.foreign = foreign


class IdempotencyMismatch(DomainError):
    """The Idempotency-Key was used for another request."""

    status = 422

    def __init__(self, key: str) -> None:
        super().__init__(f"Idempotency-Key {key!r} was used with another body")
        self.key = key


class IdempotencyUsed(DomainError):
    """The request with this Idempotency-Key was done; its answer held a secret and is not kept."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The request with the Idempotency-Key {key!r} was done; its answer held a secret, told once"
        )
        self.key = key
