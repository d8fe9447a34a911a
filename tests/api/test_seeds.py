"""Seeds over HTTP: packages are published and found; what runs is accepted or refused as a whole."""

from typing import Any

import pytest
from sqlmodel import col, select

from activities.db.repositories import seed_packages
from activities.db.tables import Environment, SeedRun
from tests.api.support import Api, create, problem
from tests.api.test_lifecycle import end, running
from tests.helpers.tenants import Tenant
from workflows.domain.operations import EnvironmentPhase, OperationState

VISITOR: dict[str, Any] = {
    "name": "visitor",
    "version": "1.0.0",
    "description": "Somebody who looks around",
    "type": "sql",
    "service": "db",
    "script": "insert into visits values (${{ who }}, ${{ times }}, ${{ token }});",
    "parameters": [
        {"name": "who", "required": True, "pattern": "[a-z]+"},
        {"name": "times", "type": "integer", "default": 1},
        {"name": "token", "secret": True, "default": "token"},
    ],
}
OWN = {"type": "sql", "service": "db", "script": "insert into visits values ('one');"}


def at(body: dict[str, Any]) -> dict[str, str]:
    """The faults of a problem by their places."""
    return {error["path"]: error["message"] for error in body["errors"]}


async def publish(api: Api, **changed: Any) -> dict[str, Any]:
    answer = await api.client.post("/v1/seeds/publish", json={**VISITOR, **changed})
    assert answer.status_code in (200, 201), answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def run_of(api: Api, operation_id: str) -> dict[str, Any]:
    """What an operation runs, as its workflow is told."""
    async with api.database.reading() as session:
        [row] = await session.exec(select(SeedRun).where(col(SeedRun.operation_id) == operation_id))
        return row.run


async def phase(api: Api, environment_id: str) -> EnvironmentPhase:
    """What the database says of an environment."""
    async with api.database.reading() as session:
        return (await session.get_one(Environment, environment_id)).phase


async def test_a_version_never_changes(api: Api, tenant: Tenant) -> None:
    made = await api.client.post("/v1/seeds/publish", json=VISITOR)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/v1/seeds/visitor?version=1.0.0"
    again = await api.client.post("/v1/seeds/publish", json=VISITOR)
    assert (again.status_code, again.json()["data"]) == (200, made.json()["data"])
    other = {**VISITOR, "script": VISITOR["script"] + " select 1;"}
    problem(await api.client.post("/v1/seeds/publish", json=other), 409, "conflict")
    described = [{**each, "description": "Who it is"} for each in VISITOR["parameters"]]
    told = {**VISITOR, "parameters": described}
    problem(await api.client.post("/v1/seeds/publish", json=told), 409, "conflict")
    same = await publish(api, version="1.0.1", description="The same seed")
    assert same["digest"] == made.json()["data"]["digest"]
    assert (await publish(api, **{**other, "version": "1.1.0"}))["digest"] != same["digest"]


async def test_what_is_deleted_is_published_anew_and_what_runs_keeps_it(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_packages, "MOST_PACKAGES", 1)
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        await publish(api, version=version)
    environment = await running(api)
    path = f"/v1/seeds/run/visitor/{environment['id']}"
    accepted = await api.client.post(path, json={"version": "2.0.0", "parameters": {"who": "ada"}})
    full = problem(
        await api.client.post("/v1/seeds/publish", json={**VISITOR, "name": "other"}), 409, "conflict"
    )
    assert "delete one first" in full["detail"]

    async def delete(**version: str) -> list[str]:
        answer = await api.client.delete("/v1/seeds/visitor", params=version)
        assert answer.status_code == 200, answer.text
        return [each["version"] for each in answer.json()["data"]]

    problem(await api.client.delete("/v1/seeds/visitor", params={"version": "3.0.0"}), 404, "not_found")
    assert await delete(version="2.0.0") == ["2.0.0"]
    newest = (await api.client.get("/v1/seeds/visitor")).json()["data"]
    assert newest["version"] == "1.1.0"
    kept = await run_of(api, accepted.json()["data"]["id"])
    assert (kept["package"], kept["content"]["script"]) == ("visitor@2.0.0", VISITOR["script"])
    assert await delete() == ["1.1.0", "1.0.0"]
    problem(await api.client.get("/v1/seeds/visitor"), 404, "not_found")
    problem(await api.client.delete("/v1/seeds/visitor"), 404, "not_found")
    assert (await publish(api, name="other"))["version"] == "1.0.0"
    assert (await publish(api, name="other", version="1.0.1"))["version"] == "1.0.1"


