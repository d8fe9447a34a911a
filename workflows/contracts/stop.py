"""StopEnvironment: what its activities on the cluster are asked, and what they answer."""

from datetime import datetime
from typing import Final

from pydantic import JsonValue
from temporalio import activity

from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import WireModel

STOP_ENVIRONMENT: Final = "StopEnvironment"


class StopService(WireModel):
    """Apply one service without replicas and wait until its pods are gone; its volumes stay."""

    context: EnvironmentContext
    service: str
    manifests: tuple[dict[str, JsonValue], ...]
    deadline: datetime
    """Absolute, so that a second attempt does not start it anew."""


class StopActivities:
    """Stop as its workflow sees it; in `activities.stop`, run on the cluster's queue."""

    @activity.defn(name="service.stop")
    async def stop_service(self, request: StopService) -> None:
        """Scale to nothing and wait. Names the pods that are still there at the deadline."""
        raise NotImplementedError
