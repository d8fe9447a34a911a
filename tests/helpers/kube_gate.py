"""A gate between a worker and the real API server, at which a test can stop single requests.

The worker speaks plain HTTP to the gate, the gate speaks to the cluster with the worker's own token, streams
and WebSockets included. A test says which request to hold, and on which side: before it reaches the cluster,
or after the cluster has done it and before the worker hears of it. While it is held, the test kills, freezes
or cancels; so "the process died right after this write" is a fact and not a guess about timing.
"""

import asyncio
import base64
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from aiohttp import AddrInfoType, ClientError, ClientSession, ClientTimeout, TCPConnector, WSMsgType, web

Side = Literal["before", "after"]
_STDIN, _STDOUT = b"\x00", b"\x01"
_AHEAD = 256 << 10
"""How many bytes the gate's sockets to the cluster take ahead of what it reads."""
_HOP = {"transfer-encoding", "content-length", "connection", "content-encoding", "host", "date", "server"}


@dataclass
class Hold:
    """What to stop: the first request whose `METHOD path` matches and whose body contains `body`.

    With `every`, all that match: a worker that gave up waiting and asks again is held again. So many as
    `passing` says may pass before.
    """

    pattern: re.Pattern[str]
    side: Side
    body: bytes = b""
    every: bool = False
    passing: int = 0
    seen: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False
    stream_bytes: int | None = None
    """Of an exec: so many bytes of its data pass in each direction before it is held. May be raised."""
    matched: int = 0
    """How many requests matched: with `every`, a client that gave up waiting asks again."""
    statuses: list[int] = field(default_factory=list)
    """What the cluster answered to the requests that were held and reached it."""

    def drop(self) -> None:
        """Let what is held vanish: it goes neither to the cluster nor back, as when its sender dies."""
        self.dropped = True
        self.release.set()

    def wait_seen(self, within: float = 60.0) -> None:
        """Return once the request is being held."""
        assert self.seen.wait(within), f"no request matched {self.pattern.pattern!r} within {within:g} s"


