"""The route of the audit trail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from activities.db.repositories import audit
from api.audit.schemas import AuditEntryOut
from api.auth import Admin
from api.documentation import documented
from api.envelope import ListEnvelope, answer_list
from api.filters import AuditQuery
from api.parameters import DEFAULT_LIMIT, Cursor, Limit
from api.state import State

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get(
    "",
    response_model=ListEnvelope[AuditEntryOut],
    summary="List who did what",
    operation_id="audit_list",
    **documented(),
)
async def list_all(
    request: Request,
    state: State,
    actor: Admin,
    query: Annotated[AuditQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise.

    An entry is written in the transaction of what it tells, and never changed.
    """
    async with state.database.reading() as session:
        page = await audit.list_entries(
            session,
            actor.organization_id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
    shaped = [
        AuditEntryOut(
            id=each.id,
            action=each.action,
            subject_id=each.subject_id,
            principal_id=each.principal_id,
            key_id=each.key_id,
            data=each.data,
            at=each.at,
        )
        for each in page.items
    ]
    return answer_list(request, shaped, page.next_cursor)
