"""What a request does after its transaction: telling Temporal, and waiting for the operation to end."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import structlog
from fastapi import Query

from activities.db.acceptance import Accepted
from activities.db.errors import DomainError
from activities.db.records import OperationRecord
from activities.db.repositories.operations import get_operation
from activities.delivery import deliver
from activities.temporal import TemporalError
from api.events import ends_operation
from api.state import AppState

TELL_SECONDS: Final = 3.0
"""A request waits for Temporal no longer than this; what it did not take, the reconciler makes good."""
MAX_WAIT_SECONDS: Final = 60

Wait = Annotated[
    int,
    Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to hold the answer until the operation is over"),
]

_log = structlog.get_logger("perdure.api")


def start_workflow(state: AppState, accepted: Accepted) -> None:
    """Have a committed operation's workflow started. Never fails: the reconciler starts what was lost."""
    environment = accepted.environment
    state.live.forget(environment.organization_id, environment.id)
    state.starts.put(accepted.start())


async def tell_workflow(state: AppState, operation: OperationRecord) -> None:
    """Tell a running workflow what it has not been told yet. Never fails, like `start_workflow`."""
    state.live.forget(operation.organization_id, operation.environment_id)
    if not operation.undelivered:
        return
    try:
        async with asyncio.timeout(TELL_SECONDS):
            await deliver(state.database, state.starter, operation)
    except (TemporalError, TimeoutError, DomainError) as error:
        state.metrics.starts_deferred.inc()
        _log.warning("delivery_deferred", operationId=operation.id, error=str(error))


async def wait_for_end(
    state: AppState, operation: OperationRecord, seconds: int, *, after: int
) -> OperationRecord:
    """Hold on until an operation is over, for so many seconds at most; return it as it is then.

    `after`: number of an event of its environment that was there before it ended.
    """
    if seconds <= 0 or operation.ended:
        return operation
    deadline = asyncio.get_running_loop().time() + seconds
    async with state.tail.subscribe(operation.organization_id, operation.environment_id, after) as events:
        while not events.closed and (left := deadline - asyncio.get_running_loop().time()) > 0:
            if any(ends_operation(event, operation.id) for event in await events.next(left)):
                break
    async with state.database.reading() as session:
        return await get_operation(session, operation.organization_id, operation.id)
