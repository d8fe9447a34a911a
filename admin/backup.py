"""Backing up: all rows of one state of the database, in one file."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.copying import rows_of, tables_of
from activities.db.engine import Database
from activities.db.revisions import newest_revision
from activities.db.tables import DataKey, Installation, Share
from activities.secrets import MasterKeys, SecretsError
from activities.version import VERSION
from admin.backup_file import FORMAT, Head, TableStart, new_backup
from admin.errors import AdminError
from admin.sealed_keys import seal_keys


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What is in the file."""

    head: Head
    rows: dict[str, int]


async def back_up(database: Database, path: Path, *, sealing: tuple[MasterKeys, str] | None) -> BackedUp:
    """Write a backup. `sealing`: master keys to put into it, and the passphrase to seal them with.

    Raises AdminError, also for an installation that has not begun; SecretsError when the keys are not those
    of the database.
    """
    async with database.snapshot() as connection:
        session = AsyncSession(connection)
        installation = (await session.exec(select(Installation.uuid))).one_or_none()
        if installation is None:
            raise AdminError("There is nothing to back up: the installation has no id yet.")
        needed = {*(await session.exec(select(DataKey.master_key_id).distinct()))}
        links = {
            *(await session.exec(select(Share.key_id).where(col(Share.revoked_at).is_(None)).distinct()))
        }
        head = Head(
            perdure_backup=FORMAT,
            taken_at=datetime.now(UTC),
            installation=installation,
            schema_revision=newest_revision(),
            version=VERSION,
            engine="sqlite" if database.is_sqlite else "postgresql",
            master_keys=tuple(sorted(needed | links)),
        )
        if sealing is not None:
            keys, passphrase = sealing
            missing = needed - set(keys.keys)
            if missing:
                raise SecretsError(f"the master keys at hand lack {', '.join(sorted(missing))}")
            head = head.model_copy(update={"sealed_keys": seal_keys(keys, passphrase, head.bound)})
        with new_backup(path) as file:
            file.head(head)
            for table in await tables_of(connection):
                file.table(TableStart(table.name, tuple(column.name for column in table.columns)))
                async for row in rows_of(connection, table):
                    file.row(row)
    return BackedUp(head, file.rows)
