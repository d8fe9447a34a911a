"""Snapshots by a storage: the kinds and classes for it, and the real controllers with a driver of folders."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from devstack.csidriver import built, location
from tests.helpers.missing import missing
from tests.helpers.stack import Process
from tests.helpers.waiting import eventually

MODULE: Final = "github.com/kubernetes-csi/external-snapshotter/client/v8@v8.6.0"
CLASS: Final = "csi-test"
_OURS: Final = "perdure.dev/made-by=tests"
DRIVER: Final = "folders.test.perdure.dev"
NODE: Final = "perdure"
_CLASSES: Final = f"""
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {CLASS}}}
provisioner: {DRIVER}
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {{name: {DRIVER}}}
spec: {{attachRequired: false}}
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotClass
metadata: {{name: {CLASS}}}
driver: {DRIVER}
deletionPolicy: POLICY
---
"""
_GROUP_CLASS: Final = f"""
apiVersion: groupsnapshot.storage.k8s.io/v1beta2
kind: VolumeGroupSnapshotClass
metadata: {{name: {CLASS}}}
driver: {DRIVER}
deletionPolicy: POLICY
"""


def definitions() -> list[Path]:
    """Return the files that define the kinds, fetched once by Go's own client."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", MODULE], capture_output=True, text=True, check=True, timeout=120
    )
    folder = Path(json.loads(done.stdout)["Dir"]) / "config" / "crd"
    return sorted(folder.glob("*snapshot*.yaml"))


def kubectl(admin: Path, *arguments: str, stdin: str = "") -> str:
    """Run kubectl as the administrator and return what it prints."""
    done = subprocess.run(
        ["kubectl", "--kubeconfig", str(admin), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def classes_of(admin: Path, driver: str, *, policy: str = "Delete", groups: bool = True) -> Iterator[None]:
    """Give the cluster the kinds of volume snapshots, and classes of a driver, for as long as this lasts.

    Meanwhile no other process does so: each would take the snapshots of the other's driver for its own, and
    the kinds away from it.
    """
    files = [argument for path in definitions() for argument in ("-f", str(path))]
    made = (_CLASSES + (_GROUP_CLASS if groups else "")).replace(DRIVER, driver).replace("POLICY", policy)
    with admin.open() as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        _await_room(admin, files)
        kubectl(admin, "apply", "--server-side", "--force-conflicts", *files)
        kubectl(admin, "label", "--overwrite", *files, _OURS)
        kubectl(admin, "wait", "--for=condition=Established", "--timeout=30s", *files)
        kubectl(admin, "apply", "-f", "-", stdin=made)
        try:
            yield
        finally:
            kubectl(admin, "delete", "--ignore-not-found", "-f", "-", stdin=made)
            for kind in ("volumesnapshotcontents", "volumegroupsnapshotcontents"):
                for name in kubectl(admin, "get", kind, "-o", "name").split():
                    kubectl(admin, "patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
            # Waited for, or the next would find them as they go.
            kubectl(admin, "delete", "--timeout=50s", *files)


def _await_room(admin: Path, files: Sequence[str]) -> None:
    """Return once no kind is still being deleted. Kinds of somebody else would be deleted by us: skips."""

    def none_goes() -> bool:
        found = json.loads(
            kubectl(admin, "get", "--ignore-not-found", "-o", "json", *files) or '{"items": []}'
        )
        metadata = [each["metadata"] for each in found.get("items", [found])]
        label, _, value = _OURS.partition("=")
        if any(each.get("labels", {}).get(label) != value for each in metadata):
            pytest.skip(
                "this cluster has the kinds of volume snapshots already, and somebody's snapshots maybe"
            )
        return not any("deletionTimestamp" in each for each in metadata)

    eventually(none_goes, "kinds that an earlier run left are gone", within=60)


@dataclass
class Folders:
    """The driver, whose volumes are folders below `root`, and the controllers."""

    root: Path
    driver: Process
    controller: Process
    sidecar: Process
    provisioner: Process
    namespaces: list[str] = field(default_factory=list)
    """Those that have to be gone before the controllers end."""

    @property
    def processes(self) -> tuple[Process, ...]:
        """All of them, the driver first."""
        return (self.driver, self.controller, self.sidecar, self.provisioner)

    def kept(self) -> list[Path]:
        """The snapshots that lie in the storage."""
        return sorted((self.root / "snapshots").iterdir())

    def volume(self, name: str) -> Path:
        """The folder of a persistent volume."""
        return self.root / "volumes" / name


@contextmanager
def running_folders(
    root: Path, admin: Path, *, registry: Path | None = None, policy: str = "Delete", groups: bool = True
) -> Iterator[Folders]:
    """Run the controllers and the driver; `registry`: where the kubelet looks for drivers, to mount volumes.

    `policy`, `groups`: as `classes_of` takes them. Where they were not built: as `missing` has it.
    """
    if not built():
        missing("no snapshot controllers: python -m devstack csi builds them")
    socket = root / "s"
    common = ("--kubeconfig", str(admin), "--leader-election=false")
    gate = "--feature-gates=CSIVolumeGroupSnapshot=true"

    def process(name: str, *arguments: str) -> Process:
        return Process(name, [str(location() / name), *arguments], os.environ, root / f"{name}.log")

    node = () if registry is None else ("-registry", str(registry), "-node", NODE)
    folders = Folders(
        root,
        process("driver", "-socket", str(socket), "-root", str(root), "-name", DRIVER, *node),
        process("snapshot-controller", *common, gate),
        process("csi-snapshotter", *common, gate, "--csi-address", str(socket)),
        process("csi-provisioner", *common, "--csi-address", str(socket)),
    )
    with ExitStack() as stack:
        stack.enter_context(classes_of(admin, DRIVER, policy=policy, groups=groups))
        if registry is not None:
            # The kubelet knows a driver for as long as its socket is there, which outlives a killed process.
            stack.callback((registry / f"{DRIVER}-reg.sock").unlink, missing_ok=True)
        for each in folders.processes:
            stack.callback(each.kill)
        folders.driver.start()
        eventually(socket.exists, "the driver listens")
        for each in folders.processes[1:]:
            each.start()
        yield folders
