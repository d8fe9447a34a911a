"""Notifications of committed events: on Postgres they come, and elsewhere nobody relies on them."""

import pytest

from activities.db.engine import Database
from activities.db.wakeups import event_wakeups
from tests.helpers.tenants import accept, begin, make_tenant


@pytest.mark.postgres
async def test_a_commit_wakes_a_reader_of_another_process(postgres_url: str) -> None:
    writer, reader = Database(postgres_url), Database(postgres_url)
    tenant = await make_tenant(writer)
    async with event_wakeups(reader) as wakeups:
        accepted = await accept(writer, tenant)
        assert await wakeups.wait(20)
        assert not await wakeups.wait(0.01)
        await begin(writer, accepted.operation.id)
        assert await wakeups.wait(20)
    # The connection is back in the pool, and usable.
    await reader.ping()
    await writer.dispose()
    await reader.dispose()


@pytest.mark.slow
async def test_sqlite_waits_for_the_poll(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    tenant = await make_tenant(database)
    async with event_wakeups(database) as wakeups:
        await accept(database, tenant)
        assert not await wakeups.wait(0.01)
    await database.dispose()
