"""The Blueprint as frozen models.

Attributes are snake_case, the written form camelCase: `model_dump(by_alias=True, mode="json")` gives a
document that `parse_blueprint` reads back into an equal Blueprint. The models hold shape only; the rules live
in `parse_blueprint`, the one door for what users write.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

SECRET_AUTO = "auto-generated"  # noqa: S105 - the marker, not a secret
DEFAULT_READY_TIMEOUT_SECONDS = 300
DEFAULT_QUIESCE_SECONDS = 30
DEFAULT_HEADER = "x-perdure-env"


class ServiceKind(StrEnum):
    """What a service runs as: for good, or once to its end."""

    SERVICE = "service"
    JOB = "job"


class Protocol(StrEnum):
    """Transport of a port."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class Condition(StrEnum):
    """What must hold for a dependency before the dependant starts."""

    READY = "ready"
    STARTED = "started"
    COMPLETED = "completed"


class Scheme(StrEnum):
    """Scheme of an HTTP probe."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"


class VolumeType(StrEnum):
    """Where a volume's content lives."""

    PVC = "pvc"
    EMPTY_DIR = "emptyDir"
    FILES = "files"


class InitType(StrEnum):
    """How an init script runs."""

    SQL = "sql"
    SHELL = "shell"


class SnapshotEngine(StrEnum):
    """How a service's data is captured."""

    AUTO = "auto"
    EXEC_DUMP = "exec-dump"
    CSI = "csi"
    MANIFEST_ONLY = "manifest-only"


class DataStore(StrEnum):
    """Kind of data a service keeps."""

    POSTGRES = "postgres"
    MYSQL = "mysql"
    REDIS = "redis"
    MONGODB = "mongodb"
    FILES = "files"


class MockMode(StrEnum):
    """How a mock stands in for its service."""

    REPLACE = "replace"
    """It runs instead of the service, under its name."""
    SIDECAR = "sidecar"
    """It runs beside the service in each of its pods, on ports of its own."""
    MIRROR = "mirror"
    """It gets a copy of each HTTP request to the service, and what it answers is thrown away."""


class RoutingMode(StrEnum):
    """How an environment relates to a baseline."""

    ISOLATED = "isolated"
    BASELINE = "baseline"
    OVERLAY = "overlay"
    SHADOW = "shadow"


class OnFailure(StrEnum):
    """What a failed provision does with what it made."""

    KEEP = "keep"
    ROLLBACK = "rollback"


class BlueprintModel(BaseModel):
    """Base of all parts: frozen, camelCase outside, unknown keys refused."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Port(BlueprintModel):
    """A port the container listens on, unique per protocol within its service."""

    container_port: int
    name: str | None = None
    protocol: Protocol = Protocol.TCP

    @property
    def label(self) -> str:
        """What the Kubernetes Service calls it, which has to name each: its name, else made of its number."""
        return self.name or f"{self.protocol.value.lower()}-{self.container_port}"


class Expose(BlueprintModel):
    """How a service is reachable from outside; `port`: number or name of a declared one (None: the first)."""

    host: str | None = None
    path: str = "/"
    port: int | str | None = None


class Dependency(BlueprintModel):
    """What a service waits for in another."""

    condition: Condition = Condition.READY


class ResourceLimits(BlueprintModel):
    """Upper bounds, as Kubernetes quantities."""

    cpu: str | None = None
    memory: str | None = None


class Resources(BlueprintModel):
    """Requests (`cpu`, `memory`) and limits, as Kubernetes quantities."""

    cpu: str | None = None
    memory: str | None = None
    limits: ResourceLimits = ResourceLimits()


class HttpProbe(BlueprintModel):
    """A GET that must answer 200..399; `port` is a declared port's number or name."""

    path: str = "/"
    port: int | str
    scheme: Scheme = Scheme.HTTP


class TcpProbe(BlueprintModel):
    """A connection that must be accepted; `port` is a declared port's number or name."""

    port: int | str


class ExecProbe(BlueprintModel):
    """A command in the container that must exit 0."""

    command: tuple[str, ...]


class Probe(BlueprintModel):
    """Exactly one of http, tcp, exec; the numbers default to those of Kubernetes."""

    http: HttpProbe | None = None
    tcp: TcpProbe | None = None
    exec: ExecProbe | None = None
    period_seconds: int = 10
    timeout_seconds: int = 1
    initial_delay_seconds: int = 0
    failure_threshold: int = 3
    success_threshold: int = 1


class Probes(BlueprintModel):
    """The three probes of a container."""

    readiness: Probe | None = None
    liveness: Probe | None = None
    startup: Probe | None = None


class Startup(BlueprintModel):
    """How much trouble at the start is normal: exits on top of those that make a crash loop anyway."""

    tolerate_restarts: int = 0


class SecretValueFrom(BlueprintModel):
    """A reference to a stored secret by its name."""

    secret: str


class SecretRef(BlueprintModel):
    """A secret handed to the container as environment variable `env_key`.

    At most one source: `value` (`auto-generated` or a literal, kept out of repr) or `value_from`. With
    neither, another service of the Blueprint names the source: one name is one secret.
    """

    name: str
    env_key: str
    value: str | None = Field(default=None, repr=False)
    value_from: SecretValueFrom | None = None

    @property
    def literal(self) -> str | None:
        """The value when the user wrote it out, else None."""
        return None if self.value == SECRET_AUTO else self.value


class Volume(BlueprintModel):
    """A directory mounted into the container.

    `size` and `storage_class` belong to `pvc` (size also bounds `emptyDir`), `files` (relative path to text)
    to `files`.
    """

    name: str
    mount_path: str
    type: VolumeType
    size: str | None = None
    storage_class: str | None = None
    files: dict[str, str] = {}


