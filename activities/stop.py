"""StopEnvironment in the cluster: a service without pods, its volumes and objects kept."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from temporalio import activity

from activities._step import alive, fail, reports_failures
from clusters.gateway import Cluster
from clusters.view import NamespaceView
from workflows.contracts.stop import StopActivities, StopService
from workflows.domain.failures import Blocker, FailureKind, failure
from workflows.domain.json_reading import text
from workflows.domain.names import ENVIRONMENT, NAME

LOOK_SECONDS: Final = 5.0
"""Look again this often even when nothing changes."""

_FINISHED: Final = frozenset({"Succeeded", "Failed"})
"""Phases of pods that run no more: those of a Job stay, unless they are being deleted."""


@dataclass(frozen=True, slots=True)
class ClusterStop(StopActivities):
    """The activities of a stop, on one cluster."""

    cluster: Cluster

    @activity.defn(name="service.stop")
    @reports_failures
    async def stop_service(self, request: StopService) -> None:
        """See `StopActivities`. A second attempt applies the same again and goes on waiting."""
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            async with cluster.view(request.context.namespace) as view:
                await asyncio.gather(*(cluster.apply(each) for each in request.manifests))
                await _await_no_pods(view, request)


async def _await_no_pods(view: NamespaceView, request: StopService) -> None:
    names = {text(each, "spec", "template", "metadata", "labels", NAME) for each in request.manifests} - {""}
    await view.synced()
    while True:
        version = view.version
        left = [
            text(pod, "metadata", "name")
            for pod in view.objects("Pod", labels={ENVIRONMENT: request.context.environment_id})
            if text(pod, "metadata", "labels", NAME) in names
            and (text(pod, "status", "phase") not in _FINISHED or text(pod, "metadata", "deletionTimestamp"))
        ]
        if not left:
            return
        remaining = (request.deadline - datetime.now(UTC)).total_seconds()
        if remaining <= 0:
            blocked_by = tuple(Blocker(object=f"Pod/{name}") for name in left)
            message = f"Pods of {request.service} have not ended in time: {', '.join(left)}."
            fail(failure(FailureKind.TIMEOUT, message, blocked_by=blocked_by), final=True)
        await view.changed(version, timeout=min(remaining, LOOK_SECONDS))
