"""Snapshots that the cluster's storage takes and keeps: made, awaited, kept over their environment, removed.

All names follow from the snapshot's id and the claim, so a second attempt finds what the first one asked
for, at the point at which it was cut. What a VolumeSnapshot is bound to (its content) has no namespace: told
to retain, it is what is left when the environment is deleted.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from activities._step import fail
from clusters.errors import Conflict, NotFound, NotServed
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef, ref_of
from clusters.storage import FoundStorage, storage_of
from workflows.contracts.snapshot import CaptureVolumes
from workflows.domain import manifests
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import at, children, number, text
from workflows.domain.names import SNAPSHOT
from workflows.domain.snapshot import Captured, Engine, grade
from workflows.domain.snapshot_manifest import StoredComponent, StoredVolume

CONTENT: Final = "VolumeSnapshotContent"
GROUP_CONTENT: Final = "VolumeGroupSnapshotContent"
_CONTENTS: Final = (GROUP_CONTENT, CONTENT)
_SNAPSHOTS: Final = ("VolumeGroupSnapshot", "VolumeSnapshot")
_BOUND: Final = {
    "VolumeSnapshot": ("boundVolumeSnapshotContentName", "volumeSnapshotRef", CONTENT),
    "VolumeGroupSnapshot": (
        "boundVolumeGroupSnapshotContentName",
        "volumeGroupSnapshotRef",
        GROUP_CONTENT,
    ),
}
"""By kind: where its status names its content, where that points back, and the content's kind."""
_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited.

    `ready`: until a snapshot can be used; some storages copy it away first. `error`: for an error that the
    storage tells to pass by, since its controllers try again themselves. `gone`: until what is deleted is
    gone.
    """

    ready: timedelta = timedelta(hours=4)
    error: timedelta = timedelta(seconds=60)
    gone: timedelta = timedelta(minutes=2)
    look: float = 0.5
    """Seconds between two looks."""


PATIENCE: Final = Patience()


async def capture_volumes(cluster: Cluster, request: CaptureVolumes, patience: Patience) -> StoredComponent:
    """Have every volume of a service cut, and return what the storage keeps once all of it can be used."""
    component = request.component
    assert component.store is not None  # noqa: S101 - what keeps nothing is not captured
    claims = await _claims(cluster, request)
    found = await storage_of(cluster)
    if component.engine is Engine.CSI_GROUP:
        names, group = await _cut_together(cluster, request, claims, found, patience)
    else:
        names, group = await _cut_each(cluster, request, claims, found), None
    volumes = await asyncio.gather(
        *(_kept_volume(cluster, request, (claim, names[claim], group), patience) for claim in claims)
    )
    stored = tuple(
        each.model_copy(update={"volume": volume, "ordinal": ordinal})
        for each, (volume, ordinal) in zip(volumes, claims.values(), strict=True)
    )
    moments = [each.captured_at for each in stored if each.captured_at is not None]
    return StoredComponent(
        service=component.service,
        store=component.store,
        engine=component.engine,
        consistency=grade(Captured(component)),
        captured_at=min(moments, default=None),
        volumes=stored,
    )


async def check_kept(cluster: Cluster, volumes: Collection[StoredVolume]) -> None:
    """Fail unless the storage keeps each of these, and will when its environment is deleted."""
    for volume in volumes:
        fault = await fault_of(cluster, volume)
        if fault:
            fail(failure(FailureKind.SNAPSHOT_CORRUPT, f"{fault}."))


async def fault_of(cluster: Cluster, volume: StoredVolume) -> str:
    """Say why what the storage keeps of a volume cannot be relied on; empty: it can, as far as it tells."""
    content = await cluster.get(ObjectRef(CONTENT, volume.content))
    if (
        content is None
        or text(content, "metadata", "deletionTimestamp")
        or text(content, "status", "snapshotHandle") != volume.handle
    ):
        return f"The storage has no snapshot {volume.handle} any more ({CONTENT}/{volume.content})"
    if at(content, "status", "readyToUse") is not True:
        said = text(content, "status", "error", "message") or "it is not ready"
        return f"The snapshot {volume.handle} cannot be used: {said}"
    if text(content, "spec", "deletionPolicy") != "Retain":
        return f"{CONTENT}/{volume.content} would go with the environment: it was changed meanwhile"
    return ""


async def release(cluster: Cluster, namespace: str, snapshot_id: str) -> None:
    """Delete the VolumeSnapshots of single volumes: what they are bound to stays without them.

    Those of a group stay until the namespace goes: its controller wants group and members together.
    """
    for snapshot in await listed(cluster, "VolumeSnapshot", {SNAPSHOT: snapshot_id}, namespace):
        await cluster.delete(
            ref_of(snapshot), uid=text(snapshot, "metadata", "uid"), propagation=Propagation.BACKGROUND
        )


async def discard(
    cluster: Cluster, context: EnvironmentContext, snapshot_id: str, patience: Patience
) -> None:
    """Remove all that the storage keeps of a snapshot, whether or not its environment is still there."""
    labels = {SNAPSHOT: snapshot_id}
    for kind in _SNAPSHOTS:
        for snapshot in await listed(cluster, kind, labels, context.namespace):
            await _discard_one(cluster, context, snapshot_id, snapshot)
    deadline = datetime.now(UTC) + patience.gone
    while True:
        left = [each for kind in _CONTENTS for each in await listed(cluster, kind, labels)]
        for content in left:
            if text(content, "metadata", "deletionTimestamp"):
                continue
            await _let_go(cluster, context, snapshot_id, content)
            await cluster.delete(
                ref_of(content), uid=text(content, "metadata", "uid"), propagation=Propagation.BACKGROUND
            )
        for kind in _SNAPSHOTS:
            left += await listed(cluster, kind, labels, context.namespace)
        if not left:
            return
        if datetime.now(UTC) > deadline:
            held = ", ".join(sorted(ref_of(each).title for each in left))
            message = f"The storage has not removed {held} yet."
            fail(failure(FailureKind.TIMEOUT, message), final=True)
        await asyncio.sleep(patience.look)


async def listed(
    cluster: Cluster, kind: str, labels: Mapping[str, str], namespace: str | None = None
) -> list[Manifest]:
    """Return the objects of a kind with these labels; none where the cluster does not know the kind."""
    if not await cluster.served(kind):
        return []
    try:
        return list((await cluster.list(kind, namespace, labels=labels)).items)
    except (NotFound, NotServed):
        return []


async def _claims(cluster: Cluster, request: CaptureVolumes) -> dict[str, tuple[str, int]]:
    """Return volume and ordinal by claim, of the pods that there are to be."""
    service, namespace = request.service, request.context.namespace
    workload = await cluster.get(ObjectRef(manifests.workload_kind(service), service.name, namespace))
    replicas = int(number(workload or {}, "spec", "replicas") or 0)
    claims = {name: (volume.name, ordinal) for volume, ordinal, name in manifests.claims(service, replicas)}
    if not claims:
        message = f"{service.name} has no pods with volumes: there is nothing that the storage could cut."
        fail(failure(FailureKind.CONFLICT, message))
    return claims


async def _cut_each(
    cluster: Cluster, request: CaptureVolumes, claims: Collection[str], found: FoundStorage
) -> dict[str, str]:
    """Ask for a snapshot of each claim, all at once; return the names of the VolumeSnapshots by claim."""
    context, service = request.context, request.service
    classes: dict[str, str] = {}
    for claim in claims:
        driver = await _driver_of(cluster, claim, context.namespace, found)
        if driver not in found.snapshot_classes:
            message = f"There is no VolumeSnapshotClass for {driver or 'the storage'} of {claim} any more."
            fail(failure(FailureKind.CONFIG_MISSING, message))
        classes[claim] = found.snapshot_classes[driver]
    made = [
        manifests.volume_snapshot(context, service.name, request.snapshot_id, claim, of)
        for claim, of in classes.items()
    ]
    # A class that was found the first time stays: the spec cannot be changed, nor has it to be.
    await asyncio.gather(*(_made_once(cluster, each) for each in made))
    return {claim: ref_of(each).name for claim, each in zip(classes, made, strict=True)}


async def _cut_together(
    cluster: Cluster,
    request: CaptureVolumes,
    claims: Collection[str],
    found: FoundStorage,
    patience: Patience,
) -> tuple[dict[str, str], str]:
    """Ask for the group, once for all services; return its VolumeSnapshots by claim, and its content."""
    context = request.context
    drivers = {await _driver_of(cluster, claim, context.namespace, found) for claim in claims}
    driver = next(iter(drivers))
    if len(drivers) > 1 or driver not in found.group_classes:
        message = f"There is no one VolumeGroupSnapshotClass for {', '.join(sorted(drivers))} any more."
        fail(failure(FailureKind.CONFIG_MISSING, message))
    manifest = manifests.group_snapshot(context, request.snapshot_id, found.group_classes[driver])
    await _made_once(cluster, manifest)
    group = await _ready(cluster, ref_of(manifest), patience)
    content = await _keep(cluster, request, group)
    uid = text(group, "metadata", "uid")
    members = {
        text(each, "spec", "source", "persistentVolumeClaimName"): text(each, "metadata", "name")
        for each in (await cluster.list("VolumeSnapshot", context.namespace)).items
        if any(text(owner, "uid") == uid for owner in children(each, "metadata", "ownerReferences"))
    }
    missing = sorted(set(claims) - set(members))
    if missing:
        message = f"The group snapshot {ref_of(manifest).name} has none of {', '.join(missing)}."
        fail(failure(FailureKind.VOLUME_UNAVAILABLE, message))
    return members, text(content, "metadata", "name")


async def _driver_of(cluster: Cluster, claim: str, namespace: str, found: FoundStorage) -> str:
    """Return the driver of the class that a claim really has; empty for one that is not known."""
    live = await cluster.get(ObjectRef("PersistentVolumeClaim", claim, namespace))
    if live is None:
        fail(failure(FailureKind.CONFLICT, f"There is no claim {claim}: its volume cannot be cut."))
    return found.storage.drivers.get(text(live, "spec", "storageClassName"), "")


async def _made_once(cluster: Cluster, manifest: Manifest) -> None:
    """Make a snapshot unless it is there: an earlier attempt's is of an earlier point, which is better."""
    live = await cluster.get(ref_of(manifest))
    if live is None:
        await cluster.apply(manifest)


