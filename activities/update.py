"""UpdateEnvironment in the cluster: taking away what is no longer part; the rest is as in a provision."""

from dataclasses import dataclass

from temporalio import activity

from activities._removal import await_gone, remove
from activities._step import alive, reports_failures
from clusters.gateway import Cluster
from clusters.objects import ObjectRef
from workflows.contracts.update import RemoveService, UpdateActivities
from workflows.domain.json_reading import text
from workflows.domain.names import ENVIRONMENT, NAME


@dataclass(frozen=True, slots=True)
class ClusterUpdate(UpdateActivities):
    """The activities of an update, on one cluster."""

    cluster: Cluster

    @activity.defn(name="service.remove")
    @reports_failures
    async def remove_service(self, request: RemoveService) -> None:
        """See `UpdateActivities`. A second attempt finds less, and waits for the rest."""
        context = request.context
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            refs = [ObjectRef(each.kind, each.name, context.namespace) for each in request.objects]
            if request.leaves:
                labels = {ENVIRONMENT: context.environment_id, NAME: request.service}
                jobs = await cluster.list("Job", context.namespace, labels=labels)
                known = {(ref.kind, ref.name) for ref in refs}
                names = [text(job, "metadata", "name") for job in jobs.items]
                refs += [
                    ObjectRef("Job", name, context.namespace) for name in names if ("Job", name) not in known
                ]
            for ref in refs:
                await remove(cluster, ref, context)
            await await_gone(cluster, refs, request.deadline)
