"""Restoring: a backup into an empty database, in one transaction.

Temporal's state and the cluster are as they are: newer than the backup, or gone. What follows from that:

- Numbers must not be given out twice. Fences are on living objects, event numbers and entity tags with
  clients; all of them go on far above anything that may have been given out since the backup.
- Operations that were live in the backup stay so. The reconciler starts those that had not begun, and ends
  those whose workflow Temporal does not know.
- Nobody's time is over because of it: what was extended since is not known, so everything gets a day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from alembic import command
from sqlalchemy import Connection, func, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.copying import Loader, Row, tables_of
from activities.db.engine import migration_engine
from activities.db.migrate import alembic_config, lock
from activities.db.records import OPERATOR, Actor
from activities.db.recovery import EVENTS_AHEAD, FENCES_AHEAD
from activities.db.repositories.audit import add_entry
from activities.db.repositories.installation import Restored, note_restore
from activities.db.repositories.secrets import wrapped_keys
from activities.db.revisions import applied_revision, known_revision, newest_revision
from activities.db.tables import (
    Environment,
    IdempotencyRecord,
    Operation,
    Organization,
    Orphan,
    Role,
)
from activities.db.timers import reschedule
from activities.secrets import MasterKeys, SecretsError
from admin.backup_file import Head, TableStart, read_file
from admin.errors import AdminError
from workflows.domain.operations import LIVE_STATES, OperationState

GRACE: Final = timedelta(hours=24)
"""How long an environment lives at least after a restore."""


@dataclass(frozen=True, slots=True)
class RestoredState:
    """What the database holds now. `not_begun` and `under_way`: operations that were live in the backup."""

    head: Head
    rows: dict[str, int]
    environments: int
    not_begun: int
    under_way: int


async def restore(url: str, path: Path, keys: MasterKeys) -> RestoredState:
    """Restore a backup. Nothing is changed unless all of it is restored and each data key opens.

    Raises AdminError for a file that is not whole or too new, and for a database that is not empty;
    SecretsError when the master keys are not those of the backup.
    """
    head = check_file(path)
    engine = migration_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(lock)
            await _make_tables(connection, head.schema_revision)
            rows = await _load(connection, path)
            await _check_references(connection)
            await connection.run_sync(lambda plain: command.upgrade(alembic_config(plain), "head"))
            session = AsyncSession(connection, expire_on_commit=False)
            await _check_keys(session, keys)
            found = await _go_on_from_here(session, head, rows)
            await session.flush()
        return found
    finally:
        await engine.dispose()


def check_file(path: Path) -> Head:
    """Read a file to its end and return its head. Raises AdminError."""
    lines = read_file(path)
    head = next(lines)
    assert isinstance(head, Head)  # noqa: S101 - the first is always one
    if not known_revision(head.schema_revision):
        raise AdminError(
            f"The backup has the schema {head.schema_revision}, which this version does not know.",
            hints=[
                f"Restore it with version {head.version} or a later one; this one knows {newest_revision()}."
            ],
        )
    for _ in lines:
        pass
    return head


async def _make_tables(connection: AsyncConnection, revision: str) -> None:
    """Make the tables as they were when the backup was taken; those that are there have to be empty."""
    present = await connection.run_sync(lambda plain: inspect(plain).get_table_names())
    if present:
        applied = await applied_revision(connection)
        for table in await tables_of(connection):
            count = await connection.scalar(select(func.count()).select_from(table))
            if applied is None or count:
                what = f"has {count} rows" if count else "is not ours"
                raise AdminError(
                    f"The database is not empty: table {table.name} {what}.",
                    hints=["Restore into a new database; then point PERDURE_DATABASE_URL to it."],
                )

    def make(plain: Connection) -> None:
        config = alembic_config(plain)
        if present:
            command.downgrade(config, "base")
        command.upgrade(config, revision)

    await connection.run_sync(make)


async def _load(connection: AsyncConnection, path: Path) -> dict[str, int]:
    tables = {table.name: table for table in await tables_of(connection)}
    rows: dict[str, int] = {}
    loader: Loader | None = None
    name = ""
    try:
        for each in _content(path):
            if isinstance(each, TableStart):
                if loader is not None:
                    await loader.flush()
                name = each.name
                loader = Loader(connection, tables[name], each.columns)
                rows[name] = 0
            elif loader is not None:
                await loader.add(each)
                rows[name] += 1
        if loader is not None:
            await loader.flush()
    except (KeyError, ValueError, TypeError) as error:
        raise AdminError(f"{path} does not fit its own schema: {error}.") from error
    if set(rows) != set(tables):
        raise AdminError(f"{path} lacks {', '.join(sorted(set(tables) - set(rows)))}.")
    return rows


def _content(path: Path) -> Iterator[TableStart | Row]:
    for each in read_file(path):
        if not isinstance(each, Head):
            yield each


async def _check_references(connection: AsyncConnection) -> None:
    """See that every reference leads somewhere; Postgres has done so with each row."""
    if connection.dialect.name == "sqlite":
        broken = (await connection.execute(text("PRAGMA foreign_key_check"))).all()
        if broken:
            raise AdminError(f"{len(broken)} rows refer to others that are not in the backup.")


async def _check_keys(session: AsyncSession, keys: MasterKeys) -> None:
    """Open every data key. Raises SecretsError."""
    for key in await wrapped_keys(session):
        try:
            keys.unwrap(key)
        except SecretsError as error:
            raise SecretsError(f"data key {key.id} of {key.organization_id}: {error}") from error


async def _go_on_from_here(session: AsyncSession, head: Head, rows: dict[str, int]) -> RestoredState:
    now = datetime.now(UTC)
    await session.exec(
        update(Environment).values(
            last_fence=col(Environment.last_fence) + FENCES_AHEAD,
            last_event=col(Environment.last_event) + EVENTS_AHEAD,
            version=col(Environment.version) + FENCES_AHEAD,
        )
    )
    # Nothing was written under their fence yet; one that has begun keeps the one that its workflow knows.
    await session.exec(
        update(Operation)
        .where(col(Operation.state) == OperationState.ACCEPTED)
        .values(fence=col(Operation.fence) + FENCES_AHEAD)
    )
    living = (await session.exec(select(Environment).where(col(Environment.deleted_at).is_(None)))).all()
    for environment in living:
        environment.last_active_at = now
        if environment.expires_at is not None:
            environment.expires_at = max(environment.expires_at, now + GRACE)
        reschedule(environment)
    # Seen before: what looks orphaned now has to look so for a day from now on.
    await session.exec(delete(Orphan))
    # Answers that were promised for a time long over by now.
    await session.exec(delete(IdempotencyRecord).where(col(IdempotencyRecord.expires_at) < now))
    await note_restore(session, Restored(now, head.taken_at))
    for organization_id in (await session.exec(select(Organization.id))).all():
        operator = Actor(organization_id, OPERATOR, None, Role.OWNER)
        data = {"takenAt": head.taken_at.isoformat()}
        await add_entry(session, operator, "installation.restore", organization_id, {**data})
    live = (await session.exec(select(Operation.state).where(col(Operation.state).in_(LIVE_STATES)))).all()
    begun = sum(state is OperationState.RUNNING for state in live)
    return RestoredState(head, rows, len(living), len(live) - begun, begun)
