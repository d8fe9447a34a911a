"""Bring a database to the schema of this code: `python -m activities.db.migrate URL`.

Safe to run at every start and by several processes at once: one migrates, the others wait and find it done.
Either all migrations that are missing are applied or none.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.db.engine import migration_engine

_SCRIPTS: Final = Path(__file__).with_name("migrations")
_LOCK: Final = 7_402_311_905
"""Any number, the same in all processes: held in Postgres while migrating."""


async def migrate(url: str) -> None:
    """Apply all migrations that the database lacks."""
    await _run(url, lambda config: command.upgrade(config, "head"))


async def downgrade(url: str, revision: str) -> None:
    """Take back migrations down to `revision` (`-1`: the last one, `base`: all). Their data is lost."""
    await _run(url, lambda config: command.downgrade(config, revision))


def lock(connection: Connection) -> None:
    """Keep others from changing the schema until this transaction ends; on SQLite it does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def newest_revision() -> str:
    """Return the schema revision that this code is written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ValueError("there are no migrations")
    return head


def known_revision(revision: str) -> bool:
    """Return whether this code can migrate a database of that revision."""
    return any(each.revision == revision for each in ScriptDirectory.from_config(_config()).walk_revisions())


async def applied_revision(connection: AsyncConnection) -> str | None:
    """Return the schema revision of a database, None when it has none."""
    return await connection.run_sync(lambda plain: MigrationContext.configure(plain).get_current_revision())


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for our scripts over an open connection; reads no file."""
    config = _config()
    config.attributes["connection"] = connection
    return config


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.set_main_option("path_separator", "os")
    return config


async def _run(url: str, change: Callable[[Config], None]) -> None:
    engine = migration_engine(url)

    def locked(connection: Connection) -> None:
        lock(connection)
        change(alembic_config(connection))

    try:
        async with engine.begin() as connection:
            await connection.run_sync(locked)
    finally:
        await engine.dispose()


def main(arguments: list[str]) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m activities.db.migrate", description=__doc__)
    parser.add_argument("url", help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE")
    asyncio.run(migrate(parser.parse_args(arguments).url))


if __name__ == "__main__":
    main(sys.argv[1:])