async def _kept_volume(
    cluster: Cluster, request: CaptureVolumes, of: tuple[str, str, str | None], patience: Patience
) -> StoredVolume:
    """Wait for a snapshot, see to it that it outlives the environment, and return what it is."""
    claim, name, group = of
    snapshot = await _ready(
        cluster, ObjectRef("VolumeSnapshot", name, request.context.namespace), patience, claim
    )
    content = await _keep(cluster, request, snapshot)
    size = number(content, "status", "restoreSize")
    return StoredVolume(
        volume="",
        driver=text(content, "spec", "driver"),
        handle=text(content, "status", "snapshotHandle"),
        content=text(content, "metadata", "name"),
        group_content=group,
        snapshot_class=text(content, "spec", "volumeSnapshotClassName") or None,
        volume_mode=text(content, "spec", "sourceVolumeMode") or None,
        restore_bytes=int(size) if size else None,
        captured_at=_moment(content),
    )


async def _ready(
    cluster: Cluster, ref: ObjectRef, patience: Patience, claim: str = "the environment"
) -> Manifest:
    """Wait until a snapshot is bound and can be used. What the storage says of it is told in its words."""
    deadline = datetime.now(UTC) + patience.ready
    wrong_since: datetime | None = None
    content_name, _, _ = _BOUND[ref.kind]
    while True:
        live = await cluster.get(ref)
        now = datetime.now(UTC)
        if live is None or text(live, "metadata", "deletionTimestamp"):
            message = f"{ref.title} of {claim} was deleted while it was taken."
            fail(failure(FailureKind.CONFLICT, message), final=True)
        if at(live, "status", "readyToUse") is True and text(live, "status", content_name):
            return live
        said = text(live, "status", "error", "message")
        wrong_since = (wrong_since or now) if said else None
        if wrong_since is not None and now - wrong_since > patience.error:
            message = f"The storage does not take a snapshot of {claim}: {said}"
            fail(failure(FailureKind.VOLUME_UNAVAILABLE, message), final=True)
        if now > deadline:
            message = f"The storage's snapshot of {claim} ({ref.title}) is not ready in time" + (
                f": {said}" if said else "."
            )
            fail(failure(FailureKind.TIMEOUT, message), final=True)
        await asyncio.sleep(patience.look)


