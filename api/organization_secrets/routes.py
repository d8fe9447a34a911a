"""Routes of the organisation's secrets: what `valueFrom: {secret: name}` of a Blueprint names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from activities.db import access
from activities.db.records import SecretRecord
from activities.db.repositories import secrets
from api.auth import Admin, Viewer
from api.bodies import read_document
from api.documentation import documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.environments.documents import validated
from api.filters import SecretQuery
from api.organization_secrets.schemas import PutSecret, SecretOut
from api.parameters import DEFAULT_LIMIT, Cursor, Limit
from api.problems import not_found
from api.state import State
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/secrets", tags=["secrets"])

Name = Annotated[
    str, Path(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63, description="Name of the secret")
]


@router.get(
    "",
    response_model=ListEnvelope[SecretOut],
    summary="List the organisation's secrets",
    operation_id="secrets_list",
    **documented(),
)
async def list_all(
    request: Request,
    state: State,
    actor: Viewer,
    query: Annotated[SecretQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """By name unless `sort` says otherwise, without values."""
    async with state.database.reading() as session:
        page = await secrets.list_secrets(
            session,
            actor.organization_id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
    return answer_list(request, [_out(each) for each in page.items], page.next_cursor)


@router.put(
    "/{name}",
    response_model=Envelope[SecretOut],
    summary="Store a secret, or give it another value",
    operation_id="secrets_put",
    **documented(
        body=json_body(PutSecret, {"token": {"value": "what nobody may know"}}),
        audit=("secret.create", "secret.replace"),
    ),
)
async def put(request: Request, state: State, actor: Admin, name: Name) -> Response:
    """Encrypted. Environments take a new value up with their next restart, update or retry."""
    wish = validated(PutSecret, await read_document(request, allow_yaml=False))
    async with state.database.transaction() as session:
        await access.keep_secret(session, actor, name, wish.value.get_secret_value(), state.master_keys)
        stored = await secrets.get_secret(session, actor.organization_id, name)
    return answer(request, _out(stored))


@router.delete(
    "/{name}",
    status_code=204,
    response_class=Response,
    summary="Destroy a secret",
    operation_id="secrets_delete",
    **documented(FailureKind.CONFLICT, audit="secret.delete"),
)
async def delete(state: State, actor: Admin, name: Name) -> Response:
    """Refused while the Blueprint of a living environment refers to it; the answer names those."""
    async with state.database.transaction() as session:
        if not await access.forget_secret(session, actor, name):
            raise not_found("secret", name)
    return Response(status_code=204)


def _out(record: SecretRecord) -> SecretOut:
    return SecretOut(name=record.name, created_at=record.created_at, updated_at=record.updated_at)
