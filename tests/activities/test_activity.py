"""When environments were last used, and how full their volumes were."""

from datetime import timedelta

from activities.db.engine import Database
from activities.db.repositories import activity, volume_samples
from activities.db.repositories.environments import get_environment
from activities.db.repositories.volume_samples import Sample
from activities.db.types import utc_now
from tests.helpers.tenants import accept, make_tenant


async def test_touch_goes_forward_only_and_stays_in_its_organisation(database: Database) -> None:
    one, two = await make_tenant(database), await make_tenant(database, "two")
    mine_id = (await accept(database, one)).environment.id
    theirs_id = (await accept(database, two)).environment.id
    now = utc_now() + timedelta(minutes=10)

    async def last() -> tuple[object, object, int]:
        async with database.reading() as session:
            own = await get_environment(session, one.id, mine_id)
            other = await get_environment(session, two.id, theirs_id)
        return own.last_active_at, other.last_active_at, own.version

    before = await last()
    for at in (now, now - timedelta(minutes=5), now):
        async with database.transaction() as session:
            await activity.touch(session, one.id, [mine_id, theirs_id, "env_unknown"], at)
        assert await last() == (now, before[1], before[2]), "no version of the environment"
    async with database.transaction() as session:
        await activity.touch(session, one.id, [mine_id], now + timedelta(seconds=1))
        await activity.touch(session, one.id, [], now)
    assert (await last())[0] == now + timedelta(seconds=1)


async def test_samples_are_few_and_the_newest_stay(database: Database) -> None:
    tenant = await make_tenant(database)
    environment = (await accept(database, tenant)).environment
    begin = utc_now()
    interval = volume_samples.LEAST_INTERVAL

    async def add(at: timedelta, used: int) -> list[Sample]:
        async with database.transaction() as session:
            sample = Sample(begin + at, used)
            await volume_samples.add_sample(session, tenant.id, environment.id, "data-db-0", sample)
        async with database.reading() as session:
            found = await volume_samples.samples(session, tenant.id, environment.id, ["data-db-0", "other"])
            assert await volume_samples.samples(session, "org_other", environment.id, ["data-db-0"]) == {}
        return found["data-db-0"]

    assert await add(timedelta(0), 1) == [Sample(begin, 1)]
    assert await add(interval / 2, 2) == [Sample(begin, 1)], "too soon"
    for number in range(1, volume_samples.KEPT + 5):
        found = await add(interval * number, number)
    assert len(found) == volume_samples.KEPT
    assert found[-1].used_bytes == volume_samples.KEPT + 4
    assert found[0].used_bytes == 5
