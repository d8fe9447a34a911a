"""Routes into an environment's services, and of what is measured of them."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response, WebSocket
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from api.access import app_sockets, cost, endpoints, metrics, proxy, sockets
from api.access.endpoints import Check
from api.access.headers import ANSWERED_BY, SANDBOX
from api.access.schemas import CostOut, EndpointsOut, MetricsOut, StoreStatsOut
from api.auth import Developer, DeveloperSocket, Viewer
from api.documentation import NOTHING, Documentation, documented
from api.envelope import Envelope, answer
from api.parameters import Id
from api.problems import RequestProblem
from api.state import State
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/environments", tags=["access"])

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

ServiceName = Annotated[
    str,
    Path(
        max_length=130,
        description="`service`, or `service:port` with a declared port's number or name; without a port the "
        "exposed one, else the first",
    ),
]


class SandboxedRoute(APIRoute):
    """A route whose every answer, its problems included, has no origin in a browser and says whose it is."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

        async def sandboxed(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message.get("headers", ())}
                if ANSWERED_BY not in present:
                    added = [*SANDBOX, (ANSWERED_BY, b"perdure")]
                    message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await super().handle(scope, receive, sandboxed)


proxied = APIRouter(prefix=router.prefix, tags=["access"], route_class=SandboxedRoute)


def _proxy_documentation() -> Documentation:
    given = documented(
        FailureKind.CLUSTER_UNAVAILABLE,
        RequestProblem.BAD_REQUEST,
        RequestProblem.CONTENT_TOO_LARGE,
        RequestProblem.SERVICE_NOT_READY,
        RequestProblem.WAKING,
        RequestProblem.UPSTREAM_FAILED,
        RequestProblem.UPSTREAM_TIMEOUT,
        any_query=True,
        audit=NOTHING,  # of its own: when it wakes the environment, the resume writes its entry
        ok={
            "description": "The application's answer, whatever it is: `X-Perdure-Answered-By` is "
            "`application`; on problems of this API it is `perdure`. Any status may be the application's.",
            "content": {"*/*": {}},
        },
    )
    # To a browser, while the environment wakes up.
    given["responses"][503]["content"]["text/html"] = {"schema": {"type": "string"}}
    given["responses"]["default"] = {
        "description": "The application's answer, whatever it is",
        "content": {"*/*": {}},
    }
    return given


async def _forward(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    service: ServiceName,
    path: Annotated[str, Path(description="Path at the service; the query is handed on too")],
) -> Response:
    """Hand the request on to a ready pod of the service, and its answer back, both as they arrive.

    Not handed on: `Authorization`, cookies in both directions, hop-by-hop headers, and redirects that leave
    the service (they come as `X-Perdure-Location`). Every answer bears `Content-Security-Policy: sandbox`.
    An environment that was stopped because nobody used it is woken, and the request waits for the service.
    """
    del path  # decoded; what counts is how it was written
    return await proxy.forward(request, state, actor, environment_id, service)


for _method in METHODS:
    proxied.add_api_route(
        "/{id}/services/{service}/proxy/{path:path}",
        _forward,
        methods=[_method],
        response_class=Response,
        summary=f"Send a {_method} request to a service",
        operation_id=f"services_proxy_{_method.lower()}",
        **_proxy_documentation(),
    )


@router.websocket("/{id}/services/{service}/proxy/{path:path}")
async def proxied_socket(
    websocket: WebSocket,
    least: DeveloperSocket,
    environment_id: Annotated[str, Path(alias="id")],
    service: Annotated[str, Path()],
    path: Annotated[str, Path()],
) -> None:
    """A WebSocket of the application."""
    del path  # decoded; what counts is how it was written
    await app_sockets.serve(websocket, least, environment_id, service)


@router.websocket("/{id}/services/{service}/tunnel")
async def tunnel(
    websocket: WebSocket,
    least: DeveloperSocket,
    environment_id: Annotated[str, Path(alias="id")],
    service: Annotated[str, Path()],
) -> None:
    """Raw TCP to a declared port: binary frames are the bytes."""
    await sockets.serve_tunnel(websocket, least, environment_id, service)


@router.websocket("/{id}/services/{service}/exec")
async def execute(
    websocket: WebSocket,
    least: DeveloperSocket,
    environment_id: Annotated[str, Path(alias="id")],
    service: Annotated[str, Path()],
) -> None:
    """A command in a container; docs/access-services.md has the frames."""
    await sockets.serve_exec(websocket, least, environment_id, service)


@router.get(
    "/{id}/endpoints",
    response_model=Envelope[EndpointsOut],
    summary="Say how each service is reached and whether it answers",
    operation_id="environments_endpoints",
    **documented(),
)
async def get_endpoints(
    request: Request,
    state: State,
    actor: Viewer,
    environment_id: Id,
    check: Annotated[
        Check, Query(description="`ready`: look for ready pods; `http`: send a GET to exposed ports too")
    ] = Check.HTTP,
) -> Response:
    """Every port of every service, looked at now, each for three seconds at most."""
    return answer(
        request, await endpoints.find_endpoints(state, actor.organization_id, environment_id, check)
    )


@router.get(
    "/{id}/metrics",
    response_model=Envelope[MetricsOut],
    summary="Read CPU and memory of an environment's services",
    operation_id="environments_metrics",
    **documented(),
)
async def get_metrics(request: Request, state: State, actor: Viewer, environment_id: Id) -> Response:
    """From metrics.k8s.io, else as the containers' cgroups tell, these at most every ten seconds.

    What is not measured is absent and says why, and is never zero. Reading neither wakes nor counts as use.
    """
    return answer(request, await metrics.read_metrics(state, actor.organization_id, environment_id))


@router.get(
    "/{id}/store-stats",
    response_model=Envelope[StoreStatsOut],
    summary="Read size and growth of an environment's data stores",
    operation_id="environments_store_stats",
    **documented(FailureKind.CLUSTER_UNAVAILABLE),
)
async def get_store_stats(request: Request, state: State, actor: Viewer, environment_id: Id) -> Response:
    """Claims as the cluster has them, used bytes as `df` or `du` in a pod tell, at most every ten seconds."""
    return answer(request, await state.stores.read(state, actor.organization_id, environment_id))


@router.get(
    "/{id}/cost",
    response_model=Envelope[CostOut],
    summary="Estimate what an environment costs",
    operation_id="environments_cost",
    **documented(),
)
async def get_cost(request: Request, state: State, actor: Viewer, environment_id: Id) -> Response:
    """From what its services request, its volumes, and the rate card of the settings."""
    return answer(request, await cost.read_cost(state, actor.organization_id, environment_id))
