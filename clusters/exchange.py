"""One HTTP exchange with a service over a tunnel: what h11 speaks, bytes in and bytes out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import h11

from clusters.errors import ClusterError

if TYPE_CHECKING:
    from clusters.tunnel import Tunnel

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""

_LONGEST_HEAD: Final = 65_536
"""Bytes of an answer's status line and headers; of the body, one piece is held at a time."""


class UpstreamBroke(Exception):
    """The application closed or broke the connection, or what it said is no HTTP."""


class UpstreamSilent(Exception):
    """The application let the time pass."""


class Exchange:
    """A request to an application and its answer. Sending and reading may run at the same time."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)

    async def begin(self, method: str, target: bytes, headers: Headers) -> None:
        """Send the head. ValueError for what cannot be sent."""
        try:
            head = self._http.send(h11.Request(method=method, target=target, headers=headers))
        except h11.LocalProtocolError as error:
            raise ValueError(str(error)) from error
        await self._tunnel.send(head or b"")

    async def send(self, chunk: bytes) -> None:
        """Send a part of the body. ValueError when it is more than was announced."""
        await self._event(h11.Data(data=chunk))

    async def end(self) -> None:
        """Say that the body is whole. ValueError when it is less than was announced."""
        await self._event(h11.EndOfMessage())

    async def _event(self, event: h11.Data | h11.EndOfMessage) -> None:
        if self._http.our_state is not h11.SEND_BODY:
            return
        try:
            data = self._http.send(event)
        except h11.LocalProtocolError as error:
            raise ValueError(str(error)) from error
        if data:
            await self._tunnel.send(data)

    async def head(self) -> tuple[int, Headers]:
        """Return status and headers of the answer. Raises UpstreamBroke and ClusterError."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event.status_code, list(event.headers)
            if not isinstance(event, h11.InformationalResponse):
                raise UpstreamBroke("it closed the connection before it answered")

    async def body(self, idle_seconds: float) -> bytes | None:
        """Return the next part of the answer's body; None at its end.

        Raises UpstreamSilent after `idle_seconds`, UpstreamBroke when the rest does not come.
        """
        try:
            async with asyncio.timeout(idle_seconds):
                event = await self._next()
        except TimeoutError as error:
            raise UpstreamSilent(f"nothing came for {idle_seconds:g} s") from error
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return None
        raise UpstreamBroke("the answer ended before it was whole")

    async def _next(self) -> object:
        while True:
            try:
                event = self._http.next_event()
                if event is h11.PAUSED:
                    raise UpstreamBroke("it changed the protocol without being asked")
                if event is not h11.NEED_DATA:
                    return event
                data = await self._tunnel.receive()
                if not data and self._http.their_state is h11.SEND_RESPONSE:
                    raise UpstreamBroke("it closed the connection before it answered")
                self._http.receive_data(data)
            except h11.RemoteProtocolError as error:
                raise UpstreamBroke(f"it answered what is no HTTP: {error}") from error


CONNECTION_FAULTS: Final = (ClusterError, UpstreamBroke, UpstreamSilent)
"""What an exchange ends with when it is not well."""
