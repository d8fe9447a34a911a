"""All rows of a database as JSON, and back: the same from SQLite and from Postgres, and into either.

Works on whatever tables there are, not on those of this code: a backup may be of an older schema. Times are
written in UTC as ISO 8601, bytes as base64.
"""

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy import JSON, Column, DateTime, LargeBinary, MetaData, Table, event, select
from sqlalchemy.ext.asyncio import AsyncConnection

VERSION_TABLE: Final = "alembic_version"
_BATCH: Final = 500

Row = list[JsonValue]


async def tables_of(connection: AsyncConnection) -> list[Table]:
    """Return the tables of a database, each after those that it refers to; without that of its revision."""
    metadata = MetaData()

    @event.listens_for(metadata, "column_reflect")
    def reflected(_inspector: object, _table: object, column: dict[str, Any]) -> None:
        if isinstance(column["type"], JSON):
            # As our own columns are: None is SQL NULL, not the JSON word.
            column["type"] = JSON(none_as_null=True)

    await connection.run_sync(metadata.reflect)
    return [table for table in metadata.sorted_tables if table.name != VERSION_TABLE]


async def rows_of(connection: AsyncConnection, table: Table) -> AsyncIterator[Row]:
    """Yield every row, its values in the order of the table's columns, in the order of the primary key."""
    query = select(table).order_by(*table.primary_key.columns)
    async with connection.stream(query.execution_options(yield_per=_BATCH)) as found:
        async for row in found:
            yield [_written(column, value) for column, value in zip(table.columns, row, strict=True)]


class Loader:
    """Puts rows into one table, some hundred at a time. Call `flush` at the end."""

    def __init__(self, connection: AsyncConnection, table: Table, columns: Sequence[str]) -> None:
        """Raises ValueError when these are not the table's columns."""
        if {column.name for column in table.columns} != set(columns):
            raise ValueError(f"the columns of {table.name} are others than its schema's")
        self._connection = connection
        self._table = table
        self._columns = [table.columns[name] for name in columns]
        self._own = [column for column in self._columns if _refers_to_itself(column)]
        self._waiting: list[dict[str, object]] = []
        self._later: list[dict[str, object]] = []

    async def add(self, row: Row) -> None:
        """Put a row. What refers to another row of the table is filled in by `flush`: any order will do."""
        values = {column.name: _read(column, value) for column, value in zip(self._columns, row, strict=True)}
        for column in self._own:
            if values[column.name] is not None:
                self._later.append(dict(values))
                values[column.name] = None
        self._waiting.append(values)
        if len(self._waiting) >= _BATCH:
            await self._put()

    async def flush(self) -> None:
        """Put what waits."""
        await self._put()
        for values in self._later:
            key = [column == values[column.name] for column in self._table.primary_key.columns]
            own = {column.name: values[column.name] for column in self._own}
            await self._connection.execute(self._table.update().where(*key).values(own))

    async def _put(self) -> None:
        if self._waiting:
            await self._connection.execute(self._table.insert(), self._waiting)
            self._waiting = []


def _refers_to_itself(column: "Column[Any]") -> bool:
    return any(key.column.table is column.table for key in column.foreign_keys)


def _written(column: "Column[Any]", value: object) -> JsonValue:
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.isoformat()
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, str | int | float | list | Mapping):
        return value  # type: ignore[return-value]
    raise TypeError(f"a {type(value).__name__} in {column} cannot be written")


def _read(column: "Column[Any]", value: JsonValue) -> object:
    if value is None:
        return None
    if isinstance(column.type, DateTime):
        moment = datetime.fromisoformat(str(value)).astimezone(UTC)
        # SQLite has no time zones: all its times are UTC.
        return moment if column.type.timezone else moment.replace(tzinfo=None)
    if isinstance(column.type, LargeBinary):
        return base64.b64decode(str(value), validate=True)
    return value
