"""Keyset pages: stable while rows are added, and as fast on the last page as on the first."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, and_, or_
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from activities.db.errors import InvalidCursor

Row = TypeVar("Row")
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    """Some records and the cursor of the next page; None: this was the last."""

    items: tuple[Record, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """A list's order: a column that is a text or a time, and the id among its equals.

    `scope` says what list it is, its filters included: a cursor of another one is refused.
    """

    column: Column[Any]
    identifier: Column[str]
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

    def cursor(self, row: object) -> str:
        """Return an opaque text for the row where a page ended."""
        value = getattr(row, self.column.key)
        plain = value.isoformat() if self.times else value
        return _opaque([self.scope, plain, getattr(row, self.identifier.key)])

    def _decoded(self, cursor: str) -> tuple[datetime | str, str]:
        scope, plain, identifier = _parts(cursor)
        if scope != self.scope:
            raise InvalidCursor(foreign=True)
        return (_time(plain) if self.times else plain), identifier


def newest_first(at: Column[Any], identifier: Column[str], *scope: object) -> Order:
    """Return the order of a list by time; `scope`: what list it is, its filters included."""
    return Order(column=at, identifier=identifier, descending=True, scope=scope_of(*scope), times=True)


def oldest_first(at: Column[Any], identifier: Column[str], *scope: object) -> Order:
    """Return the order of a list by time that grows at its end."""
    return Order(column=at, identifier=identifier, descending=False, scope=scope_of(*scope), times=True)


def by_name(name: Column[Any], identifier: Column[str], *scope: object) -> Order:
    """Return the order of a list by name."""
    return Order(column=name, identifier=identifier, descending=False, scope=scope_of(*scope), times=False)


def scope_of(*parts: object) -> str:
    """Return a short digest of what makes a list the one that it is."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _opaque(parts: Sequence[str]) -> str:
    document = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")


def _parts(cursor: str) -> tuple[str, str, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        parts = json.loads(text)
    except (binascii.Error, ValueError, RecursionError) as fault:
        raise InvalidCursor from fault
    # What is not printable no database takes: half of a surrogate pair, or NUL.
    match parts:
        case [str(scope), str(plain), str(identifier)] if f"{scope}{plain}{identifier}".isprintable():
            return scope, plain, identifier
    raise InvalidCursor


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise InvalidCursor
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as fault:
        raise InvalidCursor from fault


def cut_page(
    items: Sequence[Record],
    key: Callable[[Record], tuple[str, str]],
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
        known, *after = _parts(cursor)
        if known != name:
            raise InvalidCursor(foreign=True)
        ordered = [each for each in ordered if key(each) > tuple(after)]
    kept = ordered[:limit]
    following = _opaque([name, *key(kept[-1])]) if len(ordered) > limit else None
    return Page(tuple(kept), following)


async def read_page(
    session: AsyncSession,
    query: SelectOfScalar[Row],
    order: Order,
    copy: Callable[[Row], Record],
    *,
    limit: int,
    cursor: str | None,
) -> Page[Record]:
    """Return at most `limit` of a query's rows, those after the cursor. Raises InvalidCursor."""
    if cursor is not None:
        query = query.where(order.following(cursor))
    # One more tells whether there is another page.
    rows = (await session.exec(query.order_by(*order.keys()).limit(limit + 1))).all()
    kept = rows[:limit]
    following = order.cursor(kept[-1]) if len(rows) > limit and kept else None
    return Page(tuple(copy(row) for row in kept), following)
