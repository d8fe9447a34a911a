"""A WebSocket to a service over a tunnel: what `websockets` speaks, bytes in and bytes out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import EXTERNAL_CLOSE_CODES, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from api.protocol import LARGEST_MESSAGE
from clusters.errors import ClusterError
from clusters.exchange import Headers, UpstreamBroke

if TYPE_CHECKING:
    from clusters.tunnel import Tunnel

_GOING_AWAY: Final = 1001
_NO_CODE: Final = 1005
_FAREWELL_SECONDS: Final = 1.0
_MOST_REPLIES: Final = 65_536
"""Bytes of pongs that may wait to be taken: who sends pings and reads nothing is not read from."""
_LEAST_OWN, _GREATEST_OWN = 3_000, 4_999
"""Close codes that applications choose for themselves."""
_OF_THE_HANDSHAKE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})


class Answered(Exception):
    """The application answered the handshake like any request, and opened no WebSocket."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status, self.headers, self.body = status, headers, body


class Closed(Exception):
    """The application closed the WebSocket."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code}")
        self.code, self.reason = code, reason


class UpstreamSocket:
    """One WebSocket. Sending and receiving may run at the same time. `last_frame`: when one passed."""

    def __init__(self, tunnel: Tunnel, *, host: str, subprotocols: Sequence[str]) -> None:
        offered = [Subprotocol(name) for name in subprotocols] or None
        # Without extensions: a compressor for each connection would be most of its memory.
        self._protocol = ClientProtocol(
            parse_uri(f"ws://{host}/"), subprotocols=offered, max_size=LARGEST_MESSAGE
        )
        self._tunnel = tunnel
        self._events: deque[object] = deque()
        self._eof = False
        self._parts: list[bytes] = []
        self._kind = Opcode.BINARY
        self._unsent = bytearray()
        self._replies = 0
        self._news = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()
        self.last_frame = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Hand on what is to be sent for as long as the context lasts. The other methods need it."""
        task = asyncio.create_task(self._write())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def open(self, target: bytes, headers: Headers) -> str | None:
        """Shake hands; return the subprotocol that the application chose.

        Raises Answered when it answers otherwise, UpstreamBroke, and ClusterError.
        """
        request = self._protocol.connect()
        request.path = target.decode("ascii")
        for name, value in headers:
            if name not in _OF_THE_HANDSHAKE:
                request.headers[name.decode("latin-1")] = value.decode("latin-1")
        self._protocol.send_request(request)
        self._collect()
        answer = await self._next()
        fault = self._protocol.handshake_exc
        if fault is None:
            return self._protocol.subprotocol
        if isinstance(answer, Response) and answer.status_code >= 200:
            raw = [
                (name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.raw_items()
            ]
            raise Answered(answer.status_code, raw, bytes(answer.body or b""))
        raise UpstreamBroke(f"its answer to the handshake is not valid: {fault}")

    async def send(self, message: str | bytes) -> None:
        """Send a message; returns when there is room for more. Does nothing on a connection that is over."""
        if self._protocol.state is not State.OPEN:
            return
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self.last_frame = asyncio.get_running_loop().time()
        self._collect()
        await self._sent.wait()

    async def receive(self) -> str | bytes:
        """Return the next message. Raises Closed, UpstreamBroke, and ClusterError."""
        while True:
            frame = await self._next()
            if not isinstance(frame, Frame):
                raise UpstreamBroke("it answered the handshake twice")
            self.last_frame = asyncio.get_running_loop().time()
            if frame.opcode is Opcode.CLOSE:
                told = self._protocol.close_rcvd
                raise Closed(
                    _NO_CODE if told is None else int(told.code), "" if told is None else told.reason
                )
            if frame.opcode in (Opcode.PING, Opcode.PONG):
                continue
            if frame.opcode is not Opcode.CONT:
                self._kind, self._parts = frame.opcode, []
            self._parts.append(bytes(frame.data))
            if frame.fin:
                return self._message()

    async def close(self, code: int, reason: str) -> None:
        """Say farewell, and give the application a moment to say it too. Never fails."""
        if self._protocol.state is State.OPEN:
            if code in EXTERNAL_CLOSE_CODES or _LEAST_OWN <= code <= _GREATEST_OWN:
                self._protocol.send_close(code, reason)
            elif code == _NO_CODE:
                self._protocol.send_close()
            else:
                self._protocol.send_close(_GOING_AWAY)
            self._collect()
        with suppress(TimeoutError, ClusterError, UpstreamBroke, Closed):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._sent.wait()
                while not self._eof:
                    await self.receive()

    def _message(self) -> str | bytes:
        whole = b"".join(self._parts)
        self._parts = []
        if self._kind is not Opcode.TEXT:
            return whole
        try:
            return whole.decode()
        except UnicodeDecodeError as error:
            raise UpstreamBroke("it sent text that is no UTF-8") from error

    async def _next(self) -> object:
        """Return the next event; one message of the tunnel is held at a time: who does not read, slows."""
        while not self._events:
            self._fail_if_over()
            if self._replies > _MOST_REPLIES:
                await self._sent.wait()
            data = await self._tunnel.receive()
            if data:
                self._protocol.receive_data(data)
            else:
                self._eof = True
                self._protocol.receive_eof()
            self._events.extend(self._protocol.events_received())
            self._replies += self._collect()
        return self._events.popleft()

    def _fail_if_over(self) -> None:
        if self._protocol.handshake_exc is not None:
            said = "closed the connection before it answered" if self._eof else "answered what is no HTTP"
            raise UpstreamBroke(f"it {said}")
        match self._protocol.parser_exc:
            case PayloadTooBig():
                raise UpstreamBroke(f"it sent a message of more than {LARGEST_MESSAGE} bytes")
            case None | EOFError():
                if self._eof:
                    raise UpstreamBroke("it broke the connection off")
            case fault:
                raise UpstreamBroke(f"what it sent is no WebSocket: {fault}")

    def _collect(self) -> int:
        """Take over what the protocol wants to be sent; return how many bytes."""
        data = b"".join(self._protocol.data_to_send())
        if data:
            self._unsent += data
            self._sent.clear()
            self._news.set()
        return len(data)

    async def _write(self) -> None:
        """Of both directions, for only one may write at a time, and reading must not wait for writing."""
        while True:
            await self._news.wait()
            self._news.clear()
            data, self._unsent = bytes(self._unsent), bytearray()
            self._replies = 0
            await self._tunnel.send(data)
            if not self._unsent:
                self._sent.set()
