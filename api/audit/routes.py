"""The route of the audit trail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from activities.db.repositories import audit
from api.audit.schemas import AuditEntryOut
from api.auth import Admin
from api.documentation import documented
from api.envelope import ListEnvelope, answer_list
from api.filters import Moment
from api.parameters import DEFAULT_LIMIT, NO_NUL, Cursor, Limit
from api.state import State

router = APIRouter(prefix="/v1/audit", tags=["audit"])

_Text = Annotated[str | None, Query(max_length=100, pattern=NO_NUL)]


@router.get(
    "",
    response_model=ListEnvelope[AuditEntryOut],
    summary="List who did what",
    operation_id="audit_list",
    **documented(),
)
async def list_all(  # noqa: PLR0913, PLR0917 - one for each parameter
    request: Request,
    state: State,
    actor: Admin,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    action: Annotated[_Text, Query(description="As `environment.update`")] = None,
    subject: Annotated[_Text, Query(description="Id of what it was done to")] = None,
    principal: Annotated[_Text, Query(description="Id of who did it")] = None,
    since: Annotated[Moment | None, Query(description="Not older than that")] = None,
) -> Response:
    """Newest first. An entry is written in the transaction of what it tells, and never changed."""
    async with state.database.reading() as session:
        page = await audit.list_entries(
            session,
            actor.organization_id,
            limit=limit,
            cursor=cursor,
            action=action,
            subject_id=subject,
            principal_id=principal,
            since=since,
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
