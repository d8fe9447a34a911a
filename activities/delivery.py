"""Telling a running workflow what was asked of its operation: at least once, and noted how far (ADR 0006)."""

from activities.db import ledger
from activities.db.engine import Database
from activities.db.records import OperationRecord
from activities.temporal import WorkflowStarter
from workflows.contracts.delete import FORCE_SIGNAL
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest


async def deliver(database: Database, starter: WorkflowStarter, operation: OperationRecord) -> bool:
    """Tell a running operation's workflow all that was asked, then note that it was told so much.

    What is asked while this is under way is beyond `operation.asked`: it stays undelivered. Being told twice
    changes nothing for a workflow. Returns False when no such workflow runs. Raises TemporalError.
    """
    for name, argument in _signals(operation):
        if not await starter.signal(operation.workflow_id, name, argument):
            return False
    async with database.transaction() as session:
        await ledger.mark_told(session, operation.id, operation.asked)
    return True


def _signals(operation: OperationRecord) -> list[tuple[str, CancelRequest | None]]:
    """Return what says all that was asked of an operation: signals' names, with their arguments."""
    signals: list[tuple[str, CancelRequest | None]] = []
    if operation.cancel is not None:
        signals.append((CANCEL_SIGNAL, operation.cancel.request()))
    if operation.force:
        signals.append((FORCE_SIGNAL, None))
    return signals
