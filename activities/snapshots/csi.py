"""Snapshots that the cluster's storage takes and keeps: asked for, cut, and kept over their environment.

All names follow from the snapshot's id and the claim, so a second attempt finds what the first one asked
for, at the point at which it was cut; where services are held still for it, each window has names of its
own. What a VolumeSnapshot is bound to (its content) has no namespace: told to retain, it is what is left when
the environment is deleted.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from activities._step import fail
from activities.snapshots.csi_objects import (
    CONTENT,
    VOLUME,
    Patience,
    content_of,
    is_going,
    is_ready,
    members_of,
)
from clusters.gateway import Cluster
from clusters.objects import Manifest, ObjectRef, ref_of
from clusters.storage import FoundStorage, storage_of
from workflows.contracts.snapshot import CaptureVolumes
from workflows.domain import manifests
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import at, number, text
from workflows.domain.snapshot import Captured, Engine, grade
from workflows.domain.snapshot_manifest import StoredComponent, StoredVolume

_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What the storage was asked for. `snapshots`: the VolumeSnapshot of each claim, or the group of all.

    `claims`: volume and ordinal by claim. `window`: the number of the quiesce window it was asked for in.
    """

    request: CaptureVolumes
    claims: Mapping[str, tuple[str, int]]
    snapshots: Mapping[str, ObjectRef]
    window: int | None

    @property
    def together(self) -> bool:
        """Whether it is one group for all claims."""
        return self.request.component.engine is Engine.CSI_GROUP


async def capture_volumes(cluster: Cluster, request: CaptureVolumes, patience: Patience) -> StoredComponent:
    """Have every volume of a service cut, and return what the storage keeps once all of it can be used."""
    asked = await ask(cluster, request)
    await cut(cluster, asked, patience.cut, patience)
    return await keep(cluster, asked, patience)


async def ask(cluster: Cluster, request: CaptureVolumes, window: int | None = None) -> Asked:
    """Ask the storage to cut every volume of a service, unless an earlier attempt asked for the same."""
    claims = await _claims(cluster, request)
    found = await storage_of(cluster)
    if request.component.engine is Engine.CSI_GROUP:
        group = await _group(cluster, request, claims, found, window)
        return Asked(request, claims, dict.fromkeys(claims, group), window)
    return Asked(request, claims, await _singles(cluster, request, claims, found, window), window)


async def cut(cluster: Cluster, asked: Asked, within: timedelta, patience: Patience) -> None:
    """Wait until all that was asked for has a point; whether it can be used is another matter."""
    deadline = datetime.now(UTC) + within
    refs = {ref: "the environment" if asked.together else claim for claim, ref in asked.snapshots.items()}
    await asyncio.gather(*(_cut(cluster, ref, of, deadline, patience) for ref, of in refs.items()))


