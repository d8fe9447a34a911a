"""Replays over HTTP: what is taken, what a dry run answers and leaves alone, and which replays there were."""

from typing import Any

import pytest

from activities.db.repositories.snapshots import run_of
from tests.api.support import Api, create, pod, problem, shop_document
from tests.api.test_lifecycle import end, put
from tests.helpers.snapshots import stored, taken
from tests.helpers.tenants import Tenant, begin, environment_of, finish, record
from workflows.domain.blueprint_models import DataStore
from workflows.domain.operations import OperationState, StepChange, StepState
from workflows.domain.snapshot_manifest import StoredComponent

DB = stored("db", DataStore.POSTGRES)


async def provisioned(api: Api, tenant: Tenant) -> tuple[str, str]:
    """An environment that runs, with what its provision made in the cluster; its id and the provision's."""
    made = await create(api)
    operation = made["operation"]["id"]
    await begin(api.database, operation)
    changes = [StepChange(step="namespace", state=StepState.SUCCEEDED)]
    for service in ("web", "db"):
        output: dict[str, Any] = {"uid": f"uid-{service}"}
        changes.append(StepChange(step=f"service/{service}", state=StepState.SUCCEEDED, output=output))
    await record(api.database, operation, *changes)
    await finish(api.database, operation, OperationState.SUCCEEDED)
    api.cluster.stand(await environment_of(api.database, tenant, made["id"]))
    for service in ("web", "db"):
        workload = pod(made["id"], service)
        metadata = workload["metadata"]
        assert isinstance(metadata, dict)
        metadata["uid"] = f"uid-{service}"
        api.cluster.pods.append(workload)
    return made["id"], operation


def told(answer: Any) -> dict[str, tuple[str, str]]:
    """Action and reason of each step."""
    assert answer.status_code == 200, answer.text
    return {each["step"]: (each["action"], each["reason"]) for each in answer.json()["data"]["steps"]}


async def test_a_dry_run_says_what_would_be_done_and_writes_nothing(api: Api, tenant: Tenant) -> None:
    environment, operation = await provisioned(api, tenant)
    path = f"/v1/environments/{environment}/replay"
    before = await api.row_counts()
    answer = await api.client.post(path, params={"dry_run": "true"})
    assert told(answer) == {
        "namespace": ("run", "always"),
        "secrets": ("run", "always"),
        "service/db": ("skip", "unchanged"),
        "service/web": ("skip", "unchanged"),
        "endpoints": ("run", "always"),
    }
    data = answer.json()["data"]
    assert (data["replayOf"], data["environmentId"], data["target"]) == (operation, environment, "same")
    api.cluster.pods = [each for each in api.cluster.pods if each["metadata"]["uid"] != "uid-db"]  # type: ignore[index,call-overload]
    gone = told(await api.client.post(path, json={}, params={"dry_run": "true"}))
    assert gone["service/db"] == ("run", "gone")
    assert gone["service/web"] == ("run", "depends")
    forced = told(await api.client.post(path, json={"fromStep": "service/web"}, params={"dry_run": "true"}))
    assert forced["service/web"] == ("run", "forced")
    new = told(await api.client.post(path, json={"target": "new", "name": "two"}, params={"dry_run": "true"}))
    assert set(new.values()) == {("run", "new")}
    api.cluster.namespaces.clear()
    absent = told(await api.client.post(path, params={"dry_run": "true"}))
    assert absent["service/web"] == absent["service/db"] == ("run", "gone")
    assert await api.row_counts() == before
    assert len(await api.started()) == 1


async def test_a_dry_run_needs_the_cluster_and_a_replay_does_not(api: Api, tenant: Tenant) -> None:
    environment, _ = await provisioned(api, tenant)
    path = f"/v1/environments/{environment}/replay"
    api.cluster.away = True
    problem(await api.client.post(path, params={"dry_run": "true"}), 503, "cluster_unavailable")
    new = await api.client.post(path, json={"target": "new", "name": "two"}, params={"dry_run": "true"})
    assert new.status_code == 200
    assert (await api.client.post(path)).status_code == 202


