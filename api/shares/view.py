"""What guests see of an environment."""

from __future__ import annotations

from activities.db.errors import NotFound
from activities.db.repositories.shares import ShareRecord
from api.environments.topology import topology
from api.shares.guests import no_such_link
from api.shares.schemas import GuestEdge, GuestEndpoint, GuestService, GuestTopology, ShareViewOut
from api.state import AppState
from workflows.domain.operations import EnvironmentPhase

_URL_SCHEMES = ("http://", "https://")


async def view(state: AppState, share: ShareRecord) -> ShareViewOut:
    """Return an environment through a share. Raises ProblemError (404) when it is deleted.

    Every member is taken over by name: what the owner's answers come to hold later is not shown by itself.
    Reasons and messages are left out, as they quote images and configuration.
    """
    try:
        status = await state.live.status(share.organization_id, share.environment_id)
        graph = await topology(state, share.organization_id, share.environment_id)
    except NotFound as error:
        raise no_such_link() from error
    if status.status is EnvironmentPhase.DELETED:
        raise no_such_link()
    stores = {node.name: node.store for node in graph.nodes}
    services = [
        GuestService(
            name=service.name,
            kind=service.kind,
            state=service.state,
            replicas=service.replicas,
            ready=service.ready,
            store=stores.get(service.name),
            image=service.image if share.show_images else None,
        )
        for service in status.services
    ]
    return ShareViewOut(
        name=status.name,
        description=status.description,
        status=status.status,
        terminal=status.terminal,
        services=services,
        topology=GuestTopology(
            nodes=[node.name for node in graph.nodes],
            edges=[GuestEdge(source=edge.source, target=edge.target) for edge in graph.edges],
        ),
        endpoints=[
            GuestEndpoint(
                service=exposed.service,
                url=exposed.endpoint if exposed.endpoint.startswith(_URL_SCHEMES) else None,
            )
            for exposed in graph.external
        ],
        cluster_reachable=status.cluster_reachable,
        observed_at=status.observed_at,
        expires_at=share.expires_at,
    )
