"""`PATCH /environments/{id}`, entity tags and `If-Match`."""

from typing import Any

import pytest

from activities.db.repositories import audit
from activities.db.repositories.events import after as events_after
from api.openapi import api_routes
from api.preconditions import if_match
from tests.api.support import Api, create, pod, problem
from tests.helpers.tenants import Tenant, begin, finish
from workflows.domain.operations import OperationState

pytestmark = pytest.mark.usefixtures("tenant")


async def change(api: Api, environment_id: str, body: Any, **headers: str) -> Any:
    return await api.client.patch(f"/v1/environments/{environment_id}", json=body, headers=headers)


async def test_settings_change_in_one_transaction_with_event_and_audit(api: Api, tenant: Tenant) -> None:
    made = await create(api)
    before = await api.row_counts()
    body = {
        "name": "renamed",
        "description": "for the demo",
        "autoShutdownEnabled": True,
        "autoShutdownDelayMinutes": 5,
        "ttlMinutes": 60,
        "labels": {"team": "shop"},
        "protected": True,
    }
    answer = await change(api, made["id"], body)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert {key: data[key] for key in body} == body
    assert data["namespace"] == made["namespace"]
    assert data["operation"]["workflowId"] == made["operation"]["workflowId"]
    assert data["version"] == made["version"] + 1
    shown = (await api.client.get(f"/v1/environments/{made['id']}")).json()["data"]
    assert {key: shown[key] for key in body} == body
    counts = await api.row_counts()
    grown = {table: number - before[table] for table, number in counts.items() if number != before[table]}
    assert grown == {"Event": 1, "AuditEntry": 1}
    async with api.database.reading() as session:
        [event] = await events_after(session, tenant.id, made["id"], 1)
        [entry, _] = (
            await audit.list_entries(session, tenant.id, wanted=audit.AuditFilter(subject_id=made["id"]))
        ).items
    assert (event.type, event.operation_id, event.number) == ("settings", None, 2)
    changes = event.data["changes"]
    assert isinstance(changes, dict)
    assert changes["name"] == {"before": "shop", "after": "renamed"}
    assert changes["ttlMinutes"] == {"before": None, "after": 60}
    assert set(changes) == set(body)
    assert entry.action == "environment.update_settings"
    assert entry.data["changes"] == changes
    cleared = await change(api, made["id"], {"ttlMinutes": None})
    assert "ttlMinutes" not in cleared.json()["data"]


async def test_a_change_that_changes_nothing_writes_nothing(api: Api) -> None:
    made = await create(api)
    before = await api.row_counts()
    for body in ({}, {"name": "shop", "protected": False, "ttlMinutes": None}):
        answer = await change(api, made["id"], body)
        assert answer.status_code == 200
        assert answer.json()["data"]["version"] == made["version"]
        assert answer.json()["data"]["updatedAt"] == made["updatedAt"]
    assert await api.row_counts() == before


async def test_all_faults_of_a_change_are_listed(api: Api) -> None:
    made = await create(api)
    before = await api.row_counts()
    body = {
        "name": "Not A Name",
        "description": None,
        "autoShutdownDelayMinutes": 0,
        "ttlMinutes": "60",
        "labels": {"kubernetes.io/x": "a", "no key": "a", "ok": "not ok!"},
        "protected": "yes",
        "status": "running",
    }
    found = problem(await change(api, made["id"], body), 422, "validation_failed")
    assert 'labels["no key"]' in {error["path"] for error in found["errors"]}
    places = [error["path"].split("[")[0].split(".")[0] for error in found["errors"]]
    assert set(places) == set(body)
    assert places.count("labels") == 3
    assert await api.row_counts() == before


async def test_a_taken_name_is_refused_and_a_free_one_is_given_up(api: Api) -> None:
    first, second = await create(api, "one"), await create(api, "two")
    taken = problem(await change(api, second["id"], {"name": "one"}), 409, "conflict")
    assert taken["existingId"] == first["id"]
    assert (await change(api, first["id"], {"name": "three"})).status_code == 200
    assert (await change(api, second["id"], {"name": "one"})).status_code == 200


async def test_protection_taken_off_makes_delete_possible_again(api: Api) -> None:
    made = await create(api)
    assert (await change(api, made["id"], {"protected": True})).status_code == 200
    problem(await api.client.delete(f"/v1/environments/{made['id']}"), 403, "policy_denied")
    assert (await change(api, made["id"], {"protected": False})).status_code == 200
    deleted = await api.client.delete(f"/v1/environments/{made['id']}")
    assert deleted.status_code == 202
    refused = problem(await change(api, made["id"], {"description": "late"}), 409, "conflict")
    assert "being deleted" in refused["detail"]
    operation = deleted.json()["data"]["id"]
    await begin(api.database, operation)
    await finish(api.database, operation, OperationState.SUCCEEDED)
    assert (await change(api, made["id"], {"description": "late"})).status_code == 410


CHANGED = {"name": "shop", "services": [{"name": "web", "image": "r.test/web:2"}]}


