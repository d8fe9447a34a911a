"""The graph of an environment's services."""

from __future__ import annotations

from api.environments.live import read_known
from api.environments.schemas import Exposure, TopologyEdge, TopologyNode, TopologyOut
from api.environments.shapes import context_of
from api.state import AppState
from workflows.domain.manifests import endpoint_urls, running_as


async def topology(state: AppState, organization_id: str, environment_id: str) -> TopologyOut:
    """Return services, dependencies and exposure, with the live state of each service. Raises NotFound."""
    known = await read_known(state.database, organization_id, environment_id)
    status = await state.live.status(organization_id, environment_id)
    urls = endpoint_urls(context_of(known.record), known.blueprint, known.record.guard_rails)
    live = {service.name: service for service in status.services}
    nodes, edges, external = [], [], []
    for service in known.blueprint.services:
        seen = live.get(service.name)
        nodes.append(
            TopologyNode(
                name=service.name,
                kind=service.kind,
                image=service.image,
                replicas=seen.replicas if seen else service.replicas,
                ports=[port.container_port for port in service.ports],
                store=service.store,
                state=seen.state if seen else None,
                ready=seen.ready if seen else None,
            )
        )
        edges += [
            TopologyEdge(source=service.name, target=target, condition=dependency.condition)
            for target, dependency in service.depends_on.items()
        ]
        port = running_as(service).exposed_port
        if port is not None and service.name in urls:
            external.append(
                Exposure(service=service.name, port=port.container_port, endpoint=urls[service.name])
            )
    return TopologyOut(nodes=nodes, edges=edges, external=external)