async def test_the_newest_is_the_highest_release(api: Api, tenant: Tenant) -> None:
    for version in ("1.9.0", "1.10.0", "2.0.0-rc.2", "2.0.0-rc.10", "0.1.0"):
        await publish(api, version=version)
    await publish(api, name="early", version="1.0.0-alpha", description="not yet")
    found = (await api.client.get("/v1/seeds/search")).json()["data"]
    assert [(each["name"], each["version"]) for each in found] == [
        ("early", "1.0.0-alpha"),
        ("visitor", "1.10.0"),
    ]
    assert "script" not in found[0]
    words = (await api.client.get("/v1/seeds/search?q=VISIT looks")).json()["data"]
    assert [each["name"] for each in words] == ["visitor"]
    assert (await api.client.get("/v1/seeds/search?q=visit nothing")).json()["data"] == []
    versions = (await api.client.get("/v1/seeds/visitor/versions")).json()["data"]
    assert [each["version"] for each in versions] == [
        *("2.0.0-rc.10", "2.0.0-rc.2", "1.10.0", "1.9.0", "0.1.0"),
    ]
    assert (await api.client.get("/v1/seeds/visitor")).json()["data"]["script"] == VISITOR["script"]
    chosen = (await api.client.get("/v1/seeds/visitor?version=0.1.0")).json()["data"]
    assert chosen["version"] == "0.1.0"
    for path in ("visitor?version=3.0.0", "nobody", "nobody/versions"):
        problem(await api.client.get(f"/v1/seeds/{path}"), 404, "not_found")


async def test_a_package_is_refused_with_all_that_is_wrong(api: Api, tenant: Tenant) -> None:
    before = await api.row_counts()
    wrong = {
        **VISITOR,
        "name": "search",
        "version": "1.0",
        "image": "registry.test/x:1",
        "script": "select '${{ who }}', ${{ nobody }};",
        "parameters": [
            {"name": "who", "type": "integer", "default": "two"},
            {"name": "who"},
            {"name": "token", "type": "boolean", "secret": True},
        ],
    }
    body = problem(await api.client.post("/v1/seeds/publish", json=wrong), 422, "validation_failed")
    assert set(at(body)) == {
        *("name", "version", "image", "script"),
        *("parameters[0].default", "parameters[1].name", "parameters[2].type"),
    }
    assert len(body["errors"]) == 8
    # As YAML reads `version: 1.0` and `name: on`.
    read = {**VISITOR, "name": True, "version": 1.0}
    body = problem(await api.client.post("/v1/seeds/publish", json=read), 422, "validation_failed")
    quoted = {"message": "has to be text", "suggestion": "write it in quotes"}
    assert body["errors"] == [{"path": "name", **quoted}, {"path": "version", **quoted}]
    for changed in (
        {"type": "job"},
        {"type": "shell", "script": " "},
        {"type": "shell", "script": "x" * 100_000},
        {"type": "job", "script": None, "image": "not an image"},
        {"parameters": [{"name": "a-b"}]},
    ):
        problem(
            await api.client.post("/v1/seeds/publish", json={**VISITOR, **changed}), 422, "validation_failed"
        )
    assert await api.row_counts() == before


