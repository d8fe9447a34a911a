"""Transactions: committed or not at all, one writer at a time on SQLite, readers never waiting."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import sqlite_inline
from activities.db.core import table_of
from activities.db.engine import Database
from activities.db.records import OrganizationRecord
from activities.db.repositories.installation import installation_id
from activities.db.repositories.organizations import create_organization
from activities.db.tables import Organization
from activities.db.types import utc_now


async def names(database: Database) -> list[str]:
    async with database.reading() as session:
        return sorted((await session.exec(select(Organization.name))).all())


async def add(database: Database, name: str) -> OrganizationRecord:
    async with database.transaction() as session:
        return await create_organization(session, name)


@pytest_asyncio.fixture
async def second(database_url: str) -> AsyncIterator[Database]:
    """The same database as another process opens it: nothing is shared but the database."""
    opened = Database(database_url)
    yield opened
    await opened.dispose()


async def test_ping(database: Database) -> None:
    await database.ping()


async def test_what_raises_is_rolled_back(database: Database) -> None:
    async def broken() -> None:
        async with database.transaction() as session:
            await create_organization(session, "lost")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    assert await names(database) == []
    await add(database, "kept")
    assert await names(database) == ["kept"]


async def test_a_read_sees_nothing_uncommitted_and_does_not_wait(database: Database) -> None:
    async with database.transaction() as session:
        await create_organization(session, "one")
        assert await names(database) == []
    assert await names(database) == ["one"]


async def test_what_a_reading_transaction_writes_is_dropped(database: Database) -> None:
    async with database.reading() as session:
        await create_organization(session, "lost")
    assert await names(database) == []


async def test_writers_of_two_processes_take_turns(database: Database, second: Database) -> None:
    wanted = [f"{number:02}" for number in range(20)]
    await asyncio.gather(
        *(add(database if number % 2 else second, name) for number, name in enumerate(wanted))
    )
    assert await names(database) == wanted


async def test_two_processes_agree_on_the_installation(database: Database, second: Database) -> None:
    async def ask(opened: Database) -> str:
        async with opened.transaction() as session:
            return await installation_id(session)

    first, other = await asyncio.gather(ask(database), ask(second))
    assert first == other == await ask(database)


async def test_errors_of_the_driver_hide_values(database: Database) -> None:
    async def twice(session: AsyncSession) -> None:
        for _ in range(2):
            session.add(Organization(id="org_1", name="planted-name", created_at=utc_now()))
            await session.flush()
            session.expunge_all()

    with pytest.raises(IntegrityError) as error:
        async with database.transaction() as session:
            await twice(session)
    assert "planted-name" not in str(error.value)


async def test_sqlite_settings(sqlite_url: str) -> None:
    opened = Database(sqlite_url)
    async with opened.transaction() as session:
        connection = await session.connection()
        values = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert values == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 10_000}
    await opened.dispose()


class _Elsewhere:
    """Another process that writes, without our way of waiting: sqlite3 alone."""

    def __init__(self, url: str) -> None:
        self.connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        self.connection.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self.connection.execute("COMMIT")
        self.connection.close()


async def test_the_loop_goes_on_while_another_process_writes(sqlite_url: str) -> None:
    opened = Database(sqlite_url)
    await opened.ping()
    elsewhere = _Elsewhere(sqlite_url)
    adding = asyncio.create_task(add(opened, "one"))
    for _ in range(5):
        await asyncio.sleep(0.002)
        assert await names(opened) == []
    assert not adding.done()
    elsewhere.end()
    await adding
    assert await names(opened) == ["one"]
    await opened.dispose()


async def test_waiting_for_another_process_ends(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_inline, "BUSY_TIMEOUT_SECONDS", 0.05)
    opened = Database(sqlite_url)
    elsewhere = _Elsewhere(sqlite_url)
    with pytest.raises(OperationalError, match="locked"):
        await add(opened, "one")
    elsewhere.end()
    await add(opened, "two")
    assert await names(opened) == ["two"]
    await opened.dispose()


async def test_who_stops_waiting_for_another_process_leaves_the_way_free(sqlite_url: str) -> None:
    opened = Database(sqlite_url)
    elsewhere = _Elsewhere(sqlite_url)
    adding = asyncio.create_task(add(opened, "one"))
    await asyncio.sleep(0.005)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    elsewhere.end()
    await add(opened, "two")
    assert await names(opened) == ["two"]
    await opened.dispose()


def wal_bytes(sqlite_url: str) -> int:
    return Path(f"{sqlite_url.removeprefix('sqlite:///')}-wal").stat().st_size


async def test_the_wal_comes_into_the_file_now_and_then(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_inline, "COMMITS_PER_CHECKPOINT", 5)
    opened = Database(sqlite_url)
    sizes = []
    for number in range(40):
        await add(opened, f"{number:02}")
        sizes.append(wal_bytes(sqlite_url))
    assert sizes[-1] == sizes[9], "it starts from its beginning again"
    assert len(await names(opened)) == 40
    await opened.dispose()


async def test_rows_are_inserted_by_a_bare_connection_one_or_many(database: Database) -> None:
    rows = [{"id": f"org_{number}", "name": f"{number}", "created_at": utc_now()} for number in range(3)]
    async with database.transaction() as session:
        connection = await session.connection()
        await connection.execute(insert(table_of(Organization)), rows[:2])
        await connection.execute(insert(table_of(Organization)), rows[2])
    assert await names(database) == ["0", "1", "2"]
