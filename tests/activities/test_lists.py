"""Lists: filters, orders, and cursors that stay right under each."""

import base64
import json
from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest
from pydantic import JsonValue
from pydantic.alias_generators import to_snake
from sqlmodel import col, select

from activities.db.access import PrincipalFilter
from activities.db.core import table_of
from activities.db.engine import Database
from activities.db.errors import InvalidCursor
from activities.db.repositories import audit, environments, operations, shares
from activities.db.repositories.audit import AuditFilter
from activities.db.repositories.checkpoints import CheckpointFilter
from activities.db.repositories.environments import EnvironmentFilter, EnvironmentSort
from activities.db.repositories.keys import KeyFilter, KeyState
from activities.db.repositories.operations import OperationFilter
from activities.db.repositories.paging import EVERYTHING, Filter, Listing
from activities.db.repositories.registry_credentials import RegistryCredentialFilter
from activities.db.repositories.revisions import RevisionFilter, RevisionSort
from activities.db.repositories.secrets import SecretFilter
from activities.db.repositories.shares import ShareFilter, ShareState
from activities.db.repositories.snapshots import SnapshotFilter, SnapshotSort
from activities.db.repositories.verifications import VerificationFilter
from activities.db.tables import Environment, PrincipalKind, Role, Snapshot
from tests.helpers.listed import LISTS, List, Listed, listed
from tests.helpers.tenants import Tenant, accept, make_tenant, shop
from workflows.domain.operations import EnvironmentPhase
from workflows.domain.snapshot_manifest import SnapshotState
from workflows.domain.verification import VerificationState, VerifyLevel

pytestmark = pytest.mark.slow

LONGEST_CURSOR = 1000
"""That routes take."""
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
            audit.list_entries(
                session, tenant.id, cursor=cursor, wanted=AuditFilter(action="environment.create")
            ),
            shares.list_shares(session, tenant.id, "env_1", cursor=cursor),
        ):
            with pytest.raises(InvalidCursor) as told:
                await refused
            assert told.value.foreign


async def test_operations_since(database: Database) -> None:
    tenant = await made(database)
    async with database.reading() as session:
        newest = await operations.list_operations(session, tenant.id)
        wanted = OperationFilter(since=newest.items[2].created_at)
        late = await operations.list_operations(session, tenant.id, wanted=wanted)
        assert late.items == newest.items[:3]


async def pages(
    database: Database, of: List, world: Listed, *, limit: int, sort: StrEnum, wanted: Filter = EVERYTHING
) -> list[Any]:
    """Read all pages of a list."""
    found: list[Any] = []
    cursor = None
    while True:
        async with database.reading() as session:
            asked: dict[str, Any] = {"limit": limit, "cursor": cursor, "sort": sort}
            if wanted is not EVERYTHING:
                asked["wanted"] = wanted
            page = await of.page(session, world, **asked)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page.items) == limit
        assert len(cursor) <= LONGEST_CURSOR


async def test_every_list_in_every_order_pages_without_gaps_or_repeats(database: Database) -> None:
    world = await listed(database)
    for name, of in LISTS.items():
        for sort in of.sorts:
            whole = await pages(database, of, world, limit=200, sort=sort)
            assert len(whole) >= 3 or name == "replays", name
            attribute = to_snake(sort.removeprefix("-"))
            ordered = [(getattr(each, attribute), getattr(each, of.key)) for each in whole]
            # Names are in the order of the database, which is not everywhere that of the code points.
            if attribute != "name":
                assert ordered == sorted(ordered, reverse=sort.startswith("-")), (name, sort)
            for limit in (1, 2, 4):
                assert await pages(database, of, world, limit=limit, sort=sort) == whole, (name, sort, limit)
        up, down = list(of.sorts)[:2]
        forth = await pages(database, of, world, limit=2, sort=up)
        assert await pages(database, of, world, limit=2, sort=down) == forth[::-1], name


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("audit", AuditFilter(subject_id="env_3"), "3"),
        ("audit", AuditFilter(principal_id="prn_0", action="environment.stop"), "024"),
        ("audit", AuditFilter(key_id="key_1"), "14"),
        ("revisions", RevisionFilter(part="first"), "26"),
        ("revisions", RevisionFilter(part="%"), "4"),
        ("revisions", RevisionFilter(named=True), "234"),
        ("revisions", RevisionFilter(named=False), "156"),
        ("revisions", RevisionFilter(named=False, part="first"), "6"),
        ("revisions", RevisionFilter(created_by="prn_9"), ""),
        ("checkpoints", CheckpointFilter(part="INT-3"), "3"),
        ("shares", ShareFilter(states=frozenset({ShareState.OPEN})), "24"),
        ("shares", ShareFilter(states=frozenset({ShareState.LOCKED})), "3"),
        ("shares", ShareFilter(states=frozenset({ShareState.REVOKED, ShareState.EXPIRED})), "01"),
        ("shares", ShareFilter(part="WEB"), "02"),
        ("snapshots", SnapshotFilter(states=frozenset({SnapshotState.FAILED})), "34"),
        ("snapshots", SnapshotFilter(scheduled=True, verified=False), "24"),
        ("snapshots", SnapshotFilter(scheduled=False, verified=True), "1"),
        ("snapshots", SnapshotFilter(environment_id="env_none"), ""),
        ("snapshots", SnapshotFilter(part="web-B"), "02"),
        ("verifications", VerificationFilter(states=frozenset({VerificationState.FAILED})), "13"),
        ("verifications", VerificationFilter(level=VerifyLevel.READABLE), "14"),
        ("keys", KeyFilter(states=frozenset({KeyState.REVOKED}), part="web-"), "0"),
        ("keys", KeyFilter(states=frozenset({KeyState.EXPIRED})), "4"),
        ("keys", KeyFilter(states=frozenset({KeyState.GOOD}), roles=frozenset({Role.ADMIN})), "13"),
        ("keys", KeyFilter(principal_id="prn_2"), "2"),
        ("principals", PrincipalFilter(kind=PrincipalKind.SERVICE, part="API"), "14"),
        ("secrets", SecretFilter(part="n-1"), "14"),
        ("credentials", RegistryCredentialFilter(host="b.test"), "13"),
        ("credentials", RegistryCredentialFilter(part="p-2"), "2"),
    ],
)
async def test_what_lists_are_narrowed_to(
    database: Database, name: str, wanted: Filter, expected: str
) -> None:
    world = await listed(database)
    of = LISTS[name]
    for sort in of.sorts:
        found = await pages(database, of, world, limit=1, sort=sort, wanted=wanted)
        assert sorted(str(getattr(each, of.key))[-1] for each in found) == sorted(expected), sort


