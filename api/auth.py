"""Who asks, and what they may do: bearer keys, found by digest, and the least role of each route."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request

from activities.db.engine import Database
from activities.db.errors import Unauthenticated
from activities.db.records import Actor
from activities.db.repositories.keys import authenticate
from activities.db.tables import Role
from activities.secrets import token_digest
from api.problems import ProblemError, RequestProblem
from workflows.domain.failures import FailureKind

_RANK: Final = {role: rank for rank, role in enumerate(Role)}
_MOST_CACHED: Final = 10_000
_LONGEST_TOKEN: Final = 200
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="perdure"'}


@dataclass(frozen=True, slots=True)
class _Known:
    actor: Actor
    until: float


class KeyCache:
    """Good keys, remembered for a few seconds: a revoked one is refused within that time at the latest.

    Refusals are not remembered, so that a key works the moment it is made.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def actor(self, token: str, organization_id: str | None) -> Actor:
        """Return whom a token stands for. Raises Unauthenticated, and NotFound for another organisation."""
        digest = token_digest(token)
        known = self._known.get(digest)
        if (
            known is not None
            and known.until > time.monotonic()
            and organization_id in (None, known.actor.organization_id)
        ):
            return known.actor
        async with self._database.reading() as session:
            found = await authenticate(session, token, organization_id)
        seconds = self._seconds
        if found.key.expires_at is not None:
            seconds = min(seconds, found.key.expires_at.timestamp() - time.time())
        self._known[digest] = _Known(found.actor, time.monotonic() + seconds)
        while len(self._known) > _MOST_CACHED:
            self._known.popitem(last=False)
        return found.actor

    def forget(self) -> None:
        """Forget all keys: the next request of each asks the database."""
        self._known.clear()


def token_of(header: str | None) -> str:
    """Return the key in an Authorization header. Raises ProblemError 401."""
    if header is None:
        raise _unauthenticated("The request has no Authorization header.")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN or not token.isascii():
        raise _unauthenticated("The Authorization header is not `Bearer <API key>`.")
    return token


def _unauthenticated(detail: str) -> ProblemError:
    return ProblemError(RequestProblem.UNAUTHENTICATED, detail, headers=_CHALLENGE)


async def actor_by_token(
    cache: KeyCache, token: str, organization_id: str | None, least: Role | None
) -> Actor:
    """Return whom a key stands for, who has to have the role `least`. Raises ProblemError 401 and 403."""
    try:
        actor = await cache.actor(token, organization_id)
    except Unauthenticated as error:
        raise _unauthenticated("The API key is unknown, expired or revoked.") from error
    if least is not None:
        _check_role(actor, least)
    return actor


def _check_role(actor: Actor, least: Role) -> None:
    if _RANK[actor.role] < _RANK[least]:
        raise ProblemError(
            FailureKind.POLICY_DENIED,
            f"This takes the role {least} or higher; the key has {actor.role}.",
            extensions={"requiredRole": least.value},
        )


OrganizationHeader = Annotated[
    str | None,
    Header(
        alias="X-Organization-ID",
        max_length=64,
        description="One of the key's organisations; may be left out when it has only one",
    ),
]


def require(role: Role) -> Callable[[Request, str | None], Coroutine[Any, Any, Actor]]:
    """Make the dependency of a route that takes at least this role.

    It raises 401 without a valid key, 403 `policy_denied` below the role. The role can be read back as
    `least_role` of the function: a test walks all routes by it.
    """

    async def actor_of(request: Request, organization_id: OrganizationHeader = None) -> Actor:
        cache: KeyCache = request.state.app.keys
        token = token_of(request.headers.get("authorization"))
        actor = await actor_by_token(cache, token, organization_id, None)
        request.state.identity = actor
        _check_role(actor, role)
        return actor

    actor_of.least_role = role  # type: ignore[attr-defined]
    return actor_of


Viewer = Annotated[Actor, Depends(require(Role.VIEWER))]
Developer = Annotated[Actor, Depends(require(Role.DEVELOPER))]
Admin = Annotated[Actor, Depends(require(Role.ADMIN))]
