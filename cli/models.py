"""What the API answers, as far as the command line looks at it.

States and kinds stay plain text and unknown fields are ignored: an older `perdure` works with a newer API.
What is printed with `-o json|yaml` is the answer itself, not these models.
"""

from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue, field_validator
from pydantic.alias_generators import to_camel

TERMINAL_STATES: Final = frozenset({"succeeded", "failed", "cancelled", "rolled_back"})
STEP_ENDED: Final = frozenset({"succeeded", "failed", "skipped", "cancelled"})
_MOVES_DATA: Final = frozenset({"capture", "check", "load"})
"""Kinds of steps that stream a service's data."""


class ApiModel(BaseModel):
    """Base: frozen, camelCase outside, null means the default."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, validate_by_name=True, extra="ignore")


class Blocker(ApiModel):
    """An object that holds something up, and the finalizers that keep it."""

    object: str = ""
    finalizers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.object} ({', '.join(self.finalizers)})" if self.finalizers else self.object


class Failure(ApiModel):
    """Why an operation or a step failed. `evidence` holds documents or their keys."""

    kind: str
    message: str = ""
    step: str | None = None
    retryable: bool = False
    help: str | None = None
    evidence: tuple[JsonValue, ...] = ()
    blocked_by: tuple[Blocker, ...] = ()


class EvidenceEvent(ApiModel):
    """One event of the cluster about the object at fault."""

    reason: str = ""
    message: str = ""
    count: int = 1


class Evidence(ApiModel):
    """What the cluster said about a failure: events and last log lines, current and previous container."""

    pod: str | None = None
    container: str | None = None
    events: tuple[EvidenceEvent, ...] = ()
    log: tuple[str, ...] = ()
    previous_log: tuple[str, ...] = ()

    @field_validator("log", "previous_log", mode="before")
    @classmethod
    def _lines(cls, value: object) -> object:
        return value.splitlines() if isinstance(value, str) else value


class Transfer(ApiModel):
    """How far an attempt is with the data it moves; what is not known is None."""

    kind: str = ""
    service: str = ""
    stream: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    bytes_per_second: int | None = None


class Step(ApiModel):
    """One step of an operation's graph."""

    name: str
    kind: str = ""
    service: str | None = None
    depends_on: tuple[str, ...] = ()
    state: str = "pending"
    attempt: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    failure: Failure | None = None
    blocked_by: tuple[Blocker, ...] = ()
    output: dict[str, JsonValue] = {}
    transfer: Transfer | None = None

    @property
    def moving(self) -> bool:
        """Whether it is a step that streams data, and runs."""
        return self.state == "running" and self.kind in _MOVES_DATA

    @property
    def trouble(self) -> str:
        """Why the step failed, or what holds it up; empty when neither is so."""
        if self.failure is not None:
            return f"{self.failure.kind}: {self.failure.message}"
        held = "; ".join(str(blocker) for blocker in self.blocked_by)
        return f"held up by {held}" if held else ""


class Progress(ApiModel):
    """Steps done of steps planned, and the names of those that run."""

    done: int = 0
    total: int = 0
    running: tuple[str, ...] = ()


class Cleanup(ApiModel):
    """How far an undo got."""

    complete: bool
    left: tuple[str, ...] = ()
    not_undone: tuple[str, ...] = ()


class FieldFault(ApiModel):
    """One fault of a document: where, what, and what to write instead."""

    path: str = ""
    message: str = ""
    suggestion: str | None = None
    code: str | None = None


class FieldChange(ApiModel):
    """One field of a service that differs."""

    field: str
    before: JsonValue = None
    after: JsonValue = None


class ServiceChange(ApiModel):
    """What an update does to one service."""

    service: str
    effect: str = ""
    fields: tuple[FieldChange, ...] = ()
    reason: str | None = None
    lost_volumes: tuple[str, ...] = ()


