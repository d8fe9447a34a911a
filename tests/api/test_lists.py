"""Filters and orders of lists over HTTP."""

import pytest

from tests.api.support import Api, create, problem
from tests.helpers.tenants import Tenant

pytestmark = pytest.mark.usefixtures("tenant")


async def names(api: Api, query: str) -> list[str]:
    answer = await api.client.get(f"/v1/environments?{query}")
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["data"]]


async def test_environments_are_narrowed_and_ordered(api: Api) -> None:
    for name in ("b", "c", "a"):
        made = await create(api, name)
        if name != "c":
            body = {"labels": {"team": "shop"}}
            await api.client.patch(f"/v1/environments/{made['id']}", json=body)
    assert await names(api, "") == ["a", "c", "b"]
    assert await names(api, "sort=name") == ["a", "b", "c"]
    assert await names(api, "sort=-name&label=team%3Dshop") == ["b", "a"]
    assert await names(api, "label=team") == ["a", "b"]
    assert await names(api, "q=C") == ["c"]
    assert await names(api, "createdAfter=2099-01-01T00:00:00Z") == []
    assert await names(api, "createdAfter=0001-01-01T00:00:00%2B14:00&status=provisioning&name=c") == ["c"]


async def test_faults_of_a_list_are_listed(api: Api) -> None:
    query = "sort=size&createdAfter=2026-01-01T00:00:00&status=odd&limit=0"
    body = problem(await api.client.get(f"/v1/environments?{query}"), 422, "validation_failed")
    assert len(body["errors"]) == 4
    query = "label=ok%3Dyes&label=not%20ok&label=a%3D%21"
    body = problem(await api.client.get(f"/v1/environments?{query}"), 422, "validation_failed")
    assert [each["path"] for each in body["errors"]] == ["query.label[1]", "query.label[2]"]


async def test_a_cursor_is_of_one_order_and_filter(api: Api) -> None:
    for name in ("b", "c", "a"):
        await create(api, name)
    first = (await api.client.get("/v1/environments?sort=name&limit=2")).json()
    cursor = first["meta"]["nextCursor"]
    assert await names(api, f"sort=name&limit=2&cursor={cursor}") == ["c"]
    for other in ("sort=-name", "sort=name&q=a", ""):
        answer = await api.client.get(f"/v1/environments?{other}&cursor={cursor}")
        body = problem(answer, 422, "validation_failed")
        assert "order" in body["detail"]
        assert body["errors"][0]["path"] == "query.cursor"


async def test_operations_since(api: Api) -> None:
    for name in ("b", "c", "a"):
        await create(api, name)
    listed = (await api.client.get("/v1/operations?sort=createdAt")).json()["data"]
    assert [each["environmentName"] for each in listed] == ["b", "c", "a"]
    since = listed[1]["createdAt"].replace("+", "%2B")
    late = (await api.client.get(f"/v1/operations?since={since}")).json()["data"]
    assert [each["environmentName"] for each in late] == ["a", "c"]


async def test_text_that_postgres_cannot_hold_is_a_fault_of_the_request(
    postgres_api: Api, stranger: Tenant
) -> None:
    from tests.helpers.tenants import make_tenant  # noqa: PLC0415

    postgres_api.use(await make_tenant(postgres_api.database))
    problem(await postgres_api.client.get("/v1/environments?name=a%00b"), 422, "validation_failed")
    problem(await postgres_api.client.get("/v1/environments/a%00b"), 404, "not_found")
