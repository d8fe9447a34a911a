"""Environments: what each route answers when all is well."""

import json
from typing import Any

import pytest
import yaml
from sqlmodel import select

from activities.db.repositories import operations
from activities.db.tables import IdempotencyRecord
from tests.api.support import Api, create, pod, problem, shop_document
from tests.helpers.tenants import Tenant, begin, finish
from workflows.contracts.delete import FORCE_SIGNAL
from workflows.domain.failures import Blocker, FailureKind, failure
from workflows.domain.operations import OperationState

pytestmark = pytest.mark.usefixtures("tenant")


async def test_create_answers_the_environment_with_its_operation_and_starts_the_workflow(
    api: Api, tenant: Tenant
) -> None:
    response = await api.client.post("/v1/environments", json={"blueprint": shop_document()})
    assert response.status_code == 202
    body = response.json()
    data = body["data"]
    assert data["id"].startswith("env_")
    assert data["status"] == "provisioning"
    assert data["organizationId"] == tenant.id
    assert [service["name"] for service in data["services"]] == ["web", "db"]
    assert data["services"][0]["endpoints"] == [f"http://web-{data['namespace']}.perdure.localhost/"]
    operation = data["operation"]
    assert operation["state"] == "accepted"
    assert operation["workflowId"] == f"provision/shop/{operation['id']}"
    assert operation["temporalUrl"].endswith(f"/workflows/provision%2Fshop%2F{operation['id']}")
    assert response.headers["location"] == f"/v1/operations/{operation['id']}"
    assert response.headers["x-api-version"] == "v1"
    assert body["meta"]["requestId"] == response.headers["x-request-id"]
    assert body["meta"]["signatureVerified"] is False
    [start] = await api.started()
    assert (start.operation_id, start.environment_name) == (operation["id"], "shop")


@pytest.mark.parametrize("path", ["/v1/environments", "/environments"])
async def test_a_bare_blueprint_as_yaml_is_taken_under_both_prefixes(api: Api, path: str) -> None:
    response = await api.client.post(
        f"{path}?name=other",
        content=yaml.safe_dump(shop_document()),
        headers={"Content-Type": "application/yaml"},
    )
    assert response.status_code == 202
    assert response.json()["data"]["name"] == "other"


async def test_yaml_text_in_json_with_a_plan(api: Api) -> None:
    document = {**shop_document(), "plans": {"large": {"services": {"web": {"replicas": 3}}}}}
    body = {"blueprint": yaml.safe_dump(document), "plan": "large", "name": "shop-large"}
    response = await api.client.post("/v1/environments", json=body)
    assert response.status_code == 202
    data = response.json()["data"]
    assert data["plan"] == "large"
    assert {service["name"]: service["replicas"] for service in data["services"]} == {"web": 3, "db": 1}


async def test_list_pages_and_filters(api: Api) -> None:
    for number in range(5):
        await create(api, f"shop-{number}")
    first = (await api.client.get("/v1/environments?limit=3")).json()
    assert [item["name"] for item in first["data"]] == ["shop-4", "shop-3", "shop-2"]
    cursor = first["meta"]["nextCursor"]
    second = (await api.client.get("/v1/environments", params={"limit": 3, "cursor": cursor})).json()
    assert [item["name"] for item in second["data"]] == ["shop-1", "shop-0"]
    assert "nextCursor" not in second["meta"]
    assert second["data"][0]["operation"]["state"] == "accepted"
    named = (await api.client.get("/v1/environments?name=shop-2")).json()
    assert [item["name"] for item in named["data"]] == ["shop-2"]
    assert (await api.client.get("/v1/environments?status=running")).json()["data"] == []
    problem(await api.client.get("/v1/environments?cursor=nonsense"), 422, "validation_failed")
    problem(await api.client.get("/v1/environments?limit=500"), 422, "validation_failed")
    problem(await api.client.get("/v1/environments?status=sleepy"), 422, "validation_failed")


