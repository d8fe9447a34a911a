"""Who asks, and what they may do: bearer keys, found by digest, and the least role of each route."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request
from starlette.requests import HTTPConnection

from activities.db.engine import Database
from activities.db.errors import Unauthenticated
from activities.db.records import Actor
from activities.db.repositories.keys import authenticate
from activities.db.tables import Role
from activities.db.types import utc_now
from activities.secrets import token_digest
from api.limits import Limits
from api.problems import ProblemError, RequestProblem
from workflows.domain.failures import FailureKind

_RANK: Final = {role: rank for rank, role in enumerate(Role)}
_MOST_CACHED: Final = 10_000
_LONGEST_TOKEN: Final = 200
BEARER: Final = "perdure.bearer."
"""What a subprotocol that carries a key begins with."""
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="perdure"'}


@dataclass(frozen=True, slots=True)
class _Known:
    actor: Actor
    until: float


class KeyCache:
    """Good keys, remembered for a few seconds: a revoked one is refused within that time at the latest.

    Refusals are not remembered, so that a key works the moment it is made. Of many requests with a key that
    is to be looked at again, one asks the database and the others wait for it.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._looking: dict[tuple[str, str | None], asyncio.Event] = {}
        """By key and organisation that is being looked up: set when that has ended, either way."""

    async def actor(self, token: str, organization_id: str | None) -> Actor:
        """Return whom a token stands for. Raises Unauthenticated, and NotFound for another organisation."""
        digest = token_digest(token)
        asked = (digest, organization_id)
        while True:
            known = self._known.get(digest)
            if (
                known is not None
                and known.until > time.monotonic()
                and organization_id in (None, known.actor.organization_id)
            ):
                return known.actor
            if (others := self._looking.get(asked)) is None:
                break
            await others.wait()
        looked = self._looking[asked] = asyncio.Event()
        try:
            return await self._look_up(token, digest, organization_id)
        finally:
            del self._looking[asked]
            looked.set()

    async def _look_up(self, token: str, digest: str, organization_id: str | None) -> Actor:
        try:
            async with self._database.reading() as session:
                found = await authenticate(session, token, organization_id)
        except Unauthenticated:
            self._known.pop(digest, None)
            raise
        seconds = self._seconds
        if found.key.expires_at is not None:
            seconds = min(seconds, (found.key.expires_at - utc_now()).total_seconds())
        self._known[digest] = _Known(found.actor, time.monotonic() + seconds)
        while len(self._known) > _MOST_CACHED:
            self._known.popitem(last=False)
        return found.actor

    def was_good(self, token: str) -> bool:
        """Whether this process has seen the token to be good: whoever has it does not guess."""
        return token_digest(token) in self._known

    def forget(self) -> None:
        """Forget all keys: the next request of each asks the database."""
        self._known.clear()


def token_of(header: str | None) -> str:
    """Return the key in an Authorization header. Raises ProblemError 401."""
    if header is None:
        raise unauthenticated("The request has no Authorization header.")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN or not token.isascii():
        raise unauthenticated("The Authorization header is not `Bearer <API key>`.")
    return token


def unauthenticated(detail: str) -> ProblemError:
    """The answer for a request without a valid key."""
    return ProblemError(RequestProblem.UNAUTHENTICATED, detail, headers=_CHALLENGE)


def offered_key(connection: HTTPConnection) -> str | None:
    """Return the Authorization header of a WebSocket, or its subprotocol `perdure.bearer.<key>` as one.

    Browsers cannot set the header. A key never stands in an address, which is logged.
    """
    header = connection.headers.get("authorization")
    if header is not None:
        return header
    offered = (str(name) for name in connection.scope.get("subprotocols", ()))
    keys = [name.removeprefix(BEARER) for name in offered if name.startswith(BEARER)]
    return f"Bearer {keys[0]}" if keys else None


OrganizationHeader = Annotated[
    str | None,
    Header(
        alias="X-Organization-ID",
        max_length=64,
        description="One of the key's organisations; may be left out when it has only one",
    ),
]


async def identify(
    connection: HTTPConnection, header: str | None, organization_id: str | None, least: Role
) -> Actor:
    """Return whose key a request or a WebSocket bears, once that key's rate limit lets it pass.

    `header`: its Authorization header. Raises ProblemError: 401 without a good key, 403 `policy_denied` below
    the role `least`, 429 beyond the limit of the key or, for guesses, of the address.
    """
    cache: KeyCache = connection.state.app.keys
    limits: Limits = connection.state.app.limits
    address = connection.client.host if connection.client else ""
    try:
        token = token_of(header)
    except ProblemError:
        limits.refuse_guesses(address)
        limits.wrong_key(address)
        raise
    try:
        if not cache.was_good(token):
            limits.refuse_guesses(address)
        actor = await cache.actor(token, organization_id)
    except Unauthenticated as error:
        limits.wrong_key(address)
        raise unauthenticated("The API key is unknown, expired or revoked.") from error
    connection.state.identity = actor
    if actor.key_id is not None and not actor.unlimited:
        # The edge puts them on whatever is answered.
        connection.state.limit_headers = limits.spend(actor.key_id)
    if _RANK[actor.role] < _RANK[least]:
        raise ProblemError(
            FailureKind.POLICY_DENIED,
            f"This takes the role {least} or higher; the key has {actor.role}.",
            extensions={"requiredRole": least.value},
        )
    return actor


def require(role: Role) -> Callable[[Request, str | None], Coroutine[Any, Any, Actor]]:
    """Make the dependency of a route that takes at least this role.

    It raises 401 without a valid key, 403 `policy_denied` below the role. The role can be read back as
    `least_role` of the function: a test walks all routes by it.
    """

    async def actor_of(request: Request, organization_id: OrganizationHeader = None) -> Actor:
        return await identify(request, request.headers.get("authorization"), organization_id, role)

    actor_of.least_role = role  # type: ignore[attr-defined]
    return actor_of


def declare(role: Role) -> Callable[[], Coroutine[Any, Any, Role]]:
    """Make the dependency of a WebSocket's route that takes at least this role; its value is the role.

    The handler asks for it, for a refusal has to be an answer to the handshake. It can be read back as that
    of `require` can.
    """

    async def declared() -> Role:
        return role

    declared.least_role = role  # type: ignore[attr-defined]
    return declared


Viewer = Annotated[Actor, Depends(require(Role.VIEWER))]
Developer = Annotated[Actor, Depends(require(Role.DEVELOPER))]
Admin = Annotated[Actor, Depends(require(Role.ADMIN))]
ViewerSocket = Annotated[Role, Depends(declare(Role.VIEWER))]
DeveloperSocket = Annotated[Role, Depends(declare(Role.DEVELOPER))]
