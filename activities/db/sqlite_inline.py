"""SQLite without a thread change for each statement.

aiosqlite hands every call to a thread: four changes for one statement, ninety for one accepted environment,
each longer than the statement itself (measured on busy cores: 130 ms for an acceptance with, 35 ms without).
A statement on a local file takes some ten microseconds and, in WAL mode, waits for nobody, so that it may as
well run on the event loop. What can take long does not:

- Another process may be writing when a writing transaction begins. SQLite's own waiting would hold up the
  loop, and looks again after up to a tenth of a second; here the loop goes on and looks every few
  milliseconds.
- A commit writes to the page cache only (`synchronous = NORMAL`), save the one that would bring the WAL into
  the file, and waits for the disk. That is done by the connection's thread, every so many commits.
- Connecting.
"""

import asyncio
import sqlite3
from collections import deque
from typing import Any, Final

import aiosqlite
import structlog
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util import EMPTY_DICT
from sqlalchemy.util.concurrency import await_

BEGIN_WRITING: Final = "BEGIN IMMEDIATE"
BUSY_TIMEOUT_SECONDS: Final = 10
"""How long a writer waits for another process to finish writing."""
COMMITS_PER_CHECKPOINT: Final = 100
"""An accepted environment adds some fifteen pages to the WAL; SQLite would copy it at a thousand."""
_FIRST_LOOK_SECONDS: Final = 0.001
_LONGEST_LOOK_SECONDS: Final = 0.005
_PRIMARY_CODE: Final = 0xFF
"""The part of SQLite's error codes that says the kind; the rest says why."""

_log = structlog.get_logger("perdure.database")


class _InlineCursor(AsyncAdapt_aiosqlite_cursor):
    """A cursor of sqlite3 itself; all rows are fetched at once."""

    __slots__ = ()
    _awaitable_cursor_close = False

    def __init__(self, adapt_connection: AsyncAdapt_dbapi_connection) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        below: Any = self._connection
        self._cursor = below._conn.cursor()
        self._soft_closed_memoized = EMPTY_DICT
        self._rows = deque()

    def execute(self, operation: Any, parameters: Any = None) -> Any:
        """Run one statement; the beginning of a writing transaction may wait."""
        cursor: Any = self._cursor
        try:
            if operation == BEGIN_WRITING:
                await_(_begin_writing(cursor))
                return cursor
            # Waiting for nothing: SQLAlchemy takes a driver that never waits for a wrong one.
            await_(_nothing())
            cursor.execute(operation, () if parameters is None else parameters)
            if cursor.description:
                self._rows = deque(cursor.fetchall())
        except Exception as error:  # noqa: BLE001 - raised by it, as SQLAlchemy's own cursors do
            self._adapt_connection._handle_exception(error)
        return cursor

    def executemany(self, operation: Any, seq_of_parameters: Any) -> Any:
        """Run one statement for each of the parameters."""
        try:
            await_(_nothing())
            return self._cursor.executemany(operation, seq_of_parameters)
        except Exception as error:  # noqa: BLE001 - raised by it, as SQLAlchemy's own cursors do
            self._adapt_connection._handle_exception(error)


class _InlineAdaptedConnection(AsyncAdapt_aiosqlite_connection):
    """A connection as SQLAlchemy uses it."""

    __slots__ = ("_commits",)
    _cursor_cls = _InlineCursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self._commits = 0

    def commit(self) -> None:
        """Commit; every so often bring what was committed from the WAL into the file."""
        connection: Any = self._connection
        if not connection._connection:
            return
        try:
            connection._conn.commit()
            self._commits += 1
            if self._commits % COMMITS_PER_CHECKPOINT == 0:
                # Passive: it copies what no reader needs any more, and waits for nobody.
                await_(connection.checkpoint())
        except Exception as error:  # noqa: BLE001 - raised by it, as SQLAlchemy's own cursors do
            self._handle_exception(error)


class _InlineDriver(AsyncAdapt_aiosqlite_dbapi):
    """What SQLAlchemy takes for the driver's module."""

    def connect(self, *arguments: Any, **options: Any) -> AsyncAdapt_aiosqlite_connection:
        """Connect, in the connection's thread."""
        return _InlineAdaptedConnection(self, await_(_connect(*arguments, **options)))


class _InlineConnection(aiosqlite.Connection):
    """A connection of aiosqlite that runs what it is asked for where it is awaited."""

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        if self._connection is None:
            return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        return fn(*args, **kwargs)

    async def checkpoint(self) -> None:
        """Bring the WAL into the file, in the thread; nobody else uses the connection meanwhile.

        Never fails: what was committed is in the WAL, and the next time brings it too.
        """

        def work() -> None:
            # Read to its end: a statement that is under way would hold up the next commit.
            self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

        try:
            await super()._execute(work)  # type: ignore[no-untyped-call]
        except sqlite3.Error as error:
            _log.warning("checkpoint_failed", error=str(error))


def driver() -> AsyncAdapt_aiosqlite_dbapi:
    """Return the driver for `create_async_engine(module=...)`."""
    return _InlineDriver(aiosqlite, sqlite3)


def _connect(database: str, **options: Any) -> _InlineConnection:
    """Make a connection; awaiting it connects.

    It is used from two threads, never at once: the awaiting code waits while the other thread works.
    """
    options["check_same_thread"] = False

    def connector() -> sqlite3.Connection:
        opened: sqlite3.Connection = sqlite3.connect(database, **options)
        return opened

    connection = _InlineConnection(connector, iter_chunk_size=64)
    connection._thread.daemon = True
    return connection


async def _nothing() -> None:
    return


async def _begin_writing(cursor: Any) -> None:
    """Begin a transaction that nobody writes beside. Raises OperationalError when that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + BUSY_TIMEOUT_SECONDS
    pause = _FIRST_LOOK_SECONDS
    while not _begun(cursor, last=loop.time() >= deadline):
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_LOOK_SECONDS)


def _begun(cursor: Any, *, last: bool) -> bool:
    """Try to begin without waiting; `last`: raise when another process writes."""
    cursor.execute("PRAGMA busy_timeout = 0")
    try:
        cursor.execute(BEGIN_WRITING)
    except sqlite3.OperationalError as error:
        if last or error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY:
            raise
        return False
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    return True
