"""uvicorn's HTTP protocol, with limits on the head of a request, and problems for what is none.

Without a time limit whoever sends a header a minute holds a connection for ever. It is on the whole head,
from its first byte (on a new connection, from the connection) to the empty line: trickling does not extend
it. Bodies have a limit of their own, in `api.middleware`.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.middleware import new_request_id
from api.problems import MEDIA_TYPE, ProblemError, RequestProblem, problem_body, reason
from api.state import AppState

LARGEST_HEAD: Final = 64 * 1024
"""Bytes; the parser itself knows no end."""
LARGEST_MESSAGE: Final = 1024 * 1024
"""Bytes of one message of a WebSocket, in either direction."""
_UNREADABLE: Final = "This is no HTTP request, or one with a method that HTTP does not have."


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
            self._refuse(RequestProblem.HEAD_TOO_LARGE, "The head of the request is too large.")

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
        self._refuse(RequestProblem.REQUEST_TIMEOUT, "The head of the request did not come in time.")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says more
        """Refuse what the parser cannot read, methods that it has never heard of too."""
        self._refuse(RequestProblem.BAD_REQUEST, _UNREADABLE)

    def _refuse(self, kind: RequestProblem, detail: str) -> None:
        """Answer a problem before there is a request, or close when another answer is under way."""
        self._head_done()
        transport = cast("asyncio.Transport | None", self.transport)
        if transport is None or transport.is_closing():
            return
        if not self._answering():
            transport.write(_answer(ProblemError(kind, detail)))
            if self.cycle is not None:
                self.cycle.disconnected = True  # its head was read, and what came after is not its body
        transport.close()

    def _answering(self) -> bool:
        """Whether an answer is under way, or waits for one that is."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return cycle.response_started or bool(self.pipeline)


def _answer(error: ProblemError) -> bytes:
    """A whole answer, on a connection that is closed after it. Which address was meant is not known."""
    request_id = new_request_id()
    body = to_json(problem_body(error, instance="/", request_id=request_id))
    lines = (
        f"HTTP/1.1 {error.status} {reason(error.status)}",
        f"content-type: {MEDIA_TYPE}",
        f"content-length: {len(body)}",
        "connection: close",
        "cache-control: no-store",
        f"x-request-id: {request_id}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
