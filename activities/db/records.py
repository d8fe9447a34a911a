"""What repositories hand out: frozen copies of rows, free of any database session."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from activities.db import tables
from activities.db.tables import EventType, PrincipalKind, Role
from workflows.contracts.operation import CancelRequest, PreImage
from workflows.domain.environment import GuardRails
from workflows.domain.failures import Blocker, Failure, WireModel
from workflows.domain.operations import (
    TERMINAL_STATES,
    Change,
    Cleanup,
    EnvironmentPhase,
    OnFailure,
    OperationKind,
    OperationState,
    StepKind,
    StepState,
)
from workflows.domain.seeds import SeedContent

JsonObject = dict[str, JsonValue]


class Caps(WireModel):
    """What an organisation may use over all its environments; None: no limit."""

    environments: int | None = None
    cpu: str | None = None
    """Sum of CPU requests, a Kubernetes quantity."""
    memory: str | None = None
    """Sum of memory requests, a Kubernetes quantity."""
    storage: str | None = None
    """Sum of persistent volume sizes, a Kubernetes quantity."""


class Condition(WireModel):
    """One aspect of an environment's status, in the Kubernetes manner (`status`: True, False or Unknown)."""

    type: str
    status: str
    reason: str
    message: str = ""
    since: datetime
    kept_in: dict[str, tuple[str, ...]] = {}
    """Of `DataWhole`, by service without a volume: what keeps what was loaded (`snapshot.kept_in`)."""


SWEEPER: Final = "schedule:sweep"
"""Who asks for what timers bring about: no principal, and no sign of use."""


OPERATOR: Final = "operator"
"""Who acts through `perdure admin`: somebody with the database, of no organisation."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, on behalf of which organisation."""

    organization_id: str
    principal_id: str
    key_id: str | None
    role: Role
    unlimited: bool = False
    """Whether its key is exempt from the rate limit."""


