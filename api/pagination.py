"""Keyset pages: an opaque cursor holds the sort key of the last row that was given out."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Query

from api.problems import ProblemError, ProblemField, RequestProblem

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows on one page")]
Cursor = Annotated[str | None, Query(max_length=300, description="`meta.nextCursor` of the page before")]


def encode_cursor(created_at: datetime, identifier: str) -> str:
    """Make the cursor that goes on after a row."""
    key = json.dumps([created_at.astimezone(UTC).isoformat(), identifier], separators=(",", ":"))
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    """Read a cursor back. Raises ProblemError for one that was not made here."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        moment, identifier = json.loads(text)
        created_at = datetime.fromisoformat(moment)
        if not isinstance(identifier, str) or created_at.tzinfo is None:
            raise ValueError("not a cursor")
    except (binascii.Error, ValueError, TypeError) as error:
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "The cursor was not made by this API.",
            errors=[
                ProblemField(path="query.cursor", message="is not a cursor", suggestion="use meta.nextCursor")
            ],
        ) from error
    return created_at, identifier
