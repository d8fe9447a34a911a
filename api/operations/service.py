"""Use cases on operations."""

from __future__ import annotations

from fastapi import Request
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import acceptance
from activities.db.records import Actor, OperationRecord
from api.bodies import read_document
from api.deferred import tell_workflow
from api.environments.documents import validated
from api.idempotency import Outcome, Replayed, once
from api.operations.schemas import CancelOperation
from api.operations.shapes import operation_out
from api.state import AppState


async def cancel(
    request: Request, state: AppState, actor: Actor, operation_id: str, key: str | None
) -> Outcome[OperationRecord] | Replayed:
    """Take a cancel and tell the workflow. Raises NotFound, NotCancellable, AlreadyEnded."""
    wish = CancelOperation()
    if (await request.body()).strip():
        wish = validated(CancelOperation, await read_document(request, allow_yaml=False))

    async def work(session: AsyncSession) -> Outcome[OperationRecord]:
        operation = await acceptance.cancel_operation(
            session, actor, operation_id, cleanup=wish.cleanup, reason=wish.reason
        )
        headers = {"Location": f"/v1/operations/{operation.id}"}
        return Outcome(operation, 202, operation_out(state.settings, operation), headers=headers)

    outcome = await once(request, state, actor, key, work)
    if isinstance(outcome, Outcome):
        await tell_workflow(state, outcome.result)
    return outcome
