"""Lists: filters, orders, and cursors that stay right under each."""

import base64
import json
from datetime import timedelta

import pytest
from pydantic import JsonValue
from sqlmodel import col, select

from activities.db.engine import Database
from activities.db.errors import InvalidCursor
from activities.db.repositories import audit, environments, operations, shares
from activities.db.repositories.environments import EnvironmentFilter, EnvironmentSort
from activities.db.tables import Environment
from tests.helpers.tenants import Tenant, accept, make_tenant, shop
from workflows.domain.operations import EnvironmentPhase

NAMES = ("web-b", "api-a", "web-a", "api-b", "db-x-y")


async def made(database: Database) -> Tenant:
    """Five environments, two of which were made and changed at the same moment."""
    tenant = await make_tenant(database)
    for place, name in enumerate(NAMES):
        team = "shop" if place % 2 else "core"
        labels: dict[str, JsonValue] = {"team": team, "example.com/place": str(place)}
        await accept(database, tenant, shop(name, labels=labels))
    async with database.transaction() as session:
        rows = (await session.exec(select(Environment).order_by(col(Environment.id)))).all()
        base = rows[0].updated_at
        for place, row in enumerate(rows):
            row.updated_at = base + timedelta(seconds=(3, 1, 1, 5, 0)[place])
        rows[1].created_at = rows[2].created_at
    return tenant


async def paged(
    database: Database, tenant: Tenant, wanted: EnvironmentFilter, sort: EnvironmentSort, limit: int
) -> list[str]:
    names: list[str] = []
    cursor = None
    while True:
        async with database.reading() as session:
            page = await environments.list_environments(
                session, tenant.id, limit=limit, cursor=cursor, wanted=wanted, sort=sort
            )
        names += [item.name for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return names
        assert len(page.items) == limit


async def test_each_order_pages_without_gaps_or_repeats(database: Database) -> None:
    tenant = await made(database)
    for sort in EnvironmentSort:
        whole = await paged(database, tenant, EnvironmentFilter(), sort, 50)
        assert sorted(whole) == sorted(NAMES)
        for limit in (1, 2, 4):
            assert await paged(database, tenant, EnvironmentFilter(), sort, limit) == whole, (sort, limit)
    ascending = await paged(database, tenant, EnvironmentFilter(), EnvironmentSort.NAME, 2)
    assert ascending == sorted(NAMES)
    descending = await paged(database, tenant, EnvironmentFilter(), EnvironmentSort.NAME_LAST, 2)
    assert descending == ascending[::-1]
    updated = await paged(database, tenant, EnvironmentFilter(), EnvironmentSort.UPDATED, 2)
    assert updated == ["db-x-y", "api-a", "web-a", "web-b", "api-b"]


async def test_filters(database: Database) -> None:
    tenant = await made(database)
    async with database.reading() as session:
        third = (await session.exec(select(Environment).where(col(Environment.name) == "web-a"))).one()
    cases = {
        EnvironmentFilter(name="web-a"): {"web-a"},
        EnvironmentFilter(name="web"): set(),
        EnvironmentFilter(part="WEB"): {"web-a", "web-b"},
        EnvironmentFilter(part="-a"): {"web-a", "api-a"},
        EnvironmentFilter(part="%"): set(),
        EnvironmentFilter(part="_"): set(),
        EnvironmentFilter(labels=(("team", "shop"),)): {"api-a", "api-b"},
        EnvironmentFilter(labels=(("team", None),)): set(NAMES),
        EnvironmentFilter(labels=(("none", None),)): set(),
        EnvironmentFilter(labels=(("example.com/place", "2"), ("team", "core"))): {"web-a"},
        EnvironmentFilter(labels=(("team", "core"), ("team", "shop"))): set(),
        EnvironmentFilter(phases=frozenset({EnvironmentPhase.PROVISIONING}), part="x"): {"db-x-y"},
        EnvironmentFilter(phases=frozenset({EnvironmentPhase.DELETED})): set(),
        EnvironmentFilter(created_after=third.created_at): {"api-b", "db-x-y"},
        EnvironmentFilter(created_before=third.created_at): {"web-b"},
    }
    for wanted, names in cases.items():
        found = await paged(database, tenant, wanted, EnvironmentSort.NAME, 1)
        assert set(found) == names, wanted


async def test_a_cursor_of_another_list_is_refused(database: Database) -> None:
    tenant = await made(database)
    async with database.reading() as session:
        first = await environments.list_environments(session, tenant.id, limit=1)
        cursor = first.next_cursor
        assert cursor is not None
        of_operations = (await operations.list_operations(session, tenant.id, limit=1)).next_cursor
        for wanted, sort, given in (
            (EnvironmentFilter(), EnvironmentSort.CREATED, cursor),
            (EnvironmentFilter(), EnvironmentSort.NAME, cursor),
            (EnvironmentFilter(part="w"), EnvironmentSort.CREATED_LAST, cursor),
            (EnvironmentFilter(), EnvironmentSort.CREATED_LAST, of_operations),
        ):
            with pytest.raises(InvalidCursor) as refused:
                await environments.list_environments(
                    session, tenant.id, cursor=given, wanted=wanted, sort=sort
                )
            assert refused.value.foreign
        with pytest.raises(InvalidCursor):
            await operations.list_operations(session, tenant.id, cursor=cursor)


@pytest.mark.parametrize(
    ("at", "identifier"),
    [
        ("0001-01-01T00:00:00+14:00", "x"),
        ("9999-12-31T23:59:59-14:00", "x"),
        ("2026-01-01T00:00:00", "x"),
        ("2026-01-01T00:00:00+00:00", "\ud800"),
        ("2026-01-01T00:00:00+00:00", "\0"),
    ],
)
async def test_a_cursor_that_was_made_up_is_refused(database: Database, at: str, identifier: str) -> None:
    tenant = await made(database)
    async with database.reading() as session:
        true = (await audit.list_entries(session, tenant.id, limit=1)).next_cursor
        assert true is not None
        scope = json.loads(base64.urlsafe_b64decode(f"{true}=="))[0]
        forged = base64.urlsafe_b64encode(json.dumps([scope, at, identifier]).encode()).decode()
        with pytest.raises(InvalidCursor) as refused:
            await audit.list_entries(session, tenant.id, cursor=forged)
        assert not refused.value.foreign


async def test_a_cursor_of_the_audit_belongs_to_its_filters(database: Database) -> None:
    tenant = await made(database)
    async with database.reading() as session:
        cursor = (await audit.list_entries(session, tenant.id, limit=1)).next_cursor
        for refused in (
            audit.list_entries(session, tenant.id, cursor=cursor, action="environment.create"),
            shares.list_shares(session, tenant.id, "env_1", cursor=cursor),
        ):
            with pytest.raises(InvalidCursor) as told:
                await refused
            assert told.value.foreign


async def test_operations_by_time_in_both_orders(database: Database) -> None:
    tenant = await made(database)
    async with database.reading() as session:
        newest = await operations.list_operations(session, tenant.id)
        oldest = await operations.list_operations(session, tenant.id, oldest_first=True)
        assert oldest.items == newest.items[::-1]
        since = newest.items[2].created_at
        late = await operations.list_operations(session, tenant.id, since=since)
        assert late.items == newest.items[:3]
        page = await operations.list_operations(session, tenant.id, since=since, limit=2)
        rest = await operations.list_operations(session, tenant.id, since=since, cursor=page.next_cursor)
        assert page.items + rest.items == late.items
