"""StopEnvironment: no pods any more, dependants first. Volumes, and the numbers of replicas, stay."""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._services import ServicesFrame
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationInput, OperationResult
from workflows.contracts.stop import STOP_ENVIRONMENT


@workflow.defn(name=STOP_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class StopEnvironment(ServicesFrame):
    """Runs one stop, or a retry of one."""

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
