"""Init after a restore, on the real cluster: when it is asked for, and when the pod with the data is gone."""

import uuid
from typing import Any

import pytest

from tests.e2e.lifecycle import accepted, change
from tests.e2e.shop import psql, shop
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually
from workflows.domain.names import NAME

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ENDED_SECONDS = 240.0
_INIT = "create table if not exists runs (id int); insert into runs values (1);"


def _store(name: str) -> dict[str, Any]:
    """A database that counts how often its init was run over its data."""
    db = shop(name)["services"]["db"]
    return {"name": name, "services": {"db": {**db, "init": {"type": "sql", "script": _INIT}}}}


def _runs(handle: Handle) -> str:
    return psql(handle.stack, handle.namespace, "select count(*) from runs")


def test_init_runs_over_restored_data_when_that_is_asked_for_and_not_otherwise(stack: Stack) -> None:
    store = stack.create(_store(f"t-{uuid.uuid4().hex[:8]}"))
    store.succeeded(ENDED_SECONDS)
    assert _runs(store) == "1"
    taken = stack.client.post(f"/v1/environments/{store.environment_id}/snapshots")
    accepted(store, taken).succeeded(ENDED_SECONDS)
    restore = f"/v1/snapshots/{taken.json()['data']['snapshotId']}/restore"

    def restored(**more: Any) -> Handle:
        answer = stack.client.post(restore, json={"environmentId": store.environment_id, **more})
        made = accepted(store, answer)
        made.succeeded(ENDED_SECONDS)
        return made

    restored()
    assert _runs(store) == "1"
    # The data say that it has run; it was asked for all the same.
    again = restored(runInit=True)
    assert _runs(store) == "2"
    assert again.step("load/db")["output"]["init"] is True
    copy = stack.client.post(restore, json={"name": f"t-{uuid.uuid4().hex[:8]}", "runInit": True})
    assert copy.status_code == 202, copy.text
    data = copy.json()["data"]
    found = stack.client.get(f"/v1/environments/{data['environmentId']}").json()["data"]
    new = Handle(stack, data["environmentId"], found["namespace"], data["id"])
    new.succeeded(ENDED_SECONDS)
    assert _runs(new) == "2"


def test_init_runs_again_where_what_was_restored_went_with_its_pod(stack: Stack) -> None:
    document = _store(f"t-{uuid.uuid4().hex[:8]}")
    document["services"]["db"]["volumes"] = []
    store = stack.create(document)
    store.succeeded(ENDED_SECONDS)

    def query(text: str) -> str:
        return psql(stack, store.namespace, text, workload="deploy/db")

    def whole() -> tuple[str, str]:
        found = store.status()["conditions"]
        [told] = [each for each in found if each["type"] == "DataWhole"]
        return told["status"], told["message"]

    query("insert into runs values (7)")
    taken = stack.client.post(f"/v1/environments/{store.environment_id}/snapshots")
    accepted(store, taken).succeeded(ENDED_SECONDS)
    restore = f"/v1/snapshots/{taken.json()['data']['snapshotId']}/restore"

    def restored() -> None:
        answer = stack.client.post(restore, json={"environmentId": store.environment_id})
        assert [each["path"] for each in answer.json()["data"]["warnings"]] == ["services.db"]
        accepted(store, answer).succeeded(ENDED_SECONDS)
        assert query("select count(*) from runs") == "2"
        assert whole() == ("True", "db: no volume keeps them, so they go with the pod, whoever replaces it")

    restored()
    # As a drain of its node does; nobody told us.
    stack.kubectl("-n", store.namespace, "delete", "pod", "-l", f"{NAME}=db", "--grace-period=1")
    eventually(lambda: whole()[0] == "False", "the data are told to be gone")
    assert "not by an operation" in whole()[1]
    eventually(lambda: store.status()["status"] == "running", "another pod is ready", within=120)
    restored()
    change(store, "stop").succeeded(ENDED_SECONDS)
    change(store, "resume").succeeded(ENDED_SECONDS)
    assert query("select string_agg(id::text, ',') from runs") == "1"
    status, message = whole()
    assert status == "False"
    assert "no longer in db" in message
