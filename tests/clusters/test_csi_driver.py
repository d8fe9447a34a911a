"""Snapshots by a storage with the real controllers of Kubernetes, and a driver whose volumes are folders."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError

from activities.snapshots import csi, csi_removal, lending
from activities.snapshots.csi_objects import CONTENT, CONTENTS, GROUP, Patience, is_going
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef
from tests.clusters.conftest import Environment, kubeconfig, make_environment
from tests.clusters.test_volume_snapshots import Ground, Target
from tests.helpers.csi import Folders, kubectl, running_folders
from tests.helpers.waiting import eventually, eventually_async
from workflows.domain import manifests
from workflows.domain.json_reading import strings, text
from workflows.domain.names import ENVIRONMENT, SNAPSHOT
from workflows.domain.snapshot import Engine

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.patient,
    pytest.mark.timeout(900),
]

CALM = Patience(look=0.1)
BOTH = pytest.mark.parametrize("engine", [Engine.CSI, Engine.CSI_GROUP])


@pytest.fixture(scope="module", params=["Delete", "Retain"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folders]:
    """The driver and the controllers, with classes that delete and with classes that retain."""
    admin = kubeconfig("PERDURE_TEST_ADMIN_KUBECONFIG", "admin")
    with running_folders(tmp_path_factory.mktemp("csi"), admin, policy=request.param) as running:
        yield running
        # Deleted as their tests ended: nothing of ours may hold them.
        for namespace in running.namespaces:
            kubectl(admin, "wait", "--for=delete", f"namespace/{namespace}", "--timeout=50s")


@pytest.fixture(autouse=True)
def _all_well_again(storage: Folders) -> Iterator[None]:
    """After each test: every process runs, and nothing lies in the storage."""
    yield
    for each in storage.processes:
        each.thaw()
    eventually(lambda: not storage.kept(), "nothing is left in the storage")


async def folders(storage: Folders, admin: Cluster, namespace: str) -> dict[str, Path]:
    """Return the folder of each claim, once all are bound."""

    async def bound() -> dict[str, Path]:
        claims = (await admin.list("PersistentVolumeClaim", namespace)).items
        return {
            text(each, "metadata", "name"): storage.volume(text(each, "spec", "volumeName"))
            for each in claims
            if text(each, "status", "phase") == "Bound"
        }

    async def both() -> bool:
        return len(await bound()) == 2

    await eventually_async(both, "the claims are bound", within=60)
    return await bound()


async def deleted(admin: Cluster, namespace: str) -> None:
    """Delete an environment, its contents first as the product does, and wait for its end: nothing holds it.

    A namespace that is deleted with its claims is looked at again after twice the time.
    """
    contents = ("StatefulSet", "Pod", "PersistentVolumeClaim")

    async def emptied() -> bool:
        left = [each for kind in contents for each in (await admin.list(kind, namespace)).items]
        for each in left:
            ref = ObjectRef(text(each, "kind"), text(each, "metadata", "name"), namespace)
            await admin.delete(ref, propagation=Propagation.BACKGROUND)
        return not left

    await eventually_async(emptied, f"nothing is in {namespace}", within=60)
    ref = ObjectRef("Namespace", namespace)
    await admin.delete(ref, propagation=Propagation.BACKGROUND)

    async def gone() -> bool:
        return await admin.get(ref) is None

    await eventually_async(gone, f"{namespace} is gone", within=90)


async def standing(admin: Cluster, namespace: str) -> list[str]:
    """What there is of snapshots of a namespace."""
    contents = [each for kind in CONTENTS for each in (await admin.list(kind)).items]
    of = ("volumeSnapshotRef", "volumeGroupSnapshotRef")
    found = [each for each in contents if namespace in [text(each, "spec", ref, "namespace") for ref in of]]
    for kind in ("VolumeSnapshot", GROUP):
        found += (await admin.list(kind, namespace)).items
    return [f"{text(each, 'kind')}/{text(each, 'metadata', 'name')}" for each in found]


@pytest.fixture
async def ground(storage: Folders, environment: Environment, admin: Cluster) -> Ground:
    """An environment with two volumes."""
    storage.namespaces.append(environment.name)
    made = Ground(environment, admin)
    await made.prepare()
    await folders(storage, admin, environment.name)
    return made


@BOTH
async def test_data_outlives_its_environment_and_comes_back_equal(
    storage: Folders, ground: Ground, perdure: Cluster, admin: Cluster, engine: Engine
) -> None:
    before = await folders(storage, admin, ground.environment.name)
    for claim, folder in before.items():
        (folder / "file").write_text(f"data of {claim}")
    stored = await csi.capture_volumes(perdure, ground.request(engine), CALM)
    assert await csi.capture_volumes(perdure, ground.request(engine), CALM) == stored
    assert len(storage.kept()) == 2
    for folder in before.values():
        (folder / "file").write_text("changed later")
    await ground.release(stored, patience=CALM)
    await deleted(admin, ground.environment.name)
    await csi.check_kept(perdure, stored.volumes)

    async with AsyncExitStack() as stack:
        target = Target(ground, await make_environment(stack, perdure, admin), stored)
        storage.namespaces.append(target.name)
        await lending.provide(perdure, target.request, CALM)
        await Ground(Environment(target.name, perdure), admin).prepare()
        for claim, folder in (await folders(storage, admin, target.name)).items():
            assert (folder / "file").read_text() == f"data of {claim}"
        await lending.settle(perdure, target.request, CALM)

        async def given_back() -> bool:
            lent = (await admin.list(CONTENT, labels={ENVIRONMENT: target.name})).items
            return not lent and not (await admin.list("VolumeSnapshot", target.name)).items

        await eventually_async(given_back, "nothing is lent any more")
        assert len(storage.kept()) == 2
        await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)
        assert storage.kept() == []


async def test_what_was_lent_to_an_environment_that_is_gone_goes_with_the_snapshot(
    storage: Folders, ground: Ground, perdure: Cluster, admin: Cluster
) -> None:
    stored = await csi.capture_volumes(perdure, ground.request(Engine.CSI), CALM)
    await ground.release(stored, patience=CALM)
    async with AsyncExitStack() as stack:
        target = Target(ground, await make_environment(stack, perdure, admin), stored)
        await lending.provide(perdure, target.request, CALM)
        await deleted(admin, target.name)
    assert len(await standing(admin, target.name)) == 2
    await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)

    async def gone() -> bool:
        return not await standing(admin, target.name)

    await eventually_async(gone, "nothing is lent any more")


@BOTH
async def test_what_is_given_up_leaves_nothing(
    storage: Folders, ground: Ground, perdure: Cluster, admin: Cluster, engine: Engine
) -> None:
    await csi.capture_volumes(perdure, ground.request(engine), CALM)
    assert len(storage.kept()) == 2
    # At once: the controllers may not even be done with what is ready.
    await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)
    assert (await standing(admin, ground.environment.name), storage.kept()) == ([], [])
    await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)


@BOTH
async def test_what_is_given_up_while_it_is_cut_leaves_nothing(
    storage: Folders, ground: Ground, perdure: Cluster, admin: Cluster, engine: Engine
) -> None:
    storage.driver.freeze()
    await csi.ask(perdure, ground.request(engine))

    async def under_way() -> bool:
        return bool(await standing(admin, ground.environment.name))

    await eventually_async(under_way, "it is asked for")
    storage.driver.thaw()
    await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)
    assert (await standing(admin, ground.environment.name), storage.kept()) == ([], [])


async def test_a_group_that_went_without_its_controller_is_removed_all_the_same(
    storage: Folders, ground: Ground, perdure: Cluster, admin: Cluster
) -> None:
    """As when it is deleted before the controller has put its finalizer on it: what it leaves is unmarked."""
    await csi.capture_volumes(perdure, ground.request(Engine.CSI_GROUP), CALM)
    storage.controller.freeze()
    ref = ObjectRef(GROUP, manifests.group_snapshot_name(ground.snapshot_id), ground.environment.name)
    group = await admin.get(ref)
    assert group is not None
    await admin.delete(ref, propagation=Propagation.BACKGROUND)
    await ground.controller.patch(group, {"metadata": {"finalizers": None}})
    storage.controller.thaw()
    await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)
    assert (await standing(admin, ground.environment.name), storage.kept()) == ([], [])


@BOTH
async def test_what_the_driver_does_not_remove_is_told_and_removed_by_the_next_look(
    storage: Folders, ground: Ground, perdure: Cluster, admin: Cluster, engine: Engine
) -> None:
    stored = await csi.capture_volumes(perdure, ground.request(engine), CALM)
    await ground.release(stored, patience=CALM)
    storage.driver.freeze()
    short = Patience(look=0.1, rest=timedelta(seconds=5), gone=timedelta(seconds=6))
    with pytest.raises(ApplicationError, match=r"has not removed Volume.*Content/.*held by .*protection"):
        await csi_removal.discard(perdure, ground.context, ground.snapshot_id, short)
    assert len(storage.kept()) == 2
    storage.driver.thaw()
    await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)
    assert (await standing(admin, ground.environment.name), storage.kept()) == ([], [])


async def test_what_a_controller_lets_go_of_without_its_data_goes_when_the_manifest_is_written(
    storage: Folders, ground: Ground, perdure: Cluster, admin: Cluster
) -> None:
    """As of one that has yet to hear that the content takes the data along: it leaves the content."""
    lost = await csi.ask(perdure, ground.request(Engine.CSI_GROUP), 1)
    await csi.cut(perdure, lost, CALM.cut, CALM)
    await csi.keep(perdure, lost, CALM)
    asked = await csi.ask(perdure, ground.request(Engine.CSI_GROUP), 2)
    await csi.cut(perdure, asked, CALM.cut, CALM)
    stored = await csi.keep(perdure, asked, CALM)
    namespace = ground.environment.name

    async def at_rest() -> bool:
        groups, members = [(await admin.list(kind, namespace)).items for kind in (GROUP, "VolumeSnapshot")]
        told = [each for each in members if text(each, "status", "volumeGroupSnapshotName")]
        return len(told) == 4 and all(strings(each, "metadata", "finalizers") for each in groups)

    await eventually_async(at_rest, "the controller is done with both groups", within=60)
    storage.controller.freeze()
    releasing = asyncio.create_task(ground.release(stored, patience=CALM))
    ref = next(iter(lost.snapshots.values()))

    async def going() -> Manifest | None:
        group = await admin.get(ref)
        return group if group is not None and is_going(group) else None

    await ground.controller.patch(
        await eventually_async(going, "the lost group is deleted"), {"metadata": {"finalizers": None}}
    )
    storage.controller.thaw()
    await releasing
    eventually(lambda: len(storage.kept()) == 2, "what the lost one had cut is gone", within=60)
    await csi.check_kept(perdure, stored.volumes)
    await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)


@BOTH
async def test_what_another_window_cut_goes_when_the_manifest_is_written(
    storage: Folders, ground: Ground, perdure: Cluster, engine: Engine
) -> None:
    lost = await csi.ask(perdure, ground.request(engine), 1)
    await csi.cut(perdure, lost, CALM.cut, CALM)
    asked = await csi.ask(perdure, ground.request(engine), 2)
    await csi.cut(perdure, asked, CALM.cut, CALM)
    stored = await csi.keep(perdure, asked, CALM)
    await csi.keep(perdure, lost, CALM)
    assert len(storage.kept()) == 4
    await ground.release(stored, patience=CALM)
    eventually(lambda: len(storage.kept()) == 2, "what the lost one had cut is gone", within=60)
    await csi.check_kept(perdure, stored.volumes)

    async def only_what_is_named() -> bool:
        contents = (await perdure.list(CONTENT, labels={SNAPSHOT: ground.snapshot_id})).items
        return {text(each, "metadata", "name") for each in contents} == {
            each.content for each in stored.volumes
        }

    await eventually_async(only_what_is_named, "nothing else stands", within=60)
    await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)
