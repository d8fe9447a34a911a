"""The schema: reached from nothing, the one that the code says, and back again."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Enum, insert, inspect, literal_column, text
from sqlalchemy.exc import IntegrityError

from activities.db.engine import Database, async_url, migration_engine
from activities.db.migrate import downgrade, migrate
from activities.db.repositories.organizations import create_organization
from activities.db.revisions import MIGRATIONS, applied_revision, known_revision, newest_revision
from activities.db.tables import Table
from activities.db.types import utc_now
from tests.helpers.changes import ended, restart, running
from tests.helpers.snapshots import restore_new, stored, taken
from tests.helpers.tenants import environment_of, make_tenant, retry
from workflows.domain.blueprint_models import DataStore
from workflows.domain.operations import EnvironmentPhase, OperationState

pytestmark = pytest.mark.slow


async def tables(url: str) -> set[str]:
    engine = migration_engine(url)
    try:
        async with engine.connect() as connection:
            return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
    finally:
        await engine.dispose()


async def test_upgrade_from_empty_gives_the_tables_of_the_code(empty_database_url: str) -> None:
    await migrate(empty_database_url)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Table.metadata))

    engine = migration_engine(empty_database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_revisions_are_told_as_alembic_knows_them(empty_database_url: str) -> None:
    engine = migration_engine(empty_database_url)

    async def applied() -> str | None:
        async with engine.connect() as connection:
            return await applied_revision(connection)

    assert await applied() is None
    await migrate(empty_database_url)
    assert await applied() == newest_revision()
    await engine.dispose()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [newest_revision()]
    assert all(known_revision(each.revision) for each in scripts.walk_revisions())
    assert not known_revision("9999_of_another_version")


async def test_every_enum_column_has_its_check(empty_database_url: str) -> None:
    """SQLite builds a table anew to change it, and forgets the CHECKs that a migration does not name."""
    await migrate(empty_database_url)

    def checks(connection: Connection) -> dict[str, str]:
        found = inspect(connection)
        return {
            f"{table}: {check['name']}": check["sqltext"]
            for table in Table.metadata.tables
            for check in found.get_check_constraints(table)
        }

    engine = migration_engine(empty_database_url)
    async with engine.connect() as connection:
        known = await connection.run_sync(checks)
    await engine.dispose()
    for table in Table.metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, Enum):
                text = known[f"{table.name}: ck_{table.name}_{column.type.name}"]
                assert all(f"'{word}'" in text for word in column.type.enums), (table.name, column.name)


async def test_migrating_twice_and_at_once_is_harmless(empty_database_url: str) -> None:
    await asyncio.gather(migrate(empty_database_url), migrate(empty_database_url))
    await migrate(empty_database_url)
    assert {"environments", "alembic_version"} <= await tables(empty_database_url)


async def test_downgrade_takes_everything_back(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    await downgrade(empty_database_url, "base")
    assert await tables(empty_database_url) == {"alembic_version"}


async def test_enum_columns_refuse_unknown_words(database: Database) -> None:
    async with database.transaction() as session:
        organization = await create_organization(session, "one")
        connection = await session.connection()
        robot = insert(Table.metadata.tables["principals"]).values(
            id="prn_1",
            organization_id=organization.id,
            kind=literal_column("'robot'"),
            name="one",
            created_at=utc_now(),
        )
        with pytest.raises(IntegrityError):
            await connection.execute(robot)


def test_every_table_carries_its_organization() -> None:
    without = {
        name for name, table in Table.metadata.tables.items() if "organization_id" not in table.columns
    }
    assert without == {"installation", "organizations"}


def test_unsupported_urls_are_refused() -> None:
    assert async_url("postgresql://u:p@host/db") == "postgresql+asyncpg://u:p@host/db"
    for url in ("sqlite://", "sqlite:///:memory:", "mysql://host/db"):
        with pytest.raises(ValueError, match="database"):
            async_url(url)


async def test_snapshots_go_with_a_downgrade_and_what_they_were_taken_of_stays(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url)
    database = Database(empty_database_url)
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    snapshot = await taken(database, tenant, environment_id, stored("db", DataStore.POSTGRES))
    restored = await restore_new(database, tenant, snapshot)
    await ended(database, restored, OperationState.FAILED)
    again = await retry(database, tenant, restored.environment.id)
    await ended(database, again)
    await ended(database, await restart(database, tenant, environment_id, service="db"))
    await database.dispose()

    await downgrade(empty_database_url, "0010_seeds")
    assert not {"snapshots", "snapshot_runs"} & await tables(empty_database_url)
    engine = migration_engine(empty_database_url)
    async with engine.connect() as connection:
        kinds = (await connection.execute(text("SELECT kind FROM operations ORDER BY fence"))).scalars().all()
        marks = (await connection.execute(text("SELECT service, restart FROM overrides"))).all()
    await engine.dispose()
    assert kinds == ["provision", "restart"]
    assert ("db", "mark-1") in [tuple(row) for row in marks]

    await migrate(empty_database_url)
    database = Database(empty_database_url)
    for each in (environment_id, restored.environment.id):
        assert (await environment_of(database, tenant, each)).phase is EnvironmentPhase.RUNNING
    assert await taken(database, tenant, environment_id)
    await database.dispose()
