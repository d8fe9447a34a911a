"""uvicorn's HTTP protocol, with a time limit on the head of a request.

Without it whoever sends a header a minute holds a connection for ever. The limit is on the whole head,
from its
first byte (on a new connection, from the connection) to the empty line: trickling does not extend it. Bodies
have a limit of their own, in `api.middleware`, which can answer.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.state import AppState

LARGEST_HEAD: Final = 64 * 1024
"""Bytes; the parser itself knows no end."""
LARGEST_MESSAGE: Final = 1024 * 1024
"""Bytes of one message of a WebSocket, in either direction."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """See the module."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._head_done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to an unfinished head."""
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > LARGEST_HEAD:
            self._refuse(431, "The head of the request is too large.")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The empty line after the head."""
        self._head_done()
        super().on_headers_complete()

    @property
    def _head_seconds(self) -> float:
        state: AppState = self.app_state["app"]
        return state.settings.head_seconds

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self._head_seconds, self._too_slow)

    def _head_done(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        self._refuse(408, "The head of the request did not come in time.")

    def _refuse(self, status: int, message: str) -> None:
        self._head_done()
        transport = cast("asyncio.Transport | None", self.transport)
        if transport is None or transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            phrase = {408: "Request Timeout", 431: "Request Header Fields Too Large"}[status]
            body = message.encode()
            transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (status, phrase.encode(), len(body), body)
            )
        transport.close()
