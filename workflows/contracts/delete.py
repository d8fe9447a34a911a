"""DeleteEnvironment: what its activities are asked, and what they answer."""

from typing import Final

from temporalio import activity

from workflows.contracts.operation import OperationInput
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import Blocker, WireModel

DELETE_ENVIRONMENT: Final = "DeleteEnvironment"

FORCE_SIGNAL: Final = "force"
"""Take foreign finalizers off from now on. A signal for the reasons that a cancel is one: it has to be taken
while no worker is alive, and what comes of it is in the ledger (ADR 0006)."""


class RunningCancelled(WireModel):
    """What was stopped before the delete. `terminated`: it did not end by itself within the time."""

    operation_id: str | None = None
    terminated: bool = False


class DeleteNamespace(WireModel):
    """Delete an environment's namespace, or go on waiting for it."""

    context: EnvironmentContext
    known_blockers: tuple[Blocker, ...] = ()
    """What the caller knows already: the activity returns when it finds something else."""
    wait_seconds: int
    """How long to wait for a change before answering that nothing changed."""
    release_finalizers: bool = False
    """Remove foreign finalizers by force (`force=true`, with an audit entry)."""


class NamespaceDeleted(WireModel):
    """`gone`, or what holds it up now."""

    gone: bool
    blocked_by: tuple[Blocker, ...] = ()


class DeleteActivities:
    """Delete as its workflow sees it: `cancel_running` on the control queue, the rest on the cluster's."""

    @activity.defn(name="environment.cancel_running")
    async def cancel_running(self, operation: OperationInput) -> RunningCancelled:
        """Cancel the environment's other live operation, wait 60 s, then terminate it."""
        raise NotImplementedError

    @activity.defn(name="environment.delete_namespace")
    async def delete_namespace(self, request: DeleteNamespace) -> NamespaceDeleted:
        """Fence and delete the namespace, by UID; return when it is gone or when the blockers change."""
        raise NotImplementedError
