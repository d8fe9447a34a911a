"""A kind cluster in Docker or Podman, and two registries beside it under the names all clusters use."""

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from devcluster import images
from devcluster.addresses import OPEN_REGISTRY, PRIVATE_REGISTRY
from devcluster.borrowed import kubectl_on_path
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.objects import Kubectl, describe, install, write_account_kubeconfig
from devcluster.progress import Progress
from devcluster.tools import run, succeeds, write_private

KIND = "v0.31.0"
CLUSTER = "perdure"
NODE = f"{CLUSTER}-control-plane"
_REGISTRY_IMAGE = "registry:2"
_HTPASSWD_IMAGE = "httpd:2"
# Container name, the registry's name in image references, port on loopback for pushing.
_REGISTRIES = (
    ("perdure-registry-open", OPEN_REGISTRY, 5000),
    ("perdure-registry-private", PRIVATE_REGISTRY, 5001),
)
_CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
  - |-
    [plugins."io.containerd.cri.v1.images".registry]
      config_path = "/etc/containerd/certs.d"
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
"""


@dataclass(frozen=True, slots=True)
class KindCluster:
    """Provider `kind`; ``engine`` is docker or podman, or None to use the one `up` used."""

    layout: Layout
    progress: Progress
    engine: str | None

    @property
    def _engine(self) -> str:
        return self.engine or (self.layout.state / "engine").read_text().strip()

    @property
    def _kubectl(self) -> Kubectl:
        return Kubectl(kubectl_on_path(), self.layout.admin_kubeconfig)

    def check(self) -> None:
        """Raise when kubectl, or kind and the means to build it, are missing."""
        kubectl_on_path()
        if shutil.which("kind") is None and shutil.which("go") is None:
            raise DevclusterError("kind is needed (https://kind.sigs.k8s.io), or Go to build it")

    def up(self) -> None:
        """Create the cluster unless it exists, then the registries, then our objects."""
        (self.layout.state / "engine").write_text(self._engine + "\n")
        kind = self._kind_binary()
        if CLUSTER not in self._kind(kind, "get", "clusters").split():
            with self.progress.step("Creating the kind cluster", expect="1 to 3 min the first time"):
                words = ("create", "cluster", "--name", CLUSTER, "--wait", "180s", "--config", "-")
                self._kind(kind, *words, "--kubeconfig", self.layout.admin_kubeconfig, stdin=_CONFIG)
        write_private(self.layout.admin_kubeconfig, self._kind(kind, "get", "kubeconfig", "--name", CLUSTER))
        with self.progress.step("Starting the registries"):
            self._start_registries()
        with self.progress.step("Installing the objects of deploy/cluster"):
            install(self.layout, self._kubectl)
            write_account_kubeconfig(self.layout, self._kubectl)

    def down(self) -> None:
        """Delete the cluster, the registries and the state."""
        with self.progress.step("Deleting the kind cluster"):
            self._kind(self._kind_binary(), "delete", "cluster", "--name", CLUSTER)
            for name, _, _ in _REGISTRIES:
                if succeeds(self._engine, "inspect", name):
                    run(self._engine, "rm", "--force", "--volumes", name)
        shutil.rmtree(self.layout.state)

    def status(self) -> list[str]:
        """What the API server says, and the registries."""
        running = [address for name, address, _ in _REGISTRIES if succeeds(self._engine, "inspect", name)]
        return [
            f"engine: {self._engine}",
            *describe(self._kubectl),
            f"registry: {', '.join(running) or 'none'} (login in {self.layout.registry_file})",
        ]

    def images(self) -> None:
        """Build with the engine, load into the node and push."""
        for name in images.NAMES:
            if name == "pause":
                continue
            with self.progress.step(f"Building and loading image {name}"):
                run(
                    self._engine,
                    "build",
                    "--quiet",
                    "--tag",
                    images.reference(name),
                    self.layout.images / name,
                )
                self._kind(
                    self._kind_binary(), "load", "docker-image", "--name", CLUSTER, images.reference(name)
                )
                self.push(images.reference(name))
                if name in images.PRIVATE_NAMES:
                    run(self._engine, "tag", images.reference(name), images.private_reference(name))
                    self.push(images.private_reference(name))

    def load(self, archive: Path) -> None:
        """Import an image archive into the node under its own tags."""
        run(self._engine, "load", "--input", archive)
        self._kind(self._kind_binary(), "load", "image-archive", "--name", CLUSTER, archive)

    def push(self, reference: str) -> None:
        """Push an image the engine has; the registries have other names outside the cluster."""
        for _, address, port in _REGISTRIES:
            if reference.startswith(address + "/"):
                outside = f"localhost:{port}{reference.removeprefix(address)}"
                run(self._engine, "tag", reference, outside)
                if address == PRIVATE_REGISTRY:
                    self._log_in(f"localhost:{port}")
                run(self._engine, "push", outside)
                return
        raise DevclusterError(
            f"{reference} names none of {', '.join(address for _, address, _ in _REGISTRIES)}"
        )

    def _log_in(self, registry: str) -> None:
        login = json.loads(self.layout.registry_file.read_text())
        words = ("login", "--username", login["username"], "--password-stdin", registry)
        run(self._engine, *words, stdin=login["password"])

    def _start_registries(self) -> None:
        users = self.layout.state / "registry-users"
        if not self.layout.registry_file.exists():
            password = secrets.token_urlsafe(24)
            hashing = (
                "run",
                "--rm",
                "--interactive",
                "--entrypoint",
                "htpasswd",
                _HTPASSWD_IMAGE,
                "-Bin",
                "perdure",
            )
            write_private(users, run(self._engine, *hashing, stdin=password))
            login = {
                "open": OPEN_REGISTRY,
                "private": PRIVATE_REGISTRY,
                "username": "perdure",
                "password": password,
            }
            write_private(self.layout.registry_file, json.dumps(login, indent=2) + "\n")
        for name, address, port in _REGISTRIES:
            if not succeeds(self._engine, "inspect", name):
                auth = (
                    *("--env", "REGISTRY_AUTH=htpasswd", "--env", "REGISTRY_AUTH_HTPASSWD_REALM=perdure"),
                    *("--env", "REGISTRY_AUTH_HTPASSWD_PATH=/users", "--volume", f"{users}:/users:ro"),
                )
                run(
                    *(self._engine, "run", "--detach", "--name", name, "--network", "kind"),
                    *("--publish", f"127.0.0.1:{port}:5000"),
                    *(auth if address == PRIVATE_REGISTRY else ()),
                    _REGISTRY_IMAGE,
                )
            hosts = f'[host."http://{name}:5000"]\n  capabilities = ["pull", "resolve"]\n'
            directory = f"/etc/containerd/certs.d/{address}"
            run(self._engine, "exec", NODE, "mkdir", "-p", directory)
            run(self._engine, "exec", "--interactive", NODE, "tee", f"{directory}/hosts.toml", stdin=hosts)

    def _kind(self, binary: Path, *words: str | Path, stdin: str | None = None) -> str:
        provider = {"KIND_EXPERIMENTAL_PROVIDER": "podman"} if self._engine == "podman" else {}
        return run(binary, *words, stdin=stdin, env=provider)

    def _kind_binary(self) -> Path:
        found = shutil.which("kind")
        if found is not None:
            return Path(found)
        binary = self.layout.cache / f"kind-{KIND}" / "kind"
        if not binary.exists():
            with self.progress.step("Building kind", expect="about 1 min, once"):
                env = {
                    "GOBIN": str(binary.parent),
                    "CGO_ENABLED": "0",
                    "GOFLAGS": os.environ.get("GOFLAGS", ""),
                }
                run("go", "install", f"sigs.k8s.io/kind@{KIND}", env=env)
        return binary
