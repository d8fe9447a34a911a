"""Environments as the API answers them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from api.envelope import ApiInput, ApiModel
from api.operations.schemas import BlockerOut, OperationOut, ServiceChangeOut
from api.parameters import LAST_REVISION
from api.problems import ProblemField
from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_parse import YEAR_MINUTES
from workflows.domain.blueprint_rules import Problem
from workflows.domain.operations import EnvironmentPhase, OnFailure


class ConditionOut(ApiModel):
    """One aspect of a status, in the Kubernetes manner."""

    type: str
    status: str = Field(description="True, False or Unknown")
    reason: str
    message: str = ""
    since: datetime


class ServiceOut(ApiModel):
    """One service. What the cluster says is absent in lists, and while the cluster is away."""

    name: str
    kind: str = Field(description="`service` or `job`")
    image: str
    replicas: int = Field(description="Pods that there should be")
    ready: int | None = Field(
        default=None, description="Pods that take requests; of a job those that succeeded"
    )
    restarts: int | None = None
    state: str | None = Field(default=None, description="`ready`, `starting`, `failing` or `absent`")
    reason: str | None = Field(default=None, description="Why it is not ready, as the cluster calls it")
    message: str | None = None
    endpoints: list[str] = Field(
        default=[], description="`http://host/path`, or `proxy`: through the API only"
    )


class EnvironmentOut(ApiModel):
    """An environment."""

    id: str
    name: str
    description: str
    organization_id: str
    cluster: str
    namespace: str
    status: EnvironmentPhase
    conditions: list[ConditionOut]
    revision: int
    plan: str | None = None
    services: list[ServiceOut]
    operation: OperationOut | None = Field(default=None, description="The latest one; without its steps")
    auto_shutdown_enabled: bool
    auto_shutdown_delay_minutes: int
    auto_shutdown_unmeasured: bool = Field(
        description="Put it to sleep although it is reached by ways in whose use is not measured"
    )
    ttl_minutes: int | None = None
    expires_at: datetime | None = Field(default=None, description="When it is deleted; absent: never")
    last_active_at: datetime | None = Field(
        default=None, description="Last operation, or request through the service proxy"
    )
    protected: bool
    labels: dict[str, str]
    version: int = Field(
        description="Grows with each change of the environment's record; `If-Match` takes it"
    )
    created_by: str
    created_at: datetime
    updated_at: datetime


class StatusOut(EnvironmentOut):
    """An environment's live status."""

    terminal: bool = Field(description="Nothing more happens by itself")
    phase: str = Field(description="The step that runs now; the status when none does")
    reason: str | None = Field(default=None, description="Failure kind, or why a service is not ready")
    message: str | None = None
    blocked_by: list[BlockerOut] = Field(default=[], description="What holds a deletion up")
    cluster_reachable: bool = Field(description="False: what the services do is not known")
    observed_at: datetime


class CreateEnvironment(ApiInput):
    """What `POST /environments` is sent as JSON."""

    blueprint: dict[str, Any] | str = Field(description="A Blueprint, or its YAML text")
    name: str | None = Field(default=None, description="Takes the place of the Blueprint's name")
    plan: str | None = Field(default=None, description="Plan of the Blueprint to lay over its base")
    snapshot_id: str | None = Field(
        default=None,
        description="Whose data its services begin with; the Blueprint has to have a place for them",
    )


class UpdateEnvironment(ApiInput):
    """What `PUT /environments/{id}/blueprint` is sent as JSON."""

    blueprint: dict[str, Any] | str = Field(description="A Blueprint, or its YAML text")
    plan: str | None = Field(default=None, description="Plan of the Blueprint to lay over its base")
    message: str | None = Field(default=None, description="Why: kept with the revision")
    on_failure: OnFailure | None = Field(
        default=None,
        description="`rollback` (the default): back to the revision before; `keep`: as it is then",
    )


class UpdateOut(ApiModel):
    """What an update does, or would do."""

    environment_id: str
    noop: bool = Field(description="The environment is so already: nothing was accepted")
    refused: bool = Field(description="A service would lose data: such an update is not accepted")
    changes: list[ServiceChangeOut]


def _fits(check: Callable[[str], Problem | None]) -> AfterValidator:
    """The Blueprint's own rule for a text, as a check of a field."""

    def fits(value: str) -> str:
        problem = check(value)
        if problem is not None:
            raise PydanticCustomError("rule", "{fault}", {"fault": f"{problem[0]} ({problem[1]})"})
        return value

    return AfterValidator(fits)


