"""ScaleService: one service to another number of replicas."""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._services import ServicesFrame
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationInput, OperationResult
from workflows.contracts.scale import SCALE_SERVICE


@workflow.defn(name=SCALE_SERVICE, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class ScaleService(ServicesFrame):
    """Runs one scaling, or a retry of one."""

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
