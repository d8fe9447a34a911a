"""Snapshots of volumes as a cluster's controllers show them: what there is, and what each is bound to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from clusters.errors import NotFound, NotServed
from clusters.gateway import Cluster
from clusters.objects import Manifest, ObjectRef
from workflows.domain.json_reading import at, children, text

CONTENT: Final = "VolumeSnapshotContent"
GROUP_CONTENT: Final = "VolumeGroupSnapshotContent"
CONTENTS: Final = (GROUP_CONTENT, CONTENT)
VOLUME: Final = "VolumeSnapshot"
GROUP: Final = "VolumeGroupSnapshot"
_BOUND: Final = {
    VOLUME: ("boundVolumeSnapshotContentName", "volumeSnapshotRef", CONTENT, "snapcontent-"),
    GROUP: (
        "boundVolumeGroupSnapshotContentName",
        "volumeGroupSnapshotRef",
        GROUP_CONTENT,
        "groupsnapcontent-",
    ),
}
"""By kind: where its status names its content, where that points back, the content's kind, and how the
snapshot controller names what it makes, before the UID."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited.

    `cut`: until a snapshot has a point. `ready`: until it can be used; some storages copy it away first.
    `error`: for an error that the storage tells to pass by, since its controllers try again themselves.
    `rest`: for controllers to be done with a group, before it is deleted. `gone`: until what is deleted is
    gone.
    """

    cut: timedelta = timedelta(minutes=5)
    ready: timedelta = timedelta(hours=4)
    error: timedelta = timedelta(seconds=60)
    rest: timedelta = timedelta(seconds=30)
    gone: timedelta = timedelta(minutes=2)
    look: float = 0.5
    """Seconds between two looks."""


PATIENCE: Final = Patience()


async def listed(
    cluster: Cluster, kind: str, labels: Mapping[str, str] | None, namespace: str | None = None
) -> list[Manifest]:
    """Return the objects of a kind with these labels; none where the cluster does not know the kind."""
    if not await cluster.served(kind):
        return []
    try:
        return list((await cluster.list(kind, namespace, labels=labels)).items)
    except (NotFound, NotServed):
        return []


async def content_of(cluster: Cluster, snapshot: Manifest) -> Manifest | None:
    """Return the content of a snapshot when each points at the other: one alone could be forged."""
    kind = text(snapshot, "kind")
    named, back, content_kind, prefix = _BOUND[kind]
    uid = text(snapshot, "metadata", "uid")
    # Named as the controller does it, before its status says so.
    name = text(snapshot, "status", named) or f"{prefix}{uid}"
    content = await cluster.get(ObjectRef(content_kind, name))
    return None if content is None or text(content, "spec", back, "uid") != uid else content


def is_ready(snapshot: Manifest) -> bool:
    """Return whether a snapshot says that it is bound, and can be used."""
    named = _BOUND[text(snapshot, "kind")][0]
    return at(snapshot, "status", "readyToUse") is True and bool(text(snapshot, "status", named))


async def is_left_alone(cluster: Cluster, content: Manifest) -> bool:
    """Return whether the snapshot that a content is of is gone: then no controller deletes it any more."""
    kind = VOLUME if text(content, "kind") == CONTENT else GROUP
    back = _BOUND[kind][1]
    name, namespace, uid = (text(content, "spec", back, key) for key in ("name", "namespace", "uid"))
    live = await cluster.get(ObjectRef(kind, name, namespace))
    return live is None or (bool(uid) and text(live, "metadata", "uid") != uid)


def refers_to(content: Manifest) -> tuple[str, str]:
    """Return namespace and name of the snapshot that a content is of."""
    back = _BOUND[VOLUME if text(content, "kind") == CONTENT else GROUP][1]
    return text(content, "spec", back, "namespace"), text(content, "spec", back, "name")


def members_of(group: Manifest, snapshots: Sequence[Manifest]) -> list[Manifest]:
    """Return those that were made with a group."""
    uid = text(group, "metadata", "uid")
    return [
        each
        for each in snapshots
        if any(text(owner, "uid") == uid for owner in children(each, "metadata", "ownerReferences"))
    ]


def is_going(live: Manifest) -> bool:
    """Return whether an object is being deleted."""
    return bool(text(live, "metadata", "deletionTimestamp"))