class ChangeEnvironment(ApiInput):
    """What `PATCH /environments/{id}` is sent: the settings that are to change, and no others."""

    # A factory, not a value: what is left out has no default, it stays as it is.
    name: Annotated[str, _fits(rules.blueprint_name)] = Field(
        default_factory=str,
        min_length=1,
        max_length=rules.LONGEST_BLUEPRINT_NAME,
        description="Only what people call it: namespace, objects and workflows keep their names",
    )
    description: str = Field(default_factory=str, max_length=4096)
    auto_shutdown_enabled: bool = Field(default_factory=bool, strict=True)
    auto_shutdown_delay_minutes: int = Field(default_factory=int, ge=1, le=YEAR_MINUTES, strict=True)
    auto_shutdown_unmeasured: bool = Field(
        default=False,
        strict=True,
        description="Put it to sleep although it is reached by ways in whose use is not measured",
    )
    ttl_minutes: Annotated[int, Field(ge=1, le=YEAR_MINUTES, strict=True)] | None = Field(
        default=None, description="null: it stays until it is deleted"
    )
    labels: dict[Annotated[str, _fits(rules.label_key)], Annotated[str, _fits(rules.label_value)]] = Field(
        default_factory=dict, description="All labels: those that are not named go"
    )
    protected: bool = Field(
        default_factory=bool,
        strict=True,
        description="Whether delete, stop, and restoring over its data are refused",
    )


class ScaleService(ApiInput):
    """What `PATCH /environments/{id}/scale` is sent."""

    service: str = Field(min_length=1, max_length=63)
    replicas: int = Field(ge=0, le=rules.MOST_REPLICAS)


class RestartService(ApiInput):
    """What `POST /environments/{id}/restart` is sent."""

    service: str = Field(min_length=1, max_length=63)


class RollbackEnvironment(ApiInput):
    """What `POST /environments/{id}/rollback` is sent: one of `revision` and `checkpoint`."""

    revision: int | None = Field(default=None, ge=1, le=LAST_REVISION)
    checkpoint: str | None = Field(default=None, min_length=1, max_length=40)
    on_failure: OnFailure | None = Field(
        default=None, description="`keep`: a service that does not become ready is left as it is then"
    )


class ExtendEnvironment(ApiInput):
    """What `POST /environments/{id}/extend` is sent."""

    minutes: int = Field(default=60, ge=1, le=YEAR_MINUTES, description="Put the end off by this long")


class CloneEnvironment(ApiInput):
    """What `POST /environments/{id}/clone` is sent."""

    name: str = Field(min_length=1, max_length=40)


class ValidateBlueprint(ApiInput):
    """What `POST /environments/validate` is sent as JSON."""

    blueprint: dict[str, Any] | str
    name: str | None = None
    plan: str | None = None


class ValidationOut(ApiModel):
    """What is wrong with a Blueprint, and what could be better."""

    valid: bool
    errors: list[ProblemField] = Field(description="The environment cannot be created with these")
    warnings: list[ProblemField]


class ImportCompose(ApiInput):
    """What `POST /environments/import` is sent as JSON."""

    compose: dict[str, Any] | str = Field(description="A Compose file: its text, or the document")
    name: str | None = Field(default=None, description="Name of the environment; else the Compose project's")
    env_files: dict[str, str] = Field(default={}, description="Contents of the files that `env_file` names")
    images: dict[str, str] = Field(
        default={}, description="By service: image for those that only say `build:`"
    )
    profiles: list[str] = Field(default=[], description="Compose profiles that are switched on")
    variables: dict[str, str] = Field(default={}, description="Values for `${...}` in the Compose file")
    create: bool = Field(default=False, description="Create the environment at once")


class UnsupportedOut(ApiModel):
    """One thing of a Compose file that a Blueprint cannot carry."""

    path: str
    reason: str


class ImportOut(ApiModel):
    """A Compose file as a Blueprint."""

    blueprint: dict[str, JsonValue]
    yaml: str = Field(description="The same as YAML text")
    unsupported: list[UnsupportedOut]
    warnings: list[ProblemField]
    environment: EnvironmentOut | None = Field(default=None, description="With `create`: the new environment")


class LogEntry(ApiModel):
    """One line of a container's log."""

    service: str
    pod: str
    container: str
    timestamp: str = Field(description="RFC 3339 with nanoseconds, as the node wrote it")
    line: str


class TopologyNode(ApiModel):
    """One service."""

    name: str
    kind: str
    image: str
    replicas: int
    ports: list[int]
    store: str | None = Field(default=None, description="Kind of data that it keeps")
    state: str | None = None
    ready: int | None = None


class TopologyEdge(ApiModel):
    """`source` waits for `target`."""

    source: str
    target: str
    condition: str


class Exposure(ApiModel):
    """A service that is reached from outside."""

    service: str
    port: int
    endpoint: str


class TopologyOut(ApiModel):
    """The graph of an environment's services."""

    nodes: list[TopologyNode]
    edges: list[TopologyEdge]
    external: list[Exposure]