async def keep(cluster: Cluster, asked: Asked, patience: Patience) -> StoredComponent:
    """Wait until all of it can be used, see to it that it outlives the environment, and return what it is."""
    request, component = asked.request, asked.request.component
    assert component.store is not None  # noqa: S101 - what keeps nothing is not captured
    group = None
    snapshots = asked.snapshots
    if asked.together:
        snapshots, group = await _kept_group(cluster, asked, patience)
    wanted = [(claim, snapshots[claim], group) for claim in asked.claims]
    volumes = await asyncio.gather(*(_kept_volume(cluster, request, each, patience) for each in wanted))
    stored = tuple(
        each.model_copy(update={"volume": volume, "ordinal": ordinal})
        for each, (volume, ordinal) in zip(volumes, asked.claims.values(), strict=True)
    )
    moments = [each.captured_at for each in stored if each.captured_at is not None]
    return StoredComponent(
        service=component.service,
        store=component.store,
        engine=component.engine,
        consistency=grade(Captured(component)),
        window=asked.window,
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
    if content is None or is_going(content) or text(content, "status", "snapshotHandle") != volume.handle:
        return f"The storage has no snapshot {volume.handle} any more ({CONTENT}/{volume.content})"
    if at(content, "status", "readyToUse") is not True:
        said = text(content, "status", "error", "message") or "it is not ready"
        return f"The snapshot {volume.handle} cannot be used: {said}"
    if text(content, "spec", "deletionPolicy") != "Retain":
        return f"{CONTENT}/{volume.content} would go with the environment: it was changed meanwhile"
    return ""


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


async def _singles(
    cluster: Cluster,
    request: CaptureVolumes,
    claims: Collection[str],
    found: FoundStorage,
    window: int | None,
) -> dict[str, ObjectRef]:
    """Ask for a snapshot of each claim, all at once; return the VolumeSnapshots by claim."""
    context, service = request.context, request.service
    classes: dict[str, str] = {}
    for claim in claims:
        driver = await _driver_of(cluster, claim, context.namespace, found)
        if driver not in found.snapshot_classes:
            message = f"There is no VolumeSnapshotClass for {driver or 'the storage'} of {claim} any more."
            fail(failure(FailureKind.CONFIG_MISSING, message))
        classes[claim] = found.snapshot_classes[driver]
    made = [
        manifests.volume_snapshot(context, service.name, request.snapshot_id, claim, of, window)
        for claim, of in classes.items()
    ]
    # A class that was found the first time stays: the spec cannot be changed, nor has it to be.
    await asyncio.gather(*(_made_once(cluster, each) for each in made))
    return {claim: ref_of(each) for claim, each in zip(classes, made, strict=True)}


async def _group(
    cluster: Cluster,
    request: CaptureVolumes,
    claims: Collection[str],
    found: FoundStorage,
    window: int | None,
) -> ObjectRef:
    """Ask for the group, once for all services."""
    context = request.context
    drivers = {await _driver_of(cluster, claim, context.namespace, found) for claim in claims}
    driver = next(iter(drivers))
    if len(drivers) > 1 or driver not in found.group_classes:
        message = f"There is no one VolumeGroupSnapshotClass for {', '.join(sorted(drivers))} any more."
        fail(failure(FailureKind.CONFIG_MISSING, message))
    manifest = manifests.group_snapshot(context, request.snapshot_id, found.group_classes[driver], window)
    await _made_once(cluster, manifest)
    return ref_of(manifest)


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


async def _kept_group(cluster: Cluster, asked: Asked, patience: Patience) -> tuple[dict[str, ObjectRef], str]:
    """Wait for the group and keep it; return its VolumeSnapshots by claim, and the name of its content."""
    request = asked.request
    ref = next(iter(asked.snapshots.values()))
    group = await _ready(cluster, ref, "the environment", patience)
    content = await _kept(cluster, request, group)
    members = {
        text(each, "spec", "source", "persistentVolumeClaimName"): ref_of(each)
        for each in members_of(group, (await cluster.list(VOLUME, request.context.namespace)).items)
    }
    missing = sorted(set(asked.claims) - set(members))
    if missing:
        message = f"The group snapshot {ref.name} has none of {', '.join(missing)}."
        fail(failure(FailureKind.VOLUME_UNAVAILABLE, message))
    return members, text(content, "metadata", "name")


async def _kept_volume(
    cluster: Cluster,
    request: CaptureVolumes,
    of: tuple[str, ObjectRef, str | None],
    patience: Patience,
) -> StoredVolume:
    """Wait for a snapshot, see to it that it outlives the environment, and return what it is."""
    claim, ref, group = of
    content = await _kept(cluster, request, await _ready(cluster, ref, claim, patience))
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


class _Watch:
    """Looks at a snapshot that is being taken, and ends the wait for it when that is of no use."""

    def __init__(self, ref: ObjectRef, of: str, deadline: datetime, patience: Patience) -> None:
        self._ref = ref
        self._of = of
        self._deadline = deadline
        self._patience = patience
        self._wrong_since: datetime | None = None

    async def look(self, cluster: Cluster) -> Manifest:
        """Return the snapshot as it is; fail when it was deleted."""
        live = await cluster.get(self._ref)
        if live is None or is_going(live):
            message = f"{self._ref.title} of {self._of} was deleted while it was taken."
            fail(failure(FailureKind.CONFLICT, message), final=True)
        return live

    async def pause(self, said: str, missing: str) -> None:
        """Wait until the next look; `said`: what the storage says is wrong, `missing`: what is not yet so.

        Fails with its words when it has said so for long, or when the time is over.
        """
        now = datetime.now(UTC)
        self._wrong_since = (self._wrong_since or now) if said else None
        if self._wrong_since is not None and now - self._wrong_since > self._patience.error:
            message = f"The storage does not take a snapshot of {self._of}: {said}"
            fail(failure(FailureKind.VOLUME_UNAVAILABLE, message), final=True)
        if now > self._deadline:
            message = f"The storage's snapshot of {self._of} ({self._ref.title}) is not {missing} in time"
            fail(failure(FailureKind.TIMEOUT, f"{message}: {said}" if said else f"{message}."), final=True)
        await asyncio.sleep(self._patience.look)


async def _cut(cluster: Cluster, ref: ObjectRef, of: str, deadline: datetime, patience: Patience) -> None:
    """Wait until a snapshot has a point: its content says so first, the snapshot follows in its own time."""
    watch = _Watch(ref, of, deadline, patience)
    while True:
        live = await watch.look(cluster)
        content = await content_of(cluster, live) or {}
        if is_ready(live) or any(at(each, "status", "creationTime") is not None for each in (content, live)):
            return
        said = text(live, "status", "error", "message") or text(content, "status", "error", "message")
        await watch.pause(said, "cut")


async def _ready(cluster: Cluster, ref: ObjectRef, of: str, patience: Patience) -> Manifest:
    """Wait until a snapshot is bound and can be used. What the storage says of it is told in its words."""
    watch = _Watch(ref, of, datetime.now(UTC) + patience.ready, patience)
    while True:
        live = await watch.look(cluster)
        if is_ready(live):
            return live
        await watch.pause(text(live, "status", "error", "message"), "ready")


async def _kept(cluster: Cluster, request: CaptureVolumes, snapshot: Manifest) -> Manifest:
    """Have what a snapshot is bound to outlive it, and return that."""
    content = await content_of(cluster, snapshot)
    if content is None:
        message = f"{ref_of(snapshot).title} is bound to what is not there, or not bound to it."
        fail(failure(FailureKind.VOLUME_UNAVAILABLE, message))
    return (await cluster.apply(manifests.kept(request.context, request.snapshot_id, content))).live


def _moment(content: Manifest) -> datetime | None:
    """Return when a content was cut: it says so in nanoseconds since 1970."""
    nanoseconds = number(content, "status", "creationTime")
    return datetime.fromtimestamp(nanoseconds / _NANOSECONDS, UTC) if nanoseconds else None
