"""UpdateEnvironment: what its activities on the cluster are asked beside those of a provision."""

from datetime import datetime
from typing import Final

from temporalio import activity

from workflows.domain.environment import EnvironmentContext, ObjectName
from workflows.domain.failures import WireModel

UPDATE_ENVIRONMENT: Final = "UpdateEnvironment"


class RemoveService(WireModel):
    """Delete these objects of a service, in this order, and wait until its pods are gone.

    `leaves`: nothing of the service stays, so that its init Jobs go too.
    """

    context: EnvironmentContext
    service: str
    objects: tuple[ObjectName, ...]
    leaves: bool
    deadline: datetime


class UpdateActivities:
    """Update as its workflow sees it; in `activities.update`, run on the cluster's queue."""

    @activity.defn(name="service.remove")
    async def remove_service(self, request: RemoveService) -> None:
        """Delete what is no longer part of the environment. What is gone already is success."""
        raise NotImplementedError
