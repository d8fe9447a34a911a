"""Share links over HTTP: made, seen by guests, revoked; and what guests never see."""

import hashlib
import json
import re
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlmodel import col, select, update
from structlog.testing import capture_logs

from activities.db.repositories.shares import MOST_WRONG_PINS
from activities.db.tables import AuditEntry, Environment, IdempotencyRecord, Share
from activities.db.types import utc_now
from activities.share_links import ShareSession
from api.middleware import shown_path
from api.problems import ProblemError
from api.settings import ApiSettings
from api.shares.limits import GuestLimits
from tests.api.support import Api, create, pod, problem, running_api
from tests.helpers.tenants import Tenant, make_tenant
from workflows.domain.operations import EnvironmentPhase

PIN = "4711-blue"


async def share(api: Api, environment_id: str, **wish: Any) -> dict[str, Any]:
    """Make a link; return it as answered."""
    response = await api.client.post(f"/v1/environments/{environment_id}/share", json=wish)
    assert response.status_code == 201, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


async def change(api: Api, share_id: str, **values: object) -> None:
    """Set columns of a share."""
    async with api.database.transaction() as session:
        await session.exec(update(Share).where(col(Share.id) == share_id).values(**values))


def guest(api: Api) -> httpx2.AsyncClient:
    """Take the API key off: what follows is a guest's."""
    api.client.headers.pop("Authorization", None)
    return api.client


