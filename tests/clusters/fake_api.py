"""An API server that says what a test tells it to: for answers that a real one gives too rarely."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from clusters.gateway import Cluster, ClusterConfig, open_cluster
from clusters.objects import Manifest

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeApi:
    """Hands each request to `handler`, remembers it, and answers /readyz."""

    handler: Handler
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    ready: bool = True
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/readyz":
            return web.Response(text="ok", status=200 if self.ready else 500)
        self.seen.append(request)
        self.bodies.append(await request.text())
        return await self.handler(request)

    def methods(self) -> list[str]:
        return [request.method for request in self.seen]

    async def stream(
        self, request: web.Request, *frames: object, lasting: float | None = 0.0
    ) -> web.StreamResponse:
        """Send watch frames, then end cleanly after so many seconds; None: not before this closes."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for frame in frames:
            await response.write(json.dumps(frame).encode() + b"\n")
        with suppress(TimeoutError):
            async with asyncio.timeout(lasting):
                await self.closing.wait()
        await response.write_eof()
        return response


@asynccontextmanager
async def fake_cluster(tmp_path: Path, handler: Handler) -> AsyncIterator[tuple[FakeApi, Cluster]]:
    """Run a fake API server and open a cluster on it, with the token `first`."""
    api = FakeApi(handler)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    server = TestServer(app)
    await server.start_server()
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", str(server.make_url("")).rstrip("/"), "first")
    try:
        async with open_cluster(ClusterConfig(kubeconfig, request_timeout=5.0)) as cluster:
            yield api, cluster
    finally:
        api.closing.set()
        await server.close()


def write_kubeconfig(path: Path, server: str, token: str) -> Path:
    """Write a kubeconfig with one user and a token."""
    named = {"cluster": {"cluster": {"server": server}}, "user": {"user": {"token": token}}}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", **named["cluster"]}],
                "users": [{"name": "test", **named["user"]}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        )
    )
    return path


def status(code: int, reason: str = "", message: str = "", **details: object) -> web.Response:
    """Return a Kubernetes Status."""
    return web.json_response(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            "details": details,
        },
        status=code,
    )


def config_map(name: str, version: str = "1", **data: str) -> Manifest:
    """Return a ConfigMap as a server would have it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "ns", "resourceVersion": version, "uid": f"uid-{name}"},
        "data": dict(data),
    }


def listing(version: str, *items: Manifest, following: str = "") -> web.Response:
    """Return a list, `following` being its continue token."""
    return web.json_response(
        {
            "kind": "List",
            "metadata": {"resourceVersion": version, "continue": following},
            "items": [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in items],
        }
    )


def cut(request: web.Request) -> None:
    """Break the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
