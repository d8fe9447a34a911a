"""Routes of principals and API keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import access
from activities.db.access import WantedKey
from activities.db.records import ApiKeyRecord, PrincipalRecord
from activities.db.repositories import keys
from api.auth import Admin
from api.bodies import read_document
from api.documentation import REPEAT_PROBLEMS, documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.environments.documents import validated
from api.filters import KeyQuery, PrincipalQuery
from api.idempotency import IdempotencyKey, Outcome, answer_outcome, once
from api.keys.schemas import ApiKeyOut, CreateApiKey, CreatePrincipal, NewApiKeyOut, PrincipalOut
from api.parameters import DEFAULT_LIMIT, Cursor, Id, Limit
from api.state import State
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1", tags=["keys"])


@router.get(
    "/principals",
    response_model=ListEnvelope[PrincipalOut],
    summary="List who acts for the organisation",
    operation_id="principals_list",
    **documented(),
)
async def list_principals(
    request: Request,
    state: State,
    actor: Admin,
    query: Annotated[PrincipalQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Oldest first unless `sort` says otherwise."""
    async with state.database.reading() as session:
        page = await access.principals(
            session,
            actor.organization_id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
    return answer_list(request, [_principal(each) for each in page.items], page.next_cursor)


@router.post(
    "/principals",
    status_code=201,
    response_model=Envelope[PrincipalOut],
    summary="Add a person or a service",
    operation_id="principals_create",
    **documented(
        *REPEAT_PROBLEMS,
        body=json_body(CreatePrincipal, {"ci": {"kind": "service", "name": "build server"}}),
        audit="principal.create",
    ),
)
async def create_principal(
    request: Request,
    state: State,
    actor: Admin,
    key: IdempotencyKey = None,
) -> Response:
    """It can do nothing until it has a key."""
    wish = validated(CreatePrincipal, await read_document(request, allow_yaml=False))

    async def work(session: AsyncSession) -> Outcome[None]:
        made = await access.add_principal(session, actor, wish.kind, wish.name)
        return Outcome(None, 201, _principal(made))

    return answer_outcome(request, await once(request, state, actor, key, work))


@router.get(
    "/api-keys",
    response_model=ListEnvelope[ApiKeyOut],
    summary="List API keys",
    operation_id="api_keys_list",
    **documented(),
)
async def list_keys(
    request: Request,
    state: State,
    actor: Admin,
    query: Annotated[KeyQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise, revoked ones too, without tokens."""
    async with state.database.reading() as session:
        page = await keys.list_keys(
            session,
            actor.organization_id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
    shaped = [ApiKeyOut.model_validate(_fields(each)) for each in page.items]
    return answer_list(request, shaped, page.next_cursor)


@router.post(
    "/api-keys",
    status_code=201,
    response_model=Envelope[NewApiKeyOut],
    summary="Make an API key",
    operation_id="api_keys_create",
    **documented(
        *REPEAT_PROBLEMS,
        body=json_body(CreateApiKey, {"ci": {"name": "pipeline", "role": "developer"}}),
        audit="api_key.create",
    ),
)
async def create_key(
    request: Request,
    state: State,
    actor: Admin,
    key: IdempotencyKey = None,
) -> Response:
    """The token is in this answer and nowhere else, not even in a repeat with the same Idempotency-Key."""
    wish = validated(CreateApiKey, await read_document(request, allow_yaml=False))

    async def work(session: AsyncSession) -> Outcome[None]:
        wanted = WantedKey(
            wish.principal_id or actor.principal_id, wish.name, wish.role, wish.unlimited, wish.expires_at
        )
        made = await access.add_key(session, actor, wanted)
        shaped = NewApiKeyOut.model_validate({**_fields(made.key), "token": made.token})
        return Outcome(None, 201, shaped, keep=False)

    return answer_outcome(request, await once(request, state, actor, key, work))


@router.delete(
    "/api-keys/{id}",
    response_model=Envelope[ApiKeyOut],
    summary="Revoke an API key",
    operation_id="api_keys_revoke",
    **documented(FailureKind.CONFLICT, audit="api_key.revoke"),
)
async def revoke_key(request: Request, state: State, actor: Admin, key_id: Id) -> Response:
    """Refused at once here, and within `PERDURE_AUTH_CACHE_SECONDS` by other API processes."""
    async with state.database.transaction() as session:
        revoked = await access.take_key(session, actor, key_id)
    state.keys.forget()
    return answer(request, ApiKeyOut.model_validate(_fields(revoked)))


def _principal(record: PrincipalRecord) -> PrincipalOut:
    return PrincipalOut(id=record.id, kind=record.kind, name=record.name, created_at=record.created_at)


def _fields(record: ApiKeyRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in ApiKeyOut.model_fields}
