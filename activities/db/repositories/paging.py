"""Keyset pages, newest first: stable while rows are added, and as fast on the last page as on the first."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

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
    document = json.dumps([position.at.isoformat(), position.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> Position:
    """Return the position that `encode_cursor` was given. Raises InvalidCursor for anything else."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        at, identifier = json.loads(text)
        position = Position(datetime.fromisoformat(at), identifier)
    except (binascii.Error, ValueError, TypeError) as fault:
        raise InvalidCursor from fault
    if position.at.tzinfo is None or not isinstance(position.id, str):
        raise InvalidCursor
    return position


def older_than(
    cursor: str | None, at: Mapped[datetime], identifier: Mapped[str]
) -> ColumnElement[bool] | None:
    """The condition that leaves what comes after the cursor, given the two columns of the order."""
    if cursor is None:
        return None
    position = decode_cursor(cursor)
    return or_(at < position.at, and_(at == position.at, identifier < position.id))


def page(
    rows: Sequence[Row], limit: int, copy: Callable[[Row], Record], position: Callable[[Row], Position]
) -> Page[Record]:
    """Make a page of at most `limit` from a query that asked for one row more."""
    kept = rows[:limit]
    following = encode_cursor(position(kept[-1])) if len(rows) > limit and kept else None
    return Page(tuple(copy(row) for row in kept), following)
