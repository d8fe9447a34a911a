"""Snapshots by the storage, on the real API server with the worker's own rights; the driver is played."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.exceptions import ApplicationError

from activities.snapshots import csi, csi_removal, lending
from activities.snapshots.csi_objects import CONTENT, Patience
from clusters.errors import Forbidden
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef
from clusters.storage import storage_of
from tests.clusters.conftest import Environment, kubeconfig, make_environment
from tests.clusters.storage_controller import DRIVER, Controller
from tests.helpers.csi import CLASS, classes_of
from tests.helpers.waiting import eventually_async
from workflows.contracts.restore import Provide, Release
from workflows.contracts.snapshot import CaptureVolumes
from workflows.domain import manifests
from workflows.domain.blueprint_models import DataStore, Service, Volume, VolumeType
from workflows.domain.environment import EnvironmentContext
from workflows.domain.json_reading import mapping, text
from workflows.domain.names import ENVIRONMENT, NAME
from workflows.domain.snapshot import Component, Consistency, Engine, Scope
from workflows.domain.snapshot_manifest import SnapshotManifest, StoredComponent

# The first waits for whoever uses the kinds of volume snapshots: another run of the tests, maybe.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

DATA = Volume(name="data", mount_path="/data", type=VolumeType.PVC, size="1Gi", storage_class=CLASS)
DB = Service(name="db", image="postgres:16", volumes=(DATA,), replicas=2)
SHORT = Patience(
    ready=timedelta(seconds=30),
    error=timedelta(seconds=0.2),
    rest=timedelta(seconds=1),
    gone=timedelta(seconds=30),
    look=0.02,
)


@pytest.fixture(scope="module")
def classes() -> Iterator[None]:
    """The kinds, and classes of the driver that is played."""
    with classes_of(kubeconfig("PERDURE_TEST_ADMIN_KUBECONFIG", "admin"), DRIVER):
        yield


class Ground:
    """An environment with a database of two pods, whose volumes are of the driver that is played."""

    def __init__(self, environment: Environment, admin: Cluster) -> None:
        self.environment = environment
        self.cluster = environment.cluster
        self.admin = admin
        self.controller = Controller(admin, environment.name)
        self.context = EnvironmentContext(
            environment_id=environment.name,
            environment_name="shop",
            organization_id="org_1",
            installation_id="tests",
            operation_id="op_1",
            cluster="test",
            namespace=environment.name,
            revision=1,
            fence=environment.fence,
        )
        # What is bound has no namespace: each test's has an id of its own.
        self.snapshot_id = f"snp-{environment.name}"

    async def prepare(self) -> None:
        """Make the workload (which stays without pods: its node is not there) and the claims."""
        labels = {NAME: "db", ENVIRONMENT: self.context.environment_id}
        template: Manifest = {
            "metadata": {"labels": {**labels}},
            "spec": {"nodeSelector": {"not": "there"}, "containers": [{"name": "db", "image": "none"}]},
        }
        spec: Manifest = {
            "replicas": 2,
            "serviceName": "db",
            "selector": {"matchLabels": {**labels}},
            "template": template,
            "volumeClaimTemplates": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data", "labels": {**labels}},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "storageClassName": CLASS,
                        "resources": {"requests": {"storage": "1Gi"}},
                    },
                }
            ],
            "podManagementPolicy": "Parallel",
        }
        await self.cluster.apply(self.environment.manifest("StatefulSet", "apps/v1", "db", spec=spec))

        async def claimed() -> bool:
            return len((await self.cluster.list("PersistentVolumeClaim", self.environment.name)).items) == 2

        await eventually_async(claimed, "both pods have their claims")

    def request(self, engine: Engine = Engine.CSI) -> CaptureVolumes:
        """What the activity is asked for."""
        component = Component(service="db", store=DataStore.POSTGRES, engine=engine)
        return CaptureVolumes(
            context=self.context, snapshot_id=self.snapshot_id, service=DB, component=component
        )

    def names(self) -> list[str]:
        """The VolumeSnapshots that there have to be."""
        return [
            manifests.volume_snapshot_name(self.snapshot_id, claim) for _, _, claim in manifests.claims(DB, 2)
        ]

    async def asked(self, kind: str, name: str) -> None:
        """Return once it has been asked for."""

        async def there() -> bool:
            return await self.admin.get(ObjectRef(kind, name, self.environment.name)) is not None

        await eventually_async(there, f"{kind}/{name} is asked for")

    async def captured(self) -> StoredComponent:
        """Take a snapshot, the driver doing its part."""
        capturing = asyncio.create_task(csi.capture_volumes(self.cluster, self.request(), SHORT))
        for name in self.names():
            await self.asked("VolumeSnapshot", name)
            await self.controller.cut(name)
        return await capturing

    async def policy(self, content: str) -> str:
        """The deletion policy of a content; empty when it is gone."""
        live = await self.admin.get(ObjectRef(CONTENT, content))
        return text(live or {}, "spec", "deletionPolicy")

    async def release(self, *stored: StoredComponent, patience: Patience = SHORT) -> None:
        """Let go of the VolumeSnapshots, as is done once the manifest names these."""
        manifest = SnapshotManifest(
            snapshot_id=self.snapshot_id,
            organization_id=self.context.organization_id,
            environment_id=self.context.environment_id,
            environment_name=self.context.environment_name,
            revision=1,
            blueprint={},
            consistency=Consistency.CRASH_VOLUME,
            scope=Scope.INDEPENDENT,
            components=stored,
        )
        await csi_removal.release(self.cluster, self.context, manifest, patience)

    async def discard(self) -> None:
        """Discard all, the driver doing its part."""
        discarding = asyncio.create_task(
            csi_removal.discard(self.cluster, self.context, self.snapshot_id, SHORT)
        )
        while not discarding.done():
            await self.controller.settle()
            await asyncio.sleep(0.05)
        await discarding


class Target:
    """A new environment that a snapshot is restored into."""

    def __init__(self, source: Ground, environment: Environment, stored: StoredComponent) -> None:
        self.cluster = environment.cluster
        self.admin = source.admin
        self.name = environment.name
        self.controller = Controller(source.admin, environment.name, source.controller.storage)
        context = source.context.model_copy(
            update={"environment_id": environment.name, "namespace": environment.name}
        )
        self.request = Provide(
            context=context, snapshot_id=source.snapshot_id, service=DB, volumes=stored.volumes
        )

    @property
    def lent(self) -> list[str]:
        """The names of what lends the snapshots."""
        return [
            manifests.lent_name(self.name, self.request.snapshot_id, claim)
            for _, _, claim in manifests.claims(DB, 2)
        ]

    async def provide(self) -> None:
        """Make the claims, the driver doing its part."""
        providing = asyncio.create_task(lending.provide(self.cluster, self.request, SHORT))
        for name in self.lent:

            async def there(name: str = name) -> bool:
                return await self.admin.get(ObjectRef("VolumeSnapshot", name, self.name)) is not None

            await eventually_async(there, f"{name} is asked for")
            await self.controller.lend(name)
        await providing

    async def claims(self) -> list[Manifest]:
        """The claims that there are."""
        return list((await self.admin.list(lending.CLAIM, self.name)).items)

    async def bind(self) -> None:
        """Say of each claim that it has its volume."""
        for claim in await self.claims():
            await self.controller.status(claim, {"phase": "Bound"})

    async def left(self) -> list[str]:
        """The names of what still lends, once the controllers have done their part."""
        await self.controller.settle()
        found = [
            *(await self.admin.list("VolumeSnapshot", self.name)).items,
            *(await self.admin.list(CONTENT, labels={ENVIRONMENT: self.name})).items,
        ]
        return [text(each, "metadata", "name") for each in found]


@pytest.fixture
async def target(ground: Ground, perdure: Cluster, admin: Cluster) -> AsyncIterator[Target]:
    """A new environment, and a snapshot of another one to be restored into it."""
    stored = await ground.captured()
    await ground.release(stored)
    await ground.controller.settle()
    async with AsyncExitStack() as stack:
        made = Target(ground, await make_environment(stack, perdure, admin), stored)
        yield made
        await lending.release(
            made.cluster, Release(context=made.request.context, snapshot_id=ground.snapshot_id)
        )
        await made.controller.settle()
        await ground.discard()


@pytest.fixture
async def ground(classes: None, environment: Environment, admin: Cluster) -> AsyncIterator[Ground]:
    """An environment that can be taken a snapshot of."""
    made = Ground(environment, admin)
    await made.prepare()
    yield made
    # A finalizer of the driver that nobody runs would hold the namespace.
    for snapshot in (await admin.list("VolumeSnapshot", environment.name)).items:
        await made.controller.patch(snapshot, {"metadata": {"finalizers": None}})


async def test_storage_is_what_the_classes_say(classes: None, perdure: Cluster) -> None:
    found = await storage_of(perdure)
    assert found.unread == ()
    assert found.storage.drivers[CLASS] == DRIVER
    assert found.storage.drivers[None] == found.storage.drivers["standard"] != DRIVER
    assert (found.snapshot_classes[DRIVER], found.group_classes[DRIVER]) == (CLASS, CLASS)
    assert DRIVER in found.storage.snapshots & found.storage.groups


async def test_each_volume_is_cut_and_outlives_its_snapshot(ground: Ground) -> None:
    stored = await ground.captured()
    assert (stored.engine, stored.consistency) == (Engine.CSI, Consistency.CRASH_VOLUME)
    assert [(each.volume, each.ordinal) for each in stored.volumes] == [("data", 0), ("data", 1)]
    assert {each.handle for each in stored.volumes} == set(ground.controller.storage)
    for each in stored.volumes:
        assert (each.driver, each.snapshot_class, each.restore_bytes) == (DRIVER, CLASS, 1 << 30)
        assert await ground.policy(each.content) == "Retain"
    assert stored.captured_at == datetime.fromtimestamp(1_790_000_000, UTC)
    await csi.check_kept(ground.cluster, stored.volumes)

    await ground.release(stored)
    await ground.controller.settle()
    assert (await ground.admin.list("VolumeSnapshot", ground.environment.name)).items == ()
    await csi.check_kept(ground.cluster, stored.volumes)
    assert len(ground.controller.storage) == 2


async def test_a_second_attempt_finds_what_the_first_had_cut(ground: Ground) -> None:
    first = asyncio.create_task(csi.capture_volumes(ground.cluster, ground.request(), SHORT))
    for name in ground.names():
        await ground.asked("VolumeSnapshot", name)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    for name in ground.names():
        await ground.controller.cut(name)
    stored = await csi.capture_volumes(ground.cluster, ground.request(), SHORT)
    # A twin, and an attempt whose answer was lost, come to the same.
    again = await asyncio.gather(
        *(csi.capture_volumes(ground.cluster, ground.request(), SHORT) for _ in range(2))
    )
    assert again == [stored, stored]
    assert len(ground.controller.storage) == 2


async def test_what_the_storage_says_is_told(ground: Ground) -> None:
    capturing = asyncio.create_task(csi.capture_volumes(ground.cluster, ground.request(), SHORT))
    name = ground.names()[0]
    await ground.asked("VolumeSnapshot", name)
    await ground.controller.cut(name, error="pool is full")
    with pytest.raises(ApplicationError, match="pool is full") as failed:
        await capturing
    assert failed.value.type == "volume_unavailable"
    await ground.discard()
    assert (await ground.admin.list("VolumeSnapshot", ground.environment.name)).items == ()


async def test_an_error_that_passes_is_waited_for(ground: Ground) -> None:
    patient = Patience(ready=timedelta(seconds=30), error=timedelta(seconds=30), look=0.02)
    capturing = asyncio.create_task(csi.capture_volumes(ground.cluster, ground.request(), patient))
    for name in ground.names():
        await ground.asked("VolumeSnapshot", name)
        await ground.controller.cut(name, error="try again")
        await ground.controller.cut(name)
    assert len((await capturing).volumes) == 2


async def test_one_that_is_deleted_meanwhile_is_not_awaited(ground: Ground) -> None:
    capturing = asyncio.create_task(csi.capture_volumes(ground.cluster, ground.request(), SHORT))
    name = ground.names()[0]
    await ground.asked("VolumeSnapshot", name)
    ref = ObjectRef("VolumeSnapshot", name, ground.environment.name)
    await ground.admin.delete(ref, propagation=Propagation.BACKGROUND)
    with pytest.raises(ApplicationError, match="was deleted while"):
        await capturing


async def test_content_that_is_bound_to_another_is_refused(ground: Ground) -> None:
    stored = await ground.captured()
    content = await ground.admin.get(ObjectRef(CONTENT, stored.volumes[0].content))
    assert content is not None
    await ground.controller.patch(content, {"spec": {"volumeSnapshotRef": {"uid": "another"}}})
    with pytest.raises(ApplicationError, match="bound"):
        await csi.capture_volumes(ground.cluster, ground.request(), SHORT)


@pytest.mark.parametrize("released", [False, True])
async def test_discarding_leaves_nothing_in_the_storage(ground: Ground, released: bool) -> None:
    stored = await ground.captured()
    if released:
        await ground.release(stored)
        await ground.controller.settle()
    await ground.discard()
    assert ground.controller.storage == {}
    assert [await ground.policy(each.content) for each in stored.volumes] == ["", ""]
    assert (await ground.admin.list("VolumeSnapshot", ground.environment.name)).items == ()
    await ground.discard()  # once more finds nothing


async def test_what_is_gone_or_would_go_is_not_published(ground: Ground) -> None:
    stored = await ground.captured()
    content = await ground.admin.get(ObjectRef(CONTENT, stored.volumes[1].content))
    assert content is not None
    await ground.controller.patch(content, {"spec": {"deletionPolicy": "Delete"}})
    with pytest.raises(ApplicationError, match="would go with the environment"):
        await csi.check_kept(ground.cluster, stored.volumes)
    await ground.admin.delete(
        ObjectRef(CONTENT, stored.volumes[1].content), propagation=Propagation.BACKGROUND
    )
    with pytest.raises(ApplicationError, match="has no snapshot"):
        await csi.check_kept(ground.cluster, stored.volumes)


async def test_content_of_others_is_not_ours_to_write(ground: Ground) -> None:
    foreign: Manifest = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": CONTENT,
        "metadata": {"name": f"theirs-{ground.environment.name}"},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": DRIVER,
            "source": {"snapshotHandle": "theirs"},
            "volumeSnapshotRef": {"kind": "VolumeSnapshot", "name": "theirs", "namespace": "default"},
        },
    }
    with pytest.raises(Forbidden, match="is not of an environment"):
        await ground.cluster.create(foreign)
    made = (await ground.admin.create(foreign)).live
    with pytest.raises(Forbidden):
        await ground.cluster.apply(manifests.let_go(ground.context, "snp", made, left_alone=False))
    ref = ObjectRef(CONTENT, text(made, "metadata", "name"))
    with pytest.raises(Forbidden):
        await ground.cluster.delete(ref, propagation=Propagation.BACKGROUND)
    await ground.admin.delete(ref, propagation=Propagation.BACKGROUND)


async def test_a_group_is_cut_once_for_all_services(ground: Ground) -> None:
    request = ground.request(Engine.CSI_GROUP)
    capturing = [asyncio.create_task(csi.capture_volumes(ground.cluster, request, SHORT)) for _ in range(2)]
    name = manifests.group_snapshot_name(ground.snapshot_id)
    await ground.asked("VolumeGroupSnapshot", name)
    content = await ground.controller.cut_group(name)
    one, other = await asyncio.gather(*capturing)
    assert one == other
    assert one.consistency is Consistency.CRASH_GROUP
    assert {each.group_content for each in one.volumes} == {content}
    assert {each.handle for each in one.volumes} == set(ground.controller.storage)
    for kind, kept in (("VolumeGroupSnapshotContent", content), (CONTENT, one.volumes[0].content)):
        live = await ground.admin.get(ObjectRef(kind, kept))
        assert text(live or {}, "spec", "deletionPolicy") == "Retain"


async def test_a_new_environment_gets_volumes_from_what_is_kept(ground: Ground, target: Target) -> None:
    await target.provide()
    claims = {text(each, "metadata", "name"): each for each in await target.claims()}
    assert set(claims) == {"data-db-0", "data-db-1"}
    for name, lent in zip(sorted(claims), target.lent, strict=True):
        assert mapping(claims[name], "spec", "dataSource") == {
            "apiGroup": "snapshot.storage.k8s.io",
            "kind": "VolumeSnapshot",
            "name": lent,
        }
        assert text(claims[name], "spec", "storageClassName") == CLASS
        content = await target.admin.get(ObjectRef(CONTENT, lent))
        assert text(content or {}, "spec", "source", "snapshotHandle") in ground.controller.storage
    await target.provide()  # a second attempt changes nothing
    assert [text(each, "metadata", "uid") for each in await target.claims()] == [
        text(claims[name], "metadata", "uid") for name in sorted(claims)
    ]
    await target.bind()
    await lending.settle(target.cluster, target.request, SHORT)
    assert await target.left() == []
    await lending.settle(target.cluster, target.request, SHORT)  # nor here
    # An attempt that was thought lost comes late: it lends nothing again.
    await lending.provide(target.cluster, target.request, SHORT)
    assert await target.left() == []
    await csi.check_kept(ground.cluster, target.request.volumes)
    assert len(ground.controller.storage) == 2


async def test_a_second_attempt_leaves_what_is_lent_bound(target: Target) -> None:
    first = asyncio.create_task(lending.provide(target.cluster, target.request, SHORT))
    for name in target.lent:

        async def there(name: str = name) -> bool:
            return await target.admin.get(ObjectRef("VolumeSnapshot", name, target.name)) is not None

        await eventually_async(there, f"{name} is asked for")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    for name in target.lent:
        await target.controller.lend(name)
    await lending.provide(target.cluster, target.request, SHORT)
    for name in target.lent:
        content = await target.admin.get(ObjectRef(CONTENT, name))
        snapshot = await target.admin.get(ObjectRef("VolumeSnapshot", name, target.name))
        uid = text(content or {}, "spec", "volumeSnapshotRef", "uid")
        assert uid == text(snapshot or {}, "metadata", "uid") != ""


async def test_claims_are_of_the_names_that_the_controller_looks_for(target: Target) -> None:
    await target.provide()
    before = {text(each, "metadata", "uid") for each in await target.claims()}
    other = Ground(Environment(target.name, target.cluster), target.admin)
    await other.prepare()
    assert {text(each, "metadata", "uid") for each in await target.claims()} == before

    async def pods() -> bool:
        return len((await target.admin.list("Pod", target.name)).items) == 2

    await eventually_async(pods, "the StatefulSet took the claims as its own")


async def test_a_claim_with_other_data_is_left_alone(target: Target) -> None:
    other = Ground(Environment(target.name, target.cluster), target.admin)
    await other.prepare()
    with pytest.raises(ApplicationError, match="other data already"):
        await lending.provide(target.cluster, target.request, SHORT)
    assert await target.left() == []


async def test_what_the_storage_has_lost_is_told(ground: Ground, target: Target) -> None:
    ground.controller.storage.clear()
    with pytest.raises(ApplicationError, match="no snapshot handle-") as failed:
        await target.provide()
    assert failed.value.type == "volume_unavailable"
    release = Release(context=target.request.context, snapshot_id=ground.snapshot_id)
    await lending.release(target.cluster, release)
    assert await target.left() == []
    await lending.release(target.cluster, release)
