"""Filters and orders of lists over HTTP."""

from datetime import UTC, datetime

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


async def test_what_happened_is_narrowed_and_ordered(api: Api) -> None:
    address = await _things(api)
    revoked = (await api.client.post(f"{address}/share", json={"label": "For QA"})).json()["data"]["id"]
    await api.client.delete(f"{address}/shares/{revoked}")
    link = (await api.client.post(f"{address}/share", json={"expiresInSeconds": 60})).json()["data"]["id"]
    now = datetime.now(UTC).isoformat().replace("+", "%2B")
    for query, expected in {
        f"{address}/shares?state=open": [link],
        f"{address}/shares?state=revoked&state=expired": [revoked],
        f"{address}/shares?sort=expiresAt": [link, revoked],
        f"{address}/shares?q=qa": [revoked],
        f"{address}/revisions?named=true&sort=number": [1],
        f"{address}/revisions?named=false": [],
        f"{address}/revisions?q=CREAT": [1],
        f"{address}/revisions?since={now}": [],
        f"{address}/replays?sort=createdAt&state=failed": [],
        f"/v1/audit?action=share.create&sort=at&until={now}": [revoked, link],
        f"/v1/audit?subject={link}": [link],
        f"/v1/audit?since={now}": [],
        "/v1/audit?key=key_none": [],
        "/v1/environments/snapshots?scheduled=true&verified=false&sort=-storedBytes": [],
    }.items():
        answer = await api.client.get(query)
        assert answer.status_code == 200, answer.text
        shown = [each.get("subjectId") or each.get("number") or each["id"] for each in answer.json()["data"]]
        assert shown == expected, query
    first = (await api.client.get("/v1/audit?sort=at&limit=1")).json()["meta"]["nextCursor"]
    assert (await api.client.get(f"/v1/audit?sort=at&cursor={first}")).status_code == 200
    problem(await api.client.get(f"/v1/audit?cursor={first}"), 422, "validation_failed")
    problem(await api.client.get(f"{address}/revisions?cursor=2"), 422, "validation_failed")


async def _things(api: Api) -> str:
    """Three of each of the organisation's own things; the address of an environment of theirs."""
    address = f"/v1/environments/{(await create(api, 'shop'))['id']}"
    blueprint = {"name": "web", "services": [{"name": "web", "image": "registry.test/web:1"}]}
    login = {"registry": "registry.test", "username": "robot", "password": "a token"}
    for name in ("b", "c", "a"):
        for answer in (
            await api.client.post("/v1/principals", json={"name": name}),
            await api.client.post("/v1/api-keys", json={"name": name}),
            await api.client.put(f"/v1/secrets/{name}", json={"value": "x"}),
            await api.client.post("/v1/registry-credentials", json={"name": name, **login}),
            await api.client.post("/v1/templates", json={"name": name, "blueprint": blueprint}),
            await api.client.post(f"{address}/checkpoints", json={"name": name}),
        ):
            assert answer.is_success, answer.text
    return address


async def test_things_of_the_organisation_page_without_gaps_or_repeats(api: Api) -> None:
    address = await _things(api)
    cursors: dict[str, str] = {}
    for path, expected in {
        "/v1/principals": ["somebody", "b", "c", "a"],
        "/v1/api-keys": ["a", "c", "b", "laptop"],
        "/v1/secrets": ["a", "b", "c"],
        "/v1/registry-credentials": ["a", "b", "c"],
        "/v1/templates": ["hello", "postgres", "a", "b", "c"],
        f"{address}/checkpoints": ["a", "c", "b"],
    }.items():
        whole = (await api.client.get(path)).json()
        assert [each["name"] for each in whole["data"]] == expected, path
        assert "nextCursor" not in whole["meta"]
        for limit in (1, 2, len(expected)):
            found, query = [], f"limit={limit}"
            while query:
                page = (await api.client.get(f"{path}?{query}")).json()
                assert len(page["data"]) <= limit
                found += page["data"]
                cursor = page["meta"].get("nextCursor")
                cursors[path] = cursor or cursors.get(path, "")
                query = f"limit={limit}&cursor={cursor}" if cursor else ""
            assert found == whole["data"], (path, limit)
        if path != "/v1/templates":
            backwards = (await api.client.get(f"{path}?sort=-name")).json()["data"]
            assert [each["name"] for each in backwards] == sorted(expected, reverse=True), path
            assert len((await api.client.get(f"{path}?q=B")).json()["data"]) == 1 + ("somebody" in expected)
            problem(await api.client.get(f"{path}?sort=size"), 422, "validation_failed")
        problem(await api.client.get(f"{path}?limit=0&cursor=x"), 422, "validation_failed")
        problem(await api.client.get(f"{path}?cursor=nonsense"), 422, "validation_failed")
    for path, cursor in zip(cursors, [*list(cursors.values())[1:], cursors["/v1/principals"]], strict=True):
        problem(await api.client.get(f"{path}?cursor={cursor}"), 422, "validation_failed")
