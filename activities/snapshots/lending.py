"""A restore from what the storage keeps: a snapshot is lent to a new environment until its volumes are made.

A claim is made from a VolumeSnapshot of its own namespace only. So each claim gets one, bound to a content
that says where the kept snapshot lies, and both go again once the volume is there; what lies in the storage
stays.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final

from activities._step import fail
from activities.snapshots.csi_objects import CONTENT, Patience, listed
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef, ref_of
from workflows.contracts.restore import Provide, Release
from workflows.domain import manifests
from workflows.domain.blueprint_models import Volume
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import at, text
from workflows.domain.manifests_workload import claim_name
from workflows.domain.names import ENVIRONMENT, NAME, RESTORED
from workflows.domain.snapshot_manifest import StoredVolume

CLAIM: Final = "PersistentVolumeClaim"


async def provide(cluster: Cluster, request: Provide, patience: Patience) -> None:
    """Make the claims under the names that the controller of their StatefulSet looks for."""
    known = {volume.name: volume for volume in request.service.volumes}
    for stored in request.volumes:
        if stored.volume not in known:
            message = f"{request.service.name} has no volume {stored.volume} any more."
            fail(failure(FailureKind.CONFLICT, message))
    await asyncio.gather(
        *(_provided(cluster, request, stored, known[stored.volume], patience) for stored in request.volumes)
    )


async def settle(cluster: Cluster, request: Provide, patience: Patience) -> None:
    """Wait until each claim has its volume, then take back what was lent."""
    deadline = datetime.now(UTC) + patience.ready
    for stored in request.volumes:
        ref = ObjectRef(CLAIM, _claim(request, stored), request.context.namespace)
        while True:
            live = await cluster.get(ref)
            if live is None:
                fail(failure(FailureKind.CONFLICT, f"The claim {ref.name} was deleted while it was filled."))
            if text(live, "status", "phase") == "Bound":
                break
            if datetime.now(UTC) > deadline:
                message = f"The storage has made no volume for the claim {ref.name} in time."
                fail(failure(FailureKind.VOLUME_UNAVAILABLE, message), final=True)
            await asyncio.sleep(patience.look)
    await release(
        cluster,
        Release(context=request.context, snapshot_id=request.snapshot_id, service=request.service.name),
    )


async def release(cluster: Cluster, request: Release) -> None:
    """Remove what lends snapshots to an environment. The contents retain: what lies in the storage stays."""
    context = request.context
    labels = {ENVIRONMENT: context.environment_id, RESTORED: request.snapshot_id}
    if request.service is not None:
        labels[NAME] = request.service
    lent = await listed(cluster, "VolumeSnapshot", labels, context.namespace)
    for each in (*lent, *await listed(cluster, CONTENT, labels)):
        await cluster.delete(
            ref_of(each), uid=text(each, "metadata", "uid"), propagation=Propagation.BACKGROUND
        )


async def _provided(
    cluster: Cluster, request: Provide, stored: StoredVolume, volume: Volume, patience: Patience
) -> None:
    context, service = request.context, request.service
    claim = _claim(request, stored)
    manifest = manifests.restored_claim(context, service, request.snapshot_id, claim, stored, volume)
    live = await cluster.get(ref_of(manifest))
    if live is not None:
        _check_source(live, manifest)
        # Its volume may be there, and what was lent for it gone.
        return
    content = manifests.lent_content(context, service.name, request.snapshot_id, claim, stored)
    await _made_once(cluster, content)
    snapshot = manifests.lent_snapshot(context, service.name, request.snapshot_id, claim)
    await _made_once(cluster, snapshot)
    await _usable(cluster, ref_of(snapshot), claim, patience)
    await cluster.apply(manifest)


async def _made_once(cluster: Cluster, manifest: Manifest) -> None:
    """Make what lends a snapshot, unless an attempt before did.

    Applied again it would lose what the controller wrote: `volumeSnapshotRef` is replaced as a whole, and a
    content without the UID of its snapshot is bound to nothing.
    """
    if await cluster.get(ref_of(manifest)) is None:
        await cluster.apply(manifest)


def _check_source(live: Manifest, wanted: Manifest) -> None:
    """Fail when a claim is there that is not filled from what it is to be filled from."""
    if at(live, "spec", "dataSource", "name") != at(wanted, "spec", "dataSource", "name"):
        message = f"There is a claim {ref_of(wanted).name} with other data already: it is left alone."
        fail(failure(FailureKind.CONFLICT, message))


async def _usable(cluster: Cluster, ref: ObjectRef, claim: str, patience: Patience) -> None:
    """Wait until a lent snapshot can be used; the storage looks whether it still has it."""
    deadline = datetime.now(UTC) + patience.ready
    wrong_since: datetime | None = None
    while True:
        live = await cluster.get(ref)
        now = datetime.now(UTC)
        if at(live or {}, "status", "readyToUse") is True:
            return
        said = text(live or {}, "status", "error", "message")
        wrong_since = (wrong_since or now) if said else None
        if (wrong_since is not None and now - wrong_since > patience.error) or now > deadline:
            message = f"The storage does not lend its snapshot to {claim}" + (f": {said}" if said else ".")
            fail(failure(FailureKind.VOLUME_UNAVAILABLE, message), final=True)
        await asyncio.sleep(patience.look)


def _claim(request: Provide, stored: StoredVolume) -> str:
    return claim_name(stored.volume, request.service.name, stored.ordinal)
