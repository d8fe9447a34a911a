"""What a cluster's storage can do: whose volumes can be captured by their own driver, and by which class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from clusters.errors import Forbidden, NotServed
from clusters.gateway import Cluster
from clusters.objects import Manifest, kind_of
from workflows.domain.json_reading import text
from workflows.domain.snapshot import NO_STORAGE, Storage

_DEFAULT_STORAGE: Final = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_DEFAULT_SNAPSHOTS: Final = "snapshot.storage.kubernetes.io/is-default-class"
_DEFAULT_GROUPS: Final = "groupsnapshot.storage.kubernetes.io/is-default-class"


@dataclass(frozen=True, slots=True)
class FoundStorage:
    """What was found. `snapshot_classes`, `group_classes`: the class to use, by driver.

    `unread`: what was not ours to read (`storageclasses.storage.k8s.io`), and counts as not there.
    """

    storage: Storage = NO_STORAGE
    snapshot_classes: Mapping[str, str] = field(default_factory=dict)
    group_classes: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


async def storage_of(cluster: Cluster) -> FoundStorage:
    """Look at the classes of a cluster. Without the kinds of snapshots it is one that takes none."""
    unread: list[str] = []
    classes = await _classes(cluster, "StorageClass", unread)
    snapshots = _by_driver(await _classes(cluster, "VolumeSnapshotClass", unread), _DEFAULT_SNAPSHOTS)
    groups = _by_driver(await _classes(cluster, "VolumeGroupSnapshotClass", unread), _DEFAULT_GROUPS)
    drivers: dict[str | None, str] = {_name(each): text(each, "provisioner") for each in classes}
    default = _default(classes)
    if default is not None:
        drivers[None] = text(default, "provisioner")
    return FoundStorage(
        storage=Storage(drivers, snapshots=frozenset(snapshots), groups=frozenset(groups)),
        snapshot_classes=snapshots,
        group_classes=groups,
        unread=tuple(unread),
    )


async def _classes(cluster: Cluster, kind: str, unread: list[str]) -> tuple[Manifest, ...]:
    try:
        return (await cluster.list(kind)).items
    except NotServed:
        return ()
    except Forbidden:
        served = kind_of(kind)
        # Rights are looked at before what is served: of a kind that is not there nothing was withheld.
        if await cluster.served(kind):
            unread.append(f"{served.plural}.{served.group}")
        return ()


def _default(classes: tuple[Manifest, ...]) -> Manifest | None:
    """Return the class of a claim that names none: of several the newest, as the API server chooses."""
    marked = [
        each
        for each in classes
        if any(text(each, "metadata", "annotations", key) == "true" for key in _DEFAULT_STORAGE)
    ]
    # Of the same second it is the first by name.
    marked.sort(key=_name)
    return max(marked, key=lambda each: text(each, "metadata", "creationTimestamp"), default=None)


def _by_driver(classes: tuple[Manifest, ...], default: str) -> dict[str, str]:
    """Return for each driver its class: the default one where one is marked, else the first by name."""
    ordered = sorted(
        classes, key=lambda each: (text(each, "metadata", "annotations", default) != "true", _name(each))
    )
    found: dict[str, str] = {}
    for each in ordered:
        found.setdefault(text(each, "driver"), _name(each))
    return found


def _name(manifest: Manifest) -> str:
    return text(manifest, "metadata", "name")
