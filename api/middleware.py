"""The edge of the application: request ids, body limit, faults nobody foresaw, access log and metrics.

One plain ASGI middleware instead of several wrapped ones: it runs on every request, and each layer costs.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

import structlog
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from api.metrics import Metrics
from api.problems import MEDIA_TYPE, ProblemError, RequestProblem, problem_body
from workflows.domain.failures import FailureKind

API_VERSION: Final = "v1"
_PREFIX: Final = "/v1"
_OTHER_PREFIX: Final = "/api/v1/"
_WITHOUT_PREFIX: Final = frozenset(
    {
        "api-keys",
        "audit",
        "codec",
        "environments",
        "operations",
        "portal",
        "principals",
        "registry-credentials",
        "secrets",
        "seeds",
        "share",
        "snapshots",
        "status",
        "stubs",
        "templates",
    }
)
_HEALTH: Final = frozenset({"health", "ready", "metrics"})
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_SHARE_LINK: Final = re.compile(r"((?:^|/)share/)[^/]+|pds_[A-Za-z0-9._-]+")
"""A share link's token, which opens an environment: it stands in no log and in no answer."""
_DRAIN_FACTOR: Final = 4
"""A body over the limit is read up to this many times the limit before it is answered: a client that is still
sending would otherwise see a reset connection instead of the answer."""
BROKEN_OFF: Final = 499
"""In log and metrics: the client went away before its request was whole."""
_DRAIN_SECONDS: Final = 10.0
_REFUSED: Final = "refused"
"""In a request's state: the problem that it is answered with, whatever it asks for."""

_SECURITY: Final = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
}
_OF_DATA: Final = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
"""Pages have a policy of their own, data needs none; what may be kept says so itself."""

_log = structlog.get_logger("perdure.api")


class BodyTooLarge(HTTPException):
    """The body is over the limit. An HTTPException: FastAPI lets only these pass while it reads a body."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"The body is larger than {limit} bytes.")
        self.limit = limit


class BodyTooSlow(HTTPException):
    """The body did not come in time."""

    def __init__(self) -> None:
        super().__init__(408, "The body did not come in time.", headers={"Connection": "close"})


class _Exchange:
    """One request and its answer. `seconds`: for its body to arrive."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int, seconds: float) -> None:
        self._state = scope.setdefault("state", {})
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._whole = False
        self.status = 0
        self.stream = False
        self.received = 0
        self.request_id = _request_id(scope)
        self._receive = receive
        self._send = send
        self._limit = limit
        self._headers = _own_headers(self.request_id)
        declared = _header(scope, b"content-length")
        self.too_large = declared is not None and declared.isdigit() and int(declared) > limit

    async def receive(self) -> Message:
        if self.too_large:
            await self.drain()
            raise BodyTooLarge(self._limit)
        message = await self._next()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            if self.received > self._limit:
                self.too_large = True
                if message.get("more_body"):
                    await self.drain()
                raise BodyTooLarge(self._limit)
        return message

    async def _next(self) -> Message:
        """The next part of the body; once it is whole, only the end of the connection is waited for."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise BodyTooSlow from error
        self._whole = not message.get("more_body")
        return message

    async def drain(self) -> None:
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self.received <= self._limit * _DRAIN_FACTOR:
                    message = await self._receive()
                    self.received += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return
        except TimeoutError:
            return

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *self._headers]
            _add_missing(headers, self._state)
            self.stream = any(name == b"content-type" and b"event-stream" in value for name, value in headers)
            message["headers"] = headers
        await self._send(message)

    async def send_problem(self, path: str, error: ProblemError) -> None:
        body = to_json(problem_body(error, instance=path, request_id=self.request_id))
        own = [(name.lower().encode(), value.encode("latin-1")) for name, value in error.headers.items()]
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            *own,
        ]
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class EdgeMiddleware:
    """Wraps the application; see the module."""

    def __init__(
        self, app: ASGIApp, *, body_limit: int, metrics: Metrics, body_seconds: float = 60.0
    ) -> None:
        self._app = app
        self._body_limit = body_limit
        self._body_seconds = body_seconds
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; a WebSocket gets its id and address, other scopes are passed on."""
        if scope["type"] == "websocket":
            state = scope.setdefault("state", {})
            state["request_id"], state["path"] = _request_id(scope), shown_path(scope["path"])
            scope["path"] = canonical_path(scope["path"])
            send = _refusals_as_answers(send, state)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = _Exchange(scope, receive, send, self._body_limit, self._body_seconds)
        state = scope.setdefault("state", {})
        state["request_id"] = exchange.request_id
        state["path"] = shown_path(scope["path"])
        scope["path"] = canonical_path(scope["path"])
        try:
            if exchange.too_large:
                # Before routing and auth: nothing of such a request is looked at.
                await exchange.drain()
                await exchange.send_problem(state["path"], too_large(self._body_limit))
            elif _REFUSED in state:
                await exchange.send_problem(state["path"], state[_REFUSED])
            elif "\0" in scope["path"]:
                # No id and no name holds it, and Postgres would take the question for a fault.
                await exchange.send_problem(state["path"], nothing_there())
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            # Nobody is left to be answered, and nothing is wrong with us.
            exchange.status = exchange.status or BROKEN_OFF
        except Exception:
            _log.exception("request_failed", requestId=exchange.request_id, path=state["path"])
            if exchange.status:
                raise  # the answer has begun: only a broken connection can say that it is not whole
            await exchange.send_problem(state["path"], unforeseen())
        finally:
            self._note(scope, exchange, state, time.perf_counter() - started)

    def _note(self, scope: Scope, exchange: _Exchange, state: dict[str, Any], seconds: float) -> None:
        route = route_template(scope)
        self._metrics.request(scope["method"], route, exchange.status, seconds, stream=exchange.stream)
        identity = state.get("identity")
        _log.info(
            "request",
            requestId=exchange.request_id,
            method=scope["method"],
            path=state["path"],
            route=route,
            status=exchange.status,
            ms=round(seconds * 1000, 1),
            keyId=getattr(identity, "key_id", None),
            organizationId=getattr(identity, "organization_id", None),
        )