async def test_status_is_read_off_the_pods_and_written_back(api: Api) -> None:
    created = await create(api)
    operation_id = created["operation"]["id"]
    status = (await api.client.get(f"/v1/environments/{created['id']}/status")).json()["data"]
    assert (status["status"], status["terminal"]) == ("provisioning", False)
    assert {service["state"] for service in status["services"]} == {"absent"}

    await begin(api.database, operation_id)
    await finish(api.database, operation_id, OperationState.SUCCEEDED)
    api.cluster.pods = [
        pod(created["id"], "web", restarts=2),
        pod(created["id"], "db", ready=False, waiting="CrashLoopBackOff"),
    ]
    status = (await api.client.get(f"/v1/environments/{created['id']}/status")).json()["data"]
    assert (status["status"], status["phase"], status["terminal"]) == ("degraded", "degraded", True)
    assert status["reason"] == "CrashLoopBackOff"
    web, db = status["services"]
    assert (web["ready"], web["restarts"], web["image"]) == (1, 2, "registry.test/web:live")
    assert (db["ready"], db["state"], db["reason"]) == (0, "failing", "CrashLoopBackOff")
    listed = (await api.client.get("/v1/environments?status=degraded")).json()["data"]
    assert [item["id"] for item in listed] == [created["id"]], "written back"
    assert status["conditions"][0]["type"] == "Ready"

    api.cluster.pods[1] = pod(created["id"], "db")
    one = (await api.client.get(f"/v1/environments/{created['id']}")).json()["data"]
    assert one["status"] == "running"
    assert [service["ready"] for service in one["services"]] == [1, 1]
    assert "terminal" not in one


async def test_status_without_the_cluster_says_so(api: Api) -> None:
    created = await create(api)
    api.cluster.away = True
    status = (await api.client.get(f"/v1/environments/{created['id']}/status")).json()["data"]
    assert status["clusterReachable"] is False
    assert status["reason"] == "cluster_unavailable"
    problem(await api.client.get(f"/v1/environments/{created['id']}/logs"), 503, "cluster_unavailable")


async def test_delete_reports_what_holds_it_up(api: Api) -> None:
    created = await create(api)
    api.cluster.held_by = (Blocker(object="ConfigMap/held", finalizers=("example.test/hold",)),)
    response = await api.client.delete(f"/v1/environments/{created['id']}")
    assert response.status_code == 202
    operation = response.json()["data"]
    assert operation["kind"] == "delete"
    assert response.headers["location"] == f"/v1/operations/{operation['id']}"
    assert (await api.started())[-1].workflow_id == f"delete/shop/{operation['id']}"
    again = (await api.client.delete(f"/v1/environments/{created['id']}?force=true")).json()["data"]
    assert again["id"] == operation["id"]
    status = (await api.client.get(f"/v1/environments/{created['id']}/status")).json()["data"]
    assert status["status"] == "deleting"
    assert status["blockedBy"] == [{"object": "ConfigMap/held", "finalizers": ["example.test/hold"]}]


async def deleting(api: Api) -> tuple[str, dict[str, Any]]:
    """An environment whose delete runs: its path, and the delete as it was answered."""
    path = f"/v1/environments/{(await create(api))['id']}"
    operation: dict[str, Any] = (await api.client.delete(path)).json()["data"]
    await begin(api.database, operation["id"])
    return path, operation


async def test_force_reaches_a_delete_that_runs(api: Api) -> None:
    path, operation = await deleting(api)
    for _ in range(2):
        response = await api.client.delete(f"{path}?force=true")
        assert response.status_code == 202
        assert response.json()["data"]["id"] == operation["id"]
        assert response.headers["location"] == f"/v1/operations/{operation['id']}"
    assert api.recorder.signalled == [(operation["workflowId"], FORCE_SIGNAL, None)]


async def test_force_while_temporal_is_away_is_recorded(api: Api) -> None:
    path, operation = await deleting(api)
    api.recorder.away = True
    assert (await api.client.delete(f"{path}?force=true")).status_code == 202
    async with api.database.reading() as session:
        left = await operations.undelivered(session)
    assert [(each.id, each.force) for each in left] == [(operation["id"], True)]
    api.recorder.away = False
    assert (await api.client.delete(path)).status_code == 202
    assert api.recorder.signalled == [(operation["workflowId"], FORCE_SIGNAL, None)]


async def test_retry_of_a_failed_operation(api: Api) -> None:
    created = await create(api)
    problem(await api.client.post(f"/v1/environments/{created['id']}/retry"), 409, "conflict")
    await begin(api.database, created["operation"]["id"])
    reason = failure(FailureKind.IMAGE_UNAVAILABLE, "no such image", step="service/web")
    await finish(api.database, created["operation"]["id"], OperationState.FAILED, failure=reason)
    status = (await api.client.get(f"/v1/environments/{created['id']}/status")).json()["data"]
    assert (status["status"], status["reason"], status["terminal"]) == ("error", "image_unavailable", True)
    response = await api.client.post(f"/v1/environments/{created['id']}/retry")
    assert response.status_code == 202
    assert response.json()["data"]["retryOf"] == created["operation"]["id"]
    assert len(await api.started()) == 2


