"""Routes of registry credentials: what `imagePullSecrets` of a Blueprint names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import access
from activities.db.records import RegistryCredentialRecord
from activities.db.repositories import registry_credentials
from api.auth import Admin, Viewer
from api.bodies import read_document
from api.documentation import REPEAT_PROBLEMS, documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.environments.documents import validated
from api.filters import RegistryCredentialQuery
from api.idempotency import IdempotencyKey, Outcome, answer_outcome, once
from api.parameters import DEFAULT_LIMIT, Cursor, Id, Limit
from api.registry_credentials.schemas import (
    CreateRegistryCredential,
    RegistryCredentialOut,
    ReplaceRegistryCredential,
)
from api.state import State
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/registry-credentials", tags=["registry credentials"])

_EXAMPLE = {"corp": {"name": "corp", "registry": "ghcr.io", "username": "robot", "password": "a token"}}
_REPLACEMENT = {"corp": {"registry": "ghcr.io", "username": "robot", "password": "another token"}}


@router.post(
    "",
    status_code=201,
    response_model=Envelope[RegistryCredentialOut],
    summary="Store a login for a container registry",
    operation_id="registry_credentials_create",
    **documented(
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(CreateRegistryCredential, _EXAMPLE),
        audit="registry_credential.create",
    ),
)
async def create(request: Request, state: State, actor: Admin, key: IdempotencyKey = None) -> Response:
    """The password is stored encrypted and never answered again."""
    wish = validated(CreateRegistryCredential, await read_document(request, allow_yaml=False))

    async def work(session: AsyncSession) -> Outcome[None]:
        record = await registry_credentials.create_registry_credential(
            session,
            actor,
            name=wish.name,
            host=wish.registry,
            username=wish.username,
            password=wish.password.get_secret_value(),
            keys=state.master_keys,
        )
        return Outcome(None, 201, _out(record))

    outcome = await once(request, state, actor, key, work)
    return answer_outcome(request, outcome)


@router.get(
    "",
    response_model=ListEnvelope[RegistryCredentialOut],
    summary="List registry credentials",
    operation_id="registry_credentials_list",
    **documented(),
)
async def list_all(
    request: Request,
    state: State,
    actor: Viewer,
    query: Annotated[RegistryCredentialQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """All of the organisation's, by name unless `sort` says otherwise."""
    async with state.database.reading() as session:
        page = await registry_credentials.list_registry_credentials(
            session,
            actor.organization_id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
    return answer_list(request, [_out(record) for record in page.items], page.next_cursor)


@router.get(
    "/{id}",
    response_model=Envelope[RegistryCredentialOut],
    summary="Get one registry credential",
    operation_id="registry_credentials_get",
    **documented(),
)
async def get(request: Request, state: State, actor: Viewer, credential: Id) -> Response:
    """By id or by name, without its password."""
    async with state.database.reading() as session:
        found = await registry_credentials.find_registry_credential(
            session, actor.organization_id, credential
        )
    return answer(request, _out(found))


@router.put(
    "/{id}",
    response_model=Envelope[RegistryCredentialOut],
    summary="Replace a registry credential",
    operation_id="registry_credentials_replace",
    **documented(
        body=json_body(ReplaceRegistryCredential, _REPLACEMENT), audit="registry_credential.replace"
    ),
)
async def replace(request: Request, state: State, actor: Admin, credential: Id) -> Response:
    """By id or by name, which stay. Environments take it up with their next restart, update or retry."""
    wish = validated(ReplaceRegistryCredential, await read_document(request, allow_yaml=False))
    async with state.database.transaction() as session:
        known = await registry_credentials.find_registry_credential(
            session, actor.organization_id, credential
        )
        replaced = await registry_credentials.replace_registry_credential(
            session,
            actor,
            known.id,
            host=wish.registry,
            username=wish.username,
            password=wish.password.get_secret_value(),
            keys=state.master_keys,
        )
    return answer(request, _out(replaced))


@router.delete(
    "/{id}",
    response_model=Envelope[RegistryCredentialOut],
    summary="Remove a registry credential",
    operation_id="registry_credentials_delete",
    **documented(FailureKind.CONFLICT, audit="registry_credential.delete"),
)
async def delete(request: Request, state: State, actor: Admin, credential: Id) -> Response:
    """By id or by name. Refused while the Blueprint of a living environment names it: `environments`."""
    async with state.database.transaction() as session:
        removed = await access.forget_registry_credential(session, actor, credential)
    return answer(request, _out(removed))


def _out(record: RegistryCredentialRecord) -> RegistryCredentialOut:
    return RegistryCredentialOut(
        id=record.id,
        name=record.name,
        registry=record.host,
        username=record.username,
        created_by=record.created_by,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )
