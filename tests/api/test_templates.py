"""Templates: kept, changed and removed; Blueprints and environments made of them."""

from typing import Any

import pytest
from sqlmodel import select

from activities.db.tables import AuditEntry, IdempotencyRecord
from api.templates.bundled import bundled_templates
from tests.api.support import Api, problem
from tests.helpers.tenants import Tenant
from workflows.domain.blueprint import parse_blueprint
from workflows.domain.templates import Parameter, instantiate, template_faults


def web(**changes: Any) -> dict[str, Any]:
    """A template as a user sends it."""
    return {
        "name": "web",
        "description": "One service",
        "parameters": [
            {"name": "tag", "required": True, "pattern": "[a-z0-9.-]+"},
            {"name": "replicas", "type": "integer", "default": 2},
            {"name": "password"},
        ],
        "blueprint": {
            "name": "web",
            "services": [
                {
                    "name": "web",
                    "image": "registry.test/web:${{ tag }}",
                    "replicas": "${{ replicas }}",
                    "secrets": [{"name": "token", "envKey": "TOKEN", "value": "${{password}}"}],
                }
            ],
        },
        **changes,
    }


async def test_a_template_is_kept_replaced_and_deleted(api: Api, tenant: Tenant) -> None:
    made = await api.client.post("/v1/templates", json=web(), headers={"Idempotency-Key": "one"})
    assert made.status_code == 201, made.text
    again = await api.client.post("/v1/templates", json=web(), headers={"Idempotency-Key": "one"})
    assert again.json()["data"] == made.json()["data"]
    identifier = made.json()["data"]["id"]
    assert (await api.client.get("/v1/templates/web")).json()["data"]["id"] == identifier
    listed = (await api.client.get("/v1/templates")).json()["data"]
    assert [each["name"] for each in listed] == ["hello", "postgres", "web"]
    problem(await api.client.post("/v1/templates", json=web()), 409, "conflict")
    replaced = await api.client.put(f"/v1/templates/{identifier}", json=web(description="Changed"))
    assert replaced.json()["data"]["description"] == "Changed"
    assert (await api.client.delete("/v1/templates/web")).status_code == 200
    problem(await api.client.get(f"/v1/templates/{identifier}"), 404, "not_found")
    async with api.database.reading() as session:
        actions = [row.action for row in await session.exec(select(AuditEntry))]
    assert [each for each in actions if each.startswith("template")] == [
        "template.create",
        "template.update",
        "template.delete",
    ]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_bundled_templates_are_read_only(api: Api, tenant: Tenant, method: str) -> None:
    sent = web() if method == "PUT" else None
    problem(await api.client.request(method, "/v1/templates/hello", json=sent), 409, "conflict")
    problem(await api.client.post("/v1/templates", json=web(name="hello")), 422, "blueprint_invalid")


async def test_all_faults_of_a_template_are_listed_and_nothing_is_written(api: Api, tenant: Tenant) -> None:
    before = await api.row_counts()
    bad = web(parameters=[{"name": "tag"}, {"name": "tag"}, {"name": "idle", "pattern": "(a+)+"}])
    bad["blueprint"]["services"][0]["secrets"][0]["value"] = "planted-value"
    body = problem(await api.client.post("/v1/templates", json=bad), 422, "blueprint_invalid")
    places = {fault["path"] for fault in body["errors"]}
    assert places == {
        "parameters[1].name",
        "parameters[2].name",
        "parameters[2].pattern",
        "blueprint.services[0].replicas",
        "blueprint.services[0].secrets[0].value",
    }
    assert "planted-value" not in str(body)
    assert await api.row_counts() == before


async def test_text_that_no_database_holds_is_refused(api: Api, tenant: Tenant) -> None:
    answer = await api.client.post("/v1/templates", json=web(description="a\0b"))
    body = problem(answer, 422, "validation_failed")
    assert [fault["path"] for fault in body["errors"]] == ["description"]


async def test_values_make_a_blueprint_and_bad_ones_are_all_named(api: Api, tenant: Tenant) -> None:
    await api.client.post("/v1/templates", json=web())
    path = "/v1/templates/web/instantiate"
    wrong = {"parameters": {"tag": "a b", "replicas": "two", "other": 1}}
    body = problem(await api.client.post(path, json=wrong), 422, "validation_failed")
    assert {fault["path"] for fault in body["errors"]} == {
        "parameters.tag",
        "parameters.replicas",
        "parameters.other",
    }
    good = {"parameters": {"tag": "1.2", "password": "auto-generated"}, "name": "mine"}
    made = (await api.client.post(path, json=good)).json()["data"]
    assert made["blueprint"]["name"] == "mine"
    assert made["blueprint"]["services"][0]["image"] == "registry.test/web:1.2"
    assert made["blueprint"]["services"][0]["replicas"] == 2
    assert "environment" not in made


async def test_with_create_there_is_an_environment_and_no_secret_is_kept_in_clear(
    api: Api, tenant: Tenant
) -> None:
    await api.client.post("/v1/templates", json=web())
    wish = {"parameters": {"tag": "1", "password": "planted-4d2e"}, "create": True}
    made = await api.client.post(
        "/v1/templates/web/instantiate", json=wish, headers={"Idempotency-Key": "make"}
    )
    assert made.status_code == 202, made.text
    assert made.json()["data"]["environment"]["name"] == "web"
    assert made.headers["location"].startswith("/v1/operations/op_")
    assert len(await api.started()) == 1
    assert "planted-4d2e" not in made.text
    async with api.database.reading() as session:
        kept = [row.body for row in await session.exec(select(IdempotencyRecord))]
    assert "planted-4d2e" not in str(kept)


def test_every_bundled_template_is_a_blueprint_by_its_defaults() -> None:
    assert len(bundled_templates()) >= 2
    for template in bundled_templates():
        parameters = [Parameter.model_validate(each.model_dump()) for each in template.parameters]
        assert template_faults(parameters, template.blueprint) == ()
        document, faults = instantiate(parameters, template.blueprint, {})
        assert faults == ()
        parse_blueprint(document)
