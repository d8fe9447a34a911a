"""Who asks is looked up once for many requests at a time, and nobody gets another one's refusal."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.engine import Database
from activities.db.errors import NotFound, Unauthenticated
from activities.db.records import Actor
from activities.db.repositories.keys import Authenticated, authenticate, revoke_key
from api import auth
from api.auth import KeyCache
from tests.helpers.tenants import Tenant, make_tenant


class Lookups:
    """Each question to the database, held until it is let go."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, session: AsyncSession, token: str, organization_id: str | None) -> Authenticated:
        self.count += 1
        self.begun.set()
        await self.go.wait()
        return await authenticate(session, token, organization_id)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Lookups:
    made = Lookups()
    monkeypatch.setattr(auth, "authenticate", made)
    return made


@pytest_asyncio.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    made = Database(sqlite_url)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def tenant(database: Database) -> Tenant:
    return await make_tenant(database)


async def asked(cache: KeyCache, *keys: tuple[str, str | None]) -> list[asyncio.Task[Actor]]:
    """Ask for all at once; return when each has got as far as it can."""
    tasks = [asyncio.create_task(cache.actor(token, organization)) for token, organization in keys]
    await asyncio.sleep(0)
    return tasks


async def test_many_requests_with_a_key_look_it_up_once(
    database: Database, tenant: Tenant, lookups: Lookups
) -> None:
    cache = KeyCache(database, seconds=60)
    tasks = await asked(cache, *[(tenant.token, None)] * 50)
    await lookups.begun.wait()
    lookups.go.set()
    assert set(await asyncio.gather(*tasks)) == {tenant.actor}
    assert lookups.count == 1


async def test_the_one_that_looks_hangs_up(database: Database, tenant: Tenant, lookups: Lookups) -> None:
    """Another one of those that wait for it looks then."""
    cache = KeyCache(database, seconds=60)
    first, *others = await asked(cache, *[(tenant.token, None)] * 3)
    await lookups.begun.wait()
    first.cancel()
    lookups.go.set()
    assert await asyncio.gather(*others) == [tenant.actor] * 2
    assert lookups.count == 2


async def test_a_refusal_is_of_the_one_that_got_it(
    database: Database, tenant: Tenant, lookups: Lookups
) -> None:
    """A key may have become good meanwhile: each of those that waited looks for itself."""
    cache = KeyCache(database, seconds=60)
    tasks = await asked(cache, *[("wrong", None)] * 3)
    lookups.go.set()
    refusals = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in refusals] == [Unauthenticated] * 3
    assert lookups.count == 3


async def test_a_key_is_looked_up_for_each_organisation(
    database: Database, tenant: Tenant, lookups: Lookups
) -> None:
    stranger = await make_tenant(database, "two")
    cache = KeyCache(database, seconds=60)
    good, bad = await asked(cache, (tenant.token, tenant.id), (tenant.token, stranger.id))
    lookups.go.set()
    assert await good == tenant.actor
    with pytest.raises(NotFound):
        await bad


async def test_what_is_not_to_be_remembered_is_looked_up_each_time(
    database: Database, tenant: Tenant, lookups: Lookups
) -> None:
    assert tenant.actor.key_id is not None
    lookups.go.set()
    cache = KeyCache(database, seconds=0)
    assert await asyncio.gather(*await asked(cache, *[(tenant.token, None)] * 3)) == [tenant.actor] * 3
    assert lookups.count == 3
    async with database.transaction() as session:
        await revoke_key(session, tenant.id, tenant.actor.key_id)
    with pytest.raises(Unauthenticated):
        await cache.actor(tenant.token, None)
