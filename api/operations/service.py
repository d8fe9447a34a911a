"""Use cases on operations."""

from __future__ import annotations

from fastapi import Request
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import acceptance
from activities.db.acceptance import CancelAccepted
from activities.db.records import Actor
from api.bodies import read_document
from api.deferred import deliver_cancel
from api.environments.documents import validated
from api.idempotency import Outcome, Replayed, once
from api.operations.schemas import CancelOperation
from api.operations.shapes import operation_out
from api.state import AppState


async def cancel(
    request: Request, state: AppState, actor: Actor, operation_id: str, key: str | None
) -> Outcome[CancelAccepted] | Replayed:
    """Take a cancel and tell the workflow. Raises NotFound, NotCancellable, AlreadyEnded."""
    wish = CancelOperation()
    if (await request.body()).strip():
        wish = validated(CancelOperation, await read_document(request, allow_yaml=False))

    async def work(session: AsyncSession) -> Outcome[CancelAccepted]:
        taken = await acceptance.cancel_operation(
            session, actor, operation_id, cleanup=wish.cleanup, reason=wish.reason
        )
        headers = {"Location": f"/v1/operations/{taken.operation.id}"}
        return Outcome(taken, 202, operation_out(state.settings, taken.operation), headers=headers)

    outcome = await once(request, state, actor, key, work)
    if isinstance(outcome, Outcome) and outcome.result.deliver:
        await deliver_cancel(state, outcome.result.operation)
    return outcome
