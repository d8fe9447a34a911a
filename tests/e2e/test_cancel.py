"""A cancel in the middle: with clean-up nothing is left, without it a retry goes on from there."""

import json
from typing import Any

import pytest

from tests.e2e.support import CLEANED_UP, idle, let_become_ready, on_demand, pods, states, uids, volumes_of
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

_VOLUME = [{"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}]
_SECRET = [{"name": "token", "envKey": "TOKEN", "value": "auto-generated"}]


def _cancel(handle: Handle, **body: Any) -> Any:
    return handle.stack.client.post(f"/v1/operations/{handle.operation_id}/cancel", json=body)


def _pod_runs(stack: Stack, handle: Handle, service: str) -> None:
    eventually(
        lambda: [
            pod for pod in pods(stack, handle.namespace, service) if pod["status"]["phase"] == "Running"
        ],
        f"a pod of {service} runs",
        within=60,
    )


def _shape(name: str) -> dict[str, Any]:
    """`store` with a volume, and `web` after it; both are ready when the test says so."""
    return {
        "name": name,
        "services": {
            "store": on_demand(volumes=_VOLUME, secrets=_SECRET),
            "web": on_demand(dependsOn=["store"], ports=[{"containerPort": 8080}]),
        },
    }


def test_cancelling_a_first_provision_with_cleanup_leaves_nothing(stack: Stack, name: str) -> None:
    made = stack.create(_shape(name))
    _pod_runs(stack, made, "store")
    let_become_ready(stack, made.namespace, "sts/store")
    made.step_reaches("service/store", "succeeded")
    _pod_runs(stack, made, "web")
    answer = _cancel(made, cleanup=True, reason="wrong branch")
    assert answer.status_code == 202, answer.text
    operation = made.ended()
    assert operation["state"] == "cancelled"
    assert (operation["failure"]["kind"], operation["failure"]["message"]) == ("cancelled", "wrong branch")
    assert operation["cleanup"] == CLEANED_UP
    assert states(operation) == {
        "namespace": "succeeded",
        "secrets": "succeeded",
        "service/store": "succeeded",
        "service/web": "cancelled",
    }
    assert not stack.namespace_exists(made.namespace)
    eventually(lambda: not volumes_of(stack, made.namespace), "the volume went with its claim", within=60)
    again = made.retry()
    again.step_reaches("service/store", "running")
    assert states(again.operation())["namespace"] == "succeeded", "nothing can be skipped after a clean-up"


def test_without_cleanup_a_retry_goes_on_from_where_it_stood(stack: Stack, name: str) -> None:
    made = stack.create(_shape(name))
    _pod_runs(stack, made, "store")
    let_become_ready(stack, made.namespace, "sts/store")
    _pod_runs(stack, made, "web")
    made.cancel(cleanup=False)
    operation = made.ended()
    assert operation["state"] == "cancelled"
    assert "cleanup" not in operation
    before = uids(stack, made.namespace)
    assert {"StatefulSet/store", "Deployment/web", "Service/web", "Secret/secret-token"} <= before.keys()
    again = made.retry()
    let_become_ready(stack, made.namespace, "deploy/web")
    finished = again.succeeded()
    assert finished["retryOf"] == operation["id"]
    assert states(finished) == {
        "namespace": "succeeded",
        "secrets": "succeeded",
        "service/store": "skipped",
        "service/web": "succeeded",
    }
    assert finished["progress"] == {"done": 4, "total": 4, "running": []}
    assert uids(stack, made.namespace) == before, "the retry went on with the same objects"
    assert made.status()["status"] == "running"


def test_cleanup_over_an_existing_namespace_keeps_what_was_there(stack: Stack, name: str) -> None:
    made = stack.create(_shape(name))
    _pod_runs(stack, made, "store")
    made.cancel(cleanup=False)  # `store` waits, `web` has not been made
    assert "startedAt" not in made.ended()["steps"][-1]
    stack.kubectl("-n", made.namespace, "create", "configmap", "by-hand", "--from-literal=note=keep")
    before = uids(stack, made.namespace)
    assert "Deployment/web" not in before
    foreign = _live(stack, made, "configmap/by-hand")
    [pod] = pods(stack, made.namespace, "store")

    again = made.retry()
    let_become_ready(stack, made.namespace, "sts/store")
    _pod_runs(stack, made, "web")
    again.cancel(cleanup=True)
    operation = again.ended()
    assert (operation["state"], operation["cleanup"]) == ("cancelled", CLEANED_UP)
    # Pods and ReplicaSets of what is deleted go in the background.
    eventually(lambda: uids(stack, made.namespace) == before, "only what was there before is there")
    assert _live(stack, made, "configmap/by-hand") == foreign
    assert [each["metadata"]["uid"] for each in pods(stack, made.namespace, "store")] == [
        pod["metadata"]["uid"]
    ], "not even its pod was made anew"
    assert len(volumes_of(stack, made.namespace)) == 1

    last = made.retry()
    _pod_runs(stack, made, "web")
    let_become_ready(stack, made.namespace, "deploy/web")
    last.succeeded()
    assert before.items() <= uids(stack, made.namespace).items()


def test_a_failed_provision_is_rolled_back_when_the_blueprint_says_so(stack: Stack, name: str) -> None:
    made = stack.create(
        {
            "name": name,
            "onFailure": "rollback",
            "services": {
                "good": idle(),
                "bad": on_demand(dependsOn=["good"]) | {"command": ["sh", "-c", "echo no; exit 4"]},
            },
        }
    )
    operation = made.ended()
    assert operation["state"] == "rolled_back"
    assert (operation["failure"]["kind"], operation["failure"]["step"]) == ("crash_loop", "service/bad")
    assert "no" in operation["failure"]["evidence"][0]["log"], "the evidence outlives the namespace"
    assert operation["cleanup"] == CLEANED_UP
    assert not stack.namespace_exists(made.namespace)
    assert made.status()["status"] == "error"


def test_what_was_only_accepted_is_cancelled_at_once(stack: Stack, name: str) -> None:
    stack.worker.kill()
    made = stack.create({"name": name, "services": {"web": idle()}})
    assert made.operation()["state"] == "accepted"
    answer = _cancel(made)
    assert answer.status_code == 202, answer.text
    assert answer.json()["data"]["state"] == "cancelled"
    stack.worker.start()
    # A second environment is provisioned after it: the first one's turn has come and gone.
    other = stack.create({"name": f"{name}-b", "services": {"web": idle()}})
    other.succeeded()
    operation = made.operation()
    assert set(states(operation).values()) == {"cancelled"}
    assert "startedAt" not in operation
    assert not stack.namespace_exists(made.namespace)


def test_a_second_cancel_may_add_the_cleanup_and_none_comes_after_the_end(stack: Stack, name: str) -> None:
    made = stack.create({"name": name, "services": {"web": on_demand()}})
    _pod_runs(stack, made, "web")
    # The cancel reaches the workflow, and stays there: nobody works on it.
    stack.worker.freeze()
    first, second, third = _cancel(made), _cancel(made, cleanup=True), _cancel(made)
    assert [each.status_code for each in (first, second, third)] == [202, 202, 202]
    stack.worker.thaw()
    operation = made.ended()
    assert (operation["state"], operation["cleanup"]) == ("cancelled", CLEANED_UP)
    assert not stack.namespace_exists(made.namespace)
    late = _cancel(made, cleanup=True)
    assert late.status_code == 409
    assert late.json()["code"] == "conflict"
    deletion = made.delete()
    refused = _cancel(deletion)
    assert refused.status_code == 409, "a delete is not cancelled"


def _live(stack: Stack, handle: Handle, what: str) -> Any:
    metadata = json.loads(stack.kubectl("-n", handle.namespace, "get", what, "-o", "json"))["metadata"]
    return metadata["uid"], metadata["resourceVersion"]
