"""Lists find their rows by an index, in the order of the list: a page costs the same among a million rows."""

from ast import literal_eval
from collections.abc import Sequence

import pytest
from sqlalchemy import Connection, event, text

from activities.db.engine import Database
from activities.db.repositories import audit, environments, operations, snapshot_retention, snapshots
from activities.db.repositories.audit import AuditFilter
from activities.db.repositories.bulk import current_blueprints
from activities.db.repositories.environments import EnvironmentFilter
from activities.db.repositories.operations import OperationFilter
from activities.db.repositories.snapshots import SnapshotFilter, SnapshotSort
from activities.db.sweeping import due_page
from activities.db.types import utc_now
from tests.helpers.listed import LISTS, listed
from tests.helpers.statements import statements_of
from tests.helpers.tenants import accept, make_tenant, shop
from workflows.domain.operations import EnvironmentPhase


async def test_no_list_scans_a_table_or_sorts_by_itself(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    world = await listed(database)
    tenant, made = world.tenant, [world.environment_id]
    asked: list[tuple[str, Sequence[object]]] = []

    def note(
        _c: Connection, _cursor: object, statement: str, parameters: Sequence[object], *_: object
    ) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    engine = database._reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    async with database.reading() as session:
        for name, of in LISTS.items():
            if name == "replays":
                continue  # few of an environment's operations, wherever they ran: it sorts them
            for sort in of.sorts:
                page = await of.page(session, world, sort=sort, limit=1)
                assert page.next_cursor is not None, name
                await of.page(session, world, sort=sort, cursor=page.next_cursor)
        for sorted_by in SnapshotSort:
            of_it = SnapshotFilter(environment_id=made[0])
            await snapshots.list_snapshots(session, tenant.id, sort=sorted_by, wanted=of_it)
        for wanted in (
            EnvironmentFilter(phases=frozenset({EnvironmentPhase.STOPPED})),
            EnvironmentFilter(labels=(("team", "search"),)),
            EnvironmentFilter(part="shop"),
        ):
            await environments.list_environments(session, tenant.id, wanted=wanted)
        assert set(await operations.latest(session, tenant.id, made)) == set(made)
        assert set(await current_blueprints(session, tenant.id, made)) == set(made)
        await operations.list_operations(session, tenant.id, wanted=OperationFilter(environment_id=made[0]))
        await audit.list_entries(session, tenant.id, wanted=AuditFilter(subject_id=made[0]))
        await due_page(session, utc_now(), None)
    event.remove(engine, "before_cursor_execute", note)

    orders = sum(len(of.sorts) for name, of in LISTS.items() if name != "replays")
    assert len(asked) == 2 * orders + len(SnapshotSort) + 8
    async with database.reading() as session:
        for statement, parameters in asked:
            connection = await session.connection()
            plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters))
            steps = [str(detail) for *_, detail in plan]
            assert not [step for step in steps if step.startswith(("SCAN", "USE TEMP B-TREE"))], (
                statement,
                steps,
            )
    await database.dispose()


@pytest.mark.postgres
async def test_a_page_on_postgres_begins_where_its_cursor_says(postgres_url: str) -> None:
    """By the index, as on SQLite: a filter on top of it would read all pages before."""
    database = Database(postgres_url)
    world = await listed(database)
    asked: list[tuple[str, Sequence[object]]] = []

    def note(
        _c: Connection, _cursor: object, statement: str, parameters: Sequence[object], *_: object
    ) -> None:
        asked.append((statement, parameters))

    async with database.reading() as session:
        connection = await session.connection()
        for name, of in LISTS.items():
            if name == "replays":
                continue
            for sort in of.sorts:
                cursor = (await of.page(session, world, sort=sort, limit=1)).next_cursor
                event.listen(connection.sync_connection, "before_cursor_execute", note)
                await of.page(session, world, sort=sort, cursor=cursor)
                event.remove(connection.sync_connection, "before_cursor_execute", note)
        # Few rows are sooner read whole; what is asked here is whether the index could do it.
        for other in ("seqscan", "bitmapscan", "sort"):
            await connection.exec_driver_sql(f"SET LOCAL enable_{other} = off")
        for statement, parameters in asked:
            plan = await connection.exec_driver_sql(f"EXPLAIN {statement}", tuple(parameters))
            steps = [str(step) for (step,) in plan]
            begins = [step for step in steps if "Index Cond" in step and ("<" in step or ">" in step)]
            assert begins, (statement, steps)
            # Where names are unique, their index lacks the id: an incremental sort has each by itself.
            assert not [step for step in steps if step.lstrip(" ->").startswith("Sort  (")], (
                statement,
                steps,
            )
    assert len(asked) == sum(len(of.sorts) for name, of in LISTS.items() if name != "replays")
    await database.dispose()


async def test_what_policies_verify_anew_is_found_without_reading_all_there_ever_was(sqlite_url: str) -> None:
    """Each minute: by the snapshots that policies keep, the verifications of these, and those that run."""
    database = Database(sqlite_url)
    async with database.reading() as session:
        with statements_of(database) as asked:
            await snapshot_retention.stale(session, utc_now())
        [(statement, parameters)] = [each for each in asked if each[0].startswith("SELECT")]
        connection = await session.connection()
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", literal_eval(parameters))
        steps = [str(detail) for *_, detail in plan]
    await database.dispose()
    read = [step for step in steps if step.startswith(("SCAN", "SEARCH"))]
    assert [step for step in read if " INDEX " not in step] == []
    scans = [step for step in read if step.startswith("SCAN")]
    assert [step for step in scans if "uq_snapshot_verifications_running" not in step] == []
    kept = [step for step in read if step.startswith("SEARCH snapshots ")]
    assert kept
    assert [step for step in kept if "(scheduled=? AND state=?" not in step] == []


async def test_an_answer_is_of_one_moment(database: Database) -> None:
    """A list reads environments and Blueprints one after the other: nothing changes in between."""
    tenant = await make_tenant(database)
    environment_id = (await accept(database, tenant, shop())).environment.id
    async with database.reading() as session:
        before = await environments.get_environment(session, tenant.id, environment_id)
        async with database.transaction() as writing:
            connection = await writing.connection()
            await connection.execute(text("UPDATE environments SET revision = 7"))
        async with database.reading() as another:
            assert (await environments.get_environment(another, tenant.id, environment_id)).revision == 7
        session.expunge_all()
        after = await environments.get_environment(session, tenant.id, environment_id)
    assert after.revision == before.revision == 1
