"""What a database is asked."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from activities.db.engine import Database


@contextmanager
def statements_of(database: Database) -> Iterator[list[tuple[str, str]]]:
    """Note every statement that is run, readers' and writers', with its parameters as text."""
    seen: list[tuple[str, str]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        seen.append((statement, repr(parameters)))

    engines = [database._writer.sync_engine]
    if database._reader.pool is not database._writer.pool:
        # On SQLite; on Postgres the reader is the writer with options, and tells it what it does.
        engines.append(database._reader.sync_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
