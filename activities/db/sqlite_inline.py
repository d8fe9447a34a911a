"""SQLite without a thread change for each statement.

aiosqlite hands every call to a thread: four changes for one statement, ninety for one accepted environment,
each longer than the statement itself (measured on busy cores: 130 ms for an acceptance with, 35 ms without).
A statement on a local file takes some ten microseconds and, in WAL mode, waits for nobody, so that it may as
well run on the event loop. What can wait keeps its thread: connecting, and both ends of writing transactions.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

import aiosqlite

_MAY_WAIT: Final = frozenset({"BEGIN IMMEDIATE", "COMMIT"})


class InlineConnection(aiosqlite.Connection):
    """A connection of aiosqlite that runs short statements where they are awaited."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        connection = self._connection
        if connection is None or fn == connection.commit or (args and args[0] in _MAY_WAIT):
            return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        return fn(*args, **kwargs)


def connect(database: str, **options: Any) -> InlineConnection:
    """Make a connection for SQLAlchemy's `async_creator_fn`; awaiting it connects.

    It is used from two threads, never at once: the awaiting code waits while the other thread works.
    """
    options["check_same_thread"] = False

    def connector() -> sqlite3.Connection:
        opened: sqlite3.Connection = sqlite3.connect(database, **options)
        return opened

    connection = InlineConnection(connector, iter_chunk_size=64)
    connection._thread.daemon = True
    return connection
