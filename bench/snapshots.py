"""A volume's bytes out of a pod into the object store, beside the pipe that one would type for it."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from activities.secrets import DataKey
from activities.snapshots.archive import seal_into
from activities.snapshots.frames import Component, ComponentKey
from activities.storage.objects import ObjectStore
from bench.clock import at_rest, spread
from bench.plain import Kubectl, fresh_namespace
from clusters.gateway import ClusterConfig, open_cluster
from tests.helpers.stack import ROOT

IMAGE: Final = "10.111.0.1:5000/perdure/postgres:1"
_FILE: Final = "/data/file"
_MAKE: Final = """
line='INSERT INTO orders VALUES (1234567, "a customer", NULL, 2026);'
n=0
while [ $n -lt $0 ]; do
  head -c 1048576 /dev/urandom
  yes "$n $line" | head -c 1048576
  n=$((n + 2))
done >/data/file
"""
"""Half of it does not compress, and half of it does."""


def beside_a_pipe(kubectl: Kubectl, *, mebibytes: int, pairs: int) -> dict[str, Any]:
    """Take the same file both ways, in turn; return MB/s (1,000,000 bytes), and the memory it took in MiB."""
    namespace = fresh_namespace()
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sleep", "3600"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volumes = [{"name": "data", "emptyDir": {}}]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files"}, "spec": spec}
    kubectl.run("create", "namespace", namespace)
    try:
        kubectl.run("-n", namespace, "apply", "-f", "-", stdin=json.dumps(pod))
        kubectl.run("-n", namespace, "wait", "--for=condition=Ready", "--timeout=120s", "pod/files")
        kubectl.run("-n", namespace, "exec", "files", "--", "sh", "-c", _MAKE, str(mebibytes))
        ours, plain, growth = [], [], []
        for _ in range(pairs):
            with tempfile.TemporaryDirectory(prefix="perdure-bench-") as directory:
                at_rest()
                plain.append(_by_pipe(kubectl, namespace, Path(directory) / "plain"))
                at_rest()
                taken = _by_perdure(kubectl, namespace, Path(directory) / "objects")
                assert taken["bytes"] == mebibytes << 20
                ours.append(taken["seconds"])
                growth.append(taken["growthMebibytes"])
    finally:
        kubectl.remove(namespace)
    megabytes = (mebibytes << 20) / 1e6
    return {
        "mebibytes": mebibytes,
        "perdureMegabytesPerSecond": spread([megabytes / each for each in ours]),
        "pipeMegabytesPerSecond": spread([megabytes / each for each in plain]),
        "ratio": spread([each / own for each, own in zip(plain, ours, strict=True)]),
        "growthMebibytes": max(growth),
    }


def _by_pipe(kubectl: Kubectl, namespace: str, target: Path) -> float:
    """Return the seconds of `kubectl exec | zstd | openssl enc` into a file."""
    pipe = (
        'set -o pipefail; kubectl --kubeconfig "$0" -n "$1" exec files -- cat "$2" '
        '| zstd -q -3 | openssl enc -aes-256-ctr -pbkdf2 -k secret >"$3"'
    )
    began = time.perf_counter()
    words = (str(kubectl.kubeconfig), namespace, _FILE, str(target))
    subprocess.run(["bash", "-c", pipe, *words], check=True, timeout=600)
    return time.perf_counter() - began


def _by_perdure(kubectl: Kubectl, namespace: str, target: Path) -> dict[str, Any]:
    """Do what a worker does, in a process of its own, so that its memory is nobody else's."""
    command = [sys.executable, "-m", "bench.snapshots", str(kubectl.kubeconfig), namespace, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=600)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


async def _taken(kubeconfig: Path, namespace: str, target: str) -> dict[str, Any]:
    component = Component("snap_bench", "volume-data")
    data_key = DataKey(id="key_1", organization_id="org_1", key=os.urandom(32))
    key = ComponentKey.new(data_key, component).stream_key()
    store = ObjectStore(target)
    async with open_cluster(ClusterConfig(kubeconfig)) as cluster:
        # Connections and libraries are what a worker has anyway.
        await cluster.execute(namespace, "files", ["true"], timeout=60)
        await store.put_bytes("first", b"")
        _forget_peak()
        before = _status("VmRSS")
        began = time.perf_counter()
        async with cluster.output_of(namespace, "files", ["cat", _FILE], timeout=600) as output:
            archive = await seal_into(store, "archive", output, key=key, component=component)
        seconds = time.perf_counter() - began
    return {
        "bytes": archive.digests.plain_bytes,
        "seconds": seconds,
        "growthMebibytes": round((_status("VmHWM") - before) / 1024, 1),
    }


def _forget_peak() -> None:
    """Let VmHWM begin anew, see proc(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """Return a line of /proc/self/status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_taken(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))))