async def test_a_run_is_an_operation_with_its_steps(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    package = await publish(api)
    path = f"/v1/seeds/run/visitor/{environment['id']}"
    answer = await api.client.post(path, json={"parameters": {"who": "ada"}})
    assert answer.status_code == 202, answer.text
    operation = answer.json()["data"]
    assert operation["kind"] == "seed"
    assert (await api.started())[-1].workflow_id == f"seed/shop/{operation['id']}"
    found = (await api.client.get(f"/v1/operations/{operation['id']}")).json()["data"]
    steps = {step["name"]: (step["kind"], step.get("service"), step["dependsOn"]) for step in found["steps"]}
    assert steps == {
        "namespace": ("namespace", None, []),
        "seed": ("seed", "db", ["namespace"]),
    }
    run = await run_of(api, operation["id"])
    assert run["package"] == "visitor@1.0.0"
    assert run["digest"] == package["digest"]
    assert (run["values"], run["secrets"]) == ({"who": "ada", "times": 1}, {"token": "token"})
    # While it runs and after it, however it ended, the environment is what it was.
    assert await phase(api, environment["id"]) is EnvironmentPhase.RUNNING
    await end(api, operation["id"], OperationState.FAILED)
    assert await phase(api, environment["id"]) is EnvironmentPhase.RUNNING


async def test_the_same_seed_has_the_same_key_and_another_has_not(api: Api, tenant: Tenant) -> None:
    environment, other = await running(api), await running(api, "other")
    await publish(api)
    await publish(api, version="1.0.1")
    ada = {"parameters": {"who": "ada"}}

    async def key(environment_id: str, body: dict[str, Any]) -> str:
        answer = await api.client.post(f"/v1/seeds/run/visitor/{environment_id}", json=body)
        assert answer.status_code == 202, answer.text
        run = await run_of(api, answer.json()["data"]["id"])
        await end(api, answer.json()["data"]["id"])
        return str(run["key"])

    first = await key(environment["id"], ada)
    for same in ({**ada, "version": "1.0.0"}, {**ada, "force": True}, {**ada, "service": "db"}):
        assert await key(environment["id"], same) == first
    assert await key(environment["id"], {"parameters": {"who": "bob"}}) != first
    assert await key(other["id"], ada) != first


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({}, {"parameters.who"}),
        (
            {"parameters": {"who": "Ada", "times": "1", "token": "nobodys", "more": 1}, "service": "nope"},
            {"parameters.who", "parameters.times", "parameters.token", "parameters.more", "service"},
        ),
        ({"parameters": {"who": "ada", "token": ""}}, {"parameters.token"}),
        ({"parameters": {"who": "ada"}, "service": "web"}, {"script"}),
    ],
)
async def test_a_run_is_refused_with_all_that_is_wrong(
    api: Api, tenant: Tenant, body: dict[str, Any], places: set[str]
) -> None:
    environment = await running(api)
    await publish(api)
    before = await api.row_counts()
    path = f"/v1/seeds/run/visitor/{environment['id']}"
    refused = problem(await api.client.post(path, json=body), 422, "validation_failed")
    assert set(at(refused)) == places
    assert await api.row_counts() == before