class Operation(ApiModel):
    """One change to an environment. `progress` and `steps` are absent in lists."""

    id: str
    kind: str = ""
    state: str
    environment_id: str = ""
    environment_name: str | None = None
    retry_of: str | None = None
    replay_of: str | None = None
    snapshot_id: str | None = None
    from_step: str | None = None
    requested_by: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None
    steps: tuple[Step, ...] = ()
    failure: Failure | None = None
    cleanup: Cleanup | None = None
    changes: tuple[ServiceChange, ...] = ()
    warnings: tuple[FieldFault, ...] = ()
    workflow_id: str | None = None
    temporal_url: str | None = None

    @property
    def moving(self) -> bool:
        """Whether one of its steps streams data."""
        return any(step.moving for step in self.steps)

    @property
    def terminal(self) -> bool:
        """Whether the state will never change again."""
        return self.state in TERMINAL_STATES


class Update(ApiModel):
    """What an update would do; `noop`: nothing, so that no operation was accepted."""

    noop: bool
    refused: bool = False
    changes: tuple[ServiceChange, ...] = ()


class Diff(ApiModel):
    """What differs between two revisions."""

    source: int
    target: int
    changes: tuple[ServiceChange, ...] = ()


class Revision(ApiModel):
    """One accepted Blueprint of an environment."""

    number: int
    parent: int | None = None
    message: str = ""
    current: bool = False
    checkpoints: tuple[str, ...] = ()
    created_at: datetime | None = None
    changes: tuple[ServiceChange, ...] = ()


class Checkpoint(ApiModel):
    """A name for a revision."""

    name: str
    revision: int


class Service(ApiModel):
    """One service of an environment. `ready` is the number of pods that take requests."""

    name: str
    kind: str = ""
    image: str = ""
    state: str | None = None
    replicas: int | None = None
    ready: int | None = None
    restarts: int | None = None
    endpoints: tuple[str, ...] = ()
    reason: str | None = None
    message: str | None = None


class Condition(ApiModel):
    """One condition, in the Kubernetes manner."""

    type: str
    status: str = ""
    reason: str | None = None
    message: str | None = None
    since: datetime | None = None


class Environment(ApiModel):
    """An environment; `operation` is the one that runs or that this answer started."""

    id: str
    name: str
    description: str | None = None
    organization_id: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    status: str = ""
    conditions: tuple[Condition, ...] = ()
    revision: int | None = None
    plan: str | None = None
    services: tuple[Service, ...] = ()
    operation: Operation | None = None
    protected: bool = False
    expires_at: datetime | None = None
    labels: dict[str, str] = {}
    created_at: datetime | None = None
    updated_at: datetime | None = None


class EnvironmentStatus(ApiModel):
    """Status of an environment: `terminal` when nothing more happens by itself."""

    status: str = ""
    terminal: bool = False
    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    cluster_reachable: bool = True
    blocked_by: tuple[Blocker, ...] = ()
    conditions: tuple[Condition, ...] = ()
    services: tuple[Service, ...] = ()


class ValidationReport(ApiModel):
    """What validating a Blueprint found. Without errors, an environment can be made from it."""

    errors: tuple[FieldFault, ...] = ()
    warnings: tuple[FieldFault, ...] = ()


class Node(ApiModel):
    """One service in a topology. `store`: kind of data that it keeps."""

    name: str
    kind: str = ""
    image: str = ""
    replicas: int | None = None
    ports: tuple[int, ...] = ()
    store: str | None = None
    state: str | None = None


class Edge(ApiModel):
    """`source` waits for `target`."""

    source: str
    target: str
    condition: str = ""


class Exposure(ApiModel):
    """A service that is reached from outside."""

    service: str
    port: int | None = None
    endpoint: str = ""


class Topology(ApiModel):
    """The graph of an environment's services."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    external: tuple[Exposure, ...] = ()


class LogEntry(ApiModel):
    """One line of a container's log."""

    service: str
    pod: str = ""
    container: str = ""
    timestamp: str = ""
    line: str


