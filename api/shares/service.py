"""Use cases on share links of those who own the environment."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Final

from fastapi import Request
from pydantic import SecretStr
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import CapExceeded
from activities.db.records import Actor
from activities.db.repositories import environments, shares
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.shares import NewShare, ShareRecord
from activities.db.types import utc_now
from api.bodies import read_document
from api.environments.documents import validated
from api.filters import ShareQuery
from api.idempotency import Outcome, Replayed, once
from api.problems import ProblemError, ProblemField, RequestProblem
from api.shares.schemas import LONGEST_PIN, CreateShare, ShareCreatedOut, ShareOut
from api.state import AppState
from workflows.domain.failures import FailureKind

MOST_OPEN: Final = 100
"""Open links of one environment."""
_PIN: Final = re.compile(rf"[!-~]{{4,{LONGEST_PIN}}}")


async def create(
    request: Request, state: AppState, actor: Actor, environment_id: str, key: str | None
) -> Outcome[None] | Replayed:
    """Make a link. Its answer carries the token and is not kept for a repetition of the request."""
    wish = await _read(request, state)
    lifetime = timedelta(seconds=wish.expires_in_seconds or state.settings.share_default_seconds)
    keys = state.guests.keys
    # Before the transaction: hashing takes its time, and writers would wait for it.
    pin_hash = await _hashed(state, wish.pin, keys.current_id)
    share = NewShare(
        key_id=keys.current_id,
        pin_hash=pin_hash,
        label=wish.label,
        show_images=wish.show_images,
        lifetime=lifetime,
    )

    async def work(session: AsyncSession) -> Outcome[None]:
        environment = await locked_environment(session, environment_id, actor.organization_id)
        if environment.deleted_at is not None:
            raise ProblemError(FailureKind.CONFLICT, "The environment is deleted: there is nothing to show.")
        opened = await shares.open_shares(session, actor.organization_id, environment_id)
        if opened >= MOST_OPEN:
            raise CapExceeded(
                "open share links of an environment", limit=str(MOST_OPEN), used=str(opened), asked="1"
            )
        record = await shares.create_share(session, actor, environment_id, share)
        return Outcome(None, 201, _created(request, state, record), keep=False)

    return await once(request, state, actor, key, work)


async def find(
    state: AppState,
    organization_id: str,
    environment_id: str,
    query: ShareQuery,
    *,
    limit: int,
    cursor: str | None,
) -> tuple[list[ShareOut], str | None]:
    """Return a page of an environment's links. Raises NotFound, InvalidCursor."""
    async with state.database.reading() as session:
        await environments.environment_name(session, organization_id, environment_id)
        page = await shares.list_shares(
            session,
            organization_id,
            environment_id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
    return [share_out(record) for record in page.items], page.next_cursor


async def revoke(state: AppState, actor: Actor, environment_id: str, share_id: str) -> ShareOut:
    """Revoke a link: the next request through it is refused. Raises NotFound."""
    async with state.database.transaction() as session:
        record = await shares.revoke_share(session, actor, environment_id, share_id)
    return share_out(record)


def share_out(record: ShareRecord) -> ShareOut:
    """Shape a link as it stands now."""
    return ShareOut.model_validate(_fields(record))


async def _read(request: Request, state: AppState) -> CreateShare:
    """Read what is wished for; no body is a wish too. Raises ProblemError with every fault."""
    wish = CreateShare()
    if await request.body():
        wish = validated(CreateShare, await read_document(request, allow_yaml=False))
    faults = []
    longest = state.settings.share_longest_seconds
    if wish.expires_in_seconds is not None and wish.expires_in_seconds > longest:
        faults.append(
            ProblemField(
                path="expiresInSeconds",
                message=f"has to be at most {longest} (PERDURE_SHARE_LONGEST_SECONDS)",
            )
        )
    if wish.pin is not None and not _PIN.fullmatch(wish.pin.get_secret_value()):
        faults.append(
            ProblemField(
                path="pin",
                message=f"has to be 4 to {LONGEST_PIN} letters, digits and signs of ASCII, without spaces",
            )
        )
    if faults:
        raise ProblemError(RequestProblem.VALIDATION_FAILED, "The body is not valid.", errors=faults)
    return wish


async def _hashed(state: AppState, pin: SecretStr | None, key_id: str) -> str | None:
    if pin is None:
        return None
    return await asyncio.to_thread(state.guests.keys.hash_pin, pin.get_secret_value(), key_id)


def _created(request: Request, state: AppState, record: ShareRecord) -> ShareCreatedOut:
    token = state.guests.keys.token(record.id, record.key_id)
    base = (state.settings.public_url or str(request.base_url)).rstrip("/")
    links = {
        "token": token,
        "url": f"{base}/v1/portal/{record.environment_id}#{token}",
        "api_url": f"{base}/v1/share/{token}",
    }
    return ShareCreatedOut.model_validate({**_fields(record), **links})


def _fields(record: ShareRecord) -> dict[str, object]:
    now = utc_now()
    return {
        "id": record.id,
        "environment_id": record.environment_id,
        "label": record.label,
        "state": record.state(now),
        "pin": record.pin_hash is not None,
        "show_images": record.show_images,
        "views": record.views,
        "last_viewed_at": record.last_viewed_at,
        "locked_until": record.locked_until if record.locked(now) else None,
        "created_by": record.created_by,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
    }