def _own_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-request-id", request_id.encode()), (b"x-api-version", API_VERSION.encode())]


def _refusals_as_answers(send: Send, state: dict[str, Any]) -> Send:
    """Put on the refusal of a WebSocket's handshake what is on every answer."""

    async def sent(message: Message) -> None:
        if message["type"] == "websocket.http.response.start":
            headers = [*message.get("headers", ()), *_own_headers(state["request_id"])]
            _add_missing(headers, state)
            message["headers"] = headers
        await send(message)

    return sent


def _add_missing(headers: list[tuple[bytes, bytes]], state: dict[str, Any]) -> None:
    """Add what an answer has to say and does not yet: where the key's limit stands, and how browsers treat
    it.
    """
    given = {name.lower() for name, _ in headers}
    kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
    wanted = dict(_SECURITY)
    if b"json" in kind:
        wanted |= _OF_DATA
    for name, value in state.get("limit_headers", {}).items():
        wanted[name.lower().encode()] = value.encode()
    headers.extend((name, value) for name, value in wanted.items() if name not in given)


def refused_before(scope: Scope, error: ProblemError) -> None:
    """Let the edge answer a request with a problem that was found before it came there."""
    scope.setdefault("state", {})[_REFUSED] = error


def route_template(scope: Scope) -> str:
    """The path template of the route that answered; `unmatched` when there was none."""
    route = scope.get("route")
    path = getattr(route, "path", None)
    return path if isinstance(path, str) else "unmatched"


def canonical_path(path: str) -> str:
    """The address under which a route is registered: resources under `/v1`, health and metrics at the root.

    Both answer under the other address too, and under `/api/v1`. Rewriting costs less than a second set of
    routes to match.
    """
    if path.startswith(_OTHER_PREFIX):
        path = path.removeprefix("/api")
    first, _, rest = path[1:].partition("/")
    if first in _WITHOUT_PREFIX:
        return _PREFIX + path
    if first == "v1" and rest.partition("/")[0] in _HEALTH:
        return f"/{rest}"
    return path


def shown_path(path: str) -> str:
    """The path as logs and problems show it: without the token of a share link."""
    return _SHARE_LINK.sub(lambda found: f"{found[1] or ''}(token)", path)


def too_large(limit: int) -> ProblemError:
    """The answer for a body over the limit."""
    return ProblemError(RequestProblem.CONTENT_TOO_LARGE, f"The body is larger than {limit} bytes.")


def nothing_there() -> ProblemError:
    """The answer for an address that can name nothing."""
    return ProblemError(RequestProblem.NOT_FOUND, "There is nothing at this address.")


def unforeseen() -> ProblemError:
    """The answer for a fault of ours: it says nothing about the inside."""
    return ProblemError(
        FailureKind.INTERNAL, "The request failed by a fault of Perdure. The log has it under `requestId`."
    )


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            found: bytes = value
            return found
    return None


def _request_id(scope: Scope) -> str:
    given = _header(scope, b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return new_request_id()


def new_request_id() -> str:
    """Return an id for a request that brought none."""
    return f"req_{ULID()}"