class Init(BlueprintModel):
    """A script that runs once, when its service is first ready."""

    type: InitType
    script: str


class Snapshot(BlueprintModel):
    """How the service's data is captured; `store` None: found from the image.

    `quiesce` and `thaw`: commands that hold the service still and let it go, both or none. `quiesce_seconds`:
    longest time from the beginning of the one to the end of the other.
    """

    engine: SnapshotEngine = SnapshotEngine.AUTO
    store: DataStore | None = None
    quiesce: tuple[str, ...] = ()
    thaw: tuple[str, ...] = ()
    quiesce_seconds: int = DEFAULT_QUIESCE_SECONDS


MOCK_VOLUME: Final = "perdure-mock"
"""Name of the volume that holds a mock's files."""
MOCK_MOUNT_PATH: Final = "/etc/perdure/mock"
"""Where a mock finds them."""


class Mock(BlueprintModel):
    """A stand-in for the service; one that replaces it has its ports, unless it names others.

    `files` (relative path to text) are mounted into the mock's container only.
    """

    mode: MockMode
    image: str
    ports: tuple[Port, ...] = ()
    files: dict[str, str] = {}


class Service(BlueprintModel):
    """One workload of an environment; its Kubernetes objects bear its name."""

    name: str
    kind: ServiceKind = ServiceKind.SERVICE
    image: str
    image_pull_secrets: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    replicas: int = 1
    ports: tuple[Port, ...] = ()
    expose: bool | Expose = False
    env: dict[str, str] = {}
    depends_on: dict[str, Dependency] = {}
    resources: Resources = Resources()
    probes: Probes = Probes()
    ready_timeout_seconds: int = DEFAULT_READY_TIMEOUT_SECONDS
    startup: Startup = Startup()
    secrets: tuple[SecretRef, ...] = ()
    volumes: tuple[Volume, ...] = ()
    init: Init | None = None
    snapshot: Snapshot = Snapshot()
    mock: Mock | None = None
    replicable: bool = False
    allow_replace: bool = False

    @property
    def stateful(self) -> bool:
        """Whether the service keeps data in a persistent volume (it becomes a StatefulSet)."""
        return any(volume.type is VolumeType.PVC for volume in self.volumes)

    @property
    def store(self) -> DataStore | None:
        """The kind of data the service keeps, see `data_store`."""
        return data_store(self)

    @property
    def exposure(self) -> Expose | None:
        """How the service is exposed with the short form `true` spelled out; None when it is not."""
        if isinstance(self.expose, Expose):
            return self.expose
        return Expose() if self.expose else None

    @property
    def exposed_port(self) -> Port | None:
        """The declared port that is exposed; None when the service is not exposed."""
        exposure = self.exposure
        return None if exposure is None else self.find_port(exposure.port)

    def find_port(self, wanted: int | str | None) -> Port | None:
        """The declared port with this number or name (None: the first); None when there is no such port."""
        if wanted is None:
            return self.ports[0] if self.ports else None
        return next((port for port in self.ports if wanted in (port.container_port, port.name)), None)

    @property
    def unsafely_replicated(self) -> bool:
        """Whether replicas would each get a volume of their own without the Blueprint saying so (L006)."""
        return self.stateful and self.replicas > 1 and not self.replicable


class Routing(BlueprintModel):
    """How requests find this environment, beside or over a baseline."""

    mode: RoutingMode = RoutingMode.ISOLATED
    baseline_id: str | None = None
    overlay_id: str | None = None
    header_name: str = DEFAULT_HEADER
    propagate_header: bool = True


class Blueprint(BlueprintModel):
    """A whole environment as its user wrote it.

    `plans` holds the profiles as written (validated over the base); it is empty once a plan was applied.
    """

    name: str
    description: str = ""
    services: tuple[Service, ...]
    plans: dict[str, dict[str, JsonValue]] = {}
    routing: Routing = Routing()
    auto_shutdown_enabled: bool = False
    auto_shutdown_delay_minutes: int = 30
    ttl_minutes: int | None = None
    on_failure: OnFailure = OnFailure.KEEP
    protected: bool = False
    labels: dict[str, str] = {}

    def service(self, name: str) -> Service:
        """The service of this name. Raises KeyError when there is none."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)


_STORE_WORDS: tuple[tuple[DataStore, tuple[str, ...]], ...] = (
    (DataStore.POSTGRES, ("postgres", "postgis", "timescale")),
    (DataStore.MYSQL, ("mysql", "mariadb", "percona")),
    (DataStore.REDIS, ("redis", "valkey", "keydb")),
    (DataStore.MONGODB, ("mongo",)),
)
# Images that carry a store's name and are not that store.
_COMPANION_WORDS = (
    "exporter",
    "admin",
    "express",
    "commander",
    "insight",
    "proxy",
    "operator",
    "backup",
    "adapter",
)


def data_store(service: Service) -> DataStore | None:
    """The kind of data a service keeps: what `snapshot.store` says, else what the image's name tells.

    A service with a persistent volume and an unknown image keeps `files`; None when it keeps nothing.
    """
    if service.snapshot.store is not None:
        return service.snapshot.store
    image_name = service.image.split("@")[0].rsplit("/", 1)[-1].split(":")[0].lower()
    if not any(word in image_name for word in _COMPANION_WORDS):
        for store, words in _STORE_WORDS:
            if any(word in image_name for word in words):
                return store
    return DataStore.FILES if service.stateful else None
