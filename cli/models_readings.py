"""What the API measures and estimates, as far as the command line looks at it; see `models`."""

from datetime import datetime

from pydantic import JsonValue

from cli.models import ApiModel


class PodMetrics(ApiModel):
    """What one pod uses."""

    pod: str
    cpu_cores: float = 0.0
    memory_bytes: int = 0
    window_seconds: float | None = None


class UnmeasuredPod(ApiModel):
    """A pod that is in no sum, and why."""

    pod: str
    container: str | None = None
    reason: str = ""


class ServiceMetrics(ApiModel):
    """What one service uses, or why it is not known."""

    service: str
    cpu_cores: float | None = None
    memory_bytes: int | None = None
    pods: tuple[PodMetrics, ...] = ()
    unmeasured: tuple[UnmeasuredPod, ...] = ()
    reason: str | None = None


class Metrics(ApiModel):
    """What an environment uses."""

    available: bool = False
    source: str | None = None
    reason: str | None = None
    services: tuple[ServiceMetrics, ...] = ()


class Growth(ApiModel):
    """How fast a volume fills, in bytes a day."""

    known: bool = False
    bytes_per_day: int | None = None
    reason: str | None = None


class VolumeStats(ApiModel):
    """One volume."""

    claim: str
    mount_path: str = ""
    capacity_bytes: int | None = None
    requested_bytes: int | None = None
    used_bytes: int | None = None
    reason: str | None = None
    growth: Growth = Growth()


class Store(ApiModel):
    """One service that keeps data."""

    service: str
    store: str = ""
    volumes: tuple[VolumeStats, ...] = ()


class StoreStats(ApiModel):
    """What the stores of an environment hold."""

    stores: tuple[Store, ...] = ()


class ServiceCost(ApiModel):
    """What one service costs; amounts are decimal text."""

    service: str
    replicas: int = 0
    cpu_cores: float = 0.0
    memory_bytes: int = 0
    storage_bytes: int = 0
    per_hour: str = ""
    per_month: str = ""


class Cost(ApiModel):
    """What an environment costs, and what that rests on."""

    currency: str = ""
    per_hour: str = ""
    per_month: str = ""
    services: tuple[ServiceCost, ...] = ()
    assumed: tuple[str, ...] = ()


class EnvironmentFigures(ApiModel):
    """Environments of the organisation."""

    total: int = 0
    by_status: dict[str, int] = {}


class DurationFigures(ApiModel):
    """How long operations took that succeeded."""

    count: int = 0
    median_seconds: float = 0.0
    p95_seconds: float = 0.0


class OperationFigures(ApiModel):
    """Operations of the last 24 hours: by kind, then state."""

    total: int = 0
    by_kind: dict[str, dict[str, int]] = {}
    failure_rate: float | None = None
    durations: dict[str, DurationFigures] = {}


class QueueFigures(ApiModel):
    """A task queue and who works on it."""

    name: str
    workers: int = 0
    backlog: int | None = None


class WorkerFigures(ApiModel):
    """Who does the work; not `known` when Temporal does not answer."""

    known: bool = False
    queues: tuple[QueueFigures, ...] = ()


class Statistics(ApiModel):
    """The installation's figures, as far as they are the organisation's."""

    environments: EnvironmentFigures = EnvironmentFigures()
    operations: OperationFigures = OperationFigures()
    workers: WorkerFigures = WorkerFigures()


class Principal(ApiModel):
    """Whose keys act: a person or a program."""

    id: str
    kind: str = ""
    name: str = ""
    created_at: datetime | None = None


class NotInStub(ApiModel):
    """Something of the input that the stub does not do."""

    path: str
    reason: str = ""


class Stub(ApiModel):
    """A generated stub: `mock` for a service that is there, `yaml` a whole service with it."""

    mock: dict[str, JsonValue] = {}
    yaml: str = ""
    unsupported: tuple[NotInStub, ...] = ()
