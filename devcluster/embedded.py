"""The embedded node: a whole Kubernetes as processes of this machine, without a container engine."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devcluster import images, network, nodebinary, nodeconfig, registry, servers, teardown
from devcluster.addresses import NODE_NAME
from devcluster.credentials import kubeconfig, make_certificates, make_tokens
from devcluster.errors import DevclusterError, ToolError
from devcluster.layout import Layout
from devcluster.objects import Kubectl, describe, install, write_account_kubeconfig
from devcluster.packages import missing_tools
from devcluster.processes import Processes, resident_bytes
from devcluster.progress import Progress
from devcluster.tools import run, succeeds, wait_until, write_private

COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "containerd",
    "kube-controller-manager",
    "kube-scheduler",
    "coredns",
    "kubelet",
    "kube-proxy",
    *registry.COMPONENTS,
)
NETWORK_POLICY_NOTE = (
    "NetworkPolicies: accepted, NOT enforced on the embedded node (its pod network has no filter)"
)


@dataclass(frozen=True, slots=True)
class EmbeddedNode:
    """Provider `embedded`: etcd, the Kubernetes servers, containerd, CoreDNS and registries, in order."""

    layout: Layout
    progress: Progress

    @property
    def _processes(self) -> Processes:
        return Processes(self.layout.short)

    @property
    def _state(self) -> Path:
        return self.layout.short

    @property
    def _kubectl(self) -> Kubectl:
        return Kubectl(self._state / "bin" / "kubectl", self.layout.admin_kubeconfig)

    def check(self) -> None:
        """Raise when tools are missing, or when another Kubernetes runs its pods on this machine."""
        absent = missing_tools()
        if absent:
            raise DevclusterError(f"missing tools: {', '.join(absent)}; run: python -m devcluster packages")
        if not (self.layout.state / "pki").exists() and teardown.pod_pids():
            raise DevclusterError(
                "pods of another Kubernetes run on this machine, and the embedded node cannot share it; "
                "name that cluster with PERDURE_KUBECONFIG to use it, or stop it"
            )

    def up(self) -> None:
        """Bring everything that is missing up; what runs is left alone."""
        binary = nodebinary.ensure(self.layout, self.progress)
        pause = images.ensure_archive(self.layout, "pause", self.progress)
        self._prepare(binary)
        with self.progress.step("Starting the node"):
            self._start_node(pause)
        with self.progress.step("Installing the objects of deploy/cluster"):
            install(self.layout, self._kubectl, (self.layout.repo / "devcluster" / "node" / "objects.yaml",))
            write_account_kubeconfig(self.layout, self._kubectl)
        with self.progress.step("Waiting for the node to be ready"):
            self._finish()

    def down(self) -> None:
        """Stop everything and remove every trace outside the cache."""
        with self.progress.step("Stopping the embedded node"):
            teardown.tear_down(self.layout, self._processes, COMPONENTS)

    def status(self) -> list[str]:
        """What runs, with its memory; then what the API server says."""
        pids = {name: self._processes.pid(name) for name in COMPONENTS}
        total = sum(resident_bytes(pid) for pid in self._processes.leftovers())
        stopped = [name for name, pid in pids.items() if pid is None]
        running = len(COMPONENTS) - len(stopped)
        return [
            f"processes: {running} of {len(COMPONENTS)}, {total / 2**20:.0f} MiB resident",
            *(f"not running: {name} (log: {self._processes.log_file(name)})" for name in stopped),
            *(describe(self._kubectl) if pids["kube-apiserver"] is not None else ["API server: not running"]),
            *registry.describe(self.layout),
            NETWORK_POLICY_NOTE,
        ]

    def images(self) -> None:
        """Build what is not in the cache, import what containerd lacks, push what the registries lack."""
        done = self._state / "images"
        done.mkdir(exist_ok=True)
        for name in images.NAMES:
            mark = done / f"{name}-{images.content_hash(self.layout, name)}"
            if mark.exists():
                continue
            archive = images.ensure_archive(self.layout, name, self.progress)
            with self.progress.step(f"Loading and pushing image {name}"):
                self.load(archive)
                self.push(images.reference(name))
                if name in images.PRIVATE_NAMES:
                    self._ctr(
                        "images", "tag", "--force", images.reference(name), images.private_reference(name)
                    )
                    self.push(images.private_reference(name))
                    # Only in the registry, so that a pod has to log in for it.
                    self._ctr("images", "remove", images.private_reference(name))
            mark.touch()
        self.progress.say("All images are in the cluster and in its registry.")

    def load(self, archive: Path) -> None:
        """Import an image archive (OCI or docker) into containerd under its own tags."""
        self._ctr("images", "import", "--all-platforms", archive)

    def push(self, reference: str) -> None:
        """Push an image that containerd has to the registry named in its reference.

        Once in some 250 times containerd broke off ("unexpected EOF"). What has arrived is not sent again.
        """
        words = ("images", "push", "--hosts-dir", registry.push_hosts(self.layout), reference)
        try:
            self._ctr(*words)
        except ToolError:
            self._ctr(*words)

    def _has_image(self, reference: str) -> bool:
        """Whether containerd has an image of that name."""
        return reference in self._ctr("images", "list", "--quiet", f"name=={reference}").split()

    def _ctr(self, *words: str | Path) -> str:
        socket = nodeconfig.containerd_socket(self._state)
        return run("ctr", "--address", socket, "--namespace", "k8s.io", *words)

    def _prepare(self, binary: Path) -> None:
        state = self._state
        if state != self.layout.state and not state.is_symlink():
            state.symlink_to(self.layout.state)
        for name in ("bin", "run", "log", "cni"):
            (state / name).mkdir(parents=True, exist_ok=True)
        for name in (*COMPONENTS, "kubectl"):
            link = state / "bin" / name
            if name not in ("containerd", *registry.COMPONENTS) and (
                not link.exists() or link.readlink() != binary
            ):
                link.unlink(missing_ok=True)
                link.symlink_to(binary)
        network.set_up(state)
        make_certificates(state / "pki")
        tokens = make_tokens(state / "tokens.csv")
        for user, token in tokens.items():
            text = kubeconfig(state / "pki" / "ca.crt", token, user)
            write_private(state / f"{user}.kubeconfig", text)
        files = {
            "containerd.toml": nodeconfig.containerd(state),
            "cni/10-perdure.conflist": nodeconfig.cni(state),
            "kubelet.json": nodeconfig.kubelet(state),
            "proxy.json": nodeconfig.proxy(state),
            "Corefile": nodeconfig.corefile(state, Path("/etc/resolv.conf").read_text()),
            **{f"certs.d/{name}": text for name, text in nodeconfig.registry_hosts().items()},
        }
        for name, text in files.items():
            write_private(state / name, text)

    def _start(self, name: str, flags: list[str]) -> bool:
        return self._processes.start(name, [self._state / "bin" / name, *flags])

    def _start_node(self, pause: Path) -> None:
        state = self._state
        self._start("etcd", servers.etcd(state))
        self._start("kube-apiserver", servers.apiserver(state))
        self._processes.start("containerd", ["containerd", "--config", state / "containerd.toml"])
        registry.start(self.layout, self._processes)
        self._await(
            "containerd",
            30,
            lambda: succeeds("ctr", "--address", nodeconfig.containerd_socket(state), "version"),
        )
        if not self._has_image(nodeconfig.PAUSE_IMAGE):
            self.load(pause)
        self._await("kube-apiserver", 60, lambda: self._kubectl.holds("get", "--raw", "/readyz"))
        self._start("kube-controller-manager", servers.controller_manager(state))
        self._start("kube-scheduler", servers.scheduler(state))
        self._start("kubelet", servers.kubelet(state))
        self._start("coredns", servers.coredns(state))

    def _finish(self) -> None:
        if self._processes.pid("kube-proxy") is None:
            # It looks for its Node once and then not again for 30 s.
            self._await("kubelet", 60, lambda: self._kubectl.holds("get", "node", NODE_NAME))
            self._start("kube-proxy", servers.proxy(self._state))
        self._await("kubelet", 60, self._node_is_ready)
        wait_until(
            lambda: self._kubectl.holds("get", "serviceaccount", "default"), 30, "default service account"
        )
        for name in COMPONENTS:
            self._processes.require(name)

    def _node_is_ready(self) -> bool:
        conditions = json.loads(self._kubectl("get", "node", NODE_NAME, "--output=json"))["status"][
            "conditions"
        ]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _await(self, component: str, seconds: float, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            self._processes.require(component)
            if time.monotonic() > deadline:
                raise DevclusterError(
                    f"{component} does not answer; its log: {self._processes.log_file(component)}"
                )
            time.sleep(0.05)
