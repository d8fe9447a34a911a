"""ProvisionEnvironment: from a Blueprint to a running environment.

Namespace with guard rails, then secrets, then the services as a graph, then routing and a look at each
endpoint.
"""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._services import ServicesFrame
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationInput, OperationResult
from workflows.contracts.provision import PROVISION_ENVIRONMENT


@workflow.defn(name=PROVISION_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class ProvisionEnvironment(ServicesFrame):
    """Runs one provision, or a retry of one."""

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
