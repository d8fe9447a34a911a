"""Repairs what a crash between a commit and a call left: lost starts, undelivered requests, lost ends."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus

from activities._step import alive
from activities.db import ledger
from activities.db.engine import Database
from activities.db.repositories import operations
from activities.db.repositories.installation import last_restore
from activities.db.repositories.operations import OperationRef
from activities.db.types import utc_now
from activities.delivery import deliver
from activities.temporal import OperationStart, TemporalRefused, TemporalStarter, unless_unknown
from workflows.contracts.reconcile import ReconcileActivities, Reconciled
from workflows.domain.failures import FailureKind, failure

START_GRACE: Final = timedelta(seconds=5)
"""An accepted operation younger than this is being started by whoever accepted it."""

LOST_GRACE: Final = timedelta(seconds=30)
"""A running operation whose workflow has ended gets this long for its own last write."""


@dataclass(frozen=True, slots=True)
class ControlReconcile(ReconcileActivities):
    """Looks from the database to Temporal; what only Temporal knows is left alone."""

    database: Database
    client: Client

    @activity.defn(name="operation.reconcile")
    async def reconcile(self) -> Reconciled:
        """See `ReconcileActivities`. Each repair is idempotent, so two reconcilers may meet."""
        starter = TemporalStarter(self.client)
        now = utc_now()
        delivered = failed = 0
        started: list[OperationRef] = []
        refused: list[TemporalRefused] = []
        async with alive():
            async with self.database.reading() as session:
                lost_starts = await operations.lost_starts(session, now, START_GRACE)
                undelivered = await operations.undelivered(session)
                running = await operations.live_running(session)
            for operation in lost_starts:
                with _apart(refused):
                    await starter.start(_start(operation))
                    started.append(operation)
            for asked in undelivered:
                with _apart(refused):
                    delivered += await deliver(self.database, starter, asked)
            for operation in (*started, *running):
                if await self._lost(operation, now):
                    failed += await self._close(operation)
        if refused:
            raise refused[0]
        return Reconciled(
            examined=len(lost_starts) + len(running),
            started=len(started),
            delivered=delivered,
            failed=failed,
        )

    async def _lost(self, operation: OperationRef, now: datetime) -> bool:
        """Whether the operation claims to live while its workflow has ended, or was never there."""
        description: WorkflowExecutionDescription | None = None
        with unless_unknown():
            description = await self.client.get_workflow_handle(operation.workflow_id).describe()
        if description is None:
            return True
        if description.status is WorkflowExecutionStatus.RUNNING or description.close_time is None:
            return False
        return now - description.close_time >= LOST_GRACE

    async def _close(self, operation: OperationRef) -> bool:
        """End a lost operation as failed. Never started anew: nobody knows how far it got."""
        async with self.database.transaction() as session:
            return await ledger.close_lost(
                session,
                operation.operation_id,
                failure(FailureKind.INTERNAL, await _what_happened(session, operation)),
            )


@contextlib.contextmanager
def _apart(refused: list[TemporalRefused]) -> Iterator[None]:
    """Keep what Temporal refuses of one operation from holding up the others; it is told at the end."""
    try:
        yield
    except TemporalRefused as error:
        refused.append(error)


async def _what_happened(session: AsyncSession, operation: OperationRef) -> str:
    """Say why an operation has no workflow, as far as we know."""
    restored = await last_restore(session)
    record = await operations.get_operation(session, operation.organization_id, operation.operation_id)
    if restored is not None and record.started_at is not None and record.started_at <= restored.to:
        return (
            "Perdure was restored from a backup that was taken while this operation ran, and its workflow is "
            f"not known any more. What it did after {restored.to:%Y-%m-%d %H:%M:%S} UTC is not in the "
            "ledger. Retry the operation to go on from what is there."
        )
    return (
        "The workflow of this operation ended without telling the ledger (terminated, or its history was "
        "lost). Retry the operation to go on from what is there."
    )


def _start(operation: OperationRef) -> OperationStart:
    return OperationStart(
        kind=operation.kind,
        workflow_id=operation.workflow_id,
        operation_id=operation.operation_id,
        organization_id=operation.organization_id,
        environment_id=operation.environment_id,
        environment_name=operation.environment_name,
    )
