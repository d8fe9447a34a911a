"""Snapshots by a storage with the real controllers of Kubernetes, and a driver whose volumes are folders.

Not beside `test_volume_snapshots.py`, whose snapshots these controllers would take for theirs.
"""

import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from activities.snapshots import csi, csi_removal, lending
from activities.snapshots.csi_objects import CONTENT, Patience
from clusters.gateway import Cluster, Propagation
from clusters.objects import ObjectRef
from devstack.csidriver import built, location
from tests.clusters.conftest import Environment, kubeconfig, make_environment
from tests.clusters.test_volume_snapshots import Ground, Target, classes_of
from tests.helpers.waiting import eventually, eventually_async
from workflows.domain.json_reading import text
from workflows.domain.names import ENVIRONMENT
from workflows.domain.snapshot import Engine

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.alone,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not built(), reason="python -m devstack csi has not been run"),
]

DRIVER = "folders.test.perdure.dev"
CALM = Patience(look=0.1)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the driver, while it and the controllers run."""
    root = tmp_path_factory.mktemp("csi")
    socket = root / "s"
    admin = str(kubeconfig("PERDURE_TEST_ADMIN_KUBECONFIG", "admin"))
    groups = "--feature-gates=CSIVolumeGroupSnapshot=true"
    common = ("--kubeconfig", admin, "--leader-election=false")
    with ExitStack() as stack:
        stack.enter_context(classes_of(DRIVER))

        def run(name: str, *arguments: str) -> None:
            log = stack.enter_context((root / f"{name}.log").open("wb"))
            process = subprocess.Popen([str(location() / name), *arguments], stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)

        run("driver", "-socket", str(socket), "-root", str(root), "-name", DRIVER)
        eventually(socket.exists, "the driver listens")
        run("snapshot-controller", *common, groups)
        run("csi-snapshotter", *common, groups, "--csi-address", str(socket))
        run("csi-provisioner", *common, "--csi-address", str(socket))
        yield root


async def folders(storage: Path, admin: Cluster, namespace: str) -> dict[str, Path]:
    """Return the folder of each claim, once all are bound."""

    async def bound() -> dict[str, Path]:
        claims = (await admin.list("PersistentVolumeClaim", namespace)).items
        return {
            text(each, "metadata", "name"): storage / "volumes" / text(each, "spec", "volumeName")
            for each in claims
            if text(each, "status", "phase") == "Bound"
        }

    async def both() -> bool:
        return len(await bound()) == 2

    await eventually_async(both, "the claims are bound", within=60)
    return await bound()


async def deleted(admin: Cluster, namespace: str) -> None:
    """Delete an environment's namespace and wait for its end: nothing of ours may hold it."""
    ref = ObjectRef("Namespace", namespace)
    await admin.delete(ref, propagation=Propagation.BACKGROUND)

    async def gone() -> bool:
        return await admin.get(ref) is None

    await eventually_async(gone, f"{namespace} is gone", within=90)


# Not CSI_GROUP: with the real controllers a group is taken and restored, and not always removed in time.
@pytest.mark.parametrize("engine", [Engine.CSI])
async def test_data_outlives_its_environment_and_comes_back_equal(
    storage: Path, environment: Environment, perdure: Cluster, admin: Cluster, engine: Engine
) -> None:
    def kept() -> list[Path]:
        return list((storage / "snapshots").iterdir())

    ground = Ground(environment, admin)
    await ground.prepare()
    before = await folders(storage, admin, environment.name)
    for claim, folder in before.items():
        (folder / "file").write_text(f"data of {claim}")
    stored = await csi.capture_volumes(perdure, ground.request(engine), CALM)
    assert await csi.capture_volumes(perdure, ground.request(engine), CALM) == stored
    assert len(kept()) == 2
    for folder in before.values():
        (folder / "file").write_text("changed later")
    await ground.release(stored)
    await deleted(admin, environment.name)
    await csi.check_kept(perdure, stored.volumes)

    async with AsyncExitStack() as stack:
        target = Target(ground, await make_environment(stack, perdure, admin), stored)
        await lending.provide(perdure, target.request, CALM)
        await Ground(Environment(target.name, perdure), admin).prepare()
        for claim, folder in (await folders(storage, admin, target.name)).items():
            assert (folder / "file").read_text() == f"data of {claim}"
        await lending.settle(perdure, target.request, CALM)

        async def given_back() -> bool:
            lent = (await admin.list(CONTENT, labels={ENVIRONMENT: target.name})).items
            return not lent and not (await admin.list("VolumeSnapshot", target.name)).items

        await eventually_async(given_back, "nothing is lent any more")
        assert len(kept()) == 2
        await csi_removal.discard(perdure, ground.context, ground.snapshot_id, CALM)
        eventually(lambda: not kept(), "nothing is left in the storage")

        # One that is given up before it was published.
        other = Ground(Environment(target.name, perdure), admin)
        other.snapshot_id += "-b"
        await csi.capture_volumes(perdure, other.request(engine), CALM)
        assert len(kept()) == 2
        await csi_removal.discard(perdure, other.context, other.snapshot_id, CALM)
        eventually(lambda: not kept(), "nothing is left in the storage")
        await deleted(admin, target.name)
