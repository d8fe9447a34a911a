"""One request that changes something: its transaction, its idempotency key, its first answer given again."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Header, Request, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import Actor, JsonObject
from activities.db.repositories import idempotency
from activities.db.repositories.idempotency import StoredAnswer
from api.envelope import ApiModel, answer, answer_stored
from api.preconditions import check_precondition
from api.state import AppState

Result = TypeVar("Result")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Repeating a POST with the same key and body gives its first answer; kept 24 hours",
    ),
]

UnneededKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="May be sent, as with every POST, and is not needed: nothing is written, and the same "
        "request is worked on anew",
    ),
]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """What a transaction did, and its answer. `keep`: not when the answer carries a one-time secret."""

    result: Result
    status: int
    data: ApiModel
    headers: Mapping[str, str] = field(default_factory=dict)
    keep: bool = True


@dataclass(frozen=True, slots=True)
class Replayed:
    """The first answer to the same request."""

    status: int
    data: JsonObject
    headers: Mapping[str, str]


async def once(
    request: Request,
    state: AppState,
    actor: Actor,
    key: str | None,
    work: Callable[[AsyncSession], Awaitable[Outcome[Result]]],
) -> Outcome[Result] | Replayed:
    """Run `work` in one transaction, once for each key; it is committed when this returns.

    What the request's `If-Match` asks for is checked before `work`, under the lock of the environment's
    row; a first answer is given again whatever has become of the environment since.

    Raises what `work` raises (nothing is kept then), IdempotencyMismatch and IdempotencyUsed.
    """
    if key is None:
        async with state.database.transaction() as session:
            await check_precondition(request, session, actor.organization_id)
            return await work(session)
    route = _route(request)
    body = await request.body()
    fingerprint = _fingerprint(request, body, state.master_keys.digest_key())
    async with state.database.transaction() as session:
        stored = await idempotency.claim(session, actor, route, key, fingerprint)
        if stored is not None:
            return Replayed(stored.status, stored.body, stored.headers)
        await check_precondition(request, session, actor.organization_id)
        outcome = await work(session)
        if outcome.keep:
            data = outcome.data.model_dump(mode="json", exclude_none=True)
            first = StoredAnswer(status=outcome.status, body=data, headers=dict(outcome.headers))
            await idempotency.keep(session, actor, route, key, first)
    return outcome


def answer_outcome(request: Request, outcome: Outcome[Any] | Replayed) -> Response:
    """Answer what a transaction did, or again what was answered first."""
    if isinstance(outcome, Replayed):
        return answer_stored(request, outcome.data, status=outcome.status, headers=outcome.headers)
    return answer(request, outcome.data, status=outcome.status, headers=outcome.headers)


def _fingerprint(request: Request, body: bytes, key: bytes) -> str:
    """Digest of what a request asks for: body, its type, and the query save how long to wait.

    Keyed: a body may hold a password or a PIN, which could be found by trying them on a bare digest.
    """
    query = sorted((key, value) for key, value in request.query_params.multi_items() if key != "wait")
    parts = (request.headers.get("content-type", ""), urlencode(query))
    return hmac.digest(key, "\0".join(parts).encode() + b"\0" + body, "sha256").hex()


def _route(request: Request) -> str:
    """Method and canonical path: a request by another spelling of its address is the same."""
    return f"{request.method} {request.scope['path']}"
