"""Routes of operations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from activities.db.repositories import environments, operations
from api.auth import Developer, Viewer
from api.documentation import REPEAT_PROBLEMS, documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.events import ends_operation
from api.filters import OperationQuery
from api.idempotency import IdempotencyKey, answer_outcome
from api.operations import service
from api.operations.answers import read_operation
from api.operations.schemas import CancelOperation, OperationOut
from api.operations.shapes import operation_out
from api.parameters import DEFAULT_LIMIT, Cursor, Id, Limit
from api.state import State
from api.streams import After, LastEventId, event_stream, start_after
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/operations", tags=["operations"])


@router.get(
    "",
    response_model=ListEnvelope[OperationOut],
    summary="List operations",
    operation_id="operations_list",
    **documented(),
)
async def list_all(
    request: Request,
    state: State,
    actor: Viewer,
    query: Annotated[OperationQuery, Depends()],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Newest first unless `sort` says otherwise; without steps."""
    async with state.database.reading() as session:
        page = await operations.list_operations(
            session,
            actor.organization_id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
        names = await environments.environment_names(
            session, actor.organization_id, {record.environment_id for record in page.items}
        )
    shaped = [
        operation_out(state.settings, record, environment_name=names.get(record.environment_id))
        for record in page.items
    ]
    return answer_list(request, shaped, page.next_cursor)


@router.get(
    "/{id}",
    response_model=Envelope[OperationOut],
    summary="Get one operation",
    operation_id="operations_get",
    **documented(),
)
async def get(request: Request, state: State, actor: Viewer, operation_id: Id) -> Response:
    """The operation with its steps, and the evidence of what failed."""
    return answer(request, await read_operation(state, actor.organization_id, operation_id))


@router.post(
    "/{id}/cancel",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Cancel an operation",
    operation_id="operations_cancel",
    **documented(
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(
            CancelOperation,
            {"keep": {"cleanup": False}, "undo": {"cleanup": True, "reason": "wrong branch"}},
            required=False,
        ),
        audit="operation.cancel",
    ),
)
async def cancel(
    request: Request, state: State, actor: Developer, operation_id: Id, key: IdempotencyKey = None
) -> Response:
    """Stop it; with `cleanup` undo what it made. One that has not begun ends at once."""
    outcome = await service.cancel(request, state, actor, operation_id, key)
    return answer_outcome(request, outcome)


@router.get(
    "/{id}/events",
    response_class=Response,
    summary="Follow an operation's events (SSE)",
    operation_id="operations_events",
    **documented(stream=True),
)
async def events(
    state: State, actor: Viewer, operation_id: Id, last_event_id: LastEventId = None, after: After = None
) -> Response:
    """Every change of the operation and its steps, from the number given on, to its end."""
    begin = start_after(last_event_id, after)
    async with state.database.reading() as session:
        record = await operations.get_operation(session, actor.organization_id, operation_id)
        environment = await environments.get_environment(
            session, actor.organization_id, record.environment_id
        )
    # What had ended before this looked has no events to come: the stream ends at the log's end as of now.
    return event_stream(
        state,
        actor,
        record.environment_id,
        begin,
        wanted=lambda event: event.operation_id == record.id,
        last=lambda event: ends_operation(event, record.id),
        known=environment.last_event,
        ends_there=record.ended,
    )
