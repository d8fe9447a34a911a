"""RestartService: new pods for one service, of the same template."""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._services import ServicesFrame
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationInput, OperationResult
from workflows.contracts.restart import RESTART_SERVICE


@workflow.defn(name=RESTART_SERVICE, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class RestartService(ServicesFrame):
    """Runs one restart, or a retry of one."""

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