@dataclass(frozen=True, slots=True)
class OrganizationRecord:
    """A tenant."""

    id: str
    name: str
    caps: Caps
    guard_rails: JsonObject
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PrincipalRecord:
    """A person or service."""

    id: str
    organization_id: str
    kind: PrincipalKind
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """An API key without its token."""

    id: str
    organization_id: str
    principal_id: str
    name: str
    role: Role
    unlimited: bool
    last8: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class EnvironmentRecord:
    """An environment as the database has it; the live state of its services is the cluster's."""

    id: str
    organization_id: str
    name: str
    instance: str
    """The name that it was created with: its objects bear it, since selectors never change."""
    description: str
    cluster: str
    namespace: str
    phase: EnvironmentPhase
    conditions: tuple[Condition, ...]
    revision: int
    plan: str | None
    labels: dict[str, str]
    protected: bool
    auto_shutdown_enabled: bool
    auto_shutdown_delay_minutes: int
    auto_shutdown_unmeasured: bool
    """Whether it is put to sleep although it is reached by ways in that are not measured."""
    ttl_minutes: int | None
    last_active_at: datetime | None
    expires_at: datetime | None
    """When its time is over: by its time to live, or later where it was extended."""
    guard_rails: GuardRails
    installation_id: str
    last_event: int
    version: int
    """Grows with each change of the row: the ETag."""
    created_by: str
    created_at: datetime
    updated_at: datetime
    delete_requested_at: datetime | None
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of an operation."""

    operation_id: str
    name: str
    position: int
    kind: StepKind
    service: str | None
    depends_on: tuple[str, ...]
    state: StepState
    attempt: int
    input_hash: str
    output: JsonObject | None
    failure: Failure | None
    blocked_by: tuple[Blocker, ...]
    """What holds a running step up."""
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class CancelRecord:
    """A cancel that was asked for."""

    cleanup: bool
    reason: str
    at: datetime

    def request(self) -> CancelRequest:
        """Return what is signalled to the workflow."""
        return CancelRequest(cleanup=self.cleanup, reason=self.reason)


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """An operation; its steps are read with `operations.steps`."""

    id: str
    organization_id: str
    environment_id: str
    kind: OperationKind
    state: OperationState
    revision: int
    fence: int
    retry_of: str | None
    replay_of: str | None
    from_step: str | None
    """Replay only: the step that it was asked to begin with."""
    requested_by: str
    workflow_id: str
    on_failure: OnFailure
    force: bool
    failure: Failure | None
    cleanup: Cleanup | None
    pre_image: PreImage | None
    change: Change | None
    cancel: CancelRecord | None
    asked: int
    """How often something was asked of it while it ran: a cancel, one that adds the clean-up, a force."""
    told: int
    """Up to which of these its workflow has been told."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether the state is terminal."""
        return self.state in TERMINAL_STATES

    @property
    def undelivered(self) -> bool:
        """Whether its workflow runs and has not been told all that was asked (`activities.delivery`)."""
        return self.state is OperationState.RUNNING and self.told < self.asked


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One change.

    `data` of a step: operationId, step, kind, service, state, attempt, output, failure, blockedBy,
    progress; of an
    operation: operationId, kind, state, force, failure, cleanup, cancel, phase (the environment's), progress.
    Progress: done, total, running (names). Of a timer, without an operation: timer, action (warn, stop,
    delete), at (when it ends).
    Progress: done, total, running (names). Of settings, without an operation: changes (by field: before,
    after), changedBy. Of a condition that changed without an operation: type, status, reason, message.
    """

    environment_id: str
    organization_id: str
    number: int
    operation_id: str | None
    type: EventType
    data: JsonObject
    at: datetime


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """An accepted Blueprint, without literal secret values."""

    environment_id: str
    number: int
    parent: int | None
    message: str
    blueprint: JsonObject
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A name for a revision."""

    environment_id: str
    name: str
    revision: int
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """A stored secret without its value. `environment_id` None: one of the organisation."""

    id: str
    organization_id: str
    environment_id: str | None
    name: str
    generated: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RegistryCredentialRecord:
    """A registry login without its password."""

    id: str
    organization_id: str
    name: str
    host: str
    username: str
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TemplateRecord:
    """A template of an organisation."""

    id: str
    name: str
    description: str
    parameters: list[JsonValue]
    blueprint: JsonObject
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SeedPackageRecord:
    """One version of a seed package."""

    id: str
    name: str
    version: str
    description: str
    digest: str
    content: SeedContent
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to which thing."""

    id: str
    organization_id: str
    principal_id: str
    key_id: str | None
    action: str
    subject_id: str
    data: JsonObject
    at: datetime


def organization_record(row: tables.Organization) -> OrganizationRecord:
    """Copy a row."""
    return OrganizationRecord(
        id=row.id,
        name=row.name,
        caps=Caps.model_validate(row.caps),
        guard_rails=row.guard_rails,
        created_at=row.created_at,
    )


def principal_record(row: tables.Principal) -> PrincipalRecord:
    """Copy a row."""
    return PrincipalRecord(
        id=row.id,
        organization_id=row.organization_id,
        kind=row.kind,
        name=row.name,
        created_at=row.created_at,
    )


def api_key_record(row: tables.ApiKey) -> ApiKeyRecord:
    """Copy a row, save the token's digest."""
    return ApiKeyRecord(
        id=row.id,
        organization_id=row.organization_id,
        principal_id=row.principal_id,
        name=row.name,
        role=row.role,
        unlimited=row.unlimited,
        last8=row.last8,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def environment_record(row: tables.Environment) -> EnvironmentRecord:
    """Copy a row."""
    return EnvironmentRecord(
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        instance=row.instance,
        description=row.description,
        cluster=row.cluster,
        namespace=row.namespace,
        phase=row.phase,
        conditions=tuple(Condition.model_validate(condition) for condition in row.conditions),
        revision=row.revision,
        plan=row.plan,
        labels=dict(row.labels),
        protected=row.protected,
        auto_shutdown_enabled=row.auto_shutdown_enabled,
        auto_shutdown_delay_minutes=row.auto_shutdown_delay_minutes,
        auto_shutdown_unmeasured=row.auto_shutdown_unmeasured,
        ttl_minutes=row.ttl_minutes,
        last_active_at=row.last_active_at,
        expires_at=row.expires_at,
        guard_rails=GuardRails.model_validate(row.guard_rails),
        installation_id=row.installation_id,
        last_event=row.last_event,
        version=row.version,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
        delete_requested_at=row.delete_requested_at,
        deleted_at=row.deleted_at,
    )


def step_record(row: tables.Step) -> StepRecord:
    """Copy a row."""
    return StepRecord(
        operation_id=row.operation_id,
        name=row.name,
        position=row.position,
        kind=row.kind,
        service=row.service,
        depends_on=tuple(row.depends_on),
        state=row.state,
        attempt=row.attempt,
        input_hash=row.input_hash,
        output=row.output,
        failure=None if row.failure is None else Failure.model_validate(row.failure),
        blocked_by=tuple(Blocker.model_validate(blocker) for blocker in row.blocked_by),
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def operation_record(row: tables.Operation) -> OperationRecord:
    """Copy a row."""
    cancel = None
    if row.cancel_requested_at is not None:
        cancel = CancelRecord(
            cleanup=bool(row.cancel_cleanup), reason=row.cancel_reason or "", at=row.cancel_requested_at
        )
    return OperationRecord(
        id=row.id,
        organization_id=row.organization_id,
        environment_id=row.environment_id,
        kind=row.kind,
        state=row.state,
        revision=row.revision,
        fence=row.fence,
        retry_of=row.retry_of,
        replay_of=row.replay_of,
        from_step=row.from_step,
        requested_by=row.requested_by,
        workflow_id=row.workflow_id,
        on_failure=row.on_failure,
        force=row.force,
        failure=None if row.failure is None else Failure.model_validate(row.failure),
        cleanup=None if row.cleanup is None else Cleanup.model_validate(row.cleanup),
        pre_image=None if row.pre_image is None else PreImage.model_validate(row.pre_image),
        change=None if row.change is None else Change.model_validate(row.change),
        cancel=cancel,
        asked=row.asked,
        told=row.told,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def event_record(row: tables.Event) -> EventRecord:
    """Copy a row."""
    return EventRecord(
        environment_id=row.environment_id,
        organization_id=row.organization_id,
        number=row.number,
        operation_id=row.operation_id,
        type=row.type,
        data=row.data,
        at=row.at,
    )


def revision_record(row: tables.Revision) -> RevisionRecord:
    """Copy a row."""
    return RevisionRecord(
        environment_id=row.environment_id,
        number=row.number,
        parent=row.parent,
        message=row.message,
        blueprint=row.blueprint,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def template_record(row: tables.Template) -> TemplateRecord:
    """Copy a row."""
    return TemplateRecord(
        id=row.id,
        name=row.name,
        description=row.description,
        parameters=row.parameters,
        blueprint=row.blueprint,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def seed_package_record(row: tables.SeedPackage) -> SeedPackageRecord:
    """Copy a row."""
    return SeedPackageRecord(
        id=row.id,
        name=row.name,
        version=row.version,
        description=row.description,
        digest=row.digest,
        content=SeedContent.model_validate(row.content),
        created_by=row.created_by,
        created_at=row.created_at,
    )


def checkpoint_record(row: tables.Checkpoint) -> CheckpointRecord:
    """Copy a row."""
    return CheckpointRecord(
        environment_id=row.environment_id,
        name=row.name,
        revision=row.revision,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def secret_record(row: tables.Secret) -> SecretRecord:
    """Copy a row, save its ciphertext."""
    return SecretRecord(
        id=row.id,
        organization_id=row.organization_id,
        environment_id=row.environment_id,
        name=row.name,
        generated=row.generated,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def registry_credential_record(row: tables.RegistryCredential) -> RegistryCredentialRecord:
    """Copy a row, save its ciphertext."""
    return RegistryCredentialRecord(
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        host=row.host,
        username=row.username,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def audit_record(row: tables.AuditEntry) -> AuditRecord:
    """Copy a row."""
    return AuditRecord(
        id=row.id,
        organization_id=row.organization_id,
        principal_id=row.principal_id,
        key_id=row.key_id,
        action=row.action,
        subject_id=row.subject_id,
        data=row.data,
        at=row.at,
    )
