"""ResumeEnvironment: a stopped environment runs again, in the order of its dependencies."""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._services import ServicesFrame
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationInput, OperationResult
from workflows.contracts.resume import RESUME_ENVIRONMENT


@workflow.defn(name=RESUME_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class ResumeEnvironment(ServicesFrame):
    """Runs one resume, or a retry of one."""

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
