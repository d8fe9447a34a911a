"""Making way for a workload whose change Kubernetes does not allow in place."""

from datetime import datetime
from typing import Final

from activities._removal import await_gone, remove
from clusters.gateway import Cluster
from clusters.objects import Manifest, ObjectRef, ref_of
from workflows.contracts.provision import DeployService, Replacement
from workflows.domain.json_reading import at, children, mapping, text
from workflows.domain.names import ENVIRONMENT, FENCE, NAME, REVISION

_CLAIM: Final = "PersistentVolumeClaim"


async def make_way(cluster: Cluster, request: DeployService, deadline: datetime) -> None:
    """Delete the service's workload, if it is of the revision to be replaced, and the claims that do not fit.

    A second attempt finds what the first one made: it bears the new revision, and its claims fit.
    """
    replacement = request.replacement
    if replacement is None:
        return
    workload = request.manifests[-1]
    ref = ref_of(workload)
    live = await cluster.get(ref)
    if live is not None and _to_be_replaced(live, workload, replacement):
        await remove(cluster, ref, request.context)
        await await_gone(cluster, [ref], deadline)
    unfit = await _unfit_claims(cluster, request, workload)
    for claim in unfit:
        await remove(cluster, claim, request.context)
    await await_gone(cluster, unfit, deadline)


def _to_be_replaced(live: Manifest, workload: Manifest, replacement: Replacement) -> bool:
    written = text(live, "metadata", "annotations", REVISION)
    if text(live, "metadata", "deletionTimestamp"):
        return True
    if replacement.again:
        before, now = (text(each, "metadata", "annotations", FENCE) for each in (live, workload))
        return not before.isdecimal() or int(before) < int(now)
    if replacement.revision is not None:
        return written == str(replacement.revision)
    return written != text(workload, "metadata", "annotations", REVISION)


async def _unfit_claims(cluster: Cluster, request: DeployService, workload: Manifest) -> list[ObjectRef]:
    """The claims of volumes that may be made anew, and whose size or class is not the template's."""
    replacement, context = request.replacement, request.context
    if replacement is None or not replacement.volumes:
        return []
    wanted = {
        text(template, "metadata", "name"): template
        for template in children(workload, "spec", "volumeClaimTemplates")
    }
    labels = {ENVIRONMENT: context.environment_id, NAME: request.service}
    unfit: list[ObjectRef] = []
    for claim in (await cluster.list(_CLAIM, context.namespace, labels=labels)).items:
        name = text(claim, "metadata", "name")
        volume = next(
            (each for each in replacement.volumes if name.startswith(f"{each}-{request.service}-")), None
        )
        if volume is not None and (volume not in wanted or not _fits(claim, wanted[volume])):
            unfit.append(ObjectRef(_CLAIM, name, context.namespace))
    return unfit


def _fits(claim: Manifest, template: Manifest) -> bool:
    path = ("spec", "resources", "requests", "storage")
    same_size = at(claim, *path) == at(template, *path)
    wanted_class = mapping(template, "spec").get("storageClassName")
    return same_size and wanted_class in (None, mapping(claim, "spec").get("storageClassName"))