class Unsupported(ApiModel):
    """One thing of a Compose file that a Blueprint cannot carry."""

    path: str = ""
    reason: str = ""


class Import(ApiModel):
    """A Compose file as a Blueprint. `environment` is there when it was created at once."""

    blueprint: JsonValue = None
    yaml: str | None = None
    unsupported: tuple[Unsupported, ...] = ()
    warnings: tuple[FieldFault, ...] = ()
    environment: Environment | None = None


class DiscoveredNote(ApiModel):
    """One remark on what was found; without a file it is about all."""

    file: str = ""
    path: str = ""
    severity: str = "info"
    message: str = ""


class DiscoveredUnsupported(Unsupported):
    """One thing of a file that a Blueprint cannot carry."""

    file: str = ""


class DiscoveredFault(FieldFault):
    """What keeps the Blueprint from being created; without a file its path is one of the Blueprint."""

    file: str = ""


class Discovery(ApiModel):
    """What was found in a project, as a Blueprint."""

    blueprint: JsonValue = None
    yaml: str | None = None
    errors: tuple[DiscoveredFault, ...] = ()
    warnings: tuple[FieldFault, ...] = ()
    notes: tuple[DiscoveredNote, ...] = ()
    unsupported: tuple[DiscoveredUnsupported, ...] = ()


class TemplateParameter(ApiModel):
    """One parameter of a template."""

    name: str
    type: str = "string"
    description: str = ""
    default: str | int | bool | None = None
    required: bool = False


class Template(ApiModel):
    """A Blueprint with parameters."""

    id: str
    name: str
    description: str = ""
    source: str = ""
    parameters: tuple[TemplateParameter, ...] = ()


class ApiKey(ApiModel):
    """An API key; `token` only in the answer that makes it."""

    id: str
    name: str = ""
    principal_id: str = ""
    role: str = ""
    last8: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    token: str | None = None


class StoredSecret(ApiModel):
    """A secret of the organisation, without its value."""

    name: str
    updated_at: datetime | None = None


class AuditEntry(ApiModel):
    """Who did what to which thing."""

    action: str
    subject_id: str = ""
    principal_id: str = ""
    data: dict[str, JsonValue] = {}
    at: datetime | None = None


class RegistryCredential(ApiModel):
    """A login for a container registry; its password never comes back."""

    id: str = ""
    name: str
    registry: str = ""
    username: str = ""
    created_at: datetime | None = None


class Share(ApiModel):
    """A share link, without the link."""

    id: str
    label: str = ""
    state: str = ""
    pin: bool = False
    views: int = 0
    last_viewed_at: datetime | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


class NewShare(Share):
    """A share link that was just made; `url` is told this once."""

    url: str


class Endpoint(ApiModel):
    """One port of a service, and how it is reached."""

    service: str
    port: int
    port_name: str | None = None
    exposed: bool = False
    url: str | None = None
    proxy: str | None = None
    internal: str = ""
    answers: str = "unknown"
    reason: str = ""
    http_status: int | None = None
    latency_ms: float | None = None


class EndpointList(ApiModel):
    """The ports of an environment's services."""

    endpoints: tuple[Endpoint, ...] = ()


class Check(ApiModel):
    """One finding of `perdure doctor`: `status` is ok, warn or fail; `remedy` mends what is not ok."""

    name: str
    status: str
    message: str = ""
    remedy: str | None = None


class Checks(ApiModel):
    """What the API found at itself and behind itself."""

    version: str = ""
    role: str = ""
    observed_at: datetime | None = None
    checks: tuple[Check, ...] = ()


class HealthPart(ApiModel):
    """One part of the installation, as everybody may see it."""

    status: str
    reason: str | None = None


class Health(ApiModel):
    """Whether the API and its parts are up."""

    status: str
    version: str = ""
    parts: dict[str, HealthPart] = {}
