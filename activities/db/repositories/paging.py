"""Lists in pages: stable while rows are added, and as fast on the last page as on the first.

One way for all: a `Listing` says what a list can be ordered by, a `Filter` what it can be narrowed to, and
from these come the order, the condition and the cursor of each page.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import BigInteger, Column, ColumnElement, Integer, literal, tuple_
from sqlalchemy.orm import Mapped
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from activities.db.errors import InvalidCursor
from activities.db.types import UtcDateTime

Row = TypeVar("Row")
Record = TypeVar("Record")
Key = datetime | int | str
"""What rows are ordered by."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    """Some records and the cursor of the next page; None: this was the last."""

    items: tuple[Record, ...]
    next_cursor: str | None


class ByTime(StrEnum):
    """Order of a list that grows; `-`: the newest first."""

    OLDEST = "createdAt"
    NEWEST = "-createdAt"


class ByTimeOrName(StrEnum):
    """Order of a list of what has a name and stays as it was made; `-`: the greatest first."""

    OLDEST = "createdAt"
    NEWEST = "-createdAt"
    NAME = "name"
    NAME_LAST = "-name"


class ByNameOrChange(StrEnum):
    """Order of a list of what has a name and is changed now and then; `-`: the greatest first."""

    NAME = "name"
    NAME_LAST = "-name"
    UPDATED = "updatedAt"
    UPDATED_LAST = "-updatedAt"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list is narrowed to: a row has to meet all that is set. This one: nothing.

    Every field of it tells lists apart: a cursor goes on in the list that it came from.
    """

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        return []

    def scope(self) -> str:
        """What tells lists of this filter from others."""
        values = (getattr(self, each.name) for each in fields(self))
        return scope_of(*(sorted(each) if isinstance(each, frozenset) else each for each in values))


EVERYTHING: Final = Filter()


def only(column: Mapped[Any], value: object) -> list[ColumnElement[bool]]:
    """The condition that a column is this; none for None."""
    return [] if value is None else [column == value]


def among(column: Mapped[Any], values: Collection[str]) -> list[ColumnElement[bool]]:
    """The condition that a column is one of these; none for none."""
    return [column.in_(sorted(values))] if values else []


def holding(column: Mapped[str], part: str | None) -> list[ColumnElement[bool]]:
    """The condition that this stands somewhere in a text, in letters of any case; none for None."""
    return [] if part is None else [column.icontains(part, autoescape=True)]


def since(column: Mapped[datetime], at: datetime | None) -> list[ColumnElement[bool]]:
    """The condition that a time is not before another one; none for None."""
    return [] if at is None else [column >= at]


def until(column: Mapped[datetime], at: datetime | None) -> list[ColumnElement[bool]]:
    """The condition that a time is before another one; none for None."""
    return [] if at is None else [column < at]


def filled(column: Mapped[Any], wanted: bool | None) -> list[ColumnElement[bool]]:
    """The condition that there is something, or that there is not, in a column; none for None."""
    return [] if wanted is None else [column.is_not(None) if wanted else column.is_(None)]


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row, Record]):
    """A list: how it is called, how a row of it is handed out, and by what it can be ordered.

    `by`: columns of texts, numbers or times by the words for them. `identifier`: a column that tells those
    apart that are equal by these; it may be one of them.
    """

    name: str
    copy: Callable[[Row], Record]
    by: Mapping[str, Column[Any]]
    identifier: Column[Any]

    def __post_init__(self) -> None:
        """Raise ValueError for a column that may be NULL: a row without a value would be on no page."""
        for column in (*self.by.values(), self.identifier):
            if column.nullable:
                raise ValueError(f"{column} may be NULL: no list is ordered by it")

    async def page(
        self,
        session: AsyncSession,
        query: SelectOfScalar[Row],
        *within: str | None,
        sort: str,
        wanted: Filter = EVERYTHING,
        limit: int,
        cursor: str | None,
    ) -> Page[Record]:
        """Return at most `limit` of a query's rows, those after the cursor. `within`: of whom the list is.

        Raises InvalidCursor, also for a cursor of another list, order or filter.
        """
        columns = self._columns(sort)
        descending = sort.startswith("-")
        scope = scope_of(self.name, within, str(sort), wanted.scope())
        query = query.where(*wanted.conditions())
        if cursor is not None:
            # As rows of values: of two conditions with an OR, Postgres would read all pages before.
            here = tuple_(*columns)
            there = tuple_(*_decoded(cursor, scope, columns))
            query = query.where(here < there if descending else here > there)
        order = [each.desc() if descending else each.asc() for each in columns]
        # One more tells whether there is another page.
        rows = (await session.exec(query.order_by(*order).limit(limit + 1))).all()
        kept = rows[:limit]
        following = None
        if len(rows) > limit and kept:
            following = _opaque([scope, *(_written(getattr(kept[-1], each.key)) for each in columns)])
        return Page(tuple(self.copy(row) for row in kept), following)

    def _columns(self, sort: str) -> tuple[Column[Any], ...]:
        column = self.by[sort.removeprefix("-")]
        return (column,) if column is self.identifier else (column, self.identifier)


def scope_of(*parts: object) -> str:
    """Return a short digest of what makes a list the one that it is."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _opaque(parts: Sequence[str]) -> str:
    document = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")


def _parts(cursor: str, scope: str) -> list[str]:
    """Return what a cursor of this list says. Raises InvalidCursor."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        parts = json.loads(text)
        if not isinstance(parts, list) or not all(isinstance(each, str) for each in parts):
            raise InvalidCursor
        # What no database takes: half of a surrogate pair, or NUL.
        if b"\0" in "".join(parts).encode():
            raise InvalidCursor
    except (binascii.Error, ValueError, RecursionError) as fault:
        raise InvalidCursor from fault
    known, *keys = parts or [""]
    if known != scope:
        raise InvalidCursor(foreign=True)
    return keys


def _decoded(cursor: str, scope: str, columns: Sequence[Column[Any]]) -> list[ColumnElement[Any]]:
    keys = _parts(cursor, scope)
    if len(keys) != len(columns):
        raise InvalidCursor
    return [literal(_read(key, column), column.type) for key, column in zip(keys, columns, strict=True)]


def _written(key: Key) -> str:
    return key.isoformat() if isinstance(key, datetime) else str(key)


def _read(text: str, column: Column[Any]) -> Key:
    """Return what was written as the column has it. Raises InvalidCursor."""
    try:
        if isinstance(column.type, UtcDateTime):
            at = datetime.fromisoformat(text)
            if at.tzinfo is None:
                raise InvalidCursor
            return at.astimezone(UTC)
        if isinstance(column.type, Integer):
            number, bits = int(text), 63 if isinstance(column.type, BigInteger) else 31
            if not -(2**bits) <= number < 2**bits:
                raise InvalidCursor
            return number
    except (ValueError, OverflowError) as fault:
        raise InvalidCursor from fault
    return text


def cut_page(
    items: Sequence[Record],
    key: Callable[[Record], tuple[str, ...]],
    *scope: object,
    limit: int,
    cursor: str | None,
) -> Page[Record]:
    """Return a page of a list that is small and at hand, in the order of its keys.

    Raises InvalidCursor.
    """
    name = scope_of(*scope)
    ordered = sorted(items, key=key)
    if cursor is not None:
        after = tuple(_parts(cursor, name))
        ordered = [each for each in ordered if key(each) > after]
    kept = ordered[:limit]
    following = _opaque([name, *key(kept[-1])]) if len(ordered) > limit else None
    return Page(tuple(kept), following)
