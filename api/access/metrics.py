"""CPU and memory of an environment's pods. What is not measured is absent, never zero.

From metrics.k8s.io where the cluster has it, else from the cgroups of the containers. The kubelet's own
summary is not asked: that takes `nodes/proxy`, a right with which commands can be run in every pod of the
cluster.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from activities.db.records import EnvironmentRecord
from api.access.cgroups import ask_pods
from api.access.schemas import ContainerMetrics, MetricsOut, PodMetrics, ServiceMetrics, UnmeasuredPod
from api.environments.pods import by_service, has_ended
from api.environments.service import known_blueprint
from api.readings import Readings
from api.state import AppState
from clusters.errors import ClusterError, Forbidden, NotFound, NotServed
from clusters.objects import Manifest
from workflows.domain.blueprint import Blueprint
from workflows.domain.json_reading import children, text
from workflows.domain.names import ENVIRONMENT, NAME
from workflows.domain.quantity import QuantityError, parse_quantity

if TYPE_CHECKING:
    from clusters.gateway import Cluster

SOURCE: Final = "metrics.k8s.io"
CGROUP: Final = "cgroup"
_SECONDS: Final = 5.0
_REMEMBERED_SECONDS: Final = 10.0
_MOST_REMEMBERED: Final = 1_000
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_Told = dict[str, list[PodMetrics | UnmeasuredPod]]
"""What is known of the pods of each service."""


class UseReadings:
    """What containers told in the last seconds: asking often would be seen in what they use."""

    def __init__(self) -> None:
        self._readings: Readings[tuple[str, str], _Told] = Readings(_REMEMBERED_SECONDS, _MOST_REMEMBERED)

    async def read(self, cluster: Cluster, record: EnvironmentRecord, blueprint: Blueprint) -> _Told:
        """Return what the containers of an environment tell. Raises ClusterError."""
        key = (record.organization_id, record.id)
        return await self._readings.get(key, lambda: _ask(cluster, record, blueprint))


async def read_metrics(state: AppState, organization_id: str, environment_id: str) -> MetricsOut:
    """Return what is measured, or why nothing is. Raises NotFound."""
    record, blueprint = await known_blueprint(state, organization_id, environment_id)
    try:
        cluster = await state.clusters.get(record.cluster)
        measured = await _served(cluster, record)
        if not isinstance(measured, str):
            services = _services(blueprint, measured, "none of its pods has been measured (yet)")
            return MetricsOut(available=True, source=SOURCE, services=services)
        told = await state.uses.read(cluster, record, blueprint)
    except Forbidden:
        return _absent(blueprint, "the control plane has no right to look at the environment's pods")
    except NotFound:
        return _absent(blueprint, "the environment's namespace is not there")
    except (ClusterError, TimeoutError):
        return _absent(blueprint, "the cluster does not answer")
    services = _services(blueprint, told, "it has no pod that could be asked")
    if any(each.pods for each in services):
        return MetricsOut(available=True, source=CGROUP, services=services)
    reason = f"{measured}, and no container tells what it uses"
    return MetricsOut(available=False, reason=reason, services=services)


async def _served(cluster: Cluster, record: EnvironmentRecord) -> _Told | str:
    """What metrics.k8s.io tells, or why it does not."""
    try:
        async with asyncio.timeout(_SECONDS):
            if not await cluster.served("PodMetrics"):
                return "the cluster serves no metrics.k8s.io (it has no metrics-server)"
            found = await cluster.list("PodMetrics", record.namespace, labels={ENVIRONMENT: record.id})
    except Forbidden:
        return "the control plane has no right to read metrics.k8s.io in the namespace"
    except (NotFound, NotServed):
        return "metrics.k8s.io knows nothing of the environment's namespace"
    except (ClusterError, TimeoutError):
        return "metrics.k8s.io does not answer"
    return {service: [_pod(item) for item in items] for service, items in by_service(found.items).items()}


async def _ask(cluster: Cluster, record: EnvironmentRecord, blueprint: Blueprint) -> _Told:
    async with asyncio.timeout(_SECONDS):
        found = await cluster.list("Pod", record.namespace, labels={ENVIRONMENT: record.id})
    services = {each.name for each in blueprint.services}
    pods = [pod for pod in found.items if _service_of(pod) in services and not has_ended(pod)]
    told = defaultdict(list)
    for pod, answer in zip(pods, await ask_pods(cluster, record.namespace, pods), strict=True):
        told[_service_of(pod)].append(answer)
    return told


def _service_of(pod: Manifest) -> str:
    return text(pod, "metadata", "labels", NAME)


def _absent(blueprint: Blueprint, reason: str) -> MetricsOut:
    services = [ServiceMetrics(service=each.name, pods=[], reason=reason) for each in blueprint.services]
    return MetricsOut(available=False, reason=reason, services=services)


def _services(
    blueprint: Blueprint, told: Mapping[str, Sequence[PodMetrics | UnmeasuredPod]], nothing: str
) -> list[ServiceMetrics]:
    return [_service(each.name, told.get(each.name, ()), nothing) for each in blueprint.services]


def _service(name: str, told: Iterable[PodMetrics | UnmeasuredPod], nothing: str) -> ServiceMetrics:
    pods: list[PodMetrics] = []
    unmeasured: list[UnmeasuredPod] = []
    for each in told:
        if isinstance(each, PodMetrics):
            pods.append(each)
        else:
            unmeasured.append(each)
    if not pods:
        reason = f"{unmeasured[0].pod}: {unmeasured[0].reason}" if unmeasured else nothing
        return ServiceMetrics(service=name, pods=[], unmeasured=unmeasured, reason=reason)
    return ServiceMetrics(
        service=name,
        cpu_cores=round(sum(pod.cpu_cores for pod in pods), 6),
        memory_bytes=sum(pod.memory_bytes for pod in pods),
        pods=pods,
        unmeasured=unmeasured,
    )


def _pod(item: Manifest) -> PodMetrics | UnmeasuredPod:
    """One pod's figures, when they are whole."""
    name, containers = text(item, "metadata", "name"), []
    for container in children(item, "containers"):
        try:
            cpu = float(parse_quantity(text(container, "usage", "cpu")))
            memory = int(parse_quantity(text(container, "usage", "memory")))
        except QuantityError:
            return UnmeasuredPod(
                pod=name,
                container=text(container, "name"),
                reason="metrics.k8s.io has no whole figures of it",
            )
        containers.append(
            ContainerMetrics(container=text(container, "name"), cpu_cores=round(cpu, 6), memory_bytes=memory)
        )
    if not containers:
        return UnmeasuredPod(pod=name, reason="metrics.k8s.io has no figures of its containers")
    return PodMetrics.of(
        name,
        containers,
        window_seconds=_seconds(text(item, "window")),
        measured_at=_moment(text(item, "timestamp")),
    )


def _seconds(duration: str) -> float | None:
    """Seconds of a Go duration such as `15.2s`."""
    match = _DURATION.fullmatch(duration)
    if not duration or match is None:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)


def _moment(written: str) -> datetime | None:
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        return None
