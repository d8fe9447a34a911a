"""Requests to one API server: one pool, short transparent retries, errors of this package only."""

import asyncio
import json
import random
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from pydantic import JsonValue

from clusters.answers import Answer, Unexplained, error_for, read_answer
from clusters.credentials import Credentials, Endpoint
from clusters.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    Throttled,
    Unauthorized,
    Unavailable,
    bounded,
)
from clusters.values import ClusterConfig

APPLY: Final = "application/apply-patch+yaml"
JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
"""Ask for names and metadata only: small, and no contents of Secrets come over the wire."""

_TRIES: Final = 3
_RETRY_BUDGET: Final = 1.8
_CONNECT_TIMEOUT: Final = 5.0
_RELOAD_INTERVAL: Final = 5.0
_FAREWELL_SECONDS: Final = 0.5
"""Longest wait, when all connections are closed, for the last of them to be gone."""
_FAREWELL_LOOKS: Final = 100


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `idempotent`: may be sent again when it is not known whether it arrived.

    `before` is called directly before each sending, and keeps it from being sent by raising. `timeout` in
    seconds is for the whole answer, and of a stream for its beginning.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: JsonValue = None
    content_type: str = JSON
    accept: str = JSON
    idempotent: bool = False
    before: Callable[[], None] | None = None
    timeout: float | None = None


class Connection:
    """The pools of connections to one API server, and the credentials for it."""

    def __init__(
        self,
        config: ClusterConfig,
        endpoint: Endpoint,
        credentials: Credentials,
    ) -> None:
        self.config = config
        self._endpoint = endpoint
        self._credentials = credentials
        self._sockets = _Sockets()
        self._requests = _session(endpoint, config.connections, self._sockets)
        # Streams are held for long: of a pool of their own, or they would starve the requests.
        self._streams = _session(endpoint, 0, self._sockets)
        self._renewing = asyncio.Lock()
        self._renewed = time.monotonic()

    async def close(self) -> None:
        """Close all connections, those too whose request was broken off and which left the pool."""
        await self._requests.close()
        await self._streams.close()
        await self._sockets.close()

    async def request(self, call: Call) -> Answer:
        """Send a request and return the answer below 400, or raise what the answer means.

        Tried up to three times within two seconds when it certainly was not carried out, or when it is
        idempotent and the connection broke.
        """
        give_up = time.monotonic() + _RETRY_BUDGET
        failed: ClusterError | None = None
        for attempt in range(_TRIES):
            delay = 0.1 * 4**attempt * random.uniform(0.5, 1.0)
            try:
                return await self._once(call)
            except Throttled as error:
                failed, delay = error, error.retry_after
            except Unauthorized as error:
                # Nothing was done, and tokens change: once more with what is valid now.
                if isinstance(failed, Unauthorized):
                    raise
                failed, delay = error, 0.0
                await self._renew()
            except (Unavailable, Conflict) as error:
                if not _worth_repeating(call, error):
                    raise
                failed = error
            if attempt == _TRIES - 1 or time.monotonic() + delay > give_up:
                raise failed
            await asyncio.sleep(delay)
        raise AssertionError("unreachable: the last try returns or raises")

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[aiohttp.StreamReader]:
        """Open a stream and yield it for reading; errors while reading are translated too."""
        headers = await self._headers(call)
        with _translated():
            async with asyncio.timeout(call.timeout or self.config.request_timeout):
                response = await self._streams.get(
                    self._endpoint.url + call.path,
                    params=call.params,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
                    server_hostname=self._endpoint.server_name,
                    proxy=self._endpoint.proxy,
                )
            try:
                if response.status >= 400:
                    async with asyncio.timeout(self.config.request_timeout):
                        content = await response.read()
                    answer = read_answer(response.status, response.headers, content)
                    raise await self._refusal(answer)
                yield response.content
            finally:
                _abandon(response)

    @asynccontextmanager
    async def websocket(
        self,
        path: str,
        params: list[tuple[str, str]],
        *,
        protocol: str,
        before: Callable[[], None] | None,
        heartbeat: float | None = 10.0,
        farewell: float = 10.0,
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a websocket, never twice. Raises `HandshakeRefused` when the server does not want it.

        `heartbeat` (seconds) ends it when a ping is not answered, which it is not while nobody reads.
        `farewell`: longest wait in seconds for the other side's goodbye when the context ends.
        """
        headers = await self._headers(Call("GET", path, accept="*/*"))
        if before is not None:
            before()
        with _translated():
            try:
                async with asyncio.timeout(self.config.request_timeout):
                    socket_ = await self._streams.ws_connect(
                        self._endpoint.url + path,
                        params=params,
                        protocols=(protocol,),
                        headers=headers,
                        heartbeat=heartbeat,
                        timeout=aiohttp.ClientWSTimeout(ws_close=farewell),
                        max_msg_size=0,
                        server_hostname=self._endpoint.server_name,
                        proxy=self._endpoint.proxy,
                    )
            except aiohttp.WSServerHandshakeError as error:
                raise HandshakeRefused(error.status) from error
            async with socket_:
                yield socket_

    async def _once(self, call: Call) -> Answer:
        headers = await self._headers(call)
        body = None if call.body is None else json.dumps(call.body).encode()
        if call.before is not None:
            call.before()
        with _translated():
            async with self._requests.request(
                call.method,
                self._endpoint.url + call.path,
                params=call.params,
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(
                    total=call.timeout or self.config.request_timeout, sock_connect=_CONNECT_TIMEOUT
                ),
                server_hostname=self._endpoint.server_name,
                proxy=self._endpoint.proxy,
            ) as response:
                answer = read_answer(response.status, response.headers, await response.read())
        if answer.status >= 400:
            raise await self._refusal(answer)
        return answer

    async def _headers(self, call: Call) -> dict[str, str]:
        headers = {"Accept": call.accept, "User-Agent": "perdure"}
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        authorization = await self._credentials.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        return headers

    async def _refusal(self, answer: Answer) -> ClusterError:
        """Return the error for an answer; a server that is still starting refuses what it allows later."""
        error = error_for(answer)
        if isinstance(error, Forbidden):
            try:
                await self._once(Call("GET", "/readyz", accept="*/*"))
            except Forbidden:
                return error
            except ClusterError as starting:
                return Unavailable(f"the API server is not ready: {starting}")
        return error

    async def _renew(self) -> None:
        """Read the credentials again, once for all requests that were rejected together."""
        async with self._renewing:
            if time.monotonic() - self._renewed < _RELOAD_INTERVAL:
                return
            await self._credentials.reload()
            self._renewed = time.monotonic()


class HandshakeRefused(ClusterError):
    """A websocket was refused with this HTTP status; there is no body that says why."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the websocket was refused with status {status}")
        self.status = status


