"""Plain requests to the API server, so that tests see its answers as they are."""

import base64
import json
import secrets
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABELS = {"perdure.dev/installation": "test", "perdure.dev/environment": "test"}
FENCE = "perdure.dev/fence"
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Answer:
    """Status and JSON body of an answer."""

    code: int
    body: dict[str, Any]

    @property
    def causes(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.body.get("details", {}).get("causes", [])
        return found


@dataclass(frozen=True)
class Kube:
    """A client with one kubeconfig of ours (JSON, a token and a CA)."""

    server: str
    token: str
    tls: ssl.SSLContext
    kubeconfig: Path

    @classmethod
    def of(cls, kubeconfig: Path) -> "Kube":
        content = json.loads(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return cls(
            server=cluster["server"],
            token=content["users"][0]["user"]["token"],
            tls=ssl.create_default_context(cadata=authority),
            kubeconfig=kubeconfig,
        )

    def call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Answer:
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.token}", "content-type": kind},
        )
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=30) as answer:
                return Answer(answer.status, json.loads(answer.read()))
        except urllib.error.HTTPError as e:
            with e:
                return Answer(e.code, json.loads(e.read()))

    def text(self, path: str) -> str:
        request = urllib.request.Request(
            self.server + path, headers={"authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, context=self.tls, timeout=30) as answer:
            content: bytes = answer.read()
            return content.decode()

    def apply(self, path: str, body: dict[str, Any]) -> Answer:
        name = body["metadata"]["name"]
        return self.call("PATCH", f"{path}/{name}?fieldManager=perdure&force=true", body, APPLY)

    def namespace(self, name: str, fence: int | str, labels: dict[str, str] | None = None) -> Answer:
        metadata = {
            "name": name,
            "labels": LABELS if labels is None else labels,
            "annotations": {FENCE: str(fence)},
        }
        return self.apply(
            "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        )

    def config_map(self, namespace: str, name: str, fence: int | str | None) -> Answer:
        annotations = {} if fence is None else {FENCE: str(fence)}
        metadata = {"name": name, "namespace": namespace, "annotations": annotations}
        return self.apply(
            f"/api/v1/namespaces/{namespace}/configmaps",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata},
        )

    def role_binding(self, namespace: str, role: str, fence: int) -> Answer:
        group = "rbac.authorization.k8s.io"
        return self.apply(
            f"/apis/{group}/v1/namespaces/{namespace}/rolebindings",
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "perdure", "namespace": namespace, "annotations": {FENCE: str(fence)}},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": "perdure", "namespace": "perdure-system"}],
            },
        )

    def may(self, verb: str, resource: str, namespace: str) -> bool:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "resource": resource, "namespace": namespace}},
        }
        answer = self.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        assert answer.code == 201, answer
        return bool(answer.body["status"]["allowed"])


@contextmanager
def namespace_of(kube: Kube, fence: int = 5) -> Iterator[str]:
    """A namespace made as the control plane makes it, with its rights in force; deleted afterwards."""
    name = f"t-{secrets.token_hex(5)}"
    assert kube.namespace(name, fence).code == 201
    try:
        assert kube.role_binding(name, "perdure-environment", fence).code == 201
        eventually(lambda: kube.may("create", "configmaps", name), 10, "rights in force")
        yield name
    finally:
        kube.call("DELETE", f"/api/v1/namespaces/{name}")


def eventually(check: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a check holds, up to a deadline."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)
