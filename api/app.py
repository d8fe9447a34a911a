"""The application: routers, problem answers, the edge, and the state that lives as long as it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypedDict
from urllib.parse import urlsplit

from fastapi import FastAPI, WebSocket
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from activities.version import VERSION
from api import openapi, pages, problem_handlers
from api.access.routes import proxied
from api.access.routes import router as access
from api.audit.routes import router as audit
from api.checks.routes import router as checks
from api.codec.routes import router as codec
from api.cors import CrossOriginMiddleware
from api.discover.routes import router as discover
from api.environments.lifecycle_routes import router as lifecycle
from api.environments.routes import router as environments
from api.environments.stream_routes import router as environment_streams
from api.health.routes import router as health
from api.keys.routes import router as keys
from api.methods import with_head
from api.metrics import Metrics
from api.middleware import EdgeMiddleware
from api.operations.routes import router as operations
from api.organization_secrets.routes import router as organization_secrets
from api.registry_credentials.routes import router as registry_credentials
from api.replays.routes import router as replays
from api.revisions.routes import router as revisions
from api.seeds.routes import router as seeds
from api.settings import ApiSettings
from api.shares.public import router as guests
from api.shares.routes import router as shares
from api.snapshots.routes import router as snapshots
from api.sockets import refuse
from api.state import AppState, Dependencies, open_dependencies, running
from api.statistics.routes import router as statistics
from api.stubs.routes import router as stubs
from api.templates.routes import router as templates

Opening = Callable[[ApiSettings], AbstractAsyncContextManager[Dependencies]]


_ROUTERS: Final = (
    discover,
    snapshots,
    lifecycle,
    environments,
    access,
    proxied,
    environment_streams,
    revisions,
    shares,
    guests,
    operations,
    keys,
    organization_secrets,
    audit,
    registry_credentials,
    statistics,
    checks,
    templates,
    replays,
    seeds,
    stubs,
    codec,
    health,
    pages.router,
)
"""In the order in which they are asked: static segments before an `{id}` in their place."""


class _Lifespan(TypedDict):
    app: AppState


def create_app(settings: ApiSettings, *, dependencies: Opening = open_dependencies) -> FastAPI:
    """Build the application. `dependencies` opens what it stands on."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[_Lifespan]:
        async with dependencies(settings) as opened, running(settings, opened, metrics) as state:
            app.state.running = state
            yield {"app": state}

    app = FastAPI(
        title="Perdure",
        version=VERSION,
        summary="Application environments on Kubernetes, durably",
        lifespan=lifespan,
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/openapi.json",
        # To another address, by the Host header: behind TLS it would lead to http.
        redirect_slashes=False,
        swagger_ui_parameters={"persistAuthorization": True},
    )
    # The routes themselves, not included routers: those are matched twice at each level, on every request.
    for router in _ROUTERS:
        app.router.routes.extend(with_head(router.routes))
    app.router.default = _nothing_there
    problem_handlers.install(app)
    openapi.install(app)
    app.add_middleware(
        EdgeMiddleware,
        body_limit=settings.body_limit_bytes,
        body_seconds=settings.body_seconds,
        metrics=metrics,
    )
    _allow_origins(app, settings)
    return app


async def _nothing_there(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer where there is no route. Starlette would close a WebSocket without a word."""
    error = HTTPException(404)
    if scope["type"] != "websocket":
        raise error
    await refuse(WebSocket(scope, receive, send), error)


def _allow_origins(app: FastAPI, settings: ApiSettings) -> None:
    """Let browsers of these origins in: the Temporal UI for the codec, and what the operator names."""
    options: dict[str, Any] = {
        "allow_origins": [*settings.cors_origins, origin(settings.temporal_ui_url)],
        "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": [
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-Match",
            "If-None-Match",
            "Last-Event-ID",
            "X-Namespace",
            "X-Organization-ID",
            "X-Request-ID",
        ],
        "expose_headers": [
            "ETag",
            "Idempotency-Replayed",
            "Location",
            "RateLimit",
            "RateLimit-Policy",
            "Retry-After",
            "X-API-Version",
            "X-Request-ID",
        ],
        "max_age": 600,
    }
    app.add_middleware(CrossOriginMiddleware, **options)


def origin(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
