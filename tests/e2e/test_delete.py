"""A delete tells what holds it, ends what runs, and ends well when there is nothing left to do."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.support import idle, on_demand, pods, states, volumes_of
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
GATED = True

FINALIZER = "example.test/hold"
REPORT_SECONDS = 15.0
FORCED_SECONDS = 30.0
"""From the force to the end of a delete that was held: the wait is broken off within a few heartbeats."""


def _running(stack: Stack, name: str) -> Handle:
    made = stack.create({"name": name, "services": {"web": idle()}})
    made.succeeded()
    return made


def _force(stack: Stack, made: Handle) -> Handle:
    answer = stack.client.delete(f"/v1/environments/{made.environment_id}", params={"force": "true"})
    assert answer.status_code == 202, answer.text
    return Handle(stack, made.environment_id, made.namespace, answer.json()["data"]["id"])


@contextmanager
def _held(stack: Stack, handle: Handle) -> Iterator[str]:
    """A ConfigMap that somebody else's finalizer keeps, while the body runs."""
    where = ("-n", handle.namespace)
    stack.kubectl(*where, "create", "configmap", "held", "--from-literal=a=b")
    stack.kubectl(
        *where, "patch", "configmap", "held", "-p", f'{{"metadata":{{"finalizers":["{FINALIZER}"]}}}}'
    )
    try:
        yield "ConfigMap/held"
    finally:
        patch = '{"metadata":{"finalizers":null}}'
        stack.kubectl(*where, "patch", "configmap", "held", "--type=merge", "-p", patch, check=False)


def test_a_foreign_finalizer_is_named_and_waited_for(stack: Stack, name: str) -> None:
    made = _running(stack, name)
    with _held(stack, made) as held:
        asked = time.monotonic()
        deletion = made.delete()
        blocker = {"object": held, "finalizers": [FINALIZER]}
        status = eventually(
            lambda: blocker in (now := made.status())["blockedBy"] and now,
            "the status says what holds it",
            within=60,
        )
        reported = time.monotonic() - asked
        assert (status["status"], status["reason"]) == ("deleting", "blocked")
        assert held in status["message"]
        assert reported < REPORT_SECONDS
        # The operation knows it too: its events and the workflow's details are written from this.
        eventually(
            lambda: blocker in deletion.step("delete_namespace").get("blockedBy", []),
            "the operation's step says what holds it",
            within=max(REPORT_SECONDS - reported, 1),
        )
        operation = deletion.operation()
        assert operation["state"] == "running"
        assert states(operation)["delete_namespace"] == "running"
    deletion.succeeded()
    assert not stack.namespace_exists(made.namespace)
    assert made.status()["status"] == "deleted"


def test_force_takes_a_foreign_finalizer_off_and_is_audited(stack: Stack, name: str) -> None:
    made = _running(stack, name)
    with _held(stack, made):
        _force(stack, made).succeeded()
        assert not stack.namespace_exists(made.namespace)
    query = "select action, json_extract(data, '$.force') from audit_entries where subject_id = ? order by at"
    assert ("environment.delete", 1) in stack.rows(query, made.environment_id)


def test_force_reaches_a_delete_that_is_held_already(stack: Stack, name: str) -> None:
    made = _running(stack, name)
    with _held(stack, made):
        deletion = made.delete()
        query = "select blocked_by from steps where operation_id = ? and name = 'delete_namespace'"
        eventually(
            lambda: FINALIZER in str(stack.rows(query, deletion.operation_id)),
            "the delete reports what holds it, and waits",
            within=60,
        )
        assert _force(stack, made).operation_id == deletion.operation_id, "it is the same delete"
        deletion.succeeded(within=FORCED_SECONDS)
        assert not stack.namespace_exists(made.namespace)
    assert made.status()["status"] == "deleted"
    query = "select action from audit_entries where subject_id = ? order by at"
    actions = [action for (action,) in stack.rows(query, made.environment_id)]
    assert actions == ["environment.create", "environment.delete", "environment.force_delete"]


def test_without_force_nobody_takes_a_finalizer_off(stack: Stack, name: str) -> None:
    made = _running(stack, name)
    with _held(stack, made):
        deletion = made.delete()
        eventually(
            lambda: FINALIZER in str(made.status()["blockedBy"]), "the status says what holds it", within=60
        )
        assert stack.kubectl("-n", made.namespace, "get", "configmap", "held", "-o", "name")
        assert not stack.gate.requests(rf"(PATCH|PUT) .*{made.namespace}/configmaps/held")
    deletion.succeeded()


def test_a_namespace_that_is_gone_already_is_a_success(stack: Stack, name: str) -> None:
    made = _running(stack, name)
    stack.kubectl("delete", "namespace", made.namespace, "--wait=true")
    made.delete().succeeded()
    assert made.status()["status"] == "deleted"
    again = stack.create({"name": name, "services": {"web": idle()}})
    assert again.namespace != made.namespace, "the name is free, its new namespace another one"


def test_a_delete_ends_a_provision_that_runs(stack: Stack, name: str) -> None:
    volume = [{"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}]
    made = stack.create(
        {"name": name, "services": {"first": on_demand(volumes=volume), "second": idle(dependsOn=["first"])}}
    )
    eventually(lambda: pods(stack, made.namespace, "first"), "its pod is there", within=60)
    deletion = made.delete()
    again = made.delete()
    assert again.operation_id == deletion.operation_id, "a second delete answers the first"
    deletion.succeeded()
    provision = made.ended()
    assert (provision["state"], provision["failure"]["kind"]) == ("cancelled", "cancelled")
    assert states(provision)["service/second"] in ("pending", "cancelled")
    cancelled = deletion.step("cancel_running")["output"]
    assert cancelled == {"operation": made.operation_id, "terminated": False}
    assert not stack.namespace_exists(made.namespace)
    eventually(lambda: not volumes_of(stack, made.namespace), "the volume went with its claim", within=60)
    over = stack.client.delete(f"/v1/environments/{made.environment_id}")
    assert over.status_code == 410, "what is deleted is not deleted again"
