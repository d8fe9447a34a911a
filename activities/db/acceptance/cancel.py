"""Accepting a cancel: of what has not begun at once, of what runs by telling its workflow."""

from datetime import datetime

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import AlreadyEnded, NotCancellable
from activities.db.records import Actor, OperationRecord, operation_record
from activities.db.repositories import events
from activities.db.repositories._rows import locked_operation
from activities.db.repositories.audit import add_entry
from activities.db.tables import Environment, Operation
from activities.db.transitions import cancel_at_once, operation_changed, step_rows
from activities.db.types import utc_now
from workflows.domain.operations import TERMINAL_STATES, OperationKind, OperationState


async def cancel_operation(
    session: AsyncSession, actor: Actor, operation_id: str, *, cleanup: bool, reason: str
) -> OperationRecord:
    """Take a cancel: one that has not begun ends at once, one that runs is to be told (`undelivered`).

    Asked twice, the first request stands, save that a later one may add the clean-up. Raises NotFound,
    NotCancellable for a delete, AlreadyEnded.
    """
    environment, operation = await locked_operation(session, operation_id, actor.organization_id)
    if operation.state in TERMINAL_STATES:
        raise AlreadyEnded(operation.id, operation.state)
    if operation.kind is OperationKind.DELETE:
        raise NotCancellable(operation.id, operation.kind)
    await ask_to_cancel(session, environment, operation, cleanup=cleanup, reason=reason, now=utc_now())
    await add_entry(session, actor, "operation.cancel", operation.id, {"cleanup": cleanup, "reason": reason})
    await events.announce(session, environment.id)
    await session.flush()
    return operation_record(operation)


async def ask_to_cancel(
    session: AsyncSession,
    environment: Environment,
    operation: Operation,
    *,
    cleanup: bool,
    reason: str,
    now: datetime,
) -> None:
    """Cancel a locked live operation, or record for one that runs that it should end."""
    if operation.state is OperationState.ACCEPTED:
        await cancel_at_once(session, environment, operation, reason, now)
    elif operation.cancel_requested_at is None or (cleanup and not operation.cancel_cleanup):
        operation.cancel_cleanup = cleanup
        operation.cancel_reason = reason
        operation.cancel_requested_at = now
        operation.asked += 1
        await operation_changed(session, environment, operation, await step_rows(session, operation.id))