async def test_lists_of_a_time(database: Database) -> None:
    world = await listed(database)
    for name, wanted, expected in (
        ("audit", AuditFilter(since=world.now, principal_id="prn_0"), {"aud_2"}),
        ("audit", AuditFilter(until=world.now, principal_id="prn_0", key_id="key_1"), {"aud_4"}),
        ("revisions", RevisionFilter(since=world.now), {3, 4, 5}),
        ("snapshots", SnapshotFilter(since=world.now), {"snap_1", "snap_2", "snap_3"}),
    ):
        of = LISTS[name]
        sort = next(iter(of.sorts))
        found = await pages(database, of, world, limit=1, sort=sort, wanted=wanted)
        assert {getattr(each, of.key) for each in found} == expected, (name, wanted)


async def test_a_share_is_in_the_list_of_its_state_alone(database: Database) -> None:
    world = await listed(database)
    async with database.reading() as session:
        whole = (await shares.list_shares(session, world.tenant.id, world.environment_id)).items
        assert {each.state(world.now) for each in whole} == {*ShareState}
        for state in ShareState:
            wanted = ShareFilter(states=frozenset({state}))
            page = await shares.list_shares(session, world.tenant.id, world.environment_id, wanted=wanted)
            assert page.items == tuple(each for each in whole if each.state(world.now) == state)


async def test_a_cursor_belongs_to_one_order_and_filter_of_one_list(database: Database) -> None:
    world = await listed(database)
    cursors: dict[tuple[str, str], str] = {}
    async with database.reading() as session:
        for name, of in LISTS.items():
            for sort in of.sorts:
                cursor = (await of.page(session, world, sort=sort, limit=1)).next_cursor
                if cursor is not None:
                    cursors[name, sort] = cursor
        assert len(set(cursors.values())) == len(cursors) >= len(LISTS)
        for name, of in LISTS.items():
            for (other, order), cursor in cursors.items():
                for sort in of.sorts:
                    if (other, order) != (name, sort):
                        with pytest.raises(InvalidCursor) as told:
                            await of.page(session, world, sort=sort, limit=1, cursor=cursor)
                        assert told.value.foreign
        with pytest.raises(InvalidCursor):
            await LISTS["snapshots"].page(
                session,
                world,
                sort=SnapshotSort.NEWEST,
                cursor=cursors["snapshots", SnapshotSort.NEWEST],
                wanted=SnapshotFilter(verified=True),
            )


@pytest.mark.parametrize("plain", ["", "x", "1.5", "9" * 30, "-" + "9" * 30, "9223372036854775808"])
async def test_a_number_that_was_made_up_is_refused(database: Database, plain: str) -> None:
    world = await listed(database)
    async with database.reading() as session:
        for name, sort in (
            ("snapshots", SnapshotSort.LARGEST),
            ("revisions", RevisionSort.NEWEST),
        ):
            true = (await LISTS[name].page(session, world, sort=sort, limit=1)).next_cursor
            scope, _, *more = json.loads(base64.urlsafe_b64decode(f"{true}=="))
            forged = base64.urlsafe_b64encode(json.dumps([scope, plain, *more]).encode()).decode()
            with pytest.raises(InvalidCursor) as refused:
                await LISTS[name].page(session, world, sort=sort, cursor=forged)
            assert not refused.value.foreign


def test_no_list_is_ordered_by_what_may_be_missing() -> None:
    table = table_of(Snapshot).c
    with pytest.raises(ValueError, match="expires_at may be NULL"):
        Listing(name="x", copy=str, by={"expiresAt": table.expires_at}, identifier=table.id)
