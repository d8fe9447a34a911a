"""Byte streams to a port of a pod, through the API server: what the service proxy and TCP tunnels stand on.

The right is `pods/portforward` in the environment's namespace. The API server's own HTTP proxy is not used:
it rewrites links in pages and `Location` to addresses of its own, and its 502 and 503 look like the
application's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiohttp

from clusters.connection import Connection, HandshakeRefused
from clusters.errors import ClusterError, Forbidden, NotFound, Throttled, Unavailable, bounded
from clusters.objects import KINDS

_PROTOCOL: Final = "v4.channel.k8s.io"
_DATA, _ERROR = b"\x00", b"\x01"
_CHUNK: Final = 65_536
_FAREWELL: Final = 0.5
_NOT_LISTENING: Final = b"connection refused"
_GREETING: Final = 2
"""Each channel begins with the port, two bytes."""


class Refused(ClusterError):
    """Nothing listens on that port of the pod, or the node could not reach it."""


class NotListening(Refused):
    """Nothing listens on that port of the pod: not a byte has come to anybody."""


class Cut(ClusterError):
    """The stream ended without a farewell: the process in the pod closed or broke it."""


class Tunnel:
    """One TCP connection to a pod's port. There is no half-close: to close is to close both directions."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, what: str) -> None:
        self._socket = socket
        self._what = what
        self._greeted: set[int] = set()
        self._early: bytes | None = None

    async def send(self, data: bytes) -> None:
        """Send bytes; returns when there is room for more.

        On a connection that is over it does nothing: how it ended is what `receive` says, which may still
        have an answer, or the reason.
        """
        view = memoryview(data)
        with suppress(aiohttp.ClientError, OSError):
            for start in range(0, len(view), _CHUNK):
                await self._socket.send_bytes(_DATA + view[start : start + _CHUNK])

    async def await_refusal(self, seconds: float) -> None:
        """Give the node so long to say that nothing listens; for those to whom it matters that nothing came.

        What is sent to a connection that is being closed resets it, and its last words are lost. Raises like
        `receive`, which goes on to return whatever came meanwhile.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self._early = await self.receive()

    async def receive(self) -> bytes:
        """Return the next bytes; empty at the end. One message is held at a time: who does not read, slows.

        Raises `Refused` when the node could not connect.
        """
        if self._early is not None:
            early, self._early = self._early, None
            return early
        while True:
            try:
                message = await self._socket.receive()
            except (aiohttp.ClientError, OSError) as error:
                raise Cut(f"the connection to {self._what} broke") from error
            if message.type is not aiohttp.WSMsgType.BINARY:
                return b""
            frame: bytes = message.data
            if not frame:
                continue
            channel = frame[0]
            if channel not in self._greeted:
                self._greeted.add(channel)
                if len(frame) <= 1 + _GREETING:
                    continue
            if channel == _ERROR[0]:
                kind = NotListening if _NOT_LISTENING in frame else Refused
                raise kind(bounded(f"{self._what} takes no connection: {_reason(frame[1:])}"))
            if len(frame) > 1:
                return frame[1:]


@asynccontextmanager
async def open_tunnel(
    connection: Connection, namespace: str, pod: str, port: int, *, before: Callable[[], None] | None
) -> AsyncIterator[Tunnel]:
    """Open a connection to a port of a running pod for as long as the context lasts; never tried twice.

    Raises `NotFound` without the pod, `Forbidden`, `Unavailable`. That nothing listens is known only later:
    `Refused` comes from the tunnel's first `receive`.
    """
    path = KINDS["Pod"].path(namespace, pod, "portforward")
    what = f"port {port} of pod {pod}"
    try:
        async with connection.websocket(
            path,
            [("ports", str(port))],
            protocol=_PROTOCOL,
            before=before,
            # Whoever reads slowly leaves pings unanswered, and is slow, not gone.
            heartbeat=None,
            farewell=_FAREWELL,
        ) as socket:
            yield Tunnel(socket, what)
    except HandshakeRefused as error:
        raise _handshake_error(error, namespace, pod) from error


def _reason(text: bytes) -> str:
    """What the node says without the paths of the node that stand before it, which are nobody's business."""
    if _NOT_LISTENING in text:
        # Tried over IPv4 and IPv6; this one is why, whatever the last one was.
        return "connection refused"
    return text.decode(errors="replace").strip().rsplit(": ", 1)[-1]


def _handshake_error(error: HandshakeRefused, namespace: str, pod: str) -> ClusterError:
    name = f"pod {namespace}/{pod}"
    match error.status:
        case 404:
            return NotFound(f"{name} does not exist")
        case 401 | 403:
            return Forbidden(f"no right to reach ports of {name}")
        case 429:
            return Throttled(f"too many requests for {name}")
        case status:
            return Unavailable(f"{name} cannot be reached: status {status}")
