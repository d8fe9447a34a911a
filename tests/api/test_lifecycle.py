"""The life of an environment over HTTP: what is accepted, previewed, refused, and seen afterwards."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from activities.db.repositories import events, operations, revisions
from activities.db.tables import EventType
from tests.api.support import Api, create, problem, shop_document
from tests.helpers.tenants import Tenant, begin, finish
from workflows.domain.operations import OperationState

DATA = {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}


async def running(api: Api, name: str = "shop") -> dict[str, Any]:
    """Create an environment and let its provision succeed."""
    created = await create(api, name)
    await end(api, created["operation"]["id"])
    return created


async def end(api: Api, operation_id: str, state: OperationState = OperationState.SUCCEEDED) -> None:
    """Begin an operation and end it, as its workflow does."""
    await begin(api.database, operation_id)
    await finish(api.database, operation_id, state)


async def seen(api: Api, environment_id: str) -> dict[str, Any]:
    """Read an environment from the list, which asks no cluster."""
    found = (await api.client.get("/v1/environments")).json()["data"]
    environment: dict[str, Any] = next(each for each in found if each["id"] == environment_id)
    return environment


def changed(**web: Any) -> dict[str, Any]:
    """The shop with another `web`."""
    document = shop_document()
    document["services"]["web"] |= web
    return document


async def put(
    api: Api, environment_id: str, document: dict[str, Any], query: str = "", **wrapper: Any
) -> httpx2.Response:
    """Ask for an update."""
    path = f"/v1/environments/{environment_id}/blueprint{query}"
    return await api.client.put(path, json={"blueprint": document, **wrapper})


async def test_an_update_is_accepted_with_its_plan(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    document = changed(image="registry.test/web:2", env={"LEVEL": "debug"})
    del document["services"]["db"]
    document["services"]["web"]["dependsOn"] = []
    document["services"]["cache"] = {"image": "registry.test/redis:7"}
    answer = await put(api, environment["id"], document, message="faster")
    assert answer.status_code == 202, answer.text
    operation = answer.json()["data"]
    assert answer.headers["location"] == f"/v1/operations/{operation['id']}"
    assert (operation["kind"], operation["revision"]) == ("update", 2)
    changes = {each["service"]: each for each in operation["changes"]}
    assert {name: each["effect"] for name, each in changes.items()} == {
        "web": "in_place",
        "cache": "add",
        "db": "remove",
    }
    fields = {each["field"]: (each.get("before"), each.get("after")) for each in changes["web"]["fields"]}
    assert fields["image"] == ("registry.test/web:1", "registry.test/web:2")
    assert fields["env.LEVEL"] == (None, "debug")
    assert "planted" not in answer.text
    started = (await api.started())[-1]
    assert (started.operation_id, started.workflow_id) == (operation["id"], f"update/shop/{operation['id']}")
    found = (await api.client.get(f"/v1/operations/{operation['id']}")).json()["data"]
    steps = {step["name"]: step["dependsOn"] for step in found["steps"]}
    assert set(steps) == {"namespace", "secrets", "service/web", "service/cache", "endpoints", "remove/db"}
    assert set(steps["remove/db"]) == set(steps) - {"remove/db"}
    revisions = (await api.client.get(f"/v1/environments/{environment['id']}/revisions")).json()["data"]
    assert [(each["number"], each.get("parent"), each["message"]) for each in revisions] == [
        (2, 1, "faster"),
        (1, None, "created"),
    ]
    assert {each["service"]: each["effect"] for each in revisions[0]["changes"]}["db"] == "remove"


async def test_a_list_shows_the_services_of_the_latest_revision(api: Api, tenant: Tenant) -> None:
    environment = await running(api)

    async def images() -> dict[str, str]:
        return {each["name"]: each["image"] for each in (await seen(api, environment["id"]))["services"]}

    before = await images()
    assert await images() == before
    document = changed(image="registry.test/web:2")
    document["services"]["cache"] = {"image": "registry.test/redis:7"}
    answer = await put(api, environment["id"], document)
    await end(api, answer.json()["data"]["id"])
    assert await images() == before | {"web": "registry.test/web:2", "cache": "registry.test/redis:7"}


async def test_how_many_pods_there_should_be_is_shown_alike_everywhere(api: Api, tenant: Tenant) -> None:
    document = shop_document()
    document["services"]["load"] = {"kind": "job", "image": "registry.test/load:1"}
    created = (await api.client.post("/v1/environments", json={"blueprint": document})).json()["data"]
    await end(api, created["operation"]["id"])
    path = f"/v1/environments/{created['id']}"

    async def shown() -> list[dict[str, int]]:
        listed = await seen(api, created["id"])
        alone = [
            await api.client.get(path),
            await api.client.patch(path, json={}),
            await api.client.post(f"{path}/extend", json={}),
        ]
        for answer in alone:
            assert answer.is_success, answer.text
            assert answer.headers["etag"].startswith(f'"{answer.json()["data"]["version"]}.')
        environments = [listed, *(answer.json()["data"] for answer in alone)]
        return [{each["name"]: each["replicas"] for each in one["services"]} for one in environments]

    assert await shown() == [{"web": 1, "db": 1, "load": 1}] * 4
    answer = await api.client.patch(f"{path}/scale", json={"service": "web", "replicas": 3})
    await end(api, answer.json()["data"]["id"])
    assert await shown() == [{"web": 3, "db": 1, "load": 1}] * 4
    await end(api, (await api.client.post(f"{path}/stop")).json()["data"]["id"])
    assert await shown() == [{"web": 0, "db": 0, "load": 1}] * 4
    await end(api, (await api.client.post(f"{path}/resume")).json()["data"]["id"])
    assert await shown() == [{"web": 3, "db": 1, "load": 1}] * 4


async def test_the_same_blueprint_again_is_no_operation(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    before = await api.row_counts()
    answer = await put(api, environment["id"], shop_document())
    assert answer.status_code == 200
    assert answer.json()["data"]["noop"] is True
    assert await api.row_counts() == before


async def test_a_dry_run_writes_nothing(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    before = await api.row_counts()
    answer = await put(api, environment["id"], changed(volumes=[DATA], env={"A": "1"}), "?dry_run=true")
    assert answer.status_code == 200
    plan = answer.json()["data"]
    assert (plan["noop"], plan["refused"]) == (False, False)
    assert {each["service"]: each["effect"] for each in plan["changes"]} == {
        "web": "replace",
        "db": "unchanged",
    }
    assert await api.row_counts() == before
    assert len(await api.started()) == 1


async def test_an_update_that_would_lose_data_is_refused(api: Api, tenant: Tenant) -> None:
    created = await api.client.post("/v1/environments", json={"blueprint": changed(volumes=[DATA])})
    environment = created.json()["data"]
    await end(api, environment["operation"]["id"])
    before = await api.row_counts()
    body = problem(await put(api, environment["id"], shop_document()), 422, "blueprint_invalid")
    assert [error["path"] for error in body["errors"]] == ["services[0]"]
    assert "allowReplace" in body["errors"][0]["message"]
    assert await api.row_counts() == before
    plan = (await put(api, environment["id"], shop_document(), "?dry_run=true")).json()["data"]
    assert plan["refused"] is True
    allowed = await put(api, environment["id"], changed(allowReplace=True))
    assert allowed.status_code == 202


async def test_all_faults_of_an_update_are_listed(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    before = await api.row_counts()
    broken = changed(image="", replicas=-1)
    body = problem(
        await put(api, environment["id"], broken, nonsense=1, onFailure="never"), 422, "blueprint_invalid"
    )
    assert {"nonsense", "onFailure"} <= {error["path"] for error in body["errors"]}
    assert len(body["errors"]) >= 4
    renamed = {**shop_document(), "name": "other"}
    body = problem(await put(api, environment["id"], renamed), 422, "blueprint_invalid")
    assert [error["path"] for error in body["errors"]] == ["name"]
    assert await api.row_counts() == before


async def test_of_two_updates_at_once_one_wins_and_the_other_is_told_which(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    answers = await asyncio.gather(
        *(put(api, environment["id"], changed(env={"N": str(number)})) for number in range(2))
    )
    winner, loser = sorted(answers, key=lambda answer: answer.status_code)
    assert winner.status_code == 202
    body = problem(loser, 409, "conflict")
    assert body["operationId"] == winner.json()["data"]["id"]
    deleted = await api.client.delete(f"/v1/environments/{environment['id']}")
    assert deleted.status_code == 202
    problem(await put(api, environment["id"], shop_document()), 409, "conflict")


async def test_a_failed_update_that_went_back_leaves_the_revision_before(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    operation = (await put(api, environment["id"], changed(env={"A": "1"}))).json()["data"]
    assert (await seen(api, environment["id"]))["revision"] == 2
    await end(api, operation["id"], OperationState.ROLLED_BACK)
    after = await seen(api, environment["id"])
    assert (after["revision"], after["status"]) == (1, "running")
    again = (await put(api, environment["id"], changed(env={"A": "2"}))).json()["data"]
    assert again["revision"] == 3
    detail = await api.client.get(f"/v1/environments/{environment['id']}/revisions/3")
    assert detail.json()["data"]["parent"] == 1


async def test_rollback_by_number_and_by_name(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    base = f"/v1/environments/{environment['id']}"
    named = await api.client.post(f"{base}/checkpoints", json={"name": "first"})
    assert (named.status_code, named.json()["data"]["revision"]) == (201, 1)
    await end(api, (await put(api, environment["id"], changed(env={"A": "1"}))).json()["data"]["id"])
    problem(await api.client.post(f"{base}/rollback", json={}), 422, "validation_failed")
    body = problem(await api.client.post(f"{base}/rollback", json={"revision": 9}), 404, "not_found")
    assert body["detail"] == "There is no revision '9' in this environment."
    body = problem(await api.client.post(f"{base}/rollback", json={"checkpoint": "none"}), 404, "not_found")
    assert body["detail"] == "There is no checkpoint 'none' in this environment."
    answer = await api.client.post(f"{base}/rollback", json={"checkpoint": "first"})
    assert answer.status_code == 202, answer.text
    await end(api, answer.json()["data"]["id"])
    revision = (await api.client.get(f"{base}/revisions/3")).json()["data"]
    assert revision["message"] == "rollback to revision 1"
    assert revision["blueprint"] == (await api.client.get(f"{base}/revisions/1")).json()["data"]["blueprint"]
    diff = (await api.client.get(f"{base}/diffs", params={"from": 1, "to": 2})).json()["data"]
    web = next(each for each in diff["changes"] if each["service"] == "web")
    assert web["fields"] == [{"field": "env.A", "after": "1"}]
    taken = await api.client.post(f"{base}/checkpoints", json={"name": "first", "revision": 2})
    problem(taken, 409, "conflict")
    # The command line could not tell them from revisions.
    for digits in ("2", "2026"):
        refused = await api.client.post(f"{base}/checkpoints", json={"name": digits})
        problem(refused, 422, "validation_failed")
    for usual in ("2026-11", "v2", "0.1"):
        made = await api.client.post(f"{base}/checkpoints", json={"name": usual})
        assert made.status_code == 201, made.text
        assert (await api.client.delete(f"{base}/checkpoints/{usual}")).status_code == 204
    assert (await api.client.delete(f"{base}/checkpoints/first")).status_code == 204
    assert (await api.client.get(f"{base}/checkpoints")).json()["data"] == []


async def test_a_rollback_fails_as_it_is_asked(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    path = f"/v1/environments/{environment['id']}/rollback"
    await end(api, (await put(api, environment["id"], changed(env={"A": "1"}))).json()["data"]["id"])
    problem(await api.client.post(path, json={"revision": 1, "onFailure": "never"}), 422, "validation_failed")
    for revision, asked, on_failure in ((1, {"onFailure": "keep"}, "keep"), (2, {}, "rollback")):
        answer = await api.client.post(path, json={"revision": revision, **asked})
        operation = answer.json()["data"]["id"]
        async with api.database.reading() as session:
            assert (await operations.get_operation(session, tenant.id, operation)).on_failure == on_failure
        await end(api, operation)


async def test_a_revision_can_be_sent_back_as_it_is_shown(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    shown = (await api.client.get(f"/v1/environments/{environment['id']}/revisions/1")).json()["data"]
    answer = await put(api, environment["id"], shown["blueprint"])
    assert answer.json()["data"]["noop"] is True, answer.text


async def test_by_name_creates_updates_and_then_does_nothing(api: Api, tenant: Tenant) -> None:
    path = "/v1/environments/by-name/branch-7"
    created = await api.client.put(path, json={"blueprint": shop_document()})
    assert created.status_code == 202, created.text
    operation = created.json()["data"]
    assert (operation["kind"], operation["environmentName"]) == ("provision", "branch-7")
    await end(api, operation["id"])
    same = await api.client.put(path, json={"blueprint": shop_document()})
    assert (same.status_code, same.json()["data"]["noop"]) == (200, True)
    updated = await api.client.put(path, json={"blueprint": changed(env={"A": "1"})})
    assert updated.json()["data"]["kind"] == "update"
    assert updated.json()["data"]["environmentId"] == operation["environmentId"]


async def test_by_name_creates_as_it_is_asked(api: Api, tenant: Tenant) -> None:
    for name, asked, message, on_failure in (
        ("said", {"message": "for the review", "onFailure": "rollback"}, "for the review", "rollback"),
        ("not-said", {}, "created", "keep"),
    ):
        body = {"blueprint": shop_document(), **asked}
        operation = (await api.client.put(f"/v1/environments/by-name/{name}", json=body)).json()["data"]
        async with api.database.reading() as session:
            made = await operations.get_operation(session, tenant.id, operation["id"])
            first = await revisions.get_revision(session, tenant.id, made.environment_id, 1)
        assert (first.message, made.on_failure) == (message, on_failure)


async def test_by_name_with_a_version(api: Api, tenant: Tenant) -> None:
    path, body = "/v1/environments/by-name/shop", {"blueprint": changed(env={"A": "1"})}
    problem(await api.client.put(path, json=body, headers={"If-Match": "*"}), 412, "precondition_failed")
    environment = await running(api)
    shown = await api.client.get(f"/v1/environments/{environment['id']}")
    stale = await api.client.put(path, json=body, headers={"If-Match": '"999"'})
    assert problem(stale, 412, "precondition_failed")["version"] == shown.json()["data"]["version"]
    answer = await api.client.put(path, json=body, headers={"If-Match": shown.headers["etag"]})
    assert answer.status_code == 202, answer.text
    assert answer.json()["data"]["environmentId"] == environment["id"]


async def test_stop_resume_scale_and_restart(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    base = f"/v1/environments/{environment['id']}"

    async def act(method: str, action: str, body: Any = None) -> dict[str, Any]:
        answer = await api.client.request(method, f"{base}/{action}", json=body)
        assert answer.status_code == 202, answer.text
        operation: dict[str, Any] = answer.json()["data"]
        assert (await api.started())[-1].operation_id == operation["id"]
        await end(api, operation["id"])
        return operation

    assert (await act("PATCH", "scale", {"service": "web", "replicas": 3}))["kind"] == "scale"
    assert (await act("POST", "restart", {"service": "web"}))["kind"] == "restart"
    problem(await api.client.post(f"{base}/resume"), 409, "conflict")
    assert (await act("POST", "stop"))["kind"] == "stop"
    assert (await seen(api, environment["id"]))["status"] == "stopped"
    again = problem(await api.client.post(f"{base}/stop"), 409, "conflict")
    assert again["phase"] == "stopped"
    body = problem(
        await api.client.patch(f"{base}/scale", json={"service": "web", "replicas": 1}), 409, "conflict"
    )
    assert "resume it first" in body["detail"]
    assert (await act("POST", "resume"))["kind"] == "resume"
    await act("POST", "stop")
    answer = await put(api, environment["id"], shop_document())
    assert answer.status_code == 202, "an update starts a stopped environment, though nothing else changes"
    steps = (await api.client.get(f"/v1/operations/{answer.json()['data']['id']}")).json()["data"]["steps"]
    assert {"service/web", "service/db"} <= {step["name"] for step in steps}


async def test_the_number_that_there_is_is_no_operation(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    path = f"/v1/environments/{environment['id']}/scale"
    one, two = {"service": "web", "replicas": 1}, {"service": "web", "replicas": 2}

    async def same(body: dict[str, Any]) -> None:
        before, started = await api.row_counts(), len(await api.started())
        version = (await seen(api, environment["id"]))["version"]
        answer = await api.client.patch(f"{path}?wait=5", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"] == {
            "environmentId": environment["id"],
            "noop": True,
            "refused": False,
            "changes": [{"service": "web", "effect": "unchanged", "fields": [], "lostVolumes": []}],
        }
        assert "location" not in answer.headers
        assert await api.row_counts() == before
        assert len(await api.started()) == started
        assert (await seen(api, environment["id"]))["version"] == version

    await same(one)
    for other in (two, one):
        accepted = await api.client.patch(path, json=other)
        assert accepted.status_code == 202, accepted.text
        await end(api, accepted.json()["data"]["id"])
        await same(other)
    # While the pods of another number are on their way it is refused as any other change.
    under_way = (await api.client.patch(path, json=two)).json()["data"]
    assert problem(await api.client.patch(path, json=two), 409, "conflict")["operationId"] == under_way["id"]


async def test_what_cannot_be_scaled_is_refused_with_every_reason(api: Api, tenant: Tenant) -> None:
    created = await api.client.post("/v1/environments", json={"blueprint": changed(volumes=[DATA])})
    environment = created.json()["data"]
    await end(api, environment["operation"]["id"])
    path = f"/v1/environments/{environment['id']}/scale"
    before = await api.row_counts()
    body = problem(
        await api.client.patch(path, json={"service": "web", "replicas": 3}), 422, "blueprint_invalid"
    )
    assert [error["path"] for error in body["errors"]] == ["replicas"]
    body = problem(await api.client.patch(path, json={"service": "none", "replicas": 1}), 404, "not_found")
    assert body["detail"] == "There is no service 'none' in this environment."
    problem(await api.client.patch(path, json={"service": "web", "replicas": "x"}), 422, "validation_failed")
    assert await api.row_counts() == before


async def test_a_protected_environment_is_not_stopped(api: Api, tenant: Tenant) -> None:
    created = await api.client.post(
        "/v1/environments", json={"blueprint": {**shop_document(), "protected": True}}
    )
    environment = created.json()["data"]
    await end(api, environment["operation"]["id"])
    problem(await api.client.post(f"/v1/environments/{environment['id']}/stop"), 403, "policy_denied")


async def test_a_clone_has_the_blueprint_and_the_scaling(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    base = f"/v1/environments/{environment['id']}"
    scaled = await api.client.patch(f"{base}/scale", json={"service": "web", "replicas": 2})
    await end(api, scaled.json()["data"]["id"])
    answer = await api.client.post(f"{base}/clone", json={"name": "copy"})
    assert answer.status_code == 202, answer.text
    copy = answer.json()["data"]
    assert (copy["name"], copy["operation"]["kind"]) == ("copy", "provision")
    assert {each["name"]: each["replicas"] for each in copy["services"]} == {"web": 2, "db": 1}
    assert "planted" not in answer.text
    problem(await api.client.post(f"{base}/clone", json={"name": "copy"}), 409, "conflict")
    problem(await api.client.post(f"{base}/clone", json={"name": "No good"}), 422, "blueprint_invalid")


async def test_a_repeated_key_gives_the_first_answer(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    path = f"/v1/environments/{environment['id']}/stop"
    first = await api.client.post(path, headers={"Idempotency-Key": "stop-1"})
    again = await api.client.post(path, headers={"Idempotency-Key": "stop-1"})
    assert first.json()["data"] == again.json()["data"]
    assert again.headers["idempotency-replayed"] == "true"
    assert sum(start.kind == "stop" for start in await api.started()) == 1


@pytest.mark.slow
async def test_old_revisions_are_forgotten_and_named_ones_are_not(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    base = f"/v1/environments/{environment['id']}"
    await api.client.post(f"{base}/checkpoints", json={"name": "first"})
    keep = api.state.settings.keep_revisions
    for number in range(keep + 2):
        answer = await put(api, environment["id"], changed(env={"N": str(number)}))
        await end(api, answer.json()["data"]["id"])
    shown = (await api.client.get(f"{base}/revisions?limit=200")).json()["data"]
    numbers = [each["number"] for each in shown]
    assert numbers[0] == keep + 3
    assert numbers[-1] == 1, "it has a checkpoint"
    assert 2 not in numbers
    answer = await api.client.post(f"{base}/rollback", json={"checkpoint": "first"})
    assert answer.status_code == 202, "its secrets are still there"
    page = (await api.client.get(f"{base}/revisions?limit=2")).json()
    following = (await api.client.get(f"{base}/revisions?limit=2&cursor={page['meta']['nextCursor']}")).json()
    assert [each["number"] for each in (*page["data"], *following["data"])] == [keep + 4, *numbers[:3]]


async def test_an_end_is_put_off(api: Api, tenant: Tenant) -> None:
    created = await api.client.post(
        "/v1/environments", json={"blueprint": {**shop_document(), "ttlMinutes": 60}}
    )
    environment = created.json()["data"]
    path = f"/v1/environments/{environment['id']}/extend"
    answer = await api.client.post(path, json={"minutes": 90})
    assert answer.status_code == 200, answer.text
    before, after = (
        datetime.fromisoformat(each["expiresAt"]) for each in (environment, answer.json()["data"])
    )
    assert after - before == timedelta(minutes=90)
    async with api.database.reading() as session:
        told = (await events.after(session, tenant.id, environment["id"], 1))[-1]
    data: Any = told.data
    change = data["changes"]["expiresAt"]
    assert told.type is EventType.SETTINGS
    assert [datetime.fromisoformat(change[each]) for each in ("before", "after")] == [before, after]
    problem(await api.client.post(path, json={"minutes": 0}), 422, "validation_failed")
    endless = await create(api, "endless")
    answer = await api.client.post(f"/v1/environments/{endless['id']}/extend", json={})
    assert "expiresAt" not in answer.json()["data"]