async def test_a_replay_is_accepted_once_and_listed(api: Api, tenant: Tenant) -> None:
    environment, operation = await provisioned(api, tenant)
    path = f"/v1/environments/{environment}/replay"
    headers = {"Idempotency-Key": "one"}
    body = {"fromStep": "service/db"}
    answer = await api.client.post(path, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    data = answer.json()["data"]
    assert (data["kind"], data["replayOf"], data["fromStep"]) == ("replay", operation, "service/db")
    assert answer.headers["location"] == f"/v1/operations/{data['id']}"
    again = await api.client.post(path, json=body, headers=headers)
    assert (again.status_code, again.json()["data"]["id"]) == (202, data["id"])
    busy = problem(await api.client.post(path), 409, "conflict")
    assert busy["operationId"] == data["id"]
    problem(await api.client.post(path, params={"dry_run": "true"}), 409, "conflict")
    listed = await api.client.get(f"/v1/environments/{environment}/replays", params={"limit": 1})
    assert [each["id"] for each in listed.json()["data"]] == [data["id"]]
    assert "steps" not in listed.json()["data"][0]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"snapshotId": ""}, "snapshotId"),
        ({"snapshotId": 1}, "snapshotId"),
        ({"masking": {"services": {}}}, "masking"),
        ({"runInit": True}, "runInit"),
        ({"snapshotId": "snap_1", "runInit": "yes"}, "runInit"),
        (
            {"snapshotId": "snap_1", "masking": {"services": {"db": {"tables": {}}}}},
            "masking.services.db.tables",
        ),
        ({"fromStep": "service/nothing"}, "fromStep"),
        ({"fromStep": 1}, "fromStep"),
        ({"target": "elsewhere"}, "target"),
        ({"target": "new"}, "name"),
        ({"name": "two"}, "name"),
        ({"target": "new", "name": "two", "fromStep": "service/web"}, "fromStep"),
        ({"operationId": ""}, "operationId"),
    ],
    ids=str,
)
@pytest.mark.parametrize("query", [{}, {"dry_run": "true"}], ids=["replay", "dry run"])
async def test_what_does_not_fit_is_refused_with_its_place(
    api: Api, tenant: Tenant, body: dict[str, Any], place: str, query: dict[str, str]
) -> None:
    environment, _ = await provisioned(api, tenant)
    before = await api.row_counts()
    refused = problem(
        await api.client.post(f"/v1/environments/{environment}/replay", json=body, params=query),
        422,
        "validation_failed",
    )
    assert [error["path"] for error in refused["errors"]] == [place]
    assert await api.row_counts() == before


async def test_a_name_that_is_none_or_taken_is_refused(api: Api, tenant: Tenant) -> None:
    environment, _ = await provisioned(api, tenant)
    path = f"/v1/environments/{environment}/replay"
    for query in ({}, {"dry_run": "true"}):
        taken = await api.client.post(path, json={"target": "new", "name": "shop"}, params=query)
        assert problem(taken, 409, "conflict")["existingId"] == environment
        wrong = await api.client.post(path, json={"target": "new", "name": "No good"}, params=query)
        problem(wrong, 422, "blueprint_invalid")


async def test_unknown_operations_and_environments_are_not_found(api: Api, tenant: Tenant) -> None:
    environment, _ = await provisioned(api, tenant)
    for query in ({}, {"dry_run": "true"}):
        path = f"/v1/environments/{environment}/replay"
        problem(
            await api.client.post(path, json={"operationId": "op_nothing"}, params=query), 404, "not_found"
        )
        problem(await api.client.post("/v1/environments/env_nothing/replay", params=query), 404, "not_found")
        for body in ({"snapshotId": "snap_1"}, {"snapshotId": "snap_1", "target": "new", "name": "two"}):
            problem(await api.client.post(path, json=body, params=query), 404, "not_found")
    problem(await api.client.get("/v1/environments/env_nothing/replays"), 404, "not_found")


async def with_snapshot(api: Api, tenant: Tenant, *components: StoredComponent) -> tuple[str, str]:
    """An environment that runs, and a snapshot of it; the ids of both."""
    environment, _ = await provisioned(api, tenant)
    snapshot = await taken(api.database, tenant, environment, *components)
    return environment, snapshot


async def test_a_dry_run_from_a_snapshot_has_the_steps_that_load_its_data(api: Api, tenant: Tenant) -> None:
    environment, snapshot = await with_snapshot(api, tenant, DB)
    path, body = f"/v1/environments/{environment}/replay", {"snapshotId": snapshot}
    before = await api.row_counts()
    answer = await api.client.post(path, json=body, params={"dry_run": "true"})
    assert told(answer) == {
        "namespace": ("run", "always"),
        "check/db": ("run", "snapshot"),
        "stop/web": ("run", "snapshot"),
        "secrets": ("run", "always"),
        "service/db": ("skip", "unchanged"),
        "load/db": ("run", "snapshot"),
        "service/web": ("run", "depends"),
        "endpoints": ("run", "always"),
    }
    assert (answer.json()["data"]["snapshotId"], answer.json()["data"]["target"]) == (snapshot, "same")
    new = await api.client.post(
        path, json={**body, "target": "new", "name": "two"}, params={"dry_run": "true"}
    )
    assert told(new).keys() == told(answer).keys() - {"check/db", "stop/web"}
    assert new.json()["data"]["target"] == "new"
    assert await api.row_counts() == before


