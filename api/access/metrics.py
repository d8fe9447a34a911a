"""CPU and memory of an environment's pods, from metrics.k8s.io. What is not measured is absent, never zero.

The kubelet's own summary is not asked: that takes `nodes/proxy`, a right with which commands can be run in
every pod of the cluster.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from api.access.schemas import ContainerMetrics, MetricsOut, PodMetrics, ServiceMetrics
from api.environments.pods import by_service
from api.environments.service import known_blueprint
from api.state import AppState
from clusters.errors import ClusterError, Forbidden, NotFound, NotServed
from clusters.objects import Manifest
from workflows.domain.blueprint import Blueprint
from workflows.domain.json_reading import children, text
from workflows.domain.names import ENVIRONMENT
from workflows.domain.quantity import QuantityError, parse_quantity

SOURCE: Final = "metrics.k8s.io"
_SECONDS: Final = 5.0
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


async def read_metrics(state: AppState, organization_id: str, environment_id: str) -> MetricsOut:
    """Return what is measured, or why nothing is. Raises NotFound."""
    record, blueprint = await known_blueprint(state, organization_id, environment_id)
    try:
        async with asyncio.timeout(_SECONDS):
            cluster = await state.clusters.get(record.cluster)
            if not await cluster.served("PodMetrics"):
                return _absent(blueprint, "the cluster serves no metrics.k8s.io (it has no metrics-server)")
            found = await cluster.list("PodMetrics", record.namespace, labels={ENVIRONMENT: record.id})
    except Forbidden:
        return _absent(blueprint, "the control plane has no right to read metrics.k8s.io in the namespace")
    except (NotFound, NotServed):
        return _absent(blueprint, "the cluster has no metrics of this environment's namespace")
    except (ClusterError, TimeoutError):
        return _absent(blueprint, "the cluster does not answer")
    return MetricsOut(available=True, source=SOURCE, services=_services(blueprint, found.items))


def _absent(blueprint: Blueprint, reason: str) -> MetricsOut:
    services = [ServiceMetrics(service=each.name, pods=[], reason=reason) for each in blueprint.services]
    return MetricsOut(available=False, reason=reason, services=services)


def _services(blueprint: Blueprint, items: Iterable[Manifest]) -> list[ServiceMetrics]:
    measured = by_service(items)
    services = []
    for service in blueprint.services:
        pods = [pod for item in measured.get(service.name, []) if (pod := _pod(item)) is not None]
        if not pods:
            reason = "none of its pods has been measured (yet)"
            services.append(ServiceMetrics(service=service.name, pods=[], reason=reason))
            continue
        services.append(
            ServiceMetrics(
                service=service.name,
                cpu_cores=round(sum(pod.cpu_cores for pod in pods), 6),
                memory_bytes=sum(pod.memory_bytes for pod in pods),
                pods=pods,
            )
        )
    return services


def _pod(item: Manifest) -> PodMetrics | None:
    """One pod's figures; None when they are not whole."""
    containers = []
    for container in children(item, "containers"):
        try:
            cpu = float(parse_quantity(text(container, "usage", "cpu")))
            memory = int(parse_quantity(text(container, "usage", "memory")))
        except QuantityError:
            return None
        containers.append(
            ContainerMetrics(container=text(container, "name"), cpu_cores=round(cpu, 6), memory_bytes=memory)
        )
    if not containers:
        return None
    return PodMetrics(
        pod=text(item, "metadata", "name"),
        cpu_cores=round(sum(each.cpu_cores for each in containers), 6),
        memory_bytes=sum(each.memory_bytes for each in containers),
        window_seconds=_seconds(text(item, "window")),
        measured_at=_moment(text(item, "timestamp")),
        containers=containers,
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