class KubeGate:
    """The gate, served from a thread of its own. Use as a context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        context = next(c for c in document["contexts"] if c["name"] == document["current-context"])["context"]
        cluster = next(c for c in document["clusters"] if c["name"] == context["cluster"])["cluster"]
        user = next(u for u in document["users"] if u["name"] == context["user"])["user"]
        self._server = cluster["server"]
        self._tls = _tls(cluster)
        self._token = user["token"]
        self._holds: list[Hold] = []
        self._open = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kube-gate", daemon=True)
        self._log: list[str] = []
        self._under_way: dict[int, web.Request] = {}
        self.port = 0

    def __enter__(self) -> "KubeGate":
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.release_all()
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads through the gate, and return its path."""
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "gate",
                    "clusters": [{"name": "gate", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "gate", "user": {"token": self._token}}],
                    "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "gate"}}],
                }
            )
        )
        return path

    @contextmanager
    def hold(
        self, pattern: str, side: Side, *, body: str = "", every: bool = False, passing: int = 0
    ) -> Iterator[Hold]:
        """Hold the first matching request, or every one, while the body runs; what is held then goes on."""
        with self._holding(Hold(re.compile(pattern), side, body.encode(), every, passing)) as hold:
            yield hold

    @contextmanager
    def hold_streams(self, pattern: str, stream_bytes: int) -> Iterator[Hold]:
        """Hold every matching exec after so many bytes of its data, while the body runs."""
        hold = Hold(re.compile(pattern), "after", every=True, stream_bytes=stream_bytes)
        with self._holding(hold):
            yield hold

    @contextmanager
    def _holding(self, hold: Hold) -> Iterator[Hold]:
        self._holds.append(hold)
        try:
            yield hold
        finally:
            hold.release.set()
            if hold in self._holds:
                self._holds.remove(hold)

    def release_all(self) -> None:
        """Let everything go on."""
        for hold in list(self._holds):
            hold.release.set()

    def close(self) -> None:
        """Refuse every request from now on and cut what is under way, as a cluster that goes away does."""
        self._open = False
        self._run(self._cut())

    def open(self) -> None:
        """Serve again."""
        self._open = True

    def requests(self, pattern: str) -> list[str]:
        """Return the `METHOD path` of the requests so far that match."""
        return [line for line in self._log if re.search(pattern, line)]

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        self._session = ClientSession(
            connector=TCPConnector(ssl=self._tls, limit=0, socket_factory=_narrow),
            timeout=ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        await self._cut()
        await self._runner.cleanup()
        await self._session.close()
        # Streams of which neither side has anything to say would wait for ever.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _cut(self) -> None:
        for request in self._under_way.values():
            _abort(request)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        line = f"{request.method} {request.path_qs}"
        self._log.append(line)
        if not self._open:
            return _abort(request)
        self._under_way[id(request)] = request
        try:
            if request.headers.get("upgrade", "").lower() == "websocket":
                return await self._websocket(request, line)
            return await self._plain(request, line)
        except (ClientError, ConnectionResetError):
            # One of the two sides went away: the other learns it in the same way.
            return _abort(request)
        finally:
            del self._under_way[id(request)]

    async def _plain(self, request: web.Request, line: str) -> web.StreamResponse:
        body = await request.read()
        hold = self._match(line, body)
        if hold is not None and hold.side == "before" and not await self._held(hold):
            return _abort(request)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        headers["authorization"] = f"Bearer {self._token}"
        async with self._session.request(
            request.method, self._server + request.raw_path, data=body or None, headers=headers
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            if hold is not None:
                hold.statuses.append(answer.status)
                if not await self._held(hold):
                    return _abort(request)
            out = web.StreamResponse(status=answer.status, headers=kept)
            # A watch ends when the worker goes away, in the middle of whatever it is told.
            with suppress(ConnectionResetError):
                await out.prepare(request)
                async for chunk in answer.content.iter_any():
                    await out.write(chunk)
                await out.write_eof()
            return out

    async def _websocket(self, request: web.Request, line: str) -> web.StreamResponse:
        hold = self._match(line, b"")
        if hold is not None and hold.side == "before" and not await self._held(hold):
            return _abort(request)
        protocols = [p.strip() for p in request.headers.get("sec-websocket-protocol", "").split(",") if p]
        near = web.WebSocketResponse(protocols=protocols, max_msg_size=0)
        await near.prepare(request)
        async with self._session.ws_connect(
            self._server + request.raw_path,
            protocols=protocols,
            headers={"authorization": f"Bearer {self._token}"},
            max_msg_size=0,
        ) as far:

            async def inwards() -> None:
                passed = 0
                async for message in near:
                    if message.type is WSMsgType.BINARY:
                        passed += len(message.data) if message.data[:1] == _STDIN else 0
                        await self._let_pass(hold, passed)
                        await far.send_bytes(message.data)
                await far.close()

            pump = asyncio.create_task(inwards())
            passed = 0
            try:
                async for message in far:
                    if message.type is WSMsgType.BINARY:
                        passed += len(message.data) if message.data[:1] == _STDOUT else 0
                        await self._let_pass(hold, passed)
                        if (
                            hold is not None
                            and hold.stream_bytes is None
                            and message.data[:1] == b"\x03"
                            and not await self._held(hold)
                        ):
                            # Channel 3 is the exit status: the command has run, nobody was told.
                            break
                        await near.send_bytes(message.data)
            finally:
                pump.cancel()
        await near.close()
        return near

    def _match(self, line: str, body: bytes) -> Hold | None:
        for hold in self._holds:
            if (hold.every or not hold.seen.is_set()) and hold.pattern.search(line) and hold.body in body:
                hold.matched += 1
                if hold.matched > hold.passing:
                    return hold
        return None

    async def _let_pass(self, hold: Hold | None, passed: int) -> None:
        """Wait until a stream may have this many bytes."""
        while hold is not None and hold.stream_bytes is not None and not hold.release.is_set():
            if passed <= hold.stream_bytes:
                return
            hold.seen.set()
            await asyncio.sleep(0.02)

    async def _held(self, hold: Hold) -> bool:
        """Wait for the release; return whether to go on."""
        hold.seen.set()
        while not hold.release.is_set():  # noqa: ASYNC110 - set from another thread
            await asyncio.sleep(0.02)
        return not hold.dropped


def _narrow(address: AddrInfoType) -> socket.socket:
    """Return a socket that takes little ahead: what a stream that is held has sent lies in few places."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _AHEAD)
    return made


def _abort(request: web.Request) -> web.Response:
    """Break the connection; the answer goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


def _tls(cluster: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if data := cluster.get("certificate-authority-data"):
        context.load_verify_locations(cadata=base64.b64decode(data).decode())
    elif path := cluster.get("certificate-authority"):
        context.load_verify_locations(cafile=path)
    return context
