"""Logins for registries over HTTP: read, replaced, and kept while something uses them."""

import json
from typing import Any

import pytest

from activities.db.repositories import registry_credentials
from tests.api.support import Api, problem, shop_document
from tests.helpers.tenants import KEYS, Tenant, begin, finish
from workflows.domain.operations import OperationState

PASSWORD = "planted-4e1b-password"
NEXT = "planted-9d03-password"
LOGIN = {"name": "corp", "registry": "ghcr.io", "username": "robot", "password": PASSWORD}
PATH = "/v1/registry-credentials"


@pytest.fixture
async def login(api: Api, tenant: Tenant) -> dict[str, Any]:
    answer = await api.client.post(PATH, json=LOGIN)
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def pulling() -> dict[str, Any]:
    document = shop_document()
    document["services"]["web"]["imagePullSecrets"] = ["corp"]
    return document


async def running(api: Api) -> dict[str, Any]:
    """An environment that pulls with the login."""
    answer = await api.client.post("/v1/environments", json={"blueprint": pulling()})
    data: dict[str, Any] = answer.json()["data"]
    await end(api, data["operation"]["id"])
    return data


async def end(api: Api, operation_id: str) -> None:
    await begin(api.database, operation_id)
    await finish(api.database, operation_id, OperationState.SUCCEEDED)


async def stored(api: Api, tenant: Tenant) -> dict[str, Any]:
    """What a cluster would be given of the login."""
    async with api.database.reading() as session:
        documents = await registry_credentials.docker_configs(session, tenant.id, ["corp"], KEYS)
    found: dict[str, Any] = json.loads(documents["corp"])["auths"]
    return found


async def test_one_is_read_by_id_and_by_name_without_its_password(api: Api, login: dict[str, Any]) -> None:
    for key in (login["id"], "corp"):
        answer = await api.client.get(f"{PATH}/{key}")
        assert answer.json()["data"] == login
        assert PASSWORD not in answer.text
    problem(await api.client.get(f"{PATH}/none"), 404, "not_found")


async def test_a_replacement_is_whole_and_keeps_id_and_name(
    api: Api, tenant: Tenant, login: dict[str, Any]
) -> None:
    wish = {"registry": "registry.test:5000", "username": "other", "password": NEXT}
    answer = await api.client.put(f"{PATH}/corp", json=wish)
    data = answer.json()["data"]
    assert {name: data[name] for name in ("id", "name", "registry", "username", "createdAt")} == {
        **{name: login[name] for name in ("id", "name", "createdAt")},
        "registry": "registry.test:5000",
        "username": "other",
    }
    assert data["updatedAt"] > login["updatedAt"]
    assert NEXT not in answer.text
    auths = await stored(api, tenant)
    assert list(auths) == ["registry.test:5000"]
    assert (auths["registry.test:5000"]["username"], auths["registry.test:5000"]["password"]) == (
        "other",
        NEXT,
    )
    trail = await api.client.get(f"/v1/audit?subject={login['id']}")
    assert [each["action"] for each in trail.json()["data"]] == [
        "registry_credential.replace",
        "registry_credential.create",
    ]
    assert NEXT not in trail.text
    problem(await api.client.put(f"{PATH}/none", json=wish), 404, "not_found")
    problem(await api.client.put(f"{PATH}/corp", json={**wish, "name": "x"}), 422, "validation_failed")
    problem(await api.client.put(f"{PATH}/corp", json={"password": NEXT}), 422, "validation_failed")


async def test_a_restart_and_a_change_write_a_replaced_password(api: Api, login: dict[str, Any]) -> None:
    environment = await running(api)
    wish = {"registry": "ghcr.io", "username": "robot", "password": NEXT}
    assert (await api.client.put(f"{PATH}/{login['id']}", json=wish)).status_code == 200
    path = f"/v1/environments/{environment['id']}"
    changed = pulling()
    changed["services"]["web"]["image"] = "registry.test/web:2"
    for method, rest, body in (
        ("POST", "restart", {"service": "web"}),
        ("PUT", "blueprint", {"blueprint": changed}),
    ):
        accepted = (await api.client.request(method, f"{path}/{rest}", json=body)).json()["data"]
        operation = (await api.client.get(f"/v1/operations/{accepted['id']}")).json()["data"]
        assert "secrets" in {step["name"] for step in operation["steps"]}, rest
        await end(api, accepted["id"])


async def test_one_that_an_environment_names_is_not_removed(
    api: Api, tenant: Tenant, login: dict[str, Any]
) -> None:
    environment = await running(api)
    body = problem(await api.client.delete(f"{PATH}/corp"), 409, "conflict")
    assert body["environments"] == ["shop"]
    assert "shop" in body["detail"]
    assert await stored(api, tenant)
    deleted = await api.client.delete(f"/v1/environments/{environment['id']}")
    problem(await api.client.delete(f"{PATH}/corp"), 409, "conflict")
    await end(api, deleted.json()["data"]["id"])
    assert (await api.client.delete(f"{PATH}/corp")).status_code == 200
    problem(await api.client.get(f"{PATH}/corp"), 404, "not_found")
