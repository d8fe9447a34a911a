"""Bring a database to the schema of this code: `python -m activities.db.migrate URL`.

Safe to run at every start and by several processes at once: one migrates, the others wait and find it done.
Either all migrations that are missing are applied or none.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from activities.db.engine import migration_engine
from activities.db.revisions import MIGRATIONS

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


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for our scripts over an open connection; reads no file."""
    config = _config()
    config.attributes["connection"] = connection
    return config


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
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