async def _keep(cluster: Cluster, request: CaptureVolumes, snapshot: Manifest) -> Manifest:
    """Have what a snapshot is bound to outlive it, and return that."""
    content = await _content_of(cluster, snapshot)
    if content is None:
        message = f"{ref_of(snapshot).title} is bound to what is not there, or not bound to it."
        fail(failure(FailureKind.VOLUME_UNAVAILABLE, message))
    said = manifests.kept(request.context, request.snapshot_id, content, retained=True)
    return (await cluster.apply(said)).live


async def _content_of(cluster: Cluster, snapshot: Manifest) -> Manifest | None:
    """Return the content of a snapshot when each points at the other: one alone could be forged."""
    kind = text(snapshot, "kind")
    named, back, content_kind = _BOUND[kind]
    name = text(snapshot, "status", named)
    if not name and kind == "VolumeSnapshot":
        # As the snapshot controller names what it makes, before it has said so.
        name = f"snapcontent-{text(snapshot, 'metadata', 'uid')}"
    content = await cluster.get(ObjectRef(content_kind, name)) if name else None
    if content is None or text(content, "spec", back, "uid") != text(snapshot, "metadata", "uid"):
        return None
    return content


async def _discard_one(
    cluster: Cluster, context: EnvironmentContext, snapshot_id: str, snapshot: Manifest
) -> None:
    """Delete a snapshot and with it what it is bound to, at the storage as well."""
    content = await _content_of(cluster, snapshot)
    if content is not None:
        await _let_go(cluster, context, snapshot_id, content)
    await cluster.delete(
        ref_of(snapshot), uid=text(snapshot, "metadata", "uid"), propagation=Propagation.BACKGROUND
    )


async def _let_go(cluster: Cluster, context: EnvironmentContext, snapshot_id: str, content: Manifest) -> None:
    """Have a content take along what lies in the storage when it goes; nothing when it is gone."""
    try:
        await cluster.apply(manifests.kept(context, snapshot_id, content, retained=False))
    except (Conflict, NotFound):
        # With a UID an apply does not make it anew.
        if await cluster.get(ref_of(content)) is not None:
            raise


def _moment(content: Manifest) -> datetime | None:
    """Return when a content was cut: it says so in nanoseconds since 1970."""
    nanoseconds = number(content, "status", "creationTime")
    return datetime.fromtimestamp(nanoseconds / _NANOSECONDS, UTC) if nanoseconds else None