async def test_a_seed_of_its_own_is_looked_at_too(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    path = f"/v1/environments/{environment['id']}/seed"
    before = await api.row_counts()
    for changed, place in (
        ({"script": "insert into t values (1); commit;"}, "script"),
        ({"script": "select ${{ token }};"}, "script"),
        ({"script": None}, "script"),
        ({"service": "nobody"}, "service"),
        ({"secrets": {"token": "nobodys"}}, "secrets.token"),
        ({"service": "web"}, "script"),
        ({"args": ["x"]}, "args"),
    ):
        refused = problem(await api.client.post(path, json={**OWN, **changed}), 422, "validation_failed")
        assert set(at(refused)) == {place}, changed
    assert await api.row_counts() == before
    good = {**OWN, "script": "insert into t values (${{ token }});", "secrets": {"token": "token"}}
    assert (await api.client.post(path, json=good)).status_code == 202


REQUEST: dict[str, Any] = {
    "path": "/visits/${{ who }}?all=1",
    "port": 8080,
    "headers": {"Authorization": "Bearer ${{ token }}"},
    "body": {"who": "${{ who }}", "nothing": None, "snake_case": {"camelCase": [None]}},
    "expect": [201],
    "idempotent": True,
    "timeoutSeconds": 5,
}
BY_HTTP: dict[str, Any] = {
    "name": "visit",
    "version": "1.0.0",
    "type": "http",
    "service": "web",
    "http": REQUEST,
    "parameters": [{"name": "who", "required": True}, {"name": "token", "secret": True, "default": "token"}],
}


async def test_a_seed_over_http_is_kept_and_run_as_it_was_published(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    made = await api.client.post("/v1/seeds/publish", json=BY_HTTP)
    assert made.status_code == 201, made.text
    found = (await api.client.get("/v1/seeds/visit")).json()["data"]["http"]
    assert found == {**REQUEST, "method": "POST"}
    answer = await api.client.post(
        f"/v1/seeds/run/visit/{environment['id']}", json={"parameters": {"who": "ada/b"}}
    )
    assert answer.status_code == 202, answer.text
    run = await run_of(api, answer.json()["data"]["id"])
    assert run["content"]["http"]["body"] == REQUEST["body"]
    assert (run["values"], run["secrets"]) == ({"who": "ada/b"}, {"token": "token"})


async def test_a_seed_over_http_is_refused_with_all_that_is_wrong(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    before = await api.row_counts()
    wrong = {
        **REQUEST,
        "path": "/${{ token }} #",
        "headers": {"Host": "x", "A": "${{ nobody }}"},
        "text": "x",
    }
    body = problem(
        await api.client.post("/v1/seeds/publish", json={**BY_HTTP, "http": wrong, "script": "x"}),
        *(422, "validation_failed"),
    )
    assert set(at(body)) == {
        *("script", "http.path", "http.headers.Host", "http.headers.A", "http.text"),
    }
    faulty: dict[str, dict[str, Any]] = {
        "http.method": {"method": "GET"},
        "http.expect[0]": {"expect": [500]},
        "http.timeoutSeconds": {"timeoutSeconds": 0},
        "http.url": {"url": "http://elsewhere"},
        "http.body.a": {"body": {"a": "\0"}},
        "http.path": {"path": "/a/../b"},
    }
    for place, changed in faulty.items():
        body = problem(
            await api.client.post("/v1/seeds/publish", json={**BY_HTTP, "http": {**REQUEST, **changed}}),
            *(422, "validation_failed"),
        )
        assert set(at(body)) == {place}
    for kind, number in {"json": "1e400", "yaml": ".nan"}.items():
        http = f'{{"path": "/", "body": [{number}]}}'
        raw = f'{{"name": "n", "version": "1.0.0", "type": "http", "http": {http}}}'
        answer = await api.client.post(
            "/v1/seeds/publish", content=raw, headers={"Content-Type": f"application/{kind}"}
        )
        assert set(at(problem(answer, 422, "validation_failed"))) == {"http.body[0]"}
    path = f"/v1/environments/{environment['id']}/seed"
    own = {"type": "http", "service": "web", "http": {"path": "/"}}
    misfits: dict[str, dict[str, Any]] = {
        "http.port": {"http": {"path": "/", "port": 9}},
        "http": {"http": None},
        "http.headers.A": {"http": {"path": "/", "headers": {"A": "${{ token }}"}}},
        "service": {"service": "nobody"},
    }
    for place, more in misfits.items():
        body = problem(await api.client.post(path, json={**own, **more}), 422, "validation_failed")
        assert set(at(body)) == {place}
    assert await api.row_counts() == before
    assert (await api.client.post(path, json=own)).status_code == 202


async def test_only_what_runs_and_is_free_is_seeded(api: Api, tenant: Tenant) -> None:
    provisioning = await create(api)
    path = f"/v1/environments/{provisioning['id']}/seed"
    busy = problem(await api.client.post(path, json=OWN), 409, "conflict")
    assert busy["operationId"] == provisioning["operation"]["id"]
    await end(api, provisioning["operation"]["id"], OperationState.FAILED)
    broken = problem(await api.client.post(path, json=OWN), 409, "conflict")
    assert broken["status"] == 409
    assert "runs" in broken["detail"]
    gone = await running(api, "gone")
    deleted = (await api.client.delete(f"/v1/environments/{gone['id']}")).json()["data"]
    await end(api, deleted["id"])
    problem(await api.client.post(f"/v1/environments/{gone['id']}/seed", json=OWN), 410, "conflict")


async def test_the_same_request_with_a_key_is_one_run(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    path, headers = f"/v1/environments/{environment['id']}/seed", {"Idempotency-Key": "one"}
    first = await api.client.post(path, json=OWN, headers=headers)
    again = await api.client.post(path, json=OWN, headers=headers)
    assert first.json()["data"]["id"] == again.json()["data"]["id"]


async def test_another_organisations_packages_look_like_none(
    api: Api, tenant: Tenant, stranger: Tenant
) -> None:
    environment = await running(api)
    await publish(api)
    ada = {"parameters": {"who": "ada"}}
    api.use(stranger)
    before = await api.row_counts()
    assert (await api.client.get("/v1/seeds/search")).json()["data"] == []
    for name in ("visitor", "nobody"):
        problem(await api.client.get(f"/v1/seeds/{name}"), 404, "not_found")
        problem(await api.client.get(f"/v1/seeds/{name}/versions"), 404, "not_found")
        problem(await api.client.delete(f"/v1/seeds/{name}"), 404, "not_found")
        path = f"/v1/seeds/run/{name}/{environment['id']}"
        theirs = problem(await api.client.post(path, json=ada), 404, "not_found")
        nobodys = problem(await api.client.post(f"/v1/seeds/run/{name}/env_x", json=ada), 404, "not_found")
        assert theirs["detail"].replace(environment["id"], "env_x") == nobodys["detail"]
    assert await api.row_counts() == before
    own = await running(api, "own")
    path = f"/v1/seeds/run/visitor/{own['id']}"
    problem(await api.client.post(path, json=ada), 404, "not_found")
    await publish(api)
    assert (await api.client.post(path, json=ada)).status_code == 202
