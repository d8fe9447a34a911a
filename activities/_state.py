"""What activities on Perdure's own state share: faults told as failures, and the key of each cluster."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from temporalio import activity

from activities._step import application_error
from activities.db.acceptance import Accepted
from activities.db.errors import DomainError
from activities.secrets import Sealer, SecretsError
from activities.temporal import TemporalError, WorkflowStarter
from workflows.domain.failures import FailureKind, failure


@asynccontextmanager
async def told_as_failures() -> AsyncIterator[None]:
    """End the activity with a failure when something is not there, not allowed or cannot be opened."""
    try:
        yield
    except DomainError as fault:
        raise application_error(failure(fault.kind, str(fault)), final=True) from fault
    except SecretsError as fault:
        raise application_error(failure(FailureKind.KEY_UNAVAILABLE, str(fault)), final=True) from fault


async def start_accepted(starter: WorkflowStarter, accepted: Accepted) -> None:
    """Start the workflow of a committed operation; the reconciler makes a start that gets lost."""
    try:
        await starter.start(accepted.start())
    except TemporalError:
        activity.logger.warning("start deferred", extra={"operationId": accepted.operation.id})


def sealer_of(sealers: Mapping[str, Sealer], cluster: str) -> Sealer:
    """Return what seals for a cluster; ends the activity when there is no key for it."""
    sealer = sealers.get(cluster)
    if sealer is None:
        message = f"No sealing key is configured for cluster {cluster!r}."
        raise application_error(failure(FailureKind.KEY_UNAVAILABLE, message), final=True)
    return sealer