async def test_a_guest_sees_what_may_be_seen_and_no_more(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    api.cluster.pods = [
        pod(environment["id"], "web"),
        pod(environment["id"], "db", ready=False, waiting="CrashLoopBackOff"),
    ]
    link = await share(api, environment["id"], label="for the review")
    assert link["url"] == f"http://api.test/v1/portal/{environment['id']}#{link['token']}"
    assert link["apiUrl"] == f"http://api.test/v1/share/{link['token']}"
    response = await guest(api).get(f"/v1/share/{link['token']}")
    assert response.status_code == 200
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"
    seen = response.json()
    assert set(seen) == {
        "name", "description", "status", "terminal", "services", "topology", "endpoints", "clusterReachable",
        "observedAt", "expiresAt",
    }  # fmt: skip
    assert [(each["name"], each["ready"]) for each in seen["services"]] == [("web", 1), ("db", 0)]
    assert seen["topology"] == {"nodes": ["web", "db"], "edges": [{"source": "web", "target": "db"}]}
    (endpoint,) = seen["endpoints"]
    assert endpoint["url"].startswith("http://")
    for hidden in (
        "registry.test",
        "planted-7d1f-value",
        "TOKEN",
        "CrashLoop",
        tenant.id,
        environment["namespace"] + '"',
    ):
        assert hidden not in response.text


async def test_images_are_shown_when_the_link_says_so(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    link = await share(api, environment["id"], showImages=True)
    seen = (await guest(api).get(f"/v1/share/{link['token']}")).json()
    assert seen["services"][0]["image"] == "registry.test/web:1"


async def test_what_opens_nothing_is_answered_alike(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    links = [await share(api, environment["id"], pin=PIN) for _ in range(3)]
    await change(api, links[0]["id"], expires_at=utc_now() - timedelta(seconds=1))
    revoked = await api.client.delete(f"/v1/environments/{environment['id']}/shares/{links[1]['id']}")
    assert revoked.json()["data"]["state"] == "revoked"
    good = links[2]["token"]
    tokens = [
        links[0]["token"],
        links[1]["token"],
        good[:-1] + ("A" if good[-1] != "A" else "E"),
        "pds_x",
        "elsewhere",
    ]
    answers = []
    for token in tokens:
        for headers in ({}, {"X-Share-PIN": PIN}, {"X-Share-PIN": "wrong-pin"}):
            answer = await guest(api).get(f"/v1/share/{token}", headers=headers)
            body = problem(answer, 404, "not_found")
            assert token not in answer.text
            assert answer.headers["cache-control"] == "no-store"
            answers.append({**body, "requestId": ""})
    assert all(answer == answers[0] for answer in answers)
    problem(await guest(api).get(f"/v1/share/{good}"), 401, "pin_required")


async def test_a_link_of_a_deleted_environment_opens_nothing(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    link = await share(api, environment["id"])
    async with api.database.transaction() as session:
        gone = update(Environment).values(phase=EnvironmentPhase.DELETED, deleted_at=utc_now())
        await session.exec(gone)
    body = problem(await api.client.post(f"/v1/environments/{environment['id']}/share"), 409, "conflict")
    assert "deleted" in body["detail"]
    problem(await guest(api).get(f"/v1/share/{link['token']}"), 404, "not_found")


async def test_pins_and_the_lock(settings: ApiSettings) -> None:
    async with running_api(settings) as api:
        api.use(await make_tenant(api.database))
        environment = await create(api)
        link = await share(api, environment["id"], pin=PIN)
        address = f"/v1/share/{link['token']}"
        guest(api)
        absent = problem(await api.client.get(address), 401, "pin_required")
        wrong = problem(await api.client.get(address, headers={"X-Share-PIN": "0000"}), 401, "pin_required")
        assert {**absent, "requestId": ""} == {**wrong, "requestId": ""}
        assert (await api.client.get(address, headers={"X-Share-PIN": PIN})).status_code == 200
        for attempt in range(MOST_WRONG_PINS):
            answer = await api.client.get(address, headers={"X-Share-PIN": f"000{attempt}"})
            problem(answer, 401, "pin_required")
        locked = await api.client.get(address, headers={"X-Share-PIN": PIN})
        problem(locked, 429, "pin_locked")
        assert 800 < int(locked.headers["retry-after"]) <= 900
    # Another process, a later start: the lock is in the database.
    async with running_api(settings) as api:
        problem(await guest(api).get(address, headers={"X-Share-PIN": PIN}), 429, "pin_locked")
        await change(api, link["id"], locked_until=utc_now() - timedelta(seconds=1))
        assert (await api.client.get(address, headers={"X-Share-PIN": PIN})).status_code == 200


async def test_a_pin_in_the_address_is_refused_unread(api: Api, tenant: Tenant) -> None:
    link = await share(api, (await create(api))["id"], pin=PIN)
    answer = await guest(api).get(f"/v1/share/{link['token']}?pin={PIN}")
    body = problem(answer, 422, "validation_failed")
    assert body["errors"][0]["path"] == "query.pin"
    assert PIN not in answer.text
    too_long = await api.client.get(f"/v1/share/{link['token']}", headers={"X-Share-PIN": "9" * 65})
    problem(too_long, 422, "validation_failed")


async def test_every_fault_of_a_wish_is_listed_and_nothing_written(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    before = await api.row_counts()
    address = f"/v1/environments/{environment['id']}/share"
    for wish, paths in (
        ({"expiresInSeconds": 10**9, "pin": "é 1"}, {"expiresInSeconds", "pin"}),
        ({"expiresInSeconds": 5, "label": "x" * 201, "more": 1}, {"expiresInSeconds", "label", "more"}),
        ({"pin": "123"}, {"pin"}),
    ):
        answer = await api.client.post(address, json=wish)
        body = problem(answer, 422, "validation_failed")
        assert {each["path"] for each in body["errors"]} == paths
        assert "é 1" not in answer.text
    assert await api.row_counts() == before


async def test_nothing_that_can_be_sent_is_a_fault_of_ours(postgres_api: Api) -> None:
    postgres_api.use(await make_tenant(postgres_api.database))
    environment = await create(postgres_api)
    client, base = postgres_api.client, f"/v1/environments/{environment['id']}"
    bodies = [
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"label":"a\\u0000b"}',
        b'{"label":"\\ud800"}',
        b'{"pin":"\\ud800111"}',
    ]
    for body in bodies:
        answer = await client.post(
            f"{base}/share", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (400, 422), (body, answer.text)
    for path in (f"{base}/shares/%00", f"{base}/shares/{'x' * 3000}"):
        assert (await client.delete(path)).status_code == 404, path
    for path in ("/v1/share/%00", "/v1/share/pds_%00.a.b", "/v1/portal/%00"):
        answer = await client.get(path, headers=[(b"Cookie", b"perdure_share=%00; x=\xff")])
        assert answer.status_code in (401, 404), path
    link = await share(postgres_api, environment["id"], pin=PIN, label="für ✓")
    seen = await client.get(f"/v1/share/{link['token']}", headers=[(b"X-Share-PIN", b"\xff\xfe12")])
    problem(seen, 401, "pin_required")
    seen = await client.get(f"/v1/share/{link['token']}", headers={"X-Share-PIN": PIN})
    assert seen.status_code == 200


async def test_the_list_counts_views_and_holds_no_token(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    first = await share(api, environment["id"], label="one", expiresInSeconds=3600)
    second = await share(api, environment["id"], label="two", pin=PIN)
    for _ in range(3):
        await api.client.get(f"/v1/share/{first['token']}", headers={"Authorization": ""})
    address = f"/v1/environments/{environment['id']}/shares"
    answer = await api.client.get(address)
    listed = answer.json()["data"]
    assert [(each["label"], each["views"], each["pin"], each["state"]) for each in listed] == [
        ("two", 0, True, "open"),
        ("one", 3, False, "open"),
    ]
    assert "pds_" not in answer.text
    page = (await api.client.get(f"{address}?limit=1")).json()
    following = await api.client.get(f"{address}?limit=1&cursor={page['meta']['nextCursor']}")
    assert [each["id"] for each in following.json()["data"]] == [first["id"]]
    assert second["id"] == page["data"][0]["id"]


async def test_a_repetition_makes_no_second_link_and_tells_no_token(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    address, headers = f"/v1/environments/{environment['id']}/share", {"Idempotency-Key": "k1"}
    first = await api.client.post(address, headers=headers)
    assert first.status_code == 201
    problem(await api.client.post(address, headers=headers), 409, "idempotency_used")
    async with api.database.reading() as session:
        assert len((await session.exec(select(Share))).all()) == 1


async def test_the_token_and_the_pin_are_written_nowhere(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    with capture_logs() as logs:
        link = await share(api, environment["id"], pin=PIN)
        token = link["token"]
        guest(api)
        for address in (
            f"/v1/share/{token}",
            f"/share/{token}",
            f"/v1/share/{token}/x",
            f"/{token}",
            f"//v1/share/{token}",
        ):
            answer = await api.client.get(address, headers={"X-Share-PIN": PIN})
            assert token not in answer.text
        await api.client.post(f"/v1/portal/{environment['id']}", data={"token": token, "pin": PIN})
        await api.client.post(f"/v1/portal/{token}", data={"token": token, "pin": PIN})
    assert len(logs) >= 8
    written = json.dumps(logs, default=str)
    assert "/v1/share/(token)" in written
    async with api.database.reading() as session:
        connection = await session.connection()
        for table in Share.metadata.tables.values():
            written += str((await connection.execute(table.select())).all())
    signature = token.rpartition(".")[2]
    for secret in (token, signature, PIN):
        assert secret not in written
    for started in await api.started():
        assert signature not in str(started)
    async with api.database.reading() as session:
        actions = [row.action for row in await session.exec(select(AuditEntry))]
        kept = [row.body for row in await session.exec(select(IdempotencyRecord))]
    assert "share.create" in actions
    assert kept == []


async def test_a_pin_cannot_be_tried_on_the_digest_of_its_request(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    body = json.dumps({"pin": PIN}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k1"}
    address = f"/v1/environments/{environment['id']}/share"
    assert (await api.client.post(address, content=body, headers=headers)).status_code == 201
    async with api.database.reading() as session:
        (kept,) = (await session.exec(select(IdempotencyRecord))).all()
    assert len(kept.fingerprint) == 64
    assert kept.fingerprint != hashlib.sha256(b"application/json\0\0" + body).hexdigest()


def test_paths_are_shown_without_tokens() -> None:
    assert shown_path("/v1/share/anything/at/all") == "/v1/share/(token)/at/all"
    assert shown_path("/share/x") == "/share/(token)"
    assert shown_path("/v1/environments/env_1/share") == "/v1/environments/env_1/share"
    assert shown_path("/v1/portal/pds_a.b.c/x") == "/v1/portal/(token)/x"


async def test_too_many_requests_of_one_address(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"share_requests_per_minute": 3})) as api:
        api.use(await make_tenant(api.database))
        environment = await create(api)
        link, other = await share(api, environment["id"]), await share(api, environment["id"])
        guest(api)
        statuses = [(await api.client.get(f"/v1/share/{link['token']}")).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        answer = await api.client.get(f"/v1/share/{link['token']}")
        problem(answer, 429, "rate_limited")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await api.client.get(f"/v1/share/{other['token']}")).status_code == 200
        guesses = [(await api.client.get(f"/v1/share/pds_{n}.b.c")).status_code for n in range(4)]
        assert guesses == [404, 404, 404, 429], "wrong links are counted together"


def test_the_limit_fills_evenly_and_goes_by_network() -> None:
    now = [0.0]
    limits = GuestLimits(60, clock=lambda: now[0])
    for number in range(60):
        limits.take(f"2001:db8::{number:x}", "shr_1")
    with pytest.raises(ProblemError):
        limits.take("2001:db8::ffff", "shr_1")
    limits.take("2001:db8:1::1", "shr_1")
    now[0] += 1.0
    limits.take("2001:db8::1", "shr_1")
    with pytest.raises(ProblemError):
        limits.take("2001:db8::1", "shr_1")


async def test_the_addresses_without_prefix_answer_too(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    link = await share(api, environment["id"])
    assert (await api.client.get("/status/stats")).status_code == 200
    assert (await guest(api).get(f"/share/{link['token']}")).status_code == 200
    address = f"/portal/{environment['id']}"
    opened = await api.client.post(address, data={"token": link["token"]})
    assert opened.headers["location"] == address
    assert (await api.client.get(address)).status_code == 200


class TestPortal:
    async def test_only_a_link_opens_it(self, api: Api, tenant: Tenant) -> None:
        environment = await create(api)
        link = await share(api, environment["id"])
        address = f"/v1/portal/{environment['id']}"
        known = await guest(api).get(address)
        unknown = await api.client.get("/v1/portal/env_unknown")
        with_key = await api.client.get(address, headers={"Authorization": f"Bearer {tenant.token}"})
        assert known.status_code == unknown.status_code == with_key.status_code == 401
        assert known.text == unknown.text == with_key.text
        opened = await api.client.post(address, data={"token": link["url"]})
        assert (opened.status_code, opened.headers["location"]) == (303, address)
        cookie = opened.headers["set-cookie"]
        for attribute in ("HttpOnly", "SameSite=strict", f"Path={address}", "Max-Age="):
            assert attribute in cookie
        assert link["token"].rpartition(".")[2] not in cookie
        page = await api.client.get(address)
        assert page.status_code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "unsafe" not in page.headers["content-security-policy"]
        for part in ("<h1>shop</h1>", "<svg", "web", "db"):
            assert part in page.text
        assert "registry.test" not in page.text
        assert not re.search(r'(?:src|href)="(?:https?:)?//(?!\S+perdure\.localhost)', page.text)

    async def test_a_link_opens_its_own_environment_only(self, api: Api, tenant: Tenant) -> None:
        one, two = await create(api), await create(api, "other")
        link = await share(api, one["id"])
        wrong = await guest(api).post(f"/v1/portal/{two['id']}", data={"token": link["token"]})
        assert wrong.status_code == 404
        opened = await api.client.post(f"/v1/portal/{one['id']}", data={"token": link["token"]})
        stolen = {"Cookie": opened.headers["set-cookie"].partition(";")[0]}
        assert (await api.client.get(f"/v1/portal/{two['id']}", headers=stolen)).status_code == 401

    async def test_revoking_ends_open_pages_too(self, api: Api, tenant: Tenant) -> None:
        environment = await create(api)
        link = await share(api, environment["id"])
        address = f"/v1/portal/{environment['id']}"
        await api.client.post(address, data={"token": link["token"]})
        assert (await api.client.get(address)).status_code == 200
        await api.client.delete(f"/v1/environments/{environment['id']}/shares/{link['id']}")
        assert (await api.client.get(address)).status_code == 404

    async def test_a_pin_is_asked_for_and_locked(self, api: Api, tenant: Tenant) -> None:
        environment = await create(api)
        link = await share(api, environment["id"], pin=PIN)
        address = f"/v1/portal/{environment['id']}"
        guest(api)
        asked = await api.client.post(address, data={"token": link["token"]})
        assert asked.status_code == 401
        assert 'name="pin"' in asked.text
        assert "That is not the PIN" not in asked.text
        for _ in range(MOST_WRONG_PINS):
            wrong = await api.client.post(address, data={"token": link["token"], "pin": "0000"})
            assert wrong.status_code == 401
            assert "That is not the PIN" in wrong.text
        locked = await api.client.post(address, data={"token": link["token"], "pin": PIN})
        assert locked.status_code == 429
        assert int(locked.headers["retry-after"]) > 0
        await change(api, link["id"], locked_until=None, failed_pins=0)
        opened = await api.client.post(address, data={"token": link["token"], "pin": PIN})
        assert opened.status_code == 303

    @pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"token=%ff", b"a=1&" * 500, b"token=" + b"x" * 9000])
    async def test_odd_forms_open_nothing(self, api: Api, tenant: Tenant, body: bytes) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await api.client.post("/v1/portal/env_1", content=body, headers=headers)
        assert answer.status_code == 404
        assert (await api.client.post("/v1/portal/env_1", json={})).status_code == 415

    async def test_an_expired_cookie_asks_for_the_link_again(self, api: Api, tenant: Tenant) -> None:
        environment = await create(api)
        link = await share(api, environment["id"])
        old = api.state.guests.keys.session(ShareSession(link["id"], 1_500_000_000))
        answer = await api.client.get(
            f"/v1/portal/{environment['id']}", headers={"Cookie": f"perdure_share={old}"}
        )
        assert answer.status_code == 401
