"""Snapshots by the cluster's storage on the whole stack: real controllers, pods that mount what was restored.

The driver's volumes are folders of this machine, so what was cut can be read without restoring it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import own_stack
from tests.e2e.snapshots import ENDED_SECONDS, checksums, new_name, objects, restore, shown, take, taken
from tests.e2e.support import POSTGRES, idle
from tests.e2e.sweeps import eventually_swept
from tests.helpers.csi import CLASS, DRIVER, NODE, Folders, kubectl, running_folders
from tests.helpers.kube_gate import Side
from tests.helpers.stack import ROOT, Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

_VOLUME = {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi", "storageClass": CLASS}
_KINDS = "volumesnapshotcontents,volumegroupsnapshotcontents"
_IN_NAMESPACES = "volumesnapshots,volumegroupsnapshots"


def _files(name: str, **snapshot: Any) -> dict[str, Any]:
    """Files on a volume that the storage can cut, and an application that depends on them."""
    keeper = idle(image=POSTGRES, snapshot={"store": "files", **snapshot}, volumes=[_VOLUME])
    return {"name": name, "services": {"files": keeper, "app": idle(dependsOn=["files"])}}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, cluster_files: tuple[Path, Path]) -> Iterator[Folders]:
    """The driver, registered with the kubelet, and the controllers; groups have no class."""
    registry = ROOT / ".dev" / "cluster" / "kubelet" / "plugins_registry"
    if not registry.exists():
        pytest.skip("the kubelet of this cluster is not one of ours, so that it knows no test driver")
    root = tmp_path_factory.mktemp("csi")
    with running_folders(root, cluster_files[1], registry=registry, groups=False) as running:
        eventually(
            lambda: "registered with the kubelet: true" in running.driver.text(), "it is known", within=60
        )
        yield running
    eventually(
        lambda: DRIVER not in kubectl(cluster_files[1], "get", "csinode", NODE, "-o", "yaml"),
        "it is forgotten",
    )


@pytest.fixture(scope="module")
def stack(
    storage: Folders, tmp_path_factory: pytest.TempPathFactory, cluster_files: tuple[Path, Path]
) -> Iterator[Stack]:
    """A stack whose environments go before the driver does."""
    with own_stack(tmp_path_factory, cluster_files) as running:
        yield running
        names = [row[0] for row in running.rows("select namespace from environments")]
        running.kubectl("delete", "namespace", *names, "--ignore-not-found", "--timeout=50s")


@pytest.fixture(scope="module")
def files(stack: Stack) -> Handle:
    """An environment with a file."""
    handle = stack.create(_files(new_name()))
    handle.succeeded(ENDED_SECONDS)
    handle.sh("files-0", "echo first > /data/file; sync")
    return handle


def _standing(stack: Stack) -> list[str]:
    """What there is of snapshots in the cluster, by kind and name."""
    found = json.loads(stack.kubectl("get", _KINDS, "-o", "json"))["items"]
    found += json.loads(stack.kubectl("get", _IN_NAMESPACES, "-A", "-o", "json"))["items"]
    return sorted(f"{each['kind']}/{each['metadata']['name']}" for each in found)


def _kept(stack: Stack, snapshot: str) -> dict[str, Any]:
    """The one volume that a snapshot is of; nothing else of any snapshot is in the cluster."""
    manifest = stack.client.get(f"/v1/snapshots/{snapshot}/manifest").json()["data"]
    [volume] = [each for component in manifest["components"] for each in component["volumes"]]
    content = f"VolumeSnapshotContent/{volume['content']}"
    eventually_swept(stack, lambda: _standing(stack) == [content], f"only {content} stands")
    found: dict[str, Any] = volume
    return found


def _removed(stack: Stack, storage: Folders, *snapshots: str) -> None:
    """Delete snapshots, and see that nothing is left of any."""
    for snapshot in snapshots:
        assert stack.client.delete(f"/v1/snapshots/{snapshot}").status_code in (200, 202, 204)
    eventually_swept(
        stack, lambda: not storage.kept() and not _standing(stack), "nothing is left", within=120
    )


MOMENTS: dict[str, tuple[str, Side]] = {
    "before it is asked for": (r"PATCH .*/volumesnapshots/perdure-", "before"),
    "once it is asked for": (r"PATCH .*/volumesnapshots/perdure-", "after"),
    "while it is waited for": (r"GET .*/volumesnapshots/perdure-", "after"),
    "before it is kept": (r"PATCH .*/volumesnapshotcontents/", "before"),
    "once it is kept": (r"PATCH .*/volumesnapshotcontents/", "after"),
    "before it is let go of": (r"DELETE .*/volumesnapshots/perdure-", "before"),
    "once it is let go of": (r"DELETE .*/volumesnapshots/perdure-", "after"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_is_cut_once_and_published_once(
    stack: Stack, storage: Folders, files: Handle, moment: str
) -> None:
    pattern, side = MOMENTS[moment]
    with stack.gate.hold(pattern, side) as hold:
        taking, snapshot = take(files)
        hold.wait_seen()
        stack.worker.kill()
        hold.drop()
    stack.worker.start()
    taking.succeeded(ENDED_SECONDS)
    found = shown(stack, snapshot)
    assert (found["state"], found["consistency"]) == ("available", "crash-volume")
    volume = _kept(stack, snapshot)
    assert [each.name for each in storage.kept()] == [volume["handle"]]
    assert [path.name for path in objects(stack, snapshot)] == ["installation.json", "manifest.json"]
    _removed(stack, storage, snapshot)


RESTORES: dict[str, tuple[str, Side]] = {
    "before it is lent": (r"PATCH .*/volumesnapshotcontents/perdure-restore-", "before"),
    "once it is lent": (r"PATCH .*/volumesnapshotcontents/perdure-restore-", "after"),
    "once it is asked for": (r"PATCH .*/volumesnapshots/perdure-restore-", "after"),
    "once its volume is claimed": (r"PATCH .*/persistentvolumeclaims/data-files-0", "after"),
    "before it is given back": (r"DELETE .*/volumesnapshots/perdure-restore-", "before"),
    "while it is given back": (r"DELETE .*/volumesnapshots/perdure-restore-", "after"),
    "once it is given back": (r"DELETE .*/volumesnapshotcontents/perdure-restore-", "after"),
}


def test_killed_at_any_moment_a_restore_ends_with_equal_data_and_nothing_lent(
    stack: Stack, storage: Folders, files: Handle
) -> None:
    files.sh("files-0", "head -c 1000000 /dev/urandom > /data/blob; sync")
    before = files.sh("files-0", checksums("/data"))
    snapshot = taken(files)
    files.sh("files-0", "echo later > /data/blob; sync")
    volume = _kept(stack, snapshot)
    going: list[Handle] = []
    for moment, (pattern, side) in RESTORES.items():
        with stack.gate.hold(pattern, side) as hold:
            restored = restore(stack, snapshot, name=new_name())
            hold.wait_seen()
            stack.worker.kill()
            hold.drop()
        stack.worker.start()
        operation = restored.succeeded(ENDED_SECONDS)
        assert restored.sh("files-0", checksums("/data")) == before, moment
        steps = {step["name"]: step for step in operation["steps"]}
        assert steps["service/app"]["startedAt"] >= steps["load/files"]["finishedAt"]
        assert _kept(stack, snapshot) == volume
        assert [each.name for each in storage.kept()] == [volume["handle"]]
        going.append(restored.delete())
    for each in going:
        each.succeeded(ENDED_SECONDS)
    files.sh("files-0", "rm /data/blob")
    _removed(stack, storage, snapshot)


def test_the_storage_cuts_while_the_service_is_held_still(stack: Stack, storage: Folders) -> None:
    hooks = {
        "quiesce": "echo held > /data/state; sync",
        "thaw": "echo free > /data/state; echo thawed >> /data/thawed",
    }
    others = storage.kept()
    handle = stack.create(_files(new_name(), **hooks))
    handle.succeeded(ENDED_SECONDS)
    taking, snapshot = take(handle, consistencyFloor="application")
    operation = taking.succeeded(ENDED_SECONDS)
    found = shown(stack, snapshot)
    assert (found["consistency"], found["scope"]) == ("application", "one-point")
    output = next(step["output"] for step in operation["steps"] if step["name"] == "capture/files")
    assert output["engine"] == "csi"
    assert 0 < output["longestFrozenMs"] < 30_000
    [cut] = set(storage.kept()) - set(others)
    assert (cut / "state").read_text() == "held\n"
    assert not (cut / "thawed").exists()
    assert handle.sh("files-0", "cat /data/state") == "free"

    # Killed while it is held: the pod thaws by itself, and what was cut in that window is of no use.
    with stack.gate.hold(r"PATCH .*/volumesnapshots/perdure-", "after") as hold:
        taking, second = take(handle, consistencyFloor="application")
        hold.wait_seen()
        assert handle.sh("files-0", "cat /data/state") == "held"
        stack.worker.kill()
        hold.drop()
    eventually(lambda: handle.sh("files-0", "cat /data/state") == "free", "it is thawed", within=30)
    stack.worker.start()
    taking.succeeded(ENDED_SECONDS)
    assert shown(stack, second)["consistency"] == "application"

    def cuts() -> set[Path]:
        return set(storage.kept()) - set(others)

    eventually_swept(stack, lambda: len(cuts()) == 2, "what the lost window had cut is gone")
    assert all((each / "state").read_text() == "held\n" for each in cuts())
    _removed(stack, storage, snapshot, second)
    handle.delete().succeeded(ENDED_SECONDS)


def test_what_the_storage_cannot_cut_is_copied_and_said_so(
    stack: Stack, storage: Folders, files: Handle
) -> None:
    other = stack.create(_files(new_name()))
    other.succeeded(ENDED_SECONDS)
    kept = storage.root / "snapshots"
    kept.rename(storage.root / "away")
    kept.write_text("no folder")
    try:
        failing, below = take(other, consistencyFloor="crash-volume")
        taking, snapshot = take(files)
        failed = failing.ended(ENDED_SECONDS)["failure"]
        operation = taking.succeeded(ENDED_SECONDS)
    finally:
        kept.unlink()
        (storage.root / "away").rename(kept)
    assert failed["kind"] == "snapshot_below_floor"
    assert "live-copy instead would be below crash-volume" in failed["message"]
    [component] = [each for each in shown(stack, snapshot)["components"] if each["service"] == "files"]
    assert (component["engine"], component["insteadOf"]) == ("live-copy", "csi")
    assert "The storage does not take a snapshot of data-files-0" in component["because"]
    output = next(step["output"] for step in operation["steps"] if step["name"] == "capture/files")
    assert (output["insteadOf"], output["because"]) == ("csi", component["because"])
    restored = restore(stack, snapshot, name=new_name())
    restored.succeeded(ENDED_SECONDS)
    assert restored.sh("files-0", "cat /data/file") == "first"
    for going in (restored.delete(), other.delete()):
        going.succeeded(ENDED_SECONDS)
    _removed(stack, storage, snapshot)
    assert shown(stack, below)["state"] == "failed"
