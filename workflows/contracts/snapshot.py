"""SnapshotEnvironment: takes an environment's configuration and data at one time.

On the cluster's queue: look at what is there, stream it out, write the manifest. As local activities: keys
for what is about to be sealed, and the manifest into the database.
"""

from typing import Final

from temporalio import activity

from workflows.domain.blueprint_models import Service
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import WireModel
from workflows.domain.snapshot import Component
from workflows.domain.snapshot_manifest import SnapshotManifest, StoredComponent

SNAPSHOT_ENVIRONMENT: Final = "SnapshotEnvironment"


class Survey(WireModel):
    """Look at what these services are in the cluster."""

    context: EnvironmentContext
    services: tuple[Service, ...]


class Surveyed(WireModel):
    """How each service can be captured, in the Blueprint's order, and the images that run, by digest."""

    components: tuple[Component, ...]
    images: dict[str, str] = {}
    unread: tuple[str, ...] = ()
    """What of the storage we may not look at, and so took as not there."""


class SealedComponentKey(WireModel):
    """The key of a component: `body` as it is written down (base64), `key` sealed for the cluster."""

    body: str
    key: str


class ComponentKeysWanted(WireModel):
    """Ask for a fresh key for each of these services' data."""

    operation_id: str
    snapshot_id: str
    services: tuple[str, ...]


class ComponentKeys(WireModel):
    """By service."""

    keys: dict[str, SealedComponentKey]


class StreamKeysWanted(WireModel):
    """Ask for what loading a service's data takes; `masked`: the key to derive masked values by, too."""

    operation_id: str
    snapshot_id: str
    service: str
    masked: bool = False


class Loadable(WireModel):
    """A stored component, and by the prefix of each of its parts the key, sealed for the cluster's worker."""

    component: StoredComponent
    keys: dict[str, str]
    masking_key: str = ""
    """Sealed alike; empty: nothing is masked."""


class Capture(WireModel):
    """Stream the data of one service into the store."""

    context: EnvironmentContext
    snapshot_id: str
    service: Service
    component: Component
    key: SealedComponentKey
    besides: int = 0
    """How many streams the snapshot has of other services already."""


class CaptureVolumes(WireModel):
    """Have the storage cut the volumes of one service."""

    context: EnvironmentContext
    snapshot_id: str
    service: Service
    component: Component


class CaptureTogether(WireModel):
    """Take the data of several services, their points fixed while others are held still.

    `captures` are streamed into the store, `volumes` are cut by the storage.
    """

    captures: tuple[Capture, ...]
    quiesced: tuple[Service, ...]
    """Those to be held still by their hooks, in this order."""
    volumes: tuple[CaptureVolumes, ...] = ()

    @property
    def context(self) -> EnvironmentContext:
        """The environment that all of it is of."""
        return self.captures[0].context if self.captures else self.volumes[0].context


class Windows(WireModel):
    """How long the longest service was held still in each quiesce window, as measured in its pod.

    One attempt tells the next: what was lost has held services still, too.
    """

    longest_ms: dict[int, int] = {}
    """By the number of the window; one that is missing was lost before anybody could measure it."""


class CapturedTogether(WireModel):
    """What came of it; `frozen_ms`: by pod, how long it was held still, as measured in it."""

    components: tuple[StoredComponent, ...]
    frozen_ms: dict[str, int] = {}
    lost: Windows = Windows()
    """The windows before this one, which were lost."""
    windows: int = 1
    """How many there were, this one included."""


class Publish(WireModel):
    """Write the manifest beside what it names, and remove what it does not name."""

    context: EnvironmentContext
    manifest: SnapshotManifest


class Discard(WireModel):
    """Remove all that an operation stored of a snapshot."""

    context: EnvironmentContext
    snapshot_id: str


class SnapshotLedgerActivities:
    """What snapshots need of Perdure's own state; in `activities.snapshots.ledger`, local activities."""

    @activity.defn(name="snapshot.component_keys")
    async def component_keys(self, request: ComponentKeysWanted) -> ComponentKeys:
        """Make a key for each component: a new one each time, wrapped to be kept, sealed for the cluster."""
        raise NotImplementedError

    @activity.defn(name="snapshot.stream_keys")
    async def stream_keys(self, request: StreamKeysWanted) -> Loadable:
        """Open the keys of a stored component, sealed for the cluster."""
        raise NotImplementedError

    @activity.defn(name="snapshot.expect_volumes")
    async def expect_volumes(self, snapshot_id: str) -> None:
        """Note that the cluster's storage is about to keep something of a snapshot, however that ends."""
        raise NotImplementedError

    @activity.defn(name="snapshot.describe")
    async def describe(self, manifest: SnapshotManifest) -> None:
        """Write the manifest to the snapshot while its operation runs. The end of that makes it available."""
        raise NotImplementedError


class SnapshotActivities:
    """A snapshot as its workflow sees it; in `activities.snapshots.capture`, run on the cluster's queue."""

    @activity.defn(name="snapshot.survey")
    async def survey(self, request: Survey) -> Surveyed:
        """Choose an engine for each service. Fails when the Blueprint demands one that cannot be had."""
        raise NotImplementedError

    @activity.defn(name="snapshot.capture")
    async def capture(self, request: Capture) -> StoredComponent:
        """Stream a service's data out, sealed. A second attempt takes all of it anew, at another point."""
        raise NotImplementedError

    @activity.defn(name="snapshot.capture_volumes")
    async def capture_volumes(self, request: CaptureVolumes) -> StoredComponent:
        """Have the storage cut a service's volumes. A second attempt finds what the first has had cut."""
        raise NotImplementedError

    @activity.defn(name="snapshot.capture_together")
    async def capture_together(self, request: CaptureTogether) -> CapturedTogether:
        """Hold services still, fix the points of all data, let go, and take it. Again is another point."""
        raise NotImplementedError

    @activity.defn(name="snapshot.publish")
    async def publish(self, request: Publish) -> None:
        """Remove what earlier attempts left, look that everything else is there, and store the manifest."""
        raise NotImplementedError

    @activity.defn(name="snapshot.discard")
    async def discard(self, request: Discard) -> None:
        """Remove all objects of a snapshot, and what the storage has of it; fails with what still stands."""
        raise NotImplementedError
