"""The kinds of volume snapshots on the real API server, and their controllers as played by a test.

No driver runs here. What the snapshot controller and the driver's sidecar would write is written by
`Controller`: content `snapcontent-<uid of the VolumeSnapshot>`, both pointing at each other, then handle,
size and time. The real definitions of the kinds, with their rules, come from the controllers' own Go module.
"""

from dataclasses import dataclass, field
from typing import Final

from clusters.connection import MERGE, Call
from clusters.errors import NotFound
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef, kind_of
from workflows.domain.json_reading import strings, text

DRIVER: Final = "snapshots.test.perdure.dev"
PROTECTED: Final = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"
CONTENT_PROTECTED: Final = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"
_GROUP_HANDLE: Final = "groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle"


@dataclass
class Controller:
    """Does what the snapshot controller and the sidecar of `DRIVER` do, when it is told to."""

    admin: Cluster
    namespace: str
    storage: dict[str, str] = field(default_factory=dict)
    """What lies in the storage: claim by handle."""

    async def cut(self, name: str, *, error: str = "", policy: str = "Delete") -> str:
        """Bind a VolumeSnapshot and cut its claim, or tell an error; return the name of the content."""
        snapshot = await self._get("VolumeSnapshot", name, self.namespace)
        if error:
            await self.status(snapshot, {"readyToUse": False, "error": {"message": error}})
            return ""
        claim = text(snapshot, "spec", "source", "persistentVolumeClaimName")
        uid = text(snapshot, "metadata", "uid")
        content = f"snapcontent-{uid}"
        handle = f"handle-{uid}"
        self.storage[handle] = claim
        spec: Manifest = {
            "deletionPolicy": policy,
            "driver": DRIVER,
            "source": {"volumeHandle": f"volume-of-{claim}"},
            "sourceVolumeMode": "Filesystem",
            "volumeSnapshotClassName": text(snapshot, "spec", "volumeSnapshotClassName"),
            "volumeSnapshotRef": self._ref("VolumeSnapshot", name, uid),
        }
        await self.admin.create(_content(content, spec))
        made = await self._get("VolumeSnapshotContent", content)
        await self.status(
            made,
            {
                "snapshotHandle": handle,
                "readyToUse": True,
                "restoreSize": 1 << 30,
                "creationTime": 1_790_000_000 * 1_000_000_000,
            },
        )
        await self.patch(made, {"metadata": {"finalizers": [CONTENT_PROTECTED]}})
        await self.protect(snapshot)
        await self.status(snapshot, {"readyToUse": True, "boundVolumeSnapshotContentName": content})
        return content

    async def cut_group(self, name: str) -> str:
        """Cut all claims that a VolumeGroupSnapshot selects; return the name of the group's content."""
        group = await self._get("VolumeGroupSnapshot", name, self.namespace)
        uid = text(group, "metadata", "uid")
        selected = group["spec"]["source"]["selector"]["matchLabels"]  # type: ignore[index, call-overload]
        claims = await self.admin.list("PersistentVolumeClaim", self.namespace, labels=selected)  # type: ignore[arg-type]
        names = [text(each, "metadata", "name") for each in claims.items]
        content = f"groupsnapcontent-{uid}"
        spec: Manifest = {
            "deletionPolicy": "Delete",
            "driver": DRIVER,
            "source": {"volumeHandles": [f"volume-of-{each}" for each in names]},
            "volumeGroupSnapshotRef": self._ref("VolumeGroupSnapshot", name, uid),
        }
        await self.admin.create(_content(content, spec, "VolumeGroupSnapshotContent"))
        for claim in names:
            await self._member(group, claim)
        await self.status(group, {"readyToUse": True, "boundVolumeGroupSnapshotContentName": content})
        return content

    async def lend(self, name: str) -> None:
        """Bind a VolumeSnapshot to the content made for it beforehand, if its handle lies in the storage."""
        snapshot = await self._get("VolumeSnapshot", name, self.namespace)
        content = await self._get(
            "VolumeSnapshotContent", text(snapshot, "spec", "source", "volumeSnapshotContentName")
        )
        handle = text(content, "spec", "source", "snapshotHandle")
        if handle not in self.storage:
            await self.status(snapshot, {"readyToUse": False, "error": {"message": f"no snapshot {handle}"}})
            return
        uid = text(snapshot, "metadata", "uid")
        await self.patch(content, {"spec": {"volumeSnapshotRef": {"uid": uid}}})
        await self.status(content, {"snapshotHandle": handle, "readyToUse": True})
        await self.patch(content, {"metadata": {"finalizers": [CONTENT_PROTECTED]}})
        await self.protect(snapshot)
        await self.status(
            snapshot,
            {"readyToUse": True, "boundVolumeSnapshotContentName": text(content, "metadata", "name")},
        )

    async def protect(self, snapshot: Manifest) -> None:
        """Put the controller's finalizer on a VolumeSnapshot: it goes after its content, or is let go."""
        await self.patch(snapshot, {"metadata": {"finalizers": [PROTECTED]}})

    async def settle(self) -> None:
        """Do what is to be done about VolumeSnapshots and contents that are being deleted."""
        for snapshot in (await self.admin.list("VolumeSnapshot", self.namespace)).items:
            if not text(snapshot, "metadata", "deletionTimestamp"):
                continue
            content = text(snapshot, "status", "boundVolumeSnapshotContentName")
            live = await self.admin.get(ObjectRef("VolumeSnapshotContent", content)) if content else None
            if live is not None and text(live, "spec", "deletionPolicy") == "Delete":
                await self.admin.delete(
                    ObjectRef("VolumeSnapshotContent", content), propagation=Propagation.BACKGROUND
                )
            if strings(snapshot, "metadata", "finalizers"):
                await self.patch(snapshot, {"metadata": {"finalizers": None}})
        for bound in (await self.admin.list("VolumeSnapshotContent")).items:
            going = bool(text(bound, "metadata", "deletionTimestamp"))
            if text(bound, "spec", "driver") != DRIVER or not going:
                continue
            # What lies in the storage goes with its content when that says so, and only then.
            if text(bound, "spec", "deletionPolicy") == "Delete":
                self.storage.pop(text(bound, "status", "snapshotHandle"), None)
            await self.patch(bound, {"metadata": {"finalizers": None}})

    async def patch(self, live: Manifest, body: Manifest, subresource: str = "") -> None:
        """Write a part of an object, as its controllers do; nothing when it is gone."""
        kind = kind_of(text(live, "kind"))
        namespace = text(live, "metadata", "namespace") or None
        path = kind.path(namespace, text(live, "metadata", "name"), subresource)
        try:
            await self.admin.connection.request(Call("PATCH", path, {}, body, content_type=MERGE))
        except NotFound:
            return

    async def status(self, live: Manifest, status: Manifest) -> None:
        """Write the status of an object."""
        await self.patch(live, {"status": status}, "status")

    async def _member(self, group: Manifest, claim: str) -> None:
        name = f"snapshot-{claim}-{text(group, 'metadata', 'uid')[:8]}"
        owner: Manifest = {
            "apiVersion": text(group, "apiVersion"),
            "kind": "VolumeGroupSnapshot",
            "name": text(group, "metadata", "name"),
            "uid": text(group, "metadata", "uid"),
        }
        await self.admin.create(
            {
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshot",
                "metadata": {"name": name, "namespace": self.namespace, "ownerReferences": [owner]},
                "spec": {"source": {"persistentVolumeClaimName": claim}},
            }
        )
        content = await self.cut(name)
        live = await self._get("VolumeSnapshotContent", content)
        await self.patch(live, {"metadata": {"annotations": {_GROUP_HANDLE: "group-handle"}}})

    async def _get(self, kind: str, name: str, namespace: str | None = None) -> Manifest:
        live = await self.admin.get(ObjectRef(kind, name, namespace))
        assert live is not None, f"{kind}/{name} is not there"
        return live

    def _ref(self, kind: str, name: str, uid: str) -> Manifest:
        return {"kind": kind, "name": name, "namespace": self.namespace, "uid": uid}


def _content(name: str, spec: Manifest, kind: str = "VolumeSnapshotContent") -> Manifest:
    return {"apiVersion": kind_of(kind).api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