async def test_a_stale_write_is_refused_and_writes_nothing(api: Api) -> None:
    made = await create(api)
    path = f"/v1/environments/{made['id']}"
    old = (await api.client.get(path)).headers["etag"]
    new = (await change(api, made["id"], {"description": "a"}, **{"If-Match": old})).headers["etag"]
    assert new != old
    before = await api.row_counts()
    bodies: dict[str, Any] = {
        "/blueprint": {"blueprint": CHANGED},
        "/v1/environments/by-name/shop": {"blueprint": CHANGED},
        "/rollback": {"revision": 1},
        "/scale": {"service": "web", "replicas": 2},
        "/restart": {"service": "web"},
        "/snapshots": {"name": "nightly"},
        "/snapshot-policy": {"everyMinutes": 60},
        "/seed": {"type": "shell", "service": "web", "script": "exit 0"},
        "/checkpoints": {"name": "before"},
    }
    tried = 0
    for route in api_routes(api.app):
        rest = route.path.removeprefix("/v1/environments/{id}").replace("{name}", "shop")
        if not any(each.call is if_match for each in route.dependant.dependencies):
            continue
        [method] = route.methods or set()
        takes_body = "requestBody" in (route.openapi_extra or {})
        for given in (old, '"1"', f'"1", {old}'):
            refused = await api.client.request(
                method,
                rest if rest.startswith("/v1") else path + rest,
                json=bodies.get(rest, {}) if takes_body else None,
                headers={"If-Match": given},
            )
            stale = problem(refused, 412, "precondition_failed")
            assert stale["version"] == made["version"] + 1
        tried += 1
    assert tried >= 11
    assert await api.row_counts() == before
    for form in ("{tag}", '"{version}"', '"7", {tag}', "*", "W/{tag}"):
        good = form.format(tag=new, version=new[1:].split(".")[0])
        answer = await change(api, made["id"], {"description": form}, **{"If-Match": good})
        assert answer.status_code == 200, answer.text
        new = answer.headers["etag"]


async def test_every_route_that_changes_an_environment_takes_if_match(api: Api) -> None:
    checked = 0
    for route in api_routes(api.app):
        mutates = bool((route.methods or set()) - {"GET", "HEAD"})
        operation = route.operation_id or ""
        # A clone changes another environment than the one that it names.
        if not operation.startswith(("environments_", "checkpoints_")) or operation == "environments_clone":
            continue
        if route.path.startswith("/v1/environments/{id}") and mutates:
            checked += 1
            assert any(each.call is if_match for each in route.dependant.dependencies), operation
            assert 412 in route.responses, operation
    assert checked >= 11


async def test_a_dry_run_on_what_has_changed_is_refused_too(api: Api) -> None:
    made = await create(api)
    await begin(api.database, made["operation"]["id"])
    await finish(api.database, made["operation"]["id"], OperationState.SUCCEEDED)
    path = f"/v1/environments/{made['id']}/blueprint?dry_run=true"
    body = {"blueprint": {"name": "shop", "services": [{"name": "web", "image": "r.test/web:2"}]}}
    old = (await api.client.get(f"/v1/environments/{made['id']}")).headers["etag"]
    assert (await api.client.put(path, json=body, headers={"If-Match": old})).status_code == 200
    await change(api, made["id"], {"description": "changed"})
    refused = await api.client.put(path, json=body, headers={"If-Match": old})
    problem(refused, 412, "precondition_failed")


@pytest.mark.parametrize("odd", ["12", '"abc"', 'W/"x"', '"1" "', "", '"1",,x'])
async def test_a_match_that_is_no_tag_is_a_fault(api: Api, odd: str) -> None:
    made = await create(api)
    body = problem(await change(api, made["id"], {}, **{"If-Match": odd}), 422, "validation_failed")
    assert body["errors"][0]["path"] == "header.If-Match"


async def test_the_version_is_compared_before_anything_is_said_of_others(api: Api, stranger: Tenant) -> None:
    made = await create(api)
    api.use(stranger)
    problem(await change(api, made["id"], {}, **{"If-Match": '"99"'}), 404, "not_found")


async def test_not_modified_only_while_nothing_that_is_shown_changes(api: Api) -> None:
    made = await create(api)
    operation = made["operation"]["id"]
    await begin(api.database, operation)
    await finish(api.database, operation, OperationState.SUCCEEDED)
    for rest in ("", "/status"):
        api.cluster.pods = [pod(made["id"], "web"), pod(made["id"], "db")]
        path = f"/v1/environments/{made['id']}{rest}"
        await api.client.get(path)  # what was seen is written back
        first = await api.client.get(path)
        tag = first.headers["etag"]
        again = await api.client.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), again.text
        assert (await api.client.get(path, headers={"If-None-Match": f'"x", W/{tag}'})).status_code == 304
        # A restart changes no row, and yet the answer: a 304 would hide it.
        api.cluster.pods = [pod(made["id"], "web", restarts=3), pod(made["id"], "db")]
        seen = await api.client.get(path, headers={"If-None-Match": tag})
        assert seen.status_code == 200
        assert seen.headers["etag"] != tag
        assert seen.headers["etag"].split(".")[0] == tag.split(".")[0]


async def test_answers_that_show_an_environment_bear_its_tag(api: Api) -> None:
    answer = await api.client.post(
        "/v1/environments",
        json={"blueprint": {"name": "a", "services": [{"name": "web", "image": "r.test/web:1"}]}},
        headers={"Idempotency-Key": "k"},
    )
    assert answer.headers["etag"].startswith(f'"{answer.json()["data"]["version"]}.')