async def test_logs_by_time_without_secret_values(api: Api) -> None:
    created = await create(api)
    api.cluster.pods = [pod(created["id"], "web"), pod(created["id"], "db")]
    api.cluster.log_text = {
        ("web-0", "web"): (
            "2026-01-01T10:00:00.1Z started\n2026-01-01T10:00:02.1Z token planted-7d1f-value in use\n"
        ),
        ("db-0", "db"): "2026-01-01T10:00:01.5Z ready\n",
    }
    entries = (await api.client.get(f"/v1/environments/{created['id']}/logs")).json()["data"]
    assert [(entry["service"], entry["line"]) for entry in entries] == [
        ("web", "started"),
        ("db", "ready"),
        ("web", "token [redacted] in use"),
    ]
    response = await api.client.get(
        f"/v1/environments/{created['id']}/logs?service=db&tail=10&sinceSeconds=60",
        headers={"Accept": "application/x-ndjson"},
    )
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [line["pod"] for line in lines] == ["db-0"]
    wrong = await api.client.get(f"/v1/environments/{created['id']}/logs?service=cache&tail=0")
    problem(wrong, 422, "validation_failed")
    problem(
        await api.client.get(f"/v1/environments/{created['id']}/logs?service=x"), 422, "validation_failed"
    )


async def test_topology(api: Api) -> None:
    created = await create(api)
    graph = (await api.client.get(f"/v1/environments/{created['id']}/topology")).json()["data"]
    assert [node["name"] for node in graph["nodes"]] == ["web", "db"]
    assert graph["edges"] == [{"source": "web", "target": "db", "condition": "ready"}]
    assert [(each["service"], each["port"]) for each in graph["external"]] == [("web", 8080)]


async def test_validate_lists_errors_and_warnings_and_writes_nothing(api: Api) -> None:
    before = await api.row_counts()
    good = (await api.client.post("/v1/environments/validate", json={"blueprint": shop_document()})).json()
    assert good["data"]["valid"] is True
    assert {"L002", "L003"} <= {warning["code"] for warning in good["data"]["warnings"]}
    document = shop_document()
    document["services"]["web"]["imagePullSecrets"] = ["corp"]
    refers = (await api.client.post("/v1/environments/validate", json={"blueprint": document})).json()
    assert [error["path"] for error in refers["data"]["errors"]] == ["services[0].imagePullSecrets[0]"]
    bad = {"name": "Shop!", "services": {"web": {"imagee": "x"}}}
    found = (await api.client.post("/v1/environments/validate", json={"blueprint": bad})).json()["data"]
    assert found["valid"] is False
    assert len(found["errors"]) >= 3
    assert await api.row_counts() == before


COMPOSE = """
name: imported
services:
  web:
    build: .
    ports: ["8080:8080"]
    depends_on: [db]
    privileged: true
  db: {image: "postgres:16"}
"""


async def test_import_of_a_compose_file(api: Api) -> None:
    body = {"compose": COMPOSE, "name": "imported", "images": {"web": "registry.test/web:1"}}
    response = await api.client.post("/v1/environments/import", json=body)
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert data["blueprint"]["name"] == "imported"
    assert yaml.safe_load(data["yaml"]) == data["blueprint"]
    assert [each["path"] for each in data["unsupported"]] == ["services.web.build", "services.web.privileged"]
    assert "environment" not in data
    problem(
        await api.client.post("/v1/environments/import", json={"compose": COMPOSE}), 422, "blueprint_invalid"
    )

    created = await api.client.post("/v1/environments/import", json={**body, "create": True})
    assert created.status_code == 202
    environment = created.json()["data"]["environment"]
    assert environment["operation"]["state"] == "accepted"
    assert created.headers["location"].endswith(environment["operation"]["id"])
    assert [start.environment_name for start in await api.started()] == ["imported"]


async def test_the_answer_kept_for_a_repeat_holds_no_secret(api: Api) -> None:
    compose = {
        "services": {"web": {"image": "registry.test/web:1", "secrets": ["token"]}},
        "secrets": {"token": {"file": "./token.txt"}},
    }
    body = {
        "compose": compose,
        "name": "shop",
        "envFiles": {"./token.txt": "planted-5b1c-value"},
        "create": True,
    }
    headers = {"Idempotency-Key": "import-1"}
    first = await api.client.post("/v1/environments/import", json=body, headers=headers)
    assert first.status_code == 202, first.text
    again = await api.client.post("/v1/environments/import", json=body, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    async with api.database.reading() as session:
        kept = (await session.exec(select(IdempotencyRecord))).one()
    assert "planted-5b1c-value" not in f"{first.text}{again.text}{kept.body}"
    shown = await api.client.post("/v1/environments/import", json={**body, "create": False})
    assert "planted-5b1c-value" in shown.text, "without an environment it is the caller's own to keep"
