"""The database: SQLite for one machine, Postgres for many, behind the same two kinds of transaction.

A writing transaction on SQLite begins with BEGIN IMMEDIATE, and only one at a time begins in this process: a
deferred one that turns into a writer fails at once when somebody wrote meanwhile, and writers that poll for
the file lock starve each other. Postgres takes row locks where the code asks for them (`FOR NO KEY UPDATE`).

Errors of the driver never show the parameters of a statement: they end up in logs.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Final

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import sqlite_inline

_POOL_SIZE: Final = 10
_SQLITE_READERS: Final = 4
_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}


def async_url(url: str) -> str:
    """Return the URL with its async driver: `sqlite:///file` and `postgresql://...` name no driver.

    Raises ValueError for another kind of database, and for SQLite without a file: each connection would have
    its own.
    """
    parsed = make_url(url)
    driver = _DRIVERS.get(parsed.drivername, parsed.drivername)
    if driver not in _DRIVERS.values():
        raise ValueError(f"unknown kind of database: {parsed.drivername}")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("a SQLite database needs a file")
    return parsed.set(drivername=driver).render_as_string(hide_password=False)


class Database:
    """Connections to one database. Belongs to one event loop; `dispose` it before the loop ends."""

    def __init__(self, url: str) -> None:
        address = async_url(url)
        self.is_sqlite: Final = address.startswith("sqlite")
        self._writing = asyncio.Lock()
        self.writers = 0
        """Writing transactions of this process that are under way or wait for their turn."""
        if self.is_sqlite:
            self._writer = _sqlite_engine(address, sqlite_inline.BEGIN_WRITING, pool_size=1)
            self._reader = _sqlite_engine(address, "BEGIN", pool_size=_SQLITE_READERS)
        else:
            self._writer = create_async_engine(
                address,
                pool_size=_POOL_SIZE,
                max_overflow=_POOL_SIZE,
                pool_pre_ping=True,
                hide_parameters=True,
            )
            # What one request reads is of one moment, as it is on SQLite.
            self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ")
        self._write_session = _sessions(self._writer)
        self._read_session = _sessions(self._reader)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One writing transaction: committed at the end, rolled back when anything is raised.

        Do not open a second one inside: on SQLite the second would wait for the first for ever.
        """
        turn: AbstractAsyncContextManager[object] = self._writing if self.is_sqlite else nullcontext()
        self.writers += 1
        try:
            async with turn, self._write_session() as session, session.begin():
                yield session
        finally:
            self.writers -= 1

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """One reading transaction, which sees one moment; whatever it writes is rolled back.

        Never waits for writers.
        """
        async with self._read_session() as session:
            yield session

    @asynccontextmanager
    async def listening(self, channel: str, notice: Callable[[], None]) -> AsyncIterator[None]:
        """Call `notice` for each Postgres notification on a channel; on SQLite it is never called."""
        if self.is_sqlite:
            yield
            return

        def notified(*_: object) -> None:
            notice()

        async with self._reader.connect() as connection:
            # Outside a transaction: an open one would hold notifications back.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None  # noqa: S101 - it was opened just now; for the type checker
            await driver.add_listener(channel, notified)
            try:
                yield
            finally:
                await driver.remove_listener(channel, notified)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """One reading transaction over a single state of the whole database, however long it lasts."""
        async with self._reader.connect() as connection:
            if not self.is_sqlite:  # SQLite's reading transactions are like that
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    async def ping(self) -> None:
        """Ask the database for an answer. Raises what the driver raises when there is none."""
        async with self._reader.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def dispose(self) -> None:
        """Close all connections."""
        await self._writer.dispose()
        await self._reader.dispose()


def migration_engine(url: str) -> AsyncEngine:
    """Return an engine for changing the schema: one connection, and on SQLite no foreign keys enforced.

    SQLite rebuilds a table to change it, which enforced foreign keys would take for a removal.
    """
    address = async_url(url)
    if address.startswith("sqlite"):
        return _sqlite_engine(address, sqlite_inline.BEGIN_WRITING, pool_size=1, foreign_keys=False)
    return create_async_engine(address, poolclass=NullPool, hide_parameters=True)


def _sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


def _sqlite_engine(address: str, begin: str, *, pool_size: int, foreign_keys: bool = True) -> AsyncEngine:
    engine = create_async_engine(
        address,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
        module=sqlite_inline.driver(),
    )

    def connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # The driver would begin transactions by itself, and always deferred ones.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {sqlite_inline.BUSY_TIMEOUT_SECONDS * 1000}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "wal_autocheckpoint = 0",
            f"foreign_keys = {'ON' if foreign_keys else 'OFF'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)
    return engine
