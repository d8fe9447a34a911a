"""A Blueprint becomes a running environment on the real cluster, and goes away again."""

import pytest

from tests.e2e.conftest import TINY
from tests.e2e.support import idle, states, uids
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.cluster


def test_one_service_runs_and_is_deleted(stack: Stack, name: str) -> None:
    made = stack.create(
        {"name": name, "services": {"web": {"image": TINY, "ports": [{"containerPort": 8080}]}}}
    )
    operation = made.succeeded()
    assert [step["state"] for step in operation["steps"]] == ["succeeded", "succeeded"]
    status = made.status()
    assert status["phase"] == "running"
    deleted = made.delete()
    deleted.succeeded()
    assert not stack.namespace_exists(made.namespace)


def test_a_namespace_that_was_deleted_is_seen_and_made_again(stack: Stack, name: str) -> None:
    made = stack.create({"name": name, "services": {"web": idle()}})
    made.succeeded()
    assert made.status()["status"] == "running"
    stack.kubectl("delete", "namespace", made.namespace, "--wait=false")
    eventually(
        lambda: made.status().get("reason") == "NamespaceMissing", "the status names the namespace", within=60
    )
    eventually(lambda: not stack.namespace_exists(made.namespace), "the namespace is gone", within=60)
    status = made.status()
    assert (status["status"], status["reason"]) == ("degraded", "NamespaceMissing")
    assert status["clusterReachable"] is True
    assert made.namespace in status["message"]
    assert [service["ready"] for service in status["services"]] == [0]

    operation = made.retry().succeeded()
    assert operation["retryOf"] == made.operation_id
    assert set(states(operation).values()) == {"succeeded"}
    assert "Deployment/web" in uids(stack, made.namespace)
    _runs(made)


def test_a_deployment_that_was_deleted_is_made_again_beside_what_stands(stack: Stack, name: str) -> None:
    made = stack.create({"name": name, "services": {"web": idle(), "store": idle()}})
    made.succeeded()
    before = uids(stack, made.namespace)
    stack.kubectl("-n", made.namespace, "delete", "deployment", "web")
    eventually(lambda: made.status()["status"] == "degraded", "the status is degraded", within=60)

    operation = made.retry().succeeded()
    assert set(states(operation).values()) == {"succeeded"}, "a repair skips nothing"
    after = uids(stack, made.namespace)
    assert after.pop("Deployment/web") != before.pop("Deployment/web")
    assert after == before, "what stood is left as it is"
    _runs(made)


def _runs(made: Handle) -> None:
    # A status is as old as the API's cache at most.
    eventually(lambda: made.status()["status"] == "running", "the status is running")
