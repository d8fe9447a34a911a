"""Parameters that many routes share; the cursor itself is the repositories' (keyset, opaque)."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path, Query

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
LAST_REVISION: Final = 2**31 - 1
"""What the database can count to."""
NO_NUL: Final = r"^[^\x00]*$"
"""Of a text that is looked for: SQLite would end it at U+0000, Postgres takes none."""

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows on one page")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`meta.nextCursor` of the page before")]
Id = Annotated[str, Path(alias="id", description="Id of the thing")]
