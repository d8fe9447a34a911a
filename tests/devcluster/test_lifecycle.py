"""The whole life of the cluster: up, a pod, again up, down, and nothing left.

It takes the cluster away, so it runs only where PERDURE_TEST_CLUSTER_LIFECYCLE=1 says that nobody needs it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster import teardown
from devcluster.embedded import COMPONENTS
from devcluster.layout import default_layout
from devcluster.nodeconfig import PAUSE_IMAGE
from devcluster.processes import Processes, all_pids
from tests.devcluster.kube import Kube, eventually

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        os.environ.get("PERDURE_TEST_CLUSTER_LIFECYCLE") != "1",
        reason="takes the cluster away; set PERDURE_TEST_CLUSTER_LIFECYCLE=1",
    ),
]


def devcluster(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "devcluster", *words],
        cwd=default_layout().repo,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_up_and_down_leave_nothing_behind() -> None:
    layout = default_layout()
    devcluster("down")
    links, namespaces = _links(), _network_namespaces()

    devcluster("up", "--provider", "embedded")
    processes = Processes(layout.short)
    pids = {name: processes.pid(name) for name in COMPONENTS}
    assert None not in pids.values()
    assert all(path.stat().st_mode & 0o077 == 0 for path in _secrets())

    devcluster("up")
    assert {name: processes.pid(name) for name in COMPONENTS} == pids, "what runs is left alone"
    dead = pids["kube-scheduler"]
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    eventually(lambda: processes.pid("kube-scheduler") is None, 10, "end of the scheduler")
    devcluster("up")
    now = {name: processes.pid(name) for name in COMPONENTS}
    assert {name for name in COMPONENTS if now[name] != pids[name]} == {"kube-scheduler"}
    status = devcluster("status")
    for line in ("provider: embedded", "node perdure: ready", "fencing policy: installed", "NOT enforced"):
        assert line in status

    _run_pod(Kube.of(layout.admin_kubeconfig))
    assert teardown.mounts_below(layout.state)
    assert _links() != links

    devcluster("down")
    assert teardown.remains(layout, processes) == []
    assert _links() == links
    assert _network_namespaces() == namespaces
    assert not [pid for pid in all_pids() if _command_line_names(pid, layout.state)]
    assert not layout.state.exists()
    assert "There is no cluster" in devcluster("down")


def _run_pod(kube: Kube) -> None:
    """Start a pod that does not go by itself, of the one image that is there without a registry."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "left"},
        "spec": {"containers": [{"name": "left", "image": PAUSE_IMAGE, "imagePullPolicy": "Never"}]},
    }
    assert kube.call("POST", "/api/v1/namespaces/default/pods", body).code == 201
    pod = "/api/v1/namespaces/default/pods/left"
    eventually(lambda: kube.call("GET", pod).body["status"]["phase"] == "Running", 60, "the pod")


def _secrets() -> list[Path]:
    state = default_layout().state
    return [
        *state.glob("*.kubeconfig"),
        *state.glob("pki/*.key"),
        state / "tokens.csv",
        state / "registry.json",
    ]


def _links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _network_namespaces() -> set[str]:
    """Mounted ones; those of processes end with the processes."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines if " - nsfs " in line}


def _command_line_names(pid: int, directory: Path) -> bool:
    try:
        return str(directory).encode() in (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
