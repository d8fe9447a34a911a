"""Keyset pages: stable while rows are added, and as fast on the last page as on the first."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, and_, or_
from sqlalchemy.orm import Mapped

from activities.db.errors import InvalidCursor

Row = TypeVar("Row")
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    """Some records and the cursor of the next page; None: this was the last."""

    items: tuple[Record, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended."""

    at: datetime
    id: str


def encode_cursor(position: Position) -> str:
    """Return an opaque text for a position."""
    return _opaque([position.at.isoformat(), position.id])


def decode_cursor(cursor: str) -> Position:
    """Return the position that `encode_cursor` was given. Raises InvalidCursor for anything else."""
    parts = _parts(cursor)
    if len(parts) != 2:
        raise InvalidCursor(foreign=len(parts) == 3)
    return Position(_time(parts[0]), parts[1])


def older_than(
    cursor: str | None, at: Mapped[datetime], identifier: Mapped[str]
) -> ColumnElement[bool] | None:
    """The condition that leaves what comes after the cursor, given the two columns of the order."""
    if cursor is None:
        return None
    position = decode_cursor(cursor)
    return or_(at < position.at, and_(at == position.at, identifier < position.id))


@dataclass(frozen=True, slots=True)
class Order:
    """A list's order: a column that is a text or a time, and the id among its equals.

    `scope` says what list it is, its filters included: a cursor of another one is refused.
    """

    column: ColumnElement[Any]
    identifier: ColumnElement[str]
    descending: bool
    scope: str
    times: bool

    def keys(self) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """What to order by."""
        if self.descending:
            return self.column.desc(), self.identifier.desc()
        return self.column.asc(), self.identifier.asc()

    def following(self, cursor: str) -> ColumnElement[bool]:
        """The condition that leaves what comes after the cursor. Raises InvalidCursor."""
        value, identifier = self._decoded(cursor)
        if self.descending:
            return or_(self.column < value, and_(self.column == value, self.identifier < identifier))
        return or_(self.column > value, and_(self.column == value, self.identifier > identifier))

    def cursor(self, value: datetime | str, identifier: str) -> str:
        """Return an opaque text for where a page ended."""
        plain = value.isoformat() if isinstance(value, datetime) else value
        return _opaque([self.scope, plain, identifier])

    def _decoded(self, cursor: str) -> tuple[datetime | str, str]:
        parts = _parts(cursor)
        if len(parts) != 3:
            raise InvalidCursor
        scope, plain, identifier = parts
        if scope != self.scope:
            raise InvalidCursor(foreign=True)
        return (_time(plain) if self.times else plain), identifier


def scope_of(*parts: object) -> str:
    """Return a short digest of what makes a list the one that it is."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _opaque(parts: Sequence[str]) -> str:
    document = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")


def _parts(cursor: str) -> list[str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        parts = json.loads(text)
    except (binascii.Error, ValueError, RecursionError) as fault:
        raise InvalidCursor from fault
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise InvalidCursor
    return parts


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as fault:
        raise InvalidCursor from fault
    if at.tzinfo is None:
        raise InvalidCursor
    return at


def page(
    rows: Sequence[Row], limit: int, copy: Callable[[Row], Record], position: Callable[[Row], Position | str]
) -> Page[Record]:
    """Make a page of at most `limit` from a query that asked for one row more.

    `position`: where a row is, or the cursor of it.
    """
    kept = rows[:limit]
    following = None
    if len(rows) > limit and kept:
        last = position(kept[-1])
        following = last if isinstance(last, str) else encode_cursor(last)
    return Page(tuple(copy(row) for row in kept), following)
