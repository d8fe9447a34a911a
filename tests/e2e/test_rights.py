"""The worker runs as a service account that has the documented rights, and no others."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters.rights import EVERYWHERE, IN_ENVIRONMENTS
from tests.e2e.support import idle
from tests.helpers.stack import ROOT, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
GATED = True

ACCOUNT = "system:serviceaccount:perdure-system:perdure"
READ_ALL = ("get", "secrets", "--all-namespaces")


def _table(rules: list[dict[str, Any]]) -> dict[tuple[str, str], frozenset[str]]:
    """Rules as the tables of `clusters.rights` write them."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for rule in rules:
        assert not rule.get("nonResourceURLs"), rule
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames") or [""]:
                    key = (group, f"{resource}/={name}" if name else resource)
                    found[key] = found.get(key, frozenset()) | set(rule["verbs"])
    return found


def _is_ours(subject: dict[str, Any]) -> bool:
    groups = ("system:serviceaccounts", "system:serviceaccounts:perdure-system")
    return (subject.get("namespace"), subject["name"]) == ("perdure-system", "perdure") or (
        subject["kind"] == "Group" and subject["name"] in groups
    )


@pytest.fixture(scope="module")
def documented() -> dict[str, dict[tuple[str, str], frozenset[str]]]:
    """The roles of deploy/cluster, by name."""
    text = (ROOT / "deploy" / "cluster" / "20-rights.yaml").read_text()
    return {
        each["metadata"]["name"]: _table(each["rules"])
        for each in yaml.safe_load_all(text)
        if each["kind"] == "ClusterRole"
    }


def _run(kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", "--kubeconfig", str(kubeconfig), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _json(kubeconfig: Path, *arguments: str) -> Any:
    done = _run(kubeconfig, *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_files_say_what_the_tables_say(
    documented: dict[str, dict[tuple[str, str], frozenset[str]]],
) -> None:
    assert documented == {"perdure": EVERYWHERE, "perdure-environment": IN_ENVIRONMENTS}


def test_the_cluster_has_these_roles_and_the_account_no_others(cluster_files: tuple[Path, Path]) -> None:
    _, admin = cluster_files
    for name, table in (("perdure", EVERYWHERE), ("perdure-environment", IN_ENVIRONMENTS)):
        assert _table(_json(admin, "get", "clusterrole", name)["rules"]) == table
    bound = {
        each["roleRef"]["name"]
        for each in _json(admin, "get", "clusterrolebindings")["items"]
        if any(_is_ours(subject) for subject in each.get("subjects", []))
    } - {"system:service-account-issuer-discovery"}
    assert bound == {"perdure"}
    for binding in _json(admin, "get", "rolebindings", "--all-namespaces")["items"]:
        if any(_is_ours(subject) for subject in binding.get("subjects", [])):
            assert binding["roleRef"]["name"] == "perdure-environment"
            metadata = binding["metadata"]
            # Other tests, which run beside these, bind it in namespaces of theirs.
            assert "perdure.dev/environment" in metadata.get("labels", {}) or metadata[
                "namespace"
            ].startswith("t-")


def test_the_worker_is_that_account(stack: Stack, cluster_files: tuple[Path, Path]) -> None:
    ours, _ = cluster_files
    assert _json(ours, "auth", "whoami")["status"]["userInfo"]["username"] == ACCOUNT
    through_the_gate = Path(stack.environment["PERDURE_CLUSTER_KUBECONFIG"])
    assert _json(through_the_gate, "auth", "whoami")["status"]["userInfo"]["username"] == ACCOUNT


def test_secrets_of_the_system_are_refused(cluster_files: tuple[Path, Path], name: str) -> None:
    ours, admin = cluster_files
    secret = ("-n", "kube-system", "secret", name)
    assert _run(admin, "create", *secret[:2], "secret", "generic", name, "--from-literal=a=b").returncode == 0
    try:
        for arguments in (
            ("get", *secret),
            ("get", "-n", "kube-system", "secrets"),
            ("get", "secrets", "-A"),
        ):
            done = _run(ours, *arguments)
            assert done.returncode != 0
            assert "Forbidden" in done.stderr
    finally:
        _run(admin, "delete", *secret)


@pytest.mark.parametrize("namespace", ["kube-system", "default", "perdure-system"])
def test_namespaces_that_are_not_ours_are_not_written_to(
    cluster_files: tuple[Path, Path], namespace: str, name: str
) -> None:
    ours, _ = cluster_files
    for arguments in (
        ("create", "configmap", name),
        ("create", "rolebinding", name, "--clusterrole=perdure-environment", f"--user={ACCOUNT}"),
        ("delete", "pods", "--all", "--dry-run=server"),
    ):
        done = _run(ours, "-n", namespace, *arguments)
        assert done.returncode != 0, f"{arguments} went through"
        assert "orbidden" in done.stderr, done.stderr
    assert "orbidden" in _run(ours, "delete", "namespace", namespace, "--dry-run=server").stderr


def test_rights_in_an_environment_end_at_its_border(
    stack: Stack, cluster_files: tuple[Path, Path], name: str
) -> None:
    ours, _ = cluster_files
    made = stack.create({"name": name, "services": {"web": idle()}})
    made.succeeded()
    assert _run(ours, "-n", made.namespace, "get", "secrets").returncode == 0
    for arguments in (
        ("create", "role", "more", "--verb=get", "--resource=pods"),
        ("create", "rolebinding", "more", "--clusterrole=cluster-admin", f"--user={ACCOUNT}"),
        ("run", "more", "--image=none"),
        ("create", "token", "environment"),
    ):
        done = _run(ours, "-n", made.namespace, *arguments)
        assert done.returncode != 0, f"{arguments} went through"
        assert "orbidden" in done.stderr, done.stderr


def test_a_namespace_of_somebody_else_with_our_name_is_left_alone(stack: Stack, name: str) -> None:
    with stack.gate.hold(r"POST /api/v1/namespaces\?", "before", body=name) as hold:
        made = stack.create({"name": name, "services": {"web": idle()}})
        hold.wait_seen()
        stack.kubectl("create", "namespace", made.namespace)
    try:
        operation = made.ended()
        assert (operation["state"], operation["failure"]["kind"]) == ("failed", "conflict")
        assert made.namespace in operation["failure"]["message"]
        metadata = json.loads(stack.kubectl("get", "namespace", made.namespace, "-o", "json"))["metadata"]
        assert set(metadata["labels"]) == {"kubernetes.io/metadata.name"}
        assert "annotations" not in metadata
        deletion = made.delete().ended()
        assert (deletion["state"], deletion["failure"]["kind"]) == ("failed", "conflict")
        assert stack.namespace_exists(made.namespace)
    finally:
        stack.kubectl("delete", "namespace", made.namespace, "--wait=false")