def _worth_repeating(call: Call, error: Unavailable | Conflict) -> bool:
    if isinstance(error, Conflict):
        # Without managers: another write came between the server's own read and write. To a delete, a
        # conflict is an answer about its preconditions.
        return call.idempotent and call.method == "PATCH" and not error.managers
    # The same manifest would be refused in the same way again.
    return not error.sent or (call.idempotent and not isinstance(error, Unexplained))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unavailable(bounded(f"no connection: {error}"), sent=False) from error
    except TimeoutError as error:
        raise Unavailable("no answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(bounded(f"the connection broke: {error!r}")) from error


def _abandon(response: aiohttp.ClientResponse) -> None:
    """Drop what is left of a stream, without the farewell of TLS that nobody would wait for."""
    unfinished = response.connection
    if unfinished is not None and unfinished.transport is not None:
        unfinished.transport.abort()
    response.close()


class _Sockets:
    """The sockets that were made for the pools.

    A connection whose request is broken off leaves its pool at once and says farewell in TLS, for up to half
    a minute when the other side is silent. Nobody would wait for that.
    """

    def __init__(self) -> None:
        self._made: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def make(self, address: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """Make a socket that notices within half a minute that the other machine is gone."""
        made = socket.socket(address[0], address[1], address[2])
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._made.add(made)
        return made

    def open(self) -> list[socket.socket]:
        """Return those that are not closed yet."""
        return [made for made in self._made if made.fileno() != -1]

    async def close(self) -> None:
        """Shut what is still open, so that its transport sees the end, and wait until it has."""
        for left in self.open():
            with suppress(OSError):  # it was never connected, or the other side was first
                left.shutdown(socket.SHUT_RDWR)
        for _ in range(_FAREWELL_LOOKS):
            if not self.open():
                return
            await asyncio.sleep(_FAREWELL_SECONDS / _FAREWELL_LOOKS)


def _session(endpoint: Endpoint, limit: int, sockets: _Sockets) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=limit, ssl=endpoint.tls, keepalive_timeout=60.0, socket_factory=sockets.make
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=not endpoint.loopback,
        read_bufsize=2**18,
    )
