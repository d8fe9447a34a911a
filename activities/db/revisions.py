"""Which schema a database has, and which one this code is written for; without Alembic, which is large."""

import re
from pathlib import Path
from typing import Final

from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

MIGRATIONS: Final = Path(__file__).with_name("migrations")
_REVISION: Final = re.compile(r'^revision = "(\w+)"$', re.MULTILINE)


def newest_revision() -> str:
    """Return the schema revision that this code is written for: they are numbered."""
    return max(_revisions())


def known_revision(revision: str) -> bool:
    """Return whether this code can migrate a database of that revision."""
    return revision in _revisions()


async def applied_revision(connection: AsyncConnection) -> str | None:
    """Return the schema revision of a database, None when it has none."""
    if not await connection.run_sync(lambda plain: inspect(plain).has_table("alembic_version")):
        return None
    found: str | None = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    return found


def _revisions() -> set[str]:
    scripts = [each.read_text() for each in (MIGRATIONS / "versions").glob("[0-9]*.py")]
    return {found[1] for script in scripts if (found := _REVISION.search(script))}