@pytest.mark.parametrize("new", [True, False])
async def test_a_replay_is_linked_to_its_snapshot(api: Api, tenant: Tenant, new: bool) -> None:
    environment, snapshot = await with_snapshot(api, tenant, DB)
    path, body = f"/v1/environments/{environment}/replay", {"snapshotId": snapshot}
    if new:
        body |= {"target": "new", "name": "two"}
    answer = await api.client.post(path, json=body)
    assert answer.status_code == 202, answer.text
    accepted = answer.json()["data"]
    found = (await api.client.get(f"/v1/operations/{accepted['id']}")).json()["data"]
    [listed] = (await api.client.get(f"/v1/environments/{environment}/replays")).json()["data"]
    for each in (accepted, found, listed):
        assert (each["kind"], each["snapshotId"], each["id"]) == ("replay", snapshot, accepted["id"])
    refused = problem(await api.client.delete(f"/v1/snapshots/{snapshot}"), 409, "conflict")
    assert refused["operationId"] == accepted["id"]


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("query", [{}, {"dry_run": "true"}], ids=["replay", "dry run"])
async def test_data_that_do_not_fit_are_refused_all_at_once(
    api: Api, tenant: Tenant, new: bool, query: dict[str, str]
) -> None:
    environment, snapshot = await with_snapshot(
        api, tenant, stored("web", DataStore.POSTGRES), stored("gone", DataStore.POSTGRES)
    )
    body = {"snapshotId": snapshot, "fromStep": "service/nothing"}
    if new:
        body |= {"target": "new", "name": "two"}
    before = await api.row_counts()
    answer = await api.client.post(f"/v1/environments/{environment}/replay", json=body, params=query)
    refused = problem(answer, 422, "validation_failed")
    places = [error["path"] for error in refused["errors"]]
    assert sorted(places) == ["fromStep", "services.gone", "services.web"]
    assert await api.row_counts() == before


async def test_a_snapshot_that_is_not_there_yet_is_a_conflict(api: Api, tenant: Tenant) -> None:
    environment, _ = await provisioned(api, tenant)
    taking = await api.client.post(f"/v1/environments/{environment}/snapshots")
    body = {"snapshotId": taking.json()["data"]["snapshotId"], "target": "new", "name": "two"}
    for query in ({}, {"dry_run": "true"}):
        answer = await api.client.post(f"/v1/environments/{environment}/replay", json=body, params=query)
        problem(answer, 409, "conflict")


@pytest.mark.parametrize("new", [True, False])
async def test_init_over_what_is_loaded_is_kept_with_the_operation(
    api: Api, tenant: Tenant, new: bool
) -> None:
    environment, snapshot = await with_snapshot(api, tenant, DB)
    path, body = f"/v1/environments/{environment}/replay", {"snapshotId": snapshot, "runInit": True}
    if new:
        body |= {"target": "new", "name": "two"}
    for query in ({}, {"dry_run": "true"}):
        refused = problem(await api.client.post(path, json=body, params=query), 422, "validation_failed")
        [fault] = refused["errors"]
        assert (fault["path"], "has an init" in fault["message"]) == ("runInit", True)
    document = shop_document()
    document["services"]["db"]["init"] = {"type": "sql", "script": "create table t (id int);"}
    changed = await put(api, environment, document)
    assert changed.status_code == 202, changed.text
    await end(api, changed.json()["data"]["id"])
    answer = await api.client.post(path, json=body)
    assert answer.status_code == 202, answer.text
    async with api.database.reading() as session:
        run = await run_of(session, answer.json()["data"]["id"])
    assert run is not None
    assert run.init is True


@pytest.mark.parametrize("new", [True, False])
async def test_data_that_no_volume_keeps_are_warned_of_before(api: Api, tenant: Tenant, new: bool) -> None:
    environment, snapshot = await with_snapshot(api, tenant, DB)
    path, body = f"/v1/environments/{environment}/replay", {"snapshotId": snapshot}
    if new:
        body |= {"target": "new", "name": "two"}
    for query in ({"dry_run": "true"}, {}):
        answer = await api.client.post(path, json=body, params=query)
        [warning] = answer.json()["data"]["warnings"]
        assert warning["path"] == "services.db"
        assert "only as long as its pod" in warning["message"]
