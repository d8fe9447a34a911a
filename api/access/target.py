"""Which pod and port a service's name stands for: those that the Blueprint declares, no others."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from activities.db.records import EnvironmentRecord
from api.environments.service import known_blueprint
from api.problems import ProblemError, RequestProblem
from api.readings import Readings
from api.state import AppState
from clusters.errors import Forbidden, NotFound
from clusters.objects import Manifest
from workflows.domain.blueprint import Blueprint, Port, Protocol, Service
from workflows.domain.json_reading import children, number, text
from workflows.domain.manifests import reached_ports, running_as
from workflows.domain.mirror import CONTAINER, proxy_port
from workflows.domain.names import ENVIRONMENT, NAME
from workflows.domain.readiness_view import holds

if TYPE_CHECKING:
    from clusters.gateway import Cluster

RETRY_SECONDS: Final = "2"
_REMEMBERED_SECONDS: Final = 1.0
_MOST_REMEMBERED: Final = 1_000


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """A service of an environment, and the port that is meant."""

    record: EnvironmentRecord
    named: str
    """What it was asked for as: `service` or `service:port`."""
    service: Service
    port: Port
    pods: tuple[str, ...]
    """Names of its pods that are ready."""
    copied: frozenset[str] = frozenset()
    """Those of them in which a proxy copies the requests to this port."""

    def http_port(self, pod: str) -> int:
        """Where in one of the pods HTTP requests are sent, so that they are copied like those of others."""
        own = self.port.container_port
        return proxy_port(own) if pod in self.copied else own

    @property
    def pod(self) -> str:
        """One of the ready pods, each as likely."""
        return random.choice(self.pods)

    @property
    def prefix(self) -> str:
        """Path of the API below which the service is reached, as it was chosen."""
        return (
            f"/v1/environments/{self.record.id}/services/{self.service.name}:{self.port.container_port}/proxy"
        )

    @property
    def host(self) -> str:
        """What the service is called inside its environment."""
        return f"{self.service.name}:{self.port.container_port}"

    @property
    def hosts(self) -> frozenset[str]:
        """All names by which the service may call itself."""
        name, namespace = self.service.name, self.record.namespace
        within = f"{name}.{namespace}"
        local = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104 - a name, nothing is bound
        return frozenset({name, within, f"{within}.svc", f"{within}.svc.cluster.local", *local})


class Targets:
    """Resolves names, and remembers each answer for a second: a page is many requests."""

    def __init__(self) -> None:
        self._readings: Readings[tuple[str, str, str], ServiceTarget] = Readings(
            _REMEMBERED_SECONDS, _MOST_REMEMBERED
        )

    async def find(
        self, state: AppState, organization_id: str, environment_id: str, named: str
    ) -> ServiceTarget:
        """Return the target of `service` or `service:port`. Raises NotFound, ClusterError.

        ProblemError: 404 for a service or port that the Blueprint does not declare, 503 without a ready pod.
        """
        key = (organization_id, environment_id, named)
        return await self._readings.get(key, lambda: _find(state, *key))

    def forget(self, target: ServiceTarget) -> None:
        """Look again at the next request: a pod of this answer did not take the connection."""
        self._readings.forget((target.record.organization_id, target.record.id, target.named))


async def _find(state: AppState, organization_id: str, environment_id: str, named: str) -> ServiceTarget:
    record, blueprint = await known_blueprint(state, organization_id, environment_id)
    service, port = service_and_port(blueprint, named)
    cluster = await state.clusters.get(record.cluster)
    pods = await ready_pods(cluster, record, service.name)
    names = tuple(text(pod, "metadata", "name") for pod in pods)
    copied = frozenset(text(pod, "metadata", "name") for pod in pods if _copies(pod, port))
    return ServiceTarget(record, named, service, port, names, copied)


def service_and_port(blueprint: Blueprint, named: str) -> tuple[Service, Port]:
    """Return the declared service and TCP port that `service` or `service:port` names.

    `port` is a number or a declared name; without it: the exposed one, else the first. ProblemError 404.
    """
    name, colon, wanted = named.partition(":")
    service = declared_service(blueprint, name)
    ports = [port for port in reached_ports(service) if port.protocol is Protocol.TCP]
    if not colon:
        exposed = service.exposed_port
        chosen = exposed if exposed in ports else next(iter(ports), None)
    else:
        chosen = next((port for port in ports if wanted in (str(port.container_port), port.name)), None)
    if chosen is None:
        declared = ", ".join(str(port.container_port) for port in ports) or "none"
        raise ProblemError(
            RequestProblem.NOT_FOUND,
            f"The service {name!r} declares no such TCP port (it declares: {declared}).",
        )
    return service, chosen


def declared_service(blueprint: Blueprint, name: str) -> Service:
    """Return the service of this name, as it runs. ProblemError 404 when the Blueprint has none."""
    for service in blueprint.services:
        if service.name == name:
            return running_as(service)
    raise ProblemError(
        RequestProblem.NOT_FOUND,
        f"The environment has no service {name[:63]!r} "
        f"(it has: {', '.join(each.name for each in blueprint.services)}).",
    )


async def ready_pods(cluster: Cluster, record: EnvironmentRecord, service: str) -> tuple[Manifest, ...]:
    """Return a service's ready pods, at least one. ProblemError 503 says why there is none."""
    try:
        found = await cluster.list("Pod", record.namespace, labels={ENVIRONMENT: record.id, NAME: service})
    except (NotFound, Forbidden) as error:
        # Our rights are inside the namespace, and go with it.
        raise _not_ready(service, "its namespace is not there or gives us no rights") from error
    pods = tuple(pod for pod in found.items if is_up(pod))
    if not pods:
        raise _not_ready(service, why_not_ready(found.items))
    return pods


def _copies(pod: Manifest, port: Port) -> bool:
    """Whether this pod has a proxy for the port: while a mirror comes or goes, some have one."""
    return any(
        number(listens, "containerPort") == proxy_port(port.container_port)
        for container in children(pod, "spec", "initContainers")
        if text(container, "name") == CONTAINER
        for listens in children(container, "ports")
    )


def is_up(pod: Manifest) -> bool:
    """Whether a pod takes requests, and is to stay."""
    return holds(pod, "Ready") and not text(pod, "metadata", "deletionTimestamp")


def why_not_ready(pods: tuple[Manifest, ...]) -> str:
    """Say in a few words why none of a service's pods is ready."""
    if not pods:
        return "it has no pods"
    for pod in pods:
        if text(pod, "metadata", "deletionTimestamp"):
            continue
        for status in children(pod, "status", "containerStatuses"):
            reason = text(status, "state", "waiting", "reason") or text(
                status, "state", "terminated", "reason"
            )
            if reason:
                return f"{text(pod, 'metadata', 'name')}: {reason}"
        return f"{text(pod, 'metadata', 'name')} is {text(pod, 'status', 'phase') or 'Pending'}, not ready"
    return "its pods are being deleted"


def _not_ready(service: str, why: str) -> ProblemError:
    return ProblemError(
        RequestProblem.SERVICE_NOT_READY,
        f"The service {service!r} has no ready pod: {why}.",
        headers={"Retry-After": RETRY_SECONDS},
        extensions={"reason": why},
    )
