"""Rate limits and other headers at the edge."""

import pytest

from activities.db.repositories.keys import create_key
from activities.db.tables import Role
from api.settings import ApiSettings
from tests.api.support import create, problem, running_api
from tests.helpers.tenants import make_tenant


async def test_a_key_has_its_quota_on_every_answer(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"requests_per_minute": 3})) as api:
        tenant = await make_tenant(api.database)
        api.use(tenant)
        for path, status in (
            ("/v1/environments", 200),
            ("/v1/environments/x", 404),
            ("/v1/operations?limit=0", 422),
        ):
            answer = await api.client.get(path)
            assert answer.status_code == status
            assert answer.headers["ratelimit-policy"] == '"key";q=3;w=60'
        assert answer.headers["ratelimit"].startswith('"key";r=0;t=')
        before = await api.row_counts()
        refused = await api.client.post("/v1/environments", json={})
        problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit"].startswith('"key";r=0;t=')
        assert await api.row_counts() == before
        assert (await api.client.get("/health/live")).status_code == 200
        async with api.database.transaction() as session:
            free = await create_key(
                session, tenant.id, tenant.actor.principal_id, name="ci", role=Role.OWNER, unlimited=True
            )
        for _ in range(5):
            answer = await api.client.get(
                "/v1/environments", headers={"Authorization": f"Bearer {free.token}"}
            )
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers


async def test_keys_cannot_be_guessed_at_speed(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"wrong_keys_per_minute": 4})) as api:
        known, new = await make_tenant(api.database), await make_tenant(api.database, "two")
        api.use(known)
        assert (await api.client.get("/v1/environments")).status_code == 200
        for number in range(4):
            headers = {"Authorization": f"Bearer pdr_{number}"} if number else {"Authorization": ""}
            problem(await api.client.get("/v1/environments", headers=headers), 401, "unauthenticated")
        for token in ("pdr_5", new.token):
            # Not even a good one: else the answer would tell which guess was right.
            headers = {"Authorization": f"Bearer {token}"}
            refused = await api.client.get("/v1/environments", headers=headers)
            problem(refused, 429, "rate_limited")
            assert refused.headers["retry-after"]
        assert (await api.client.get("/v1/environments")).status_code == 200, "known to be no guess"


async def test_answers_say_how_browsers_are_to_treat_them(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"cors_origins": ("https://app.test",)})) as api:
        api.use(await make_tenant(api.database))
        made = await create(api)
        listed = await api.client.get("/v1/environments")
        assert listed.headers["x-content-type-options"] == "nosniff"
        assert listed.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in listed.headers["content-security-policy"]
        one = await api.client.get(f"/v1/environments/{made['id']}")
        assert one.headers["cache-control"] == "private, no-cache"
        assert "content-security-policy" not in (await api.client.get("/docs")).headers
        for method in ("PATCH", "PUT", "DELETE"):
            preflight = await api.client.options(
                f"/v1/environments/{made['id']}",
                headers={
                    "Origin": "https://app.test",
                    "Access-Control-Request-Method": method,
                    "Access-Control-Request-Headers": "authorization, if-match, content-type",
                },
            )
            assert preflight.status_code == 200, preflight.text
            assert preflight.headers["access-control-allow-origin"] == "https://app.test"
        seen = await api.client.get("/v1/environments", headers={"Origin": "https://app.test"})
        assert {"ETag", "RateLimit", "Retry-After"} <= set(
            seen.headers["access-control-expose-headers"].replace(",", " ").split()
        )
        foreign = await api.client.get("/v1/environments", headers={"Origin": "https://evil.test"})
        assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize(
    ("origin", "method", "header", "named"),
    [
        ("https://evil.test", "PATCH", "if-match", ["origin"]),
        ("https://app.test", "TRACE", "if-match", ["method"]),
        ("https://evil.test", "TRACE", "x-odd", ["origin", "method", "headers"]),
    ],
)
async def test_a_preflight_that_is_refused_is_a_problem(
    settings: ApiSettings, origin: str, method: str, header: str, named: list[str]
) -> None:
    async with running_api(settings.model_copy(update={"cors_origins": ("https://app.test",)})) as api:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": header,
            "X-Request-ID": "asked-1",
        }
        # Whatever is at the address: nobody has looked yet.
        for path in ("/v1/environments", "/v1/share/pds_planted", "/nowhere"):
            answer = await api.client.options(path, headers=asked)
            body = problem(answer, 400, "preflight_refused")
            assert all(each in body["detail"] for each in named), body
            assert (body["requestId"], answer.headers["x-request-id"]) == ("asked-1", "asked-1")
            assert "pds_planted" not in answer.text
            assert "PATCH" in answer.headers["access-control-allow-methods"]
            assert answer.headers["cache-control"] == "no-store"
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed == (origin if "origin" not in named else None)


@pytest.mark.parametrize("odd", ["x" * 129, "a\tb", "\xff", "a;b", ""])
async def test_odd_request_ids_are_replaced(settings: ApiSettings, odd: str) -> None:
    async with running_api(settings) as api:
        answer = await api.client.get("/health/live", headers={b"X-Request-ID": odd.encode("latin-1")})
        assert answer.headers["x-request-id"].startswith("req_")
