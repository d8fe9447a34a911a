"""Removal of the embedded node: processes, pods, mounts, cgroups, links, chains and files."""

import ctypes
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from devcluster import network, nodeconfig
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.processes import Processes
from devcluster.tools import wait_until

_CGROUPS = Path("/sys/fs/cgroup")
_POD_CGROUP = "kubepods"
_MNT_DETACH = 2
# The controller-manager's provisioner knows no other place.
_HOST_PATH_VOLUMES = Path("/tmp/hostpath_pv")  # noqa: S108
_CONTAINER_LOG_LINKS = Path("/var/log/containers")
_CNI_RESULTS = Path("/var/lib/cni/results")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
_DEVICE_PLUGIN_FILES = ("DEPRECATION", "kubelet.sock", "kubelet_internal_checkpoint")
# Directories that containerd, kubelet and the network plugins make where we cannot tell them otherwise.
_FIXED_PLACES = tuple(
    Path(place)
    for place in (
        "/run/containerd/s",
        "/run/containerd",
        "/var/lib/cni/results",
        "/var/lib/cni",
        "/var/lib/kubelet/device-plugins",
        "/var/lib/kubelet",
        "/var/log/containers",
    )
)
# The API server stays for a minute while watches are open; the others end at once, or need not be asked.
_GRACE_SECONDS = {"etcd": 1.0, "kube-proxy": 1.0, "registry-open": 1.0, "registry-private": 1.0}


def tear_down(layout: Layout, processes: Processes, components: Sequence[str]) -> None:
    """Stop all components and remove all traces; raises with a list when something could not be removed."""
    state = layout.short
    # The kubelet first, so that nothing starts pods again.
    for name in sorted(components, key=lambda name: name != "kubelet"):
        if name != "containerd":
            processes.stop(name, _GRACE_SECONDS.get(name, 0.0))
    kill_pods()
    _kill_shims(processes, processes.pid("containerd"))
    processes.stop("containerd", 0.0)
    for pid in processes.leftovers():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes.leftovers(), 10, "end of all processes")
    _remove_shim_sockets(state)
    unmount_below(layout.state)
    _remove_cgroups()
    if state.exists():
        network.tear_down(state)
    _remove_files(layout)
    left = remains(layout, processes)
    if left:
        raise DevclusterError("could not remove: " + ", ".join(left))


def remains(layout: Layout, processes: Processes) -> list[str]:
    """Everything of the cluster that is still on the machine, in words."""
    return [
        *(f"process {pid}" for pid in processes.leftovers()),
        *(f"pod process {pid}" for pid in pod_pids()),
        *(f"mount {place}" for place in mounts_below(layout.state)),
        *(f"cgroup {group}" for group in _pod_cgroups()),
        *network.remains(),
        *(str(path) for path in (layout.state, _HOST_PATH_VOLUMES) if path.exists()),
        *(str(path) for path in _CNI_RESULTS.glob(f"{nodeconfig.CNI_NETWORK}-*")),
        *(name for name in _DEVICE_PLUGIN_FILES if (_DEVICE_PLUGINS / name).exists()),
    ]


def kill_pods() -> None:
    """Kill every process of every pod of this machine's kubelet, and wait until they are gone."""

    def none_left() -> bool:
        pids = pod_pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    wait_until(none_left, 20, "end of the pods' processes")


def _pod_cgroups() -> list[Path]:
    # cgroup v2 has one tree; v1 one for each controller, and pods are in all of them.
    candidates = [_CGROUPS / _POD_CGROUP, *_CGROUPS.glob(f"*/{_POD_CGROUP}")]
    return [path for path in candidates if path.is_dir()]


def _groups(top: Path) -> list[Path]:
    """A control group and all below it. Groups go away while we look, which `os.walk` takes in its stride."""
    return [Path(folder) for folder, _, _ in os.walk(top)]


def pod_pids() -> set[int]:
    """Every process that is in a pod of this machine's kubelet."""
    pids: set[int] = set()
    for top in _pod_cgroups():
        for group in _groups(top):
            with suppress(OSError):
                pids.update(int(word) for word in (group / "cgroup.procs").read_text().split())
    pids.discard(0)
    return pids


def _remove_cgroups() -> None:
    for top in _pod_cgroups():
        for group in sorted(_groups(top), reverse=True):
            with suppress(OSError):
                group.rmdir()


def _kill_shims(processes: Processes, containerd: int | None) -> None:
    for pid in processes.leftovers():
        if pid != containerd:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _remove_shim_sockets(state: Path) -> None:
    # Shims listen in a directory common to every containerd of the machine; each notes its own place.
    for file in (state / "containerd" / "state").glob("io.containerd.runtime.v2.task/k8s.io/*/address"):
        with suppress(OSError):
            Path(file.read_text().removeprefix("unix://")).unlink(missing_ok=True)


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below a directory, innermost first."""
    prefix = str(directory)
    places: list[str] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split()[4].encode().decode("unicode_escape")
        if place == prefix or place.startswith(prefix + "/"):
            places.append(place)
    return places[::-1]


def unmount_below(directory: Path) -> None:
    """Unmount everything at or below a directory, busy or not."""
    libc = ctypes.CDLL(None, use_errno=True)
    for place in mounts_below(directory):
        if libc.umount2(place.encode(), _MNT_DETACH) != 0:
            raise DevclusterError(f"cannot unmount {place}: {os.strerror(ctypes.get_errno())}")


def _remove_files(layout: Layout) -> None:
    for result in _CNI_RESULTS.glob(f"{nodeconfig.CNI_NETWORK}-*-eth0"):
        sandbox = result.name.removeprefix(f"{nodeconfig.CNI_NETWORK}-").removesuffix("-eth0")
        result.unlink()
        (_CNI_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
    if _CONTAINER_LOG_LINKS.is_dir():
        for link in _CONTAINER_LOG_LINKS.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(str(layout.short)):
                link.unlink()
    shutil.rmtree(_HOST_PATH_VOLUMES, ignore_errors=True)
    shutil.rmtree(layout.state, ignore_errors=True)
    if layout.short.is_symlink():
        layout.short.unlink()
    for name in _DEVICE_PLUGIN_FILES:
        (_DEVICE_PLUGINS / name).unlink(missing_ok=True)
    for place in _FIXED_PLACES:
        # Only if empty: they may be others' as well.
        with suppress(OSError):
            place.rmdir()
