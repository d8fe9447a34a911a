"""The same services by plain kubectl: apply, then wait. What every team has today."""

import json
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.contexts import CONTEXT
from workflows.domain import manifests
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import Overrides
from workflows.domain.plan import in_dependency_order


@dataclass(frozen=True)
class Kubectl:
    """kubectl as the administrator of the development cluster."""

    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it and return what it prints; raises when it fails."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        return done.stdout

    def provision(self, blueprint: Blueprint, namespace: str, *, in_order: bool) -> None:
        """Apply namespace and services and wait until all are available; `in_order`: one by one."""
        context = CONTEXT.model_copy(update={"namespace": namespace})
        head = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        groups = [
            [_bare(each) for each in manifests.service(context, blueprint, service.name, Overrides())]
            for service in in_dependency_order(blueprint)
        ]
        if not in_order:
            groups = [[each for group in groups for each in group]]
        groups[0].insert(0, head)
        for group in groups:
            self.run(
                "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": group})
            )
            workloads = [
                f"deployment/{each['metadata']['name']}" for each in group if each["kind"] == "Deployment"
            ]
            self.run("-n", namespace, "wait", "--for=condition=Available", "--timeout=240s", *workloads)

    def remove(self, namespace: str) -> None:
        """Delete a namespace and wait until it is gone."""
        self.run("delete", "namespace", namespace, "--ignore-not-found", "--wait=true", "--timeout=240s")


def fresh_namespace() -> str:
    """Return a name that nobody uses."""
    return f"bench-{uuid.uuid4().hex[:8]}"


def _bare(manifest: manifests.Manifest) -> dict[str, Any]:
    """Leave out what only our own namespaces have: the service account is not there."""
    copy: dict[str, Any] = json.loads(json.dumps(manifest))
    spec = copy.get("spec")
    if isinstance(spec, dict) and isinstance(template := spec.get("template"), dict):
        template["spec"].pop("serviceAccountName", None)
    return copy
