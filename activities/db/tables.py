"""The tables. Rows stay inside `activities.db`: repositories hand out the frozen records of `records.py`.

Every table carries `organization_id` (the installation's own row excepted) and no table has relationships:
what is read is asked for by a query.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import JsonValue
from sqlalchemy import BigInteger, Index, LargeBinary, MetaData, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from activities.db.types import Json, UtcDateTime, text_enum
from workflows.domain.operations import (
    EnvironmentPhase,
    OnFailure,
    OperationKind,
    OperationState,
    StepKind,
    StepState,
)
from workflows.domain.snapshot import Consistency, Scope
from workflows.domain.snapshot_manifest import SnapshotState
from workflows.domain.verification import VerificationState

NAMING_CONVENTION: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
_LEFT: Final = "removed_at IS NULL AND state IN ('failed', 'deleting')"
_OF_ORGANIZATION: Final = "environment_id IS NULL"
_LIVE: Final = "state IN ('accepted', 'running')"

JsonObject = dict[str, JsonValue]


class PrincipalKind(StrEnum):
    """Who a key belongs to."""

    PERSON = "person"
    SERVICE = "service"


class Role(StrEnum):
    """What a key may do, in growing order."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    ADMIN = "admin"
    OWNER = "owner"


class EventType(StrEnum):
    """What changed."""

    OPERATION = "operation"
    STEP = "step"
    SETTINGS = "settings"
    """Of the environment itself, by a request: no operation belongs to it."""
    TIMER = "timer"
    """Something will end by itself, or did, or was woken by use: no operation belongs to it."""
    CONDITION = "condition"
    """Of the environment, by what was seen in its cluster: no operation belongs to it."""
    VERIFICATION = "verification"
    """A snapshot of the environment is not what it says: no operation belongs to it."""


class Table(SQLModel):
    """Base of all tables: one metadata with one naming convention."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


def _partial_unique(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, unique=True, sqlite_where=text(where), postgresql_where=text(where))


class Installation(Table, table=True):
    """The one row that says which installation this database is; it labels every namespace we make."""

    __tablename__ = "installation"

    id: int = Field(primary_key=True, default=1)
    uuid: str = Field(max_length=36)
    created_at: datetime = Field(sa_type=UtcDateTime)
    restored_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    restored_to: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the backup was taken that this database was last restored from, and when that was done."""
    unknown_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """The earliest `restored_to` there has been: snapshots made since may be good, and not known here."""
    store_note: str = ""
    """What the last look through the object store left alone, and why; empty: nothing."""


class Orphan(Table, table=True):
    """A namespace of this installation that no environment answers for, since it was first seen so.

    `organization_id` is what its label says: there may be no such organisation.
    """

    __tablename__ = "orphans"

    cluster: str = Field(primary_key=True)
    uid: str = Field(primary_key=True)
    namespace: str
    organization_id: str
    seen_at: datetime = Field(sa_type=UtcDateTime)


class Organization(Table, table=True):
    """A tenant. `caps`: `records.Caps`; `guard_rails`: `GuardRails` fields that differ from the cluster's."""

    __tablename__ = "organizations"

    id: str = Field(primary_key=True)
    name: str
    caps: JsonObject = Field(default_factory=dict, sa_type=Json)
    guard_rails: JsonObject = Field(default_factory=dict, sa_type=Json)
    created_at: datetime = Field(sa_type=UtcDateTime)


