"""Keys, principals, organisation secrets and the audit trail over HTTP."""

import asyncio
from typing import Any

import pytest

from activities.db.repositories.keys import create_key
from activities.db.tables import Role
from tests.api.support import Api, problem, shop_document
from tests.helpers.tenants import Tenant, begin, finish
from workflows.domain.operations import OperationState

SECRET = "planted-9c2e-value"


async def make(api: Api, **wish: Any) -> dict[str, Any]:
    """Make a key; return it with its token."""
    answer = await api.client.post("/v1/api-keys", json={"name": "ci", **wish})
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_a_key_is_told_once_works_and_is_revoked_at_once(api: Api, tenant: Tenant) -> None:
    principal = (await api.client.post("/v1/principals", json={"name": "build server"})).json()["data"]
    assert principal in (await api.client.get("/v1/principals")).json()["data"]
    headers = {"Idempotency-Key": "once"}
    body = {"name": "ci", "role": "viewer", "principalId": principal["id"]}
    made = (await api.client.post("/v1/api-keys", json=body, headers=headers)).json()["data"]
    again = await api.client.post("/v1/api-keys", json=body, headers=headers)
    problem(again, 409, "idempotency_used")
    bearer = {"Authorization": f"Bearer {made['token']}"}
    assert (await api.client.get("/v1/environments", headers=bearer)).status_code == 200
    problem(
        await api.client.post("/v1/environments", json={"blueprint": shop_document()}, headers=bearer),
        403,
        "policy_denied",
    )
    listed = (await api.client.get("/v1/api-keys")).text
    assert made["id"] in listed
    assert made["token"] not in listed
    revoked = await api.client.delete(f"/v1/api-keys/{made['id']}")
    assert revoked.json()["data"]["revokedAt"]
    problem(await api.client.get("/v1/environments", headers=bearer), 401, "unauthenticated")


async def test_the_trail_tells_what_a_key_may(api: Api, tenant: Tenant) -> None:
    end = "2099-01-01T00:00:00+00:00"
    for wish in ({"unlimited": True}, {"expiresAt": end}):
        made = await make(api, **wish)
        [entry] = (await api.client.get(f"/v1/audit?subject={made['id']}")).json()["data"]
        assert {each: entry["data"][each] for each in ("unlimited", "expiresAt")} == {
            "unlimited": False,
            "expiresAt": None,
            **wish,
        }


async def test_nobody_gives_more_than_they_have(api: Api, tenant: Tenant) -> None:
    admin = await make(api, role="admin")
    owners = [
        each["id"]
        for each in (await api.client.get("/v1/api-keys")).json()["data"]
        if each["role"] == "owner"
    ]
    api.client.headers["Authorization"] = f"Bearer {admin['token']}"
    before = await api.row_counts()
    for wish in ({"role": "owner"}, {"unlimited": True}):
        problem(await api.client.post("/v1/api-keys", json={"name": "x", **wish}), 403, "policy_denied")
    problem(await api.client.delete(f"/v1/api-keys/{owners[0]}"), 403, "policy_denied")
    body = problem(
        await api.client.post(
            "/v1/api-keys", json={"name": "", "role": "king", "expiresAt": "2020-01-01T00:00:00Z"}
        ),
        422,
        "validation_failed",
    )
    assert {error["path"].removeprefix("body.") for error in body["errors"]} == {"name", "role", "expiresAt"}
    assert await api.row_counts() == before


async def test_the_last_owner_key_stays_whoever_comes_first(api: Api, tenant: Tenant) -> None:
    own = tenant.actor.key_id
    problem(await api.client.delete(f"/v1/api-keys/{own}"), 409, "conflict")
    async with api.database.transaction() as session:
        other = await create_key(
            session, tenant.id, tenant.actor.principal_id, name="second", role=Role.OWNER
        )
    answers = await asyncio.gather(
        api.client.delete(f"/v1/api-keys/{own}"), api.client.delete(f"/v1/api-keys/{other.key.id}")
    )
    codes = sorted(answer.status_code for answer in answers)
    # The second may come with a key that is revoked by then.
    assert codes in ([200, 409], [200, 401])


async def test_a_secret_of_the_organisation_is_used_kept_and_let_go(api: Api, tenant: Tenant) -> None:
    document = shop_document()
    document["services"]["web"]["secrets"] = [
        {"name": "token", "envKey": "TOKEN", "valueFrom": {"secret": "shared"}}
    ]
    missing = await api.client.post("/v1/environments", json={"blueprint": document})
    problem(missing, 422, "blueprint_invalid")
    stored = await api.client.put("/v1/secrets/shared", json={"value": SECRET})
    assert stored.status_code == 200, stored.text
    assert SECRET not in stored.text
    created = (await api.client.post("/v1/environments", json={"blueprint": document})).json()["data"]
    await begin(api.database, created["operation"]["id"])
    await finish(api.database, created["operation"]["id"], OperationState.SUCCEEDED)
    body = problem(await api.client.delete("/v1/secrets/shared"), 409, "conflict")
    assert "shop" in body["detail"]
    assert [each["name"] for each in (await api.client.get("/v1/secrets")).json()["data"]] == ["shared"]
    deleted = (await api.client.delete(f"/v1/environments/{created['id']}")).json()["data"]
    await begin(api.database, deleted["id"])
    await finish(api.database, deleted["id"], OperationState.SUCCEEDED)
    assert (await api.client.delete("/v1/secrets/shared")).status_code == 204
    problem(await api.client.delete("/v1/secrets/shared"), 404, "not_found")
    trail = await api.client.get("/v1/audit?limit=200")
    assert SECRET not in trail.text
    actions = [each["action"] for each in trail.json()["data"]]
    assert actions.count("secret.create") == actions.count("secret.delete") == 1


@pytest.mark.parametrize("name", ["No", "a_b", "-a", "a" * 64])
async def test_names_of_secrets_are_checked(api: Api, tenant: Tenant, name: str) -> None:
    problem(await api.client.put(f"/v1/secrets/{name}", json={"value": "x"}), 422, "validation_failed")


async def test_the_trail_is_filtered_and_paged_and_ones_own(
    api: Api, tenant: Tenant, stranger: Tenant
) -> None:
    keys = [await make(api, name=f"key-{number}") for number in range(3)]
    page = (await api.client.get("/v1/audit?action=api_key.create&limit=2")).json()
    rest = (
        await api.client.get(f"/v1/audit?action=api_key.create&limit=2&cursor={page['meta']['nextCursor']}")
    ).json()
    found = [each["subjectId"] for each in (*page["data"], *rest["data"])]
    assert found == [key["id"] for key in reversed(keys)]
    one = (await api.client.get(f"/v1/audit?subject={keys[0]['id']}")).json()["data"]
    assert [(each["action"], each["principalId"]) for each in one] == [
        ("api_key.create", tenant.actor.principal_id)
    ]
    assert (await api.client.get("/v1/audit?since=2999-01-01T00:00:00Z")).json()["data"] == []
    api.use(stranger)
    assert (await api.client.get("/v1/audit")).json()["data"] == []
    problem(await api.client.delete(f"/v1/api-keys/{keys[0]['id']}"), 404, "not_found")
