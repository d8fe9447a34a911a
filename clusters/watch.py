"""List and watch that never ends and never lies: own loop over the raw stream."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from clusters.errors import ClusterError
from clusters.gateway import Cluster
from clusters.objects import Manifest


@dataclass(frozen=True, slots=True)
class Listed:
    """The whole truth at this moment: replaces all that was known before."""

    items: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """An object was added or changed."""

    item: Manifest


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object is gone; `item` is its last state."""

    item: Manifest


WatchEvent = Listed | Changed | Deleted


def watch(
    cluster: Cluster,
    kind: str,
    namespace: str | None,
    *,
    labels: Mapping[str, str] | None = None,
    on_outage: Callable[[ClusterError | None], None] | None = None,
) -> AsyncIterator[WatchEvent]:
    """Yield `Listed` first, then each change, and `Listed` again whenever changes may have been missed.

    Never ends by itself. Raises `Forbidden` and `NotServed` only; while the cluster is away it waits, calls
    `on_outage` with the error at the first failed try and with None once it is back.
    """
    raise NotImplementedError
