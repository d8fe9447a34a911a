"""WebSockets before they are open: who asks, and how they are refused (as any request: with a problem)."""

from __future__ import annotations

from typing import Final

from fastapi import WebSocket
from fastapi.responses import Response
from pydantic_core import to_json

from activities.db.records import Actor
from activities.db.tables import Role
from api.auth import identify, offered_key
from api.problem_handlers import as_problem
from api.problems import MEDIA_TYPE, ProblemError, problem_body
from api.state import AppState

PROTOCOL: Final = "perdure.v1"
"""The subprotocol of all our sockets."""


class Handshake:
    """One WebSocket that has asked to be opened."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.state: AppState = websocket.state.app
        self.request_id: str = websocket.state.request_id
        self.opened = False

    async def actor(self, role: Role) -> Actor:
        """Return who asks; at least `role`. ProblemError 401, 403; NotFound for another organisation.

        The key comes as `Authorization: Bearer`, or where that cannot be set (browsers) as the subprotocol
        `perdure.bearer.<key>` beside `perdure.v1`.
        """
        organization_id = self.websocket.headers.get("x-organization-id")
        return await identify(self.websocket, offered_key(self.websocket), organization_id, role)

    async def open(self, subprotocol: str | None = None) -> None:
        """Accept it, with our subprotocol if that was offered and no other is given."""
        offered = self.websocket.scope.get("subprotocols", [])
        self.opened = True
        await self.websocket.accept(subprotocol=subprotocol or (PROTOCOL if PROTOCOL in offered else None))

    async def refuse(self, error: Exception) -> None:
        """Answer the handshake with the problem that `error` is."""
        problem = as_problem(error)
        await self.websocket.send_denial_response(
            Response(to_json(self.body(problem)), problem.status, problem.headers, MEDIA_TYPE)
        )

    def body(self, problem: ProblemError) -> dict[str, object]:
        """The members of a problem."""
        return problem_body(problem, instance=self.websocket.url.path, request_id=self.request_id)
