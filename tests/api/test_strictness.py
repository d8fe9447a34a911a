"""What the document says is what is taken: types, bounds, characters and parameters; nothing is written."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.support import Api, create, problem

pytestmark = pytest.mark.usefixtures("tenant")

HUGE = 10**30
LATEST = "9999-12-31T23:59:59-14:00"
"""A time that UTC has no number for."""


def anew(hours: object) -> dict[str, Any]:
    """A policy whose snapshots are verified anew after so long."""
    return {"everyMinutes": 60, "verifyLevel": 1, "verifyEveryHours": hours}


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PATCH", "/scale", {"service": "web", "replicas": HUGE}, "replicas"),
        ("PATCH", "/scale", {"service": "web", "replicas": -1}, "replicas"),
        ("PATCH", "/scale", {"service": "web", "replicas": "3"}, "replicas"),
        ("PATCH", "/scale", {"service": "web", "replicas": True}, "replicas"),
        ("POST", "/rollback", {"revision": HUGE}, "revision"),
        ("POST", "/rollback", {"revision": 2**31}, "revision"),
        ("POST", "/checkpoints", {"name": "a", "revision": HUGE}, "revision"),
        ("POST", "/extend", {"minutes": "60"}, "minutes"),
        ("POST", "/share", {"expiresInSeconds": HUGE}, "expiresInSeconds"),
        ("POST", "/share", {"expiresInSeconds": "99"}, "expiresInSeconds"),
        ("POST", "/share", {"showImages": "yes"}, "showImages"),
        ("PUT", "/snapshot-policy", {"everyMinutes": 60, "verifyLevel": True}, "verifyLevel"),
        ("PUT", "/snapshot-policy", {"everyMinutes": 60, "verifyLevel": "1"}, "verifyLevel"),
        ("PUT", "/snapshot-policy", {"everyMinutes": 60, "paused": "yes"}, "paused"),
        ("PUT", "/snapshot-policy", anew(0), "verifyEveryHours"),
        ("PUT", "/snapshot-policy", anew(8761), "verifyEveryHours"),
        ("PUT", "/snapshot-policy", anew("24"), "verifyEveryHours"),
        ("PUT", "/snapshot-policy", anew(True), "verifyEveryHours"),
        ("PUT", "/snapshot-policy", {"everyMinutes": 60, "verifyEveryHours": 24}, "verifyEveryHours"),
        ("PATCH", "", {"description": "a\0b"}, "description"),
        ("PATCH", "", {"labels": {"team": "a\0b"}}, "labels.team"),
        ("PUT", "/blueprint", {"blueprint": {"services": {}}, "message": "a\0b"}, "message"),
    ],
)
async def test_what_the_schema_does_not_have_is_named(
    api: Api, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    made = await create(api)
    before = await api.row_counts()
    answer = await api.client.request(method, f"/v1/environments/{made['id']}{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert field in {error["path"] for error in answer.json()["errors"]}
    assert await api.row_counts() == before


async def test_faults_are_in_words_of_ours(api: Api) -> None:
    made = await create(api)
    path = f"/v1/environments/{made['id']}"
    sent = {"servce": "web", "service": "web", "type": "powershell", "script": "exit 0"}
    seed = problem(await api.client.post(f"{path}/seed", json=sent), 422, "validation_failed")
    page = problem(
        await api.client.get("/v1/environments?q=a%00b&createdAfter=now"), 422, "validation_failed"
    )
    for fault in (*seed["errors"], *page["errors"]):
        for foreign in ("Value error", "Extra inputs", "should match pattern"):
            assert foreign not in fault["message"]
    unknown = next(fault for fault in seed["errors"] if fault["path"] == "servce")
    assert unknown["message"] == "is not known here"
    assert unknown["suggestion"].startswith("known: ")
    assert "service, " in unknown["suggestion"]
    assert {"path": "query.q", "message": "holds the character U+0000"} in page["errors"]


async def test_a_slash_at_the_end_leads_nowhere_else(api: Api) -> None:
    for method in ("GET", "POST"):
        answer = await api.client.request(method, "/v1/environments/")
        problem(answer, 404, "not_found")
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/stop"),
        ("POST", "/resume"),
        ("POST", "/retry"),
        ("DELETE", ""),
        ("GET", ""),
        ("GET", "/status"),
        ("DELETE", "/checkpoints/nowhere"),
    ],
)
async def test_a_body_where_none_is_taken_is_refused(api: Api, method: str, path: str) -> None:
    made = await create(api)
    address = f"/v1/environments/{made['id']}{path}"

    async def pieces(*some: bytes) -> AsyncIterator[bytes]:
        for piece in some:
            yield piece

    before = await api.row_counts()
    for content in (b"[]", b'{"surprise": true}', b" " * 1000 + b"1", pieces(b"", b"x")):
        answer = await api.client.request(method, address, content=content)
        body = problem(answer, 422, "validation_failed")
        assert body["errors"] == [
            {"path": "", "message": "a body is not taken here", "suggestion": "send none"}
        ]
    assert await api.row_counts() == before
    empty: list[bytes | AsyncIterator[bytes]] = [b"", b"{}", b" {}\n", pieces(), pieces(b"{", b"}")]
    for number, nothing in enumerate(empty):
        headers = {"Idempotency-Key": f"k-{number}"}
        answer = await api.client.request(method, address, content=nothing, headers=headers)
        assert answer.status_code in (200, 202, 404, 409), answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/secrets/shared", {"value": "a\0b"}),
        (
            "POST",
            "/v1/registry-credentials",
            {"name": "a", "registry": "r", "username": "a\0", "password": "b"},
        ),
        (
            "POST",
            "/v1/stubs/generate",
            {"service": "a", "examples": [{"path": "/", "body": {"a\0": ["b\0"]}}]},
        ),
        ("POST", "/v1/environments/import", {"compose": {"services": {"a": {"image": "a\0"}}}}),
        ("POST", "/v1/api-keys", {"name": "a", "unlimited": "true"}),
        ("POST", "/v1/api-keys", {"name": "a", "expiresAt": 99_999_999_999_999}),
    ],
)
async def test_nothing_is_kept_of_a_body_that_does_not_fit(
    api: Api, method: str, path: str, body: dict[str, Any]
) -> None:
    before = await api.row_counts()
    problem(await api.client.request(method, path, json=body), 422, "validation_failed")
    assert await api.row_counts() == before


async def test_a_key_until_the_end_of_time(api: Api) -> None:
    made = await api.client.post("/v1/api-keys", json={"name": "a", "expiresAt": LATEST})
    assert made.status_code == 201, made.text
    assert made.json()["data"]["expiresAt"] == "9999-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("PATCH", "/v1/environments/{id}", '{"labels": {"team": "\\ud800"}}'),
        ("POST", "/v1/environments", '{"blueprint": {"name": "a", "services": {}}, "name": "\\udfff"}'),
        ("PUT", "/v1/secrets/shared", '{"value": "\\ud800\\ud800"}'),
        ("POST", "/v1/principals", '{"\\ud800": "a"}'),
    ],
)
async def test_half_of_a_surrogate_pair_is_no_text(api: Api, method: str, path: str, content: str) -> None:
    made = await create(api)
    headers = {"Content-Type": "application/json"}
    answer = await api.client.request(
        method, path.replace("{id}", made["id"]), content=content, headers=headers
    )
    body = problem(answer, 400, "malformed_body")
    assert "surrogate" in body["detail"]


async def test_a_whole_surrogate_pair_is_a_character(api: Api) -> None:
    made = await create(api)
    answer = await api.client.patch(
        f"/v1/environments/{made['id']}",
        content='{"description": "\\ud83d\\ude00"}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.json()["data"]["description"] == "\U0001f600"


@pytest.mark.parametrize("rest", ["rollback", "clone", "restart", "extend", "checkpoints"])
@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b"\xff\xfe", 400), (b'{"a":1,"a":1}', 400)])
async def test_what_is_no_json_is_malformed_everywhere(
    api: Api, rest: str, content: bytes, status: int
) -> None:
    made = await create(api)
    path = f"/v1/environments/{made['id']}/{rest}"
    answer = await api.client.post(path, content=content, headers={"Content-Type": "application/json"})
    problem(answer, status, "malformed_body")
    typed = await api.client.post(path, content=b"{}", headers={"Content-Type": "text/plain"})
    problem(typed, 415, "unsupported_media_type")


async def test_a_parameter_that_a_route_does_not_know_is_refused(api: Api) -> None:
    made = await create(api)
    body = problem(
        await api.client.get("/v1/environments?stauts=running&limit=1&q=a"), 422, "validation_failed"
    )
    (error,) = body["errors"]
    assert error["path"] == "query.stauts"
    assert "status" in error["suggestion"]
    before = await api.row_counts()
    update = {"blueprint": {"name": "shop", "services": [{"name": "web", "image": "r.test/web:2"}]}}
    misspelt = await api.client.put(f"/v1/environments/{made['id']}/blueprint?dryRun=true", json=update)
    problem(misspelt, 422, "validation_failed")
    assert await api.row_counts() == before
    logs = await api.client.get(f"/v1/environments/{made['id']}/logs?tail=1&sinceSeconds=60&service=web")
    assert logs.status_code == 200, "parameters of a query model are known"


async def test_a_parameter_is_given_once_unless_it_is_a_list(api: Api) -> None:
    made = await create(api)
    before = await api.row_counts()
    update = {"blueprint": {"name": "shop", "services": [{"name": "web", "image": "r.test/web:2"}]}}
    twice = f"/v1/environments/{made['id']}/blueprint?dry_run=true&dry_run=false"
    [error] = problem(await api.client.put(twice, json=update), 422, "validation_failed")["errors"]
    assert error["path"] == "query.dry_run"
    assert await api.row_counts() == before
    tail = f"/v1/environments/{made['id']}/logs?service=web&tail=1&tail=2"
    problem(await api.client.get(tail), 422, "validation_failed")
    listed = await api.client.get("/v1/operations?kind=provision&kind=update&state=running&state=accepted")
    assert listed.status_code == 200
    assert len(listed.json()["data"]) == 1


@pytest.mark.parametrize("at", ["642", "1e9", "2026-01-01", "2026-01-01T00:00:00", "yesterday"])
@pytest.mark.parametrize("path", ["environments?createdBefore", "operations?since", "audit?since"])
async def test_a_time_is_written_out_with_its_zone(api: Api, path: str, at: str) -> None:
    problem(await api.client.get(f"/v1/{path}={at}"), 422, "validation_failed")
    assert (await api.client.get(f"/v1/{path}=2026-01-01T00:00:00Z")).status_code == 200


@pytest.mark.parametrize("query", ["q=%00%25", "name=a%00", "label=a%00"])
async def test_text_that_is_looked_for_holds_no_nul(api: Api, query: str) -> None:
    problem(await api.client.get(f"/v1/environments?{query}"), 422, "validation_failed")
