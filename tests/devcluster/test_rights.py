"""What the control plane may do in a cluster, and what the fencing policy refuses; tried on the real one."""

import pytest

from tests.devcluster.kube import FENCE, LABELS, Answer, Kube, eventually, namespace_of

pytestmark = pytest.mark.cluster


def refused_by_policy(answer: Answer) -> bool:
    """Whether an admission policy said no: one cause, which (unlike every other cause) has no reason."""
    return answer.code == 403 and len(answer.causes) == 1 and answer.causes[0].keys() == {"message"}


def refused_by_rbac(answer: Answer) -> bool:
    return answer.code == 403 and not answer.causes


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/kube-system/secrets",
        "/api/v1/namespaces/kube-system/secrets/any",
        "/api/v1/secrets",
        "/api/v1/nodes",
        "/api/v1/pods",
        "/api/v1/persistentvolumes",
        "/api/v1/namespaces/perdure-system/secrets",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    ],
)
def test_what_is_outside_environments_cannot_be_read(perdure: Kube, path: str) -> None:
    assert refused_by_rbac(perdure.call("GET", path))


@pytest.mark.parametrize(
    "path",
    [
        "/apis/storage.k8s.io/v1/storageclasses",
        "/apis/networking.k8s.io/v1/ingressclasses",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/perdure-fence",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/perdure-fence",
        "/apis",
        "/version",
    ],
)
def test_what_a_cluster_can_do_can_be_found_out(perdure: Kube, path: str) -> None:
    assert perdure.call("GET", path).code == 200


def test_only_the_one_role_can_be_bound(perdure: Kube) -> None:
    with namespace_of(perdure) as name:
        assert refused_by_rbac(perdure.role_binding(name, "cluster-admin", 5))


@pytest.mark.parametrize("name", ["kube-system", "default", "perdure-system"])
def test_a_namespace_we_did_not_make_is_neither_written_to_nor_taken_over(perdure: Kube, name: str) -> None:
    assert refused_by_policy(perdure.role_binding(name, "perdure-environment", 5))
    assert refused_by_policy(perdure.namespace(name, 5))


def test_a_foreign_namespace_cannot_be_deleted(perdure: Kube, admin: Kube) -> None:
    name = "t-foreign"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert admin.apply("/api/v1/namespaces", body).code in (200, 201)
    try:
        assert refused_by_policy(perdure.call("DELETE", f"/api/v1/namespaces/{name}"))
    finally:
        admin.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.mark.parametrize("missing", list(LABELS))
def test_a_namespace_is_not_made_without_its_labels(perdure: Kube, missing: str) -> None:
    labels = {key: value for key, value in LABELS.items() if key != missing}
    assert refused_by_policy(perdure.namespace("t-unlabelled", 1, labels))


@pytest.mark.parametrize("fence", ["", "x", "-1", "1.5", "99999999999999999999"])
def test_a_namespace_is_not_made_without_a_number(perdure: Kube, fence: str) -> None:
    assert refused_by_policy(perdure.namespace("t-unnumbered", fence))


def test_writes_below_the_namespaces_number_are_refused(perdure: Kube) -> None:
    with namespace_of(perdure, fence=5) as name:
        assert perdure.config_map(name, "now", 5).code == 201
        assert perdure.config_map(name, "later", 6).code == 201
        answer = perdure.config_map(name, "late", 4)
        assert refused_by_policy(answer)
        assert answer.causes[0]["message"].endswith(f"fence 4 is below fence 5 of namespace {name}")
        assert refused_by_policy(perdure.config_map(name, "now", 4)), "an update is refused like a create"
        assert refused_by_policy(perdure.config_map(name, "none", None))


def test_a_new_operation_shuts_the_old_one_out(perdure: Kube) -> None:
    with namespace_of(perdure, fence=9) as name:
        assert perdure.namespace(name, 10).code == 200
        # By number, not by letters, in which 9 comes after 10; once the API server has noted the change.
        eventually(lambda: refused_by_policy(perdure.config_map(name, "late", 9)), 5, "the old one shut out")
        assert perdure.config_map(name, "now", 10).code == 201
        assert refused_by_policy(perdure.namespace(name, 9))


def test_the_labels_of_a_namespace_do_not_change(perdure: Kube) -> None:
    with namespace_of(perdure) as name:
        for key in LABELS:
            assert refused_by_policy(perdure.namespace(name, 6, {**LABELS, key: "another"}))
            rest = {k: v for k, v in LABELS.items() if k != key}
            assert refused_by_policy(perdure.namespace(name, 6, rest))


def test_others_are_not_fenced(perdure: Kube, admin: Kube) -> None:
    with namespace_of(perdure) as name:
        assert admin.config_map(name, "by-hand", None).code == 201


def test_a_lost_number_is_written_again_by_the_next_operation(perdure: Kube, admin: Kube) -> None:
    with namespace_of(perdure) as name:
        patch = {"metadata": {"annotations": {FENCE: None}}}
        path = f"/api/v1/namespaces/{name}"
        assert admin.call("PATCH", path, patch, "application/merge-patch+json").code == 200
        eventually(lambda: refused_by_policy(perdure.config_map(name, "blind", 7)), 5, "writes refused")
        assert perdure.namespace(name, 7).code == 200
        eventually(lambda: perdure.config_map(name, "seen", 7).code == 201, 5, "writes accepted")
