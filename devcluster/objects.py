"""Objects that `up` installs in every cluster, and the kubeconfig of the control plane's account."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster.errors import DevclusterError, ToolError
from devcluster.layout import Layout
from devcluster.tools import run, wait_until, write_private

NAMESPACE = "perdure-system"
ACCOUNT = "perdure"
POLICY = "perdure-fence"
_LIFETIME = "87600h"


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with one kubeconfig."""

    binary: Path
    kubeconfig: Path

    def __call__(self, *argv: str | Path, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl and return its output; raises ToolError when it fails."""
        # What it knows of this cluster must not be taken for knowledge of the next one at the same address.
        cache = self.kubeconfig.parent / "kubectl-cache"
        words = ("--kubeconfig", self.kubeconfig, "--cache-dir", cache, *argv)
        return run(self.binary, *words, stdin=stdin, timeout=timeout)

    def holds(self, *argv: str | Path) -> bool:
        """Whether kubectl ends with status 0."""
        try:
            self(*argv, timeout=10.0)
        except DevclusterError:
            return False
        return True


def install(layout: Layout, kubectl: Kubectl, extra: tuple[Path, ...] = ()) -> None:
    """Apply all objects, server-side; the same files a second time change nothing."""
    files = [word for path in (layout.manifests, *extra) for word in ("-f", str(path))]
    # The server refuses unknown fields of an apply by itself; kubectl would fetch all schemas to do so.
    kubectl(
        "apply",
        "--server-side",
        "--validate=false",
        "--force-conflicts",
        "--field-manager=devcluster",
        *files,
    )


def write_account_kubeconfig(layout: Layout, kubectl: Kubectl) -> None:
    """Write the kubeconfig of the control plane's service account, unless the one there is still accepted."""
    path = layout.perdure_kubeconfig
    if path.exists() and Kubectl(kubectl.binary, path).holds("auth", "whoami"):
        return
    wait_until(
        lambda: kubectl.holds("get", "serviceaccount", ACCOUNT, "--namespace", NAMESPACE),
        30,
        "service account",
    )
    token = kubectl("create", "token", ACCOUNT, "--namespace", NAMESPACE, f"--duration={_LIFETIME}").strip()
    admin = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "perdure", "cluster": admin["clusters"][0]["cluster"]}],
        "users": [{"name": ACCOUNT, "user": {"token": token}}],
        "contexts": [{"name": "perdure", "context": {"cluster": "perdure", "user": ACCOUNT}}],
        "current-context": "perdure",
    }
    write_private(path, json.dumps(content, indent=2) + "\n")


def describe(kubectl: Kubectl) -> list[str]:
    """Lines for `status`: server version, nodes, default storage, fencing."""
    try:
        version = json.loads(kubectl("version", "--output=json", timeout=10.0))["serverVersion"]["gitVersion"]
        nodes = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
        classes = json.loads(kubectl("get", "storageclasses", "--output=json"))["items"]
    except (ToolError, DevclusterError) as e:
        return [f"API server: not reachable ({str(e).splitlines()[-1]})"]
    marker = "storageclass.kubernetes.io/is-default-class"
    default = [
        c["metadata"]["name"] for c in classes if c["metadata"].get("annotations", {}).get(marker) == "true"
    ]
    fenced = all(
        kubectl.holds("get", kind, POLICY)
        for kind in ("validatingadmissionpolicy", "validatingadmissionpolicybinding")
    )
    return [
        f"Kubernetes: {version}",
        *(f"node {node['metadata']['name']}: {_readiness(node['status'])}" for node in nodes),
        f"default storage class: {', '.join(default) or 'none'}",
        f"fencing policy: {'installed' if fenced else 'MISSING (run: python -m devcluster up)'}",
    ]


def _readiness(status: dict[str, Any]) -> str:
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])
    info = status["nodeInfo"]
    versions = f"kubelet {info['kubeletVersion']}, {info['containerRuntimeVersion']}"
    return f"{'ready' if ready else 'NOT ready'}, {versions}"
