"""UpdateEnvironment: a running environment to another revision.

The services that change, in the order of their dependencies, then what is no longer part of it. When a
service does not become ready, all goes back to the revision before.
"""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._services import ServicesFrame
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationInput, OperationResult
from workflows.contracts.update import UPDATE_ENVIRONMENT


@workflow.defn(name=UPDATE_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class UpdateEnvironment(ServicesFrame):
    """Runs one update, or a retry of one."""

    @workflow.init
    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)

    @workflow.run
    async def run(self, operation: OperationInput) -> OperationResult:  # noqa: ARG002 - taken by __init__
        """Run the operation to its end."""
        return await self.run_operation()

    @workflow.signal(name=CANCEL_SIGNAL)
    def cancel(self, request: CancelRequest) -> None:
        """Stop; with `cleanup`, undo."""
        self.request_cancel(request)
