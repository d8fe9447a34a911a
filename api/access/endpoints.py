"""How each service is reached, and whether it answers: said only as far as it was seen just now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from activities.db.records import EnvironmentRecord
from activities.db.types import utc_now
from api.access.schemas import Answers, EndpointOut, EndpointsOut
from api.access.target import is_up, why_not_ready
from api.environments.pods import by_service
from api.environments.service import known_blueprint
from api.environments.shapes import context_of
from api.state import AppState
from clusters.errors import ClusterError, Forbidden, NotFound
from clusters.exchange import CONNECTION_FAULTS, Exchange
from clusters.objects import Manifest
from workflows.domain.blueprint import Port, Protocol, Service, ServiceKind
from workflows.domain.json_reading import text
from workflows.domain.manifests import endpoint_urls, running_as
from workflows.domain.manifests_routing import PROXY
from workflows.domain.names import ENVIRONMENT

if TYPE_CHECKING:
    from clusters.gateway import Cluster

CHECK_SECONDS: Final = 3.0
"""Longest check of one port, and how long the list of pods may take."""
_AT_ONCE: Final = 8


class Check(StrEnum):
    """What is done to find out whether a service answers."""

    READY = "ready"
    """Look for ready pods; nothing is sent to them."""
    HTTP = "http"
    """That, and one GET to each exposed port."""


@dataclass(frozen=True, slots=True)
class _Seen:
    answers: Answers
    reason: str
    http_status: int | None = None
    latency_ms: float | None = None


async def find_endpoints(
    state: AppState, organization_id: str, environment_id: str, check: Check
) -> EndpointsOut:
    """Return every port of every service. Raises NotFound; a silent cluster is an answer."""
    record, blueprint = await known_blueprint(state, organization_id, environment_id)
    urls = endpoint_urls(context_of(record), blueprint, record.guard_rails)
    ports = [
        (service, port)
        for service in map(running_as, blueprint.services)
        if service.kind is ServiceKind.SERVICE
        for port in service.ports
    ]
    cluster, pods, trouble = await _pods(state, record)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def shaped(service: Service, port: Port) -> EndpointOut:
        async with turns:
            if cluster is None or pods is None:
                seen = _Seen(Answers.UNKNOWN, trouble)
            else:
                seen = await _look(cluster, record, service, port, pods, check)
        return _endpoint_out(record, service, port, urls.get(service.name), seen)

    found = await asyncio.gather(*(shaped(service, port) for service, port in ports))
    return EndpointsOut(endpoints=list(found), checked_at=utc_now())


async def _pods(
    state: AppState, record: EnvironmentRecord
) -> tuple[Cluster | None, Mapping[str, list[Manifest]] | None, str]:
    """The environment's pods by service, or why they are not known."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            cluster = await state.clusters.get(record.cluster)
            listed = await cluster.list("Pod", record.namespace, labels={ENVIRONMENT: record.id})
    except NotFound:
        return None, None, "the cluster has no namespace of this environment"
    except Forbidden:
        return None, None, "the cluster gives no rights in the environment's namespace"
    except (ClusterError, TimeoutError):
        return None, None, "the cluster does not answer"
    return cluster, by_service(listed.items), ""


async def _look(
    cluster: Cluster,
    record: EnvironmentRecord,
    service: Service,
    port: Port,
    pods: Mapping[str, list[Manifest]],
    check: Check,
) -> _Seen:
    own = pods.get(service.name, [])
    ready = [text(pod, "metadata", "name") for pod in own if is_up(pod)]
    if not ready:
        return _Seen(Answers.FALSE, f"no pod is ready: {why_not_ready(tuple(own))}")
    exposure = service.exposure
    if check is Check.READY or exposure is None or port != service.exposed_port:
        return _Seen(Answers.UNKNOWN, f"{len(ready)} of {len(own)} pods ready; no request was sent")
    return await _ask(cluster, record.namespace, ready[0], service, port, exposure.path)


async def _ask(  # noqa: PLR0911 - each way in which it can end has a reason of its own
    cluster: Cluster, namespace: str, pod: str, service: Service, port: Port, path: str
) -> _Seen:
    """Send one GET; any HTTP answer is one, whatever its status."""
    # Late, like the gateway: `aiohttp` comes with it.
    from clusters.tunnel import Cut, Refused  # noqa: PLC0415

    began = time.perf_counter()
    headers = [
        (b"host", f"{service.name}:{port.container_port}".encode()),
        (b"user-agent", b"perdure-check"),
        (b"connection", b"close"),
    ]
    try:
        async with (
            asyncio.timeout(CHECK_SECONDS),
            cluster.tunnel(namespace, pod, port.container_port) as tunnel,
        ):
            exchange = Exchange(tunnel)
            await exchange.begin("GET", path.encode(), headers)
            await exchange.end()
            status, _ = await exchange.head()
    except TimeoutError:
        return _Seen(Answers.FALSE, f"no answer to GET {path} within {CHECK_SECONDS:g} s")
    except ValueError:
        return _Seen(Answers.UNKNOWN, "its path cannot be asked for as it is written")
    except (Refused, Cut) as error:
        return _Seen(Answers.FALSE, str(error))
    except NotFound:
        return _Seen(Answers.FALSE, "the pod went while it was asked")
    except ClusterError:
        return _Seen(Answers.UNKNOWN, "the cluster did not let a request through")
    except CONNECTION_FAULTS as error:
        return _Seen(Answers.FALSE, f"GET {path}: {error}")
    took = round((time.perf_counter() - began) * 1000, 1)
    return _Seen(Answers.TRUE, f"GET {path} was answered through the cluster", status, took)


def _endpoint_out(
    record: EnvironmentRecord, service: Service, port: Port, url: str | None, seen: _Seen
) -> EndpointOut:
    exposed = service.exposure is not None and port == service.exposed_port
    named = f"{service.name}:{port.container_port}"
    return EndpointOut(
        service=service.name,
        port=port.container_port,
        port_name=port.name,
        exposed=exposed,
        url=url if exposed and url != PROXY else None,
        proxy=(
            f"/v1/environments/{record.id}/services/{named}/proxy/" if port.protocol is Protocol.TCP else None
        ),
        internal=f"{service.name}.{record.namespace}.svc.cluster.local:{port.container_port}",
        answers=seen.answers,
        reason=seen.reason,
        http_status=seen.http_status,
        latency_ms=seen.latency_ms,
    )
