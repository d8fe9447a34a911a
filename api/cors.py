"""Browsers at pages of other origins: who may ask, and a refusal that is a problem like any other."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.middleware import refused_before
from api.problems import ProblemError, RequestProblem


class CrossOriginMiddleware(CORSMiddleware):
    """Starlette's; a preflight that it refuses is answered by the edge, which it stands around."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser's question whether its page may ask."""
        answer = super().preflight_response(request_headers)
        return answer if answer.status_code == HTTPStatus.OK else _Refusal(self.app, answer)


class _Refusal(Response):
    """Says what Starlette's says, at the edge: there it has an id, a line in the log, and our one shape."""

    def __init__(self, edge: ASGIApp, refusal: Response) -> None:
        super().__init__(status_code=refusal.status_code)
        said = refusal.headers.items()
        allowed = {name: value for name, value in said if name.startswith("access-control-")}
        detail = f"{bytes(refusal.body).decode()}."
        self._edge = edge
        self._problem = ProblemError(RequestProblem.PREFLIGHT_REFUSED, detail, headers=allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused_before(scope, self._problem)
        await self._edge(scope, receive, send)
