"""The clock is put forward and back: keys, links, PINs and repeated requests go by the time that it is."""

import time
from datetime import timedelta

from activities.db.repositories.keys import CreatedKey, create_key
from activities.db.repositories.shares import LOCKED_FOR, MOST_WRONG_PINS
from activities.db.tables import Role
from activities.db.types import utc_now
from api.settings import ApiSettings
from tests.api.support import Api, create, problem, running_api, shop_document
from tests.api.test_shares import PIN, guest, share
from tests.helpers.clock import JumpingClock
from tests.helpers.tenants import Tenant, make_tenant


async def key_for(api: Api, tenant: Tenant, lifetime: timedelta) -> CreatedKey:
    """Make a key that expires so long from now."""
    async with api.database.transaction() as session:
        return await create_key(
            session,
            tenant.id,
            tenant.actor.principal_id,
            name="ci",
            role=Role.VIEWER,
            expires_at=utc_now() + lifetime,
        )


async def test_a_key_opens_while_it_is_its_time_and_no_longer(
    api: Api, tenant: Tenant, clock: JumpingClock
) -> None:
    made = await key_for(api, tenant, timedelta(hours=1))
    headers = {"Authorization": f"Bearer {made.token}"}

    async def status() -> int:
        return (await api.client.get("/v1/environments", headers=headers)).status_code

    seen = []
    for hours in (0, 2, -2, -200, 202):
        clock.jump(hours=hours)
        seen.append(await status())
    assert seen == [200, 401, 200, 200, 401]
    # Revoked is revoked, whatever time it is.
    assert (await api.client.delete(f"/v1/api-keys/{made.key.id}")).is_success
    clock.jump(days=-30)
    assert await status() == 401


async def test_a_cached_key_is_not_remembered_beyond_its_end(
    settings: ApiSettings, clock: JumpingClock
) -> None:
    async with running_api(settings.model_copy(update={"auth_cache_seconds": 3600.0})) as api:
        tenant = await make_tenant(api.database)
        made = await key_for(api, tenant, timedelta(days=1))
        headers = {"Authorization": f"Bearer {made.token}"}
        clock.jump(days=1, seconds=-60)
        assert (await api.client.get("/v1/environments", headers=headers)).status_code == 200
        (known,) = api.state.keys._known.values()
        assert known.until <= time.monotonic() + 60, "the rest of its time, which no clock lengthens"


async def test_a_link_opens_while_it_is_its_time_and_revoked_stays_revoked(
    api: Api, tenant: Tenant, clock: JumpingClock
) -> None:
    environment = await create(api)
    link = await share(api, environment["id"], expiresInSeconds=3600)
    address = f"/v1/share/{link['token']}"
    seen = []
    for jump in (0, 2, -2, -200, 202):
        clock.jump(hours=jump)
        seen.append((await api.client.get(address)).status_code)
    assert seen == [200, 404, 200, 200, 404]
    clock.jump(days=-5)
    assert (await api.client.delete(f"/v1/environments/{environment['id']}/shares/{link['id']}")).is_success
    clock.jump(days=-5)
    problem(await guest(api).get(address), 404, "not_found")


async def test_a_pin_lock_lasts_no_longer_for_a_clock_that_is_put_back(
    api: Api, tenant: Tenant, clock: JumpingClock
) -> None:
    link = await share(api, (await create(api))["id"], pin=PIN, expiresInSeconds=3600)
    address = f"/v1/share/{link['token']}"
    guest(api)

    async def tried(pin: str) -> tuple[int, int]:
        answer = await api.client.get(address, headers={"X-Share-PIN": pin})
        return answer.status_code, int(answer.headers.get("retry-after", 0))

    async def lock() -> None:
        for attempt in range(MOST_WRONG_PINS):
            assert (await tried(f"000{attempt}"))[0] == 401
        assert (await tried(PIN))[0] == 429

    await lock()
    # Two processes' clocks differ by a little: what the one has locked is locked.
    clock.jump(seconds=-30)
    assert (await tried(PIN))[0] == 429
    clock.jump(hours=-10)
    assert (await tried(PIN))[0] == 200
    # Put back with a lock on, guesses are counted as ever.
    await lock()
    clock.jump(hours=-10)
    await lock()
    status, wait = await tried(PIN)
    assert (status, wait <= LOCKED_FOR.total_seconds()) == (429, True)
    clock.jump(minutes=16)
    assert (await tried(PIN))[0] == 200


async def test_a_repeated_request_makes_nothing_new_though_the_clock_is_put_back(
    api: Api, tenant: Tenant, clock: JumpingClock
) -> None:
    headers = {"Idempotency-Key": "k1"}

    async def ask() -> str:
        answer = await api.client.post(
            "/v1/environments", json={"blueprint": shop_document()}, headers=headers
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["data"]["id"])

    made = await ask()
    for hours in (23, -500, 476):
        clock.jump(hours=hours)
        assert await ask() == made
    assert len((await api.client.get("/v1/environments")).json()["data"]) == 1
    # More than a day ahead the key is as good as new; the environment's name keeps it from being doubled.
    clock.jump(hours=26)
    answer = await api.client.post("/v1/environments", json={"blueprint": shop_document()}, headers=headers)
    assert problem(answer, 409, "conflict")["existingId"] == made
