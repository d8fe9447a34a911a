"""Tables of what is measured and estimated, in units that people use."""

from collections.abc import Sequence

from cli.models import Checkpoint
from cli.models_readings import Cost, Metrics, Principal, Statistics, StoreStats, Stub, VolumeStats
from cli.text import age, binary, columns, duration, pairs, plain

_CGROUP = "As the containers' cgroups tell: CPU over half a second, without metrics.k8s.io."


def metrics(found: Metrics, *, by_pod: bool) -> list[str]:
    """Return what each service uses, or each pod, and below it which pods are not in it, where from it is.

    Alone the reasons when nothing is measured.
    """
    absent = [
        plain(f"Not measured: {each.pod}{f' ({each.container})' if each.container else ''}: {each.reason}")
        for service in found.services
        for each in service.unmeasured
    ]
    if not found.available:
        return [plain(f"Nothing is measured: {found.reason or 'the cluster has no metrics'}."), *absent]
    below = [*absent, *([_CGROUP] if found.source == "cgroup" else [])]
    return [*_metrics_table(found, by_pod=by_pod), *(["", *below] if below else [])]


def _metrics_table(found: Metrics, *, by_pod: bool) -> list[str]:
    if by_pod:
        pods = [(each.service, pod) for each in found.services for pod in each.pods]
        rows = [[name, pod.pod, _cores(pod.cpu_cores), binary(pod.memory_bytes)] for name, pod in pods]
        return columns(["SERVICE", "POD", "CPU", "MEMORY"], rows)
    rows = [
        [
            each.service,
            str(len(each.pods)),
            _cores(each.cpu_cores),
            binary(each.memory_bytes),
            each.reason or "",
        ]
        for each in found.services
    ]
    return columns(["SERVICE", "PODS", "CPU", "MEMORY", "BECAUSE"], rows)


def store_stats(found: StoreStats) -> list[str]:
    """Return what each volume holds and how fast it fills."""
    rows = [
        [
            store.service,
            store.store,
            volume.claim,
            binary(volume.used_bytes),
            binary(_size(volume)),
            _share(volume),
            _growth(volume),
            volume.reason or volume.growth.reason or "",
        ]
        for store in found.stores
        for volume in store.volumes
    ]
    if not rows:
        return ["No service keeps data in a volume."]
    return columns(["SERVICE", "STORE", "VOLUME", "USED", "SIZE", "FULL", "GROWTH", "BECAUSE"], rows)


def cost(found: Cost) -> list[str]:
    """Return what each service costs, the sum, and what it rests on."""
    rows = [
        [
            each.service,
            str(each.replicas),
            _cores(each.cpu_cores),
            binary(each.memory_bytes),
            binary(each.storage_bytes),
            each.per_hour,
            each.per_month,
        ]
        for each in found.services
    ]
    rows.append(["all", "", "", "", "", found.per_hour, found.per_month])
    header = ["SERVICE", "REPLICAS", "CPU", "MEMORY", "VOLUMES"]
    header += [f"{found.currency}/HOUR", f"{found.currency}/MONTH"]
    assumed = [plain(f"- {each}") for each in found.assumed]
    return [*columns(header, rows), *(["", "Assumed:", *assumed] if assumed else [])]


def statistics(found: Statistics) -> list[str]:
    """Return the figures of environments, operations and workers."""
    operations, workers = found.operations, found.workers
    rate = None if operations.failure_rate is None else f"{operations.failure_rate:.1%}"
    lines = pairs(
        [
            ("Environments", f"{found.environments.total}{_parts(found.environments.by_status)}"),
            ("Operations", f"{operations.total} in 24 h"),
            ("Failed", rate),
        ]
    )
    kinds = [
        [
            kind,
            str(sum(states.values())),
            ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items()),
            *_took(found, kind),
        ]
        for kind, states in operations.by_kind.items()
    ]
    if kinds:
        lines += ["", *columns(["OPERATION", "COUNT", "STATES", "MEDIAN", "95 %"], kinds)]
    if not workers.known:
        return [*lines, "", "Temporal does not answer: nothing is known of the workers."]
    queues = [
        [each.name, str(each.workers), "" if each.backlog is None else str(each.backlog)]
        for each in workers.queues
    ]
    return [*lines, "", *columns(["QUEUE", "WORKERS", "WAITING"], queues)]


def checkpoints(found: Sequence[Checkpoint]) -> list[str]:
    """Return checkpoints as a table."""
    if not found:
        return ["No checkpoints. `perdure env checkpoint ENVIRONMENT NAME` makes one."]
    return columns(["CHECKPOINT", "REVISION"], [[each.name, str(each.revision)] for each in found])


def principals(found: Sequence[Principal]) -> list[str]:
    """Return principals as a table."""
    rows = [[each.id, each.kind, each.name, age(each.created_at)] for each in found]
    return columns(["PRINCIPAL", "KIND", "NAME", "AGE"], rows)


def not_in_stub(found: Stub) -> list[str]:
    """Return what of the input the stub does not do."""
    return [f"not in the stub  {plain(f'{each.path}: {each.reason}')}" for each in found.unsupported]


def _cores(cores: float | None) -> str:
    return "" if cores is None else f"{cores:.3f}"


def _size(volume: VolumeStats) -> int | None:
    return volume.requested_bytes if volume.capacity_bytes is None else volume.capacity_bytes


def _share(volume: VolumeStats) -> str:
    size = _size(volume)
    return "" if not size or volume.used_bytes is None else f"{volume.used_bytes / size:.0%}"


def _growth(volume: VolumeStats) -> str:
    grown = volume.growth.bytes_per_day
    return "" if not volume.growth.known or grown is None else f"{binary(grown)} a day"


def _parts(counts: dict[str, int]) -> str:
    parts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    return f" ({parts})" if parts else ""


def _took(found: Statistics, kind: str) -> list[str]:
    figures = found.operations.durations.get(kind)
    if figures is None or not figures.count:
        return ["", ""]
    return [duration(figures.median_seconds), duration(figures.p95_seconds)]
