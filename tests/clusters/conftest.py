"""A real cluster for the tests that need one, and namespaces of their own on it."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from clusters.gateway import Cluster, ClusterConfig, Propagation, open_cluster
from clusters.objects import Manifest, ObjectRef
from tests.helpers.missing import missing
from tests.helpers.waiting import eventually_async
from workflows.domain.json_reading import text
from workflows.domain.names import ENVIRONMENT, ENVIRONMENT_ROLE, FENCE, INSTALLATION

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = os.environ.get("PERDURE_TEST_IMAGE", "10.111.0.1:5000/perdure/tiny:1")
"""An image with `sh` and the usual small tools."""


def kubeconfig(variable: str, name: str) -> Path:
    """Return a kubeconfig from the environment or of the local cluster; skip without one, but not in CI."""
    path = Path(os.environ.get(variable) or ROOT / ".dev" / "cluster" / f"{name}.kubeconfig")
    if not path.exists():
        missing(f"no cluster: neither {variable} nor {path.relative_to(ROOT)} is there (make dev-up)")
    return path


@pytest.fixture
def perdure_kubeconfig() -> Path:
    """Return the kubeconfig with the worker's narrow rights."""
    return kubeconfig("PERDURE_TEST_KUBECONFIG", "perdure")


@pytest.fixture
async def admin() -> AsyncIterator[Cluster]:
    """Open the cluster with all rights."""
    async with open_cluster(ClusterConfig(kubeconfig("PERDURE_TEST_ADMIN_KUBECONFIG", "admin"))) as cluster:
        yield cluster


@pytest.fixture
async def perdure(perdure_kubeconfig: Path) -> AsyncIterator[Cluster]:
    """Open the cluster with the worker's rights."""
    async with open_cluster(ClusterConfig(perdure_kubeconfig)) as cluster:
        yield cluster


@dataclass
class Environment:
    """A namespace as an operation with fence 5 has made it."""

    name: str
    cluster: Cluster
    fence: int = 5

    def manifest(self, kind: str, api_version: str, name: str, **parts: object) -> Manifest:
        """Return a manifest for this namespace that passes the fence."""
        return {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": self.name,
                "annotations": {FENCE: str(self.fence)},
                "labels": {"app.kubernetes.io/name": name},
            },
            **parts,  # type: ignore[dict-item]
        }

    def config_map(self, name: str, **data: str) -> Manifest:
        """Return a ConfigMap."""
        return self.manifest("ConfigMap", "v1", name, data=dict(data))

    def ref(self, kind: str, name: str) -> ObjectRef:
        """Return the name of an object in this namespace."""
        return ObjectRef(kind, name, self.name)

    def job(self, name: str, command: list[str], backoff: int = 0) -> Manifest:
        """Return a Job of one container `main`; it does not run long by itself."""
        container: Manifest = {"name": "main", "image": IMAGE, "command": list(command)}
        pod: Manifest = {
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": "OnFailure" if backoff else "Never",
            "containers": [container],
        }
        return self.manifest(
            "Job",
            "batch/v1",
            name,
            spec={
                "backoffLimit": backoff,
                "activeDeadlineSeconds": 120,
                "template": {"metadata": {"labels": {"app.kubernetes.io/name": name}}, "spec": pod},
            },
        )

    async def running_pod(self, script: str = "sleep 100", backoff: int = 0) -> str:
        """Run a shell script as a Job and return its pod once its container has started."""
        name = f"run-{secrets.token_hex(3)}"
        await self.cluster.apply(self.job(name, ["sh", "-c", script], backoff))
        async with self.cluster.view(self.name) as view:
            await view.synced()
            labels = {"app.kubernetes.io/name": name}
            while True:
                version = view.version
                for pod in view.objects("Pod", labels=labels):
                    if text(pod, "status", "phase") not in ("Pending", "Unknown"):
                        return text(pod, "metadata", "name")
                assert await view.changed(version, 60, labels=labels) > version, "no pod within 60 s"


@pytest.fixture
async def environment(perdure: Cluster, admin: Cluster) -> AsyncIterator[Environment]:
    """Make an environment's namespace with the worker's rights; it is deleted without waiting."""
    async with AsyncExitStack() as stack:
        yield await make_environment(stack, perdure, admin)


async def make_environment(stack: AsyncExitStack, perdure: Cluster, admin: Cluster) -> Environment:
    """Make a namespace of an environment, to be deleted when the stack is left."""
    made = Environment(f"t-{secrets.token_hex(5)}", perdure)
    namespace: Manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": made.name,
            "labels": {INSTALLATION: "tests", ENVIRONMENT: made.name},
            "annotations": {FENCE: str(made.fence)},
        },
    }
    await perdure.create(namespace)
    stack.push_async_callback(
        admin.delete, ObjectRef("Namespace", made.name), propagation=Propagation.BACKGROUND
    )
    role_ref: Manifest = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": ENVIRONMENT_ROLE,
    }
    subject: Manifest = {"kind": "ServiceAccount", "name": "perdure", "namespace": "perdure-system"}
    binding = made.manifest("RoleBinding", "rbac.authorization.k8s.io/v1", "perdure")
    await perdure.apply({**binding, "roleRef": role_ref, "subjects": [subject]})

    async def allowed() -> bool:
        return await perdure.allowed(made.name, "patch", "ConfigMap")

    await eventually_async(allowed, "the RoleBinding gives rights")
    return made