class Principal(Table, table=True):
    """A person or a service that acts."""

    __tablename__ = "principals"
    __table_args__ = (
        Index("ix_principals_page", "organization_id", "created_at", "id"),
        Index("ix_principals_name", "organization_id", "name", "id"),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id")
    kind: PrincipalKind = Field(sa_type=text_enum(PrincipalKind))
    name: str
    created_at: datetime = Field(sa_type=UtcDateTime)


class ApiKey(Table, table=True):
    """A token, kept as its SHA-256; the last characters tell people which one it is."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index("ix_api_keys_page", "organization_id", "created_at", "id"),
        Index("ix_api_keys_name", "organization_id", "name", "id"),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id")
    principal_id: str = Field(foreign_key="principals.id", index=True)
    name: str
    role: Role = Field(sa_type=text_enum(Role))
    unlimited: bool = False
    sha256: str = Field(unique=True, max_length=64)
    last8: str = Field(max_length=8)
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Environment(Table, table=True):
    """An environment. Its row is the lock of all that happens to it, and holds its counters."""

    __tablename__ = "environments"
    __table_args__ = (
        _partial_unique("uq_environments_name_live", "organization_id", "name", where="deleted_at IS NULL"),
        Index("ix_environments_page", "organization_id", "created_at", "id"),
        Index("ix_environments_updated", "organization_id", "updated_at", "id"),
        Index("ix_environments_next_look_at", "next_look_at", "id"),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id")
    name: str
    instance: str
    description: str = ""
    cluster: str
    namespace: str
    phase: EnvironmentPhase = Field(sa_type=text_enum(EnvironmentPhase))
    conditions: list[JsonObject] = Field(default_factory=list, sa_type=Json)
    revision: int = 1
    plan: str | None = None
    labels: dict[str, str] = Field(default_factory=dict, sa_type=Json)
    protected: bool = False
    auto_shutdown_enabled: bool = False
    auto_shutdown_delay_minutes: int = 30
    auto_shutdown_unmeasured: bool = False
    ttl_minutes: int | None = None
    last_active_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    expiry_warned_for: datetime | None = Field(default=None, sa_type=UtcDateTime)
    idle_warned_for: datetime | None = Field(default=None, sa_type=UtcDateTime)
    next_look_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    guard_rails: JsonObject = Field(default_factory=dict, sa_type=Json)
    installation_id: str
    cpu_millis: int = Field(default=0, sa_type=BigInteger)
    memory_bytes: int = Field(default=0, sa_type=BigInteger)
    storage_bytes: int = Field(default=0, sa_type=BigInteger)
    last_fence: int = 0
    last_event: int = Field(default=0, sa_type=BigInteger)
    version: int = 1
    created_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    delete_requested_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class VolumeSample(Table, table=True):
    """How many bytes of a volume were in use at a time; the newest of each claim."""

    __tablename__ = "volume_samples"

    environment_id: str = Field(primary_key=True, foreign_key="environments.id")
    claim: str = Field(primary_key=True)
    at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    used_bytes: int = Field(sa_type=BigInteger)


class Revision(Table, table=True):
    """A Blueprint as it was accepted, without literal secret values."""

    __tablename__ = "revisions"

    environment_id: str = Field(primary_key=True, foreign_key="environments.id")
    number: int = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    parent: int | None = None
    message: str = ""
    blueprint: JsonObject = Field(sa_type=Json)
    created_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)


class Checkpoint(Table, table=True):
    """A name for a revision, which then is not pruned."""

    __tablename__ = "checkpoints"
    __table_args__ = (Index("ix_checkpoints_page", "environment_id", "created_at", "name"),)

    environment_id: str = Field(primary_key=True, foreign_key="environments.id")
    name: str = Field(primary_key=True, max_length=40)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    revision: int
    created_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)


class Override(Table, table=True):
    """Recorded changes on top of a revision, of one service: its replicas, what last restarted it, and the
    snapshot that its data came from."""

    __tablename__ = "overrides"

    environment_id: str = Field(primary_key=True, foreign_key="environments.id")
    service: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    replicas: int | None = None
    restart: str | None = None
    loaded: str | None = None
    updated_at: datetime = Field(sa_type=UtcDateTime)


class Operation(Table, table=True):
    """A change to an environment. `fence` is what its writes bear; its clean-up writes under `fence + 1`.

    `asked` counts what was asked of it while it ran, `told` up to which of these its workflow was told.
    """

    __tablename__ = "operations"
    __table_args__ = (
        _partial_unique(
            "uq_operations_live_mutation", "environment_id", where=f"{_LIVE} AND kind <> 'delete'"
        ),
        _partial_unique("uq_operations_live_delete", "environment_id", where=f"{_LIVE} AND kind = 'delete'"),
        Index("ix_operations_page", "organization_id", "created_at", "id"),
        Index("ix_operations_environment", "environment_id", "created_at", "id"),
        Index("ix_operations_fence", "environment_id", "fence"),
        Index("ix_operations_replay_of", "replay_of"),
        Index("ix_operations_live", "state", sqlite_where=text(_LIVE), postgresql_where=text(_LIVE)),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id")
    environment_id: str = Field(foreign_key="environments.id")
    kind: OperationKind = Field(sa_type=text_enum(OperationKind))
    state: OperationState = Field(sa_type=text_enum(OperationState))
    revision: int
    fence: int
    retry_of: str | None = Field(default=None, foreign_key="operations.id")
    replay_of: str | None = Field(default=None, foreign_key="operations.id")
    from_step: str | None = None
    change: JsonObject | None = Field(default=None, sa_type=Json)
    requested_by: str
    workflow_id: str
    on_failure: OnFailure = Field(default=OnFailure.KEEP, sa_type=text_enum(OnFailure))
    force: bool = False
    failure: JsonObject | None = Field(default=None, sa_type=Json)
    cleanup: JsonObject | None = Field(default=None, sa_type=Json)
    pre_image: JsonObject | None = Field(default=None, sa_type=Json)
    cancel_cleanup: bool | None = None
    cancel_reason: str | None = None
    cancel_requested_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    asked: int = 0
    told: int = 0
    created_at: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Step(Table, table=True):
    """One step of an operation's graph; `position` is its place in the plan."""

    __tablename__ = "steps"

    operation_id: str = Field(primary_key=True, foreign_key="operations.id")
    name: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    position: int
    kind: StepKind = Field(sa_type=text_enum(StepKind))
    service: str | None = None
    depends_on: list[str] = Field(default_factory=list, sa_type=Json)
    state: StepState = Field(sa_type=text_enum(StepState))
    attempt: int = 0
    input_hash: str = ""
    output: JsonObject | None = Field(default=None, sa_type=Json)
    failure: JsonObject | None = Field(default=None, sa_type=Json)
    blocked_by: list[JsonObject] = Field(default_factory=list, sa_type=Json)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Event(Table, table=True):
    """One change, numbered under the lock of its environment's row: a reader that goes on misses nothing."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_operation", "operation_id", "number"),)

    environment_id: str = Field(primary_key=True, foreign_key="environments.id")
    number: int = Field(primary_key=True, sa_type=BigInteger)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    operation_id: str | None = Field(default=None, foreign_key="operations.id")
    type: EventType = Field(sa_type=text_enum(EventType))
    data: JsonObject = Field(sa_type=Json)
    at: datetime = Field(sa_type=UtcDateTime)


class DataKey(Table, table=True):
    """An organisation's key for its secrets, wrapped by a master key. The highest number encrypts."""

    __tablename__ = "data_keys"
    __table_args__ = (UniqueConstraint("organization_id", "number"),)

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    number: int
    master_key_id: str
    wrapped: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = Field(sa_type=UtcDateTime)


class Secret(Table, table=True):
    """An encrypted value: of one environment, or of the organisation (`environment_id` NULL).

    An environment's value holds from the revision on that it came with, until a later one brings another.
    """

    __tablename__ = "secrets"
    __table_args__ = (
        _partial_unique("uq_secrets_organization", "organization_id", "name", where="environment_id IS NULL"),
        _partial_unique(
            "uq_secrets_environment",
            "environment_id",
            "name",
            "since_revision",
            where="environment_id IS NOT NULL",
        ),
        Index(
            "ix_secrets_updated",
            "organization_id",
            "updated_at",
            "id",
            sqlite_where=text(_OF_ORGANIZATION),
            postgresql_where=text(_OF_ORGANIZATION),
        ),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    environment_id: str | None = Field(default=None, foreign_key="environments.id")
    name: str
    since_revision: int = 1
    data_key_id: str = Field(foreign_key="data_keys.id")
    ciphertext: bytes = Field(sa_type=LargeBinary)
    generated: bool = False
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class RegistryCredential(Table, table=True):
    """A login for a container registry; the password is encrypted."""

    __tablename__ = "registry_credentials"
    __table_args__ = (
        UniqueConstraint("organization_id", "name"),
        Index("ix_registry_credentials_updated", "organization_id", "updated_at", "id"),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    name: str
    host: str
    username: str
    data_key_id: str = Field(foreign_key="data_keys.id")
    ciphertext: bytes = Field(sa_type=LargeBinary)
    created_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class Template(Table, table=True):
    """A Blueprint with parameters, kept as it was written."""

    __tablename__ = "templates"
    __table_args__ = (UniqueConstraint("organization_id", "name"),)

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    name: str
    description: str
    parameters: list[JsonValue] = Field(sa_type=Json)
    blueprint: JsonObject = Field(sa_type=Json)
    created_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class SeedPackage(Table, table=True):
    """One version of a seed package; never changed. `content` as it was published."""

    __tablename__ = "seed_packages"
    __table_args__ = (UniqueConstraint("organization_id", "name", "version"),)

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    name: str
    version: str
    description: str
    digest: str
    content: JsonObject = Field(sa_type=Json)
    created_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)


class SeedRun(Table, table=True):
    """What an operation of kind `seed` runs; secrets are named in it, no value of one is."""

    __tablename__ = "seed_runs"

    operation_id: str = Field(primary_key=True, foreign_key="operations.id")
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    run: JsonObject = Field(sa_type=Json)


class Snapshot(Table, table=True):
    """What an environment was at one time. `manifest` is NULL until it is published, and tells all of it.

    `secrets`: the environment's own values by name, base64 of what the organisation's data key encrypted,
    with the id of that key. The operation that takes it may be forgotten earlier than it. `at_storage`: a
    cluster's storage may have something of it; `standing`: what that had not removed when it was last asked
    to, `standing_at`. `removed_at`: when nothing was left of it, there and in the store.
    """

    __tablename__ = "snapshots"
    __table_args__ = (
        Index("ix_snapshots_page", "organization_id", "created_at", "id"),
        Index("ix_snapshots_environment", "environment_id", "created_at", "id"),
        Index("ix_snapshots_size", "organization_id", "stored_bytes", "id"),
        Index("ix_snapshots_environment_size", "environment_id", "stored_bytes", "id"),
        Index("ix_snapshots_left", "id", sqlite_where=text(_LEFT), postgresql_where=text(_LEFT)),
        Index("ix_snapshots_expires_at", "expires_at"),
        Index("ix_snapshots_scheduled", "scheduled", "state", "environment_id"),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id")
    environment_id: str = Field(foreign_key="environments.id")
    environment_name: str
    operation_id: str = Field(index=True)
    name: str = Field(default="", max_length=63)
    scheduled: bool = False
    state: SnapshotState = Field(sa_type=text_enum(SnapshotState))
    consistency: Consistency | None = Field(default=None, sa_type=text_enum(Consistency))
    scope: Scope | None = Field(default=None, sa_type=text_enum(Scope))
    manifest: JsonObject | None = Field(default=None, sa_type=Json)
    secrets: JsonObject = Field(default_factory=dict, sa_type=Json)
    stored_bytes: int = Field(default=0, sa_type=BigInteger)
    plain_bytes: int = Field(default=0, sa_type=BigInteger)
    created_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    published_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_verified_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    verified_level: int | None = None
    at_storage: bool = False
    standing: str = ""
    standing_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    removed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SnapshotPolicy(Table, table=True):
    """When an environment is taken a snapshot of by itself: `workflows.domain.snapshot_policy`.

    `next_at` NULL: it is paused. `last_result`: what came of the last time, in words, and `result_at`: when.
    `last_at`: the planned time of the last snapshot that it brought about, `last_snapshot_id`.
    """

    __tablename__ = "snapshot_policies"

    environment_id: str = Field(primary_key=True, foreign_key="environments.id")
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    policy: JsonObject = Field(sa_type=Json)
    next_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)
    last_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_result: str = ""
    result_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_snapshot_id: str | None = None
    updated_by: str
    updated_at: datetime = Field(sa_type=UtcDateTime)


class SnapshotRun(Table, table=True):
    """What an operation does with a snapshot: takes it, or loads its data."""

    __tablename__ = "snapshot_runs"

    operation_id: str = Field(primary_key=True, foreign_key="operations.id")
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    snapshot_id: str = Field(foreign_key="snapshots.id", index=True)
    run: JsonObject = Field(sa_type=Json)


class SnapshotVerification(Table, table=True):
    """A look at whether a snapshot is what it says.

    `checks`: what was found (`workflows.domain.verification`). `environment_id` and `operation_id`: of the
    environment that it restores into, which is gone soon.
    """

    __tablename__ = "snapshot_verifications"
    __table_args__ = (
        Index("ix_snapshot_verifications_page", "snapshot_id", "created_at", "id"),
        _partial_unique("uq_snapshot_verifications_running", "snapshot_id", where="state = 'running'"),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    snapshot_id: str = Field(foreign_key="snapshots.id")
    level: int
    state: VerificationState = Field(sa_type=text_enum(VerificationState))
    checks: list[JsonObject] = Field(default_factory=list, sa_type=Json)
    environment_id: str | None = None
    operation_id: str | None = None
    requested_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class AuditEntry(Table, table=True):
    """Who did what to which thing; never changed."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_page", "organization_id", "at", "id"),
        Index("ix_audit_entries_subject", "organization_id", "subject_id", "at", "id"),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id")
    principal_id: str
    key_id: str | None = None
    action: str
    subject_id: str
    data: JsonObject = Field(default_factory=dict, sa_type=Json)
    at: datetime = Field(sa_type=UtcDateTime)


class IdempotencyRecord(Table, table=True):
    """A POST under an `Idempotency-Key`. `status` NULL: in flight, or its answer is not kept."""

    __tablename__ = "idempotency_records"

    organization_id: str = Field(primary_key=True, foreign_key="organizations.id")
    key_id: str = Field(primary_key=True)
    route: str = Field(primary_key=True)
    key: str = Field(primary_key=True, max_length=255)
    fingerprint: str = Field(max_length=64)
    status: int | None = None
    body: JsonObject | None = Field(default=None, sa_type=Json)
    headers: dict[str, str] | None = Field(default=None, sa_type=Json)
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime, index=True)


class Share(Table, table=True):
    """A link that shows an environment to guests. The link itself is not kept: it is signed, not looked up.

    `key_id`: the master key whose derivate signed it and peppers the hash of its PIN. `failed_pins` counts
    the PINs that are being tried or were wrong since the last right one; `locked_until` refuses others.
    """

    __tablename__ = "shares"
    __table_args__ = (
        Index("ix_shares_page", "environment_id", "created_at", "id"),
        Index("ix_shares_expires", "environment_id", "expires_at", "id"),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id", index=True)
    environment_id: str = Field(foreign_key="environments.id")
    label: str = ""
    key_id: str
    pin_hash: str | None = None
    show_images: bool = False
    views: int = Field(default=0, sa_type=BigInteger)
    last_viewed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    failed_pins: int = 0
    locked_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
