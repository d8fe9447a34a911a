"""What operations share that run beside what an environment is: they need it to be there."""

from workflows._cluster import StepFailed
from workflows._services import ServicesFrame
from workflows.contracts.operation import OperationPlan
from workflows.domain.failures import FailureKind, failure
from workflows.domain.operations import Output, PlannedStep


class AsideFrame(ServicesFrame):
    """An operation on what runs, which makes no service."""

    async def _prepare_namespace(self, plan: OperationPlan, step: PlannedStep) -> Output:
        output = await super()._prepare_namespace(plan, step)
        if self._namespace is not None and not self._namespace.existed:
            raise StepFailed(
                failure(
                    FailureKind.CONFLICT,
                    f"Namespace {plan.context.namespace} was gone, and all of the environment with it: "
                    "update the environment, which now makes all of it anew.",
                    step=step.name,
                )
            )
        return output
