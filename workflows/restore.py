"""RestoreEnvironment: brings a snapshot's data into an environment, a new one or one that stands."""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._loading import LoadingFrame
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationInput, OperationResult
from workflows.contracts.restore import RESTORE_ENVIRONMENT


@workflow.defn(name=RESTORE_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class RestoreEnvironment(LoadingFrame):
    """Loads a snapshot's data before what depends on it starts. Data are not taken back."""

    @workflow.init
    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)

    @workflow.run
    async def run(self, operation: OperationInput) -> OperationResult:  # noqa: ARG002 - taken by __init__
        """Run the operation to its end."""
        return await self.run_operation()

    @workflow.signal(name=CANCEL_SIGNAL)
    def cancel(self, request: CancelRequest) -> None:
        """Stop; what is half loaded stays so until it is loaded again."""
        self.request_cancel(request)
