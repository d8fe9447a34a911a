"""Backups and what comes back from them: from each kind of database into each, whole or not at all."""

# ruff: noqa: ASYNC240 - small files of a test's own

import gzip
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import col, select, update

from activities.db.copying import rows_of, tables_of
from activities.db.engine import Database, migration_engine
from activities.db.ledger import close_lost
from activities.db.migrate import downgrade
from activities.db.recovery import EVENTS_AHEAD, FENCES_AHEAD
from activities.db.repositories import secrets
from activities.db.repositories.installation import installation_id, last_restore
from activities.db.revisions import newest_revision
from activities.db.tables import Environment, Event, Orphan
from activities.secrets import MasterKeys
from admin.backup import back_up
from admin.opened import kept_keys
from tests.admin.conftest import Admin, started, variables, written
from tests.helpers.tenants import KEYS, PLANTED, accept, begin, finish, make_tenant, retry, shop
from tests.helpers.waiting import eventually, eventually_async
from workflows.domain.failures import FailureKind, failure
from workflows.domain.operations import OperationState

pytestmark = pytest.mark.slow

PASSPHRASE = "a passphrase that is long enough"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def target_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A second database, without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'target.db'}"
    url: str = request.getfixturevalue("postgres_server").new_database()
    return url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "perdure.backup"


async def fill(database: Database) -> dict[str, str]:
    """Two organisations; environments with a running, a failed and retried, and an accepted operation."""
    one, two = await make_tenant(database), await make_tenant(database, "two")
    running = await accept(database, one, shop("running"))
    await begin(database, running.operation.id)
    failed = await accept(database, one, shop("failed"))
    await begin(database, failed.operation.id)
    await finish(
        database,
        failed.operation.id,
        OperationState.FAILED,
        failure=failure(FailureKind.TIMEOUT, "Zeit – ≠ Ünïcode \u2028 'quotes'"),
    )
    again = await retry(database, one, failed.environment.id)
    other = await accept(database, two, shop("running", ttlMinutes=60))
    return {
        "organization": one.id,
        "running": running.operation.id,
        "again": again.operation.id,
        "environment": running.environment.id,
        "other": other.environment.id,
    }


async def filled(url: str) -> None:
    """Fill the database at this address."""
    database = Database(url)
    await fill(database)
    await database.dispose()


async def content(url: str) -> dict[str, list[Any]]:
    """All rows by table."""
    database = Database(url)
    try:
        async with database.snapshot() as connection:
            return {
                table.name: [
                    dict(zip([column.name for column in table.columns], row, strict=True))
                    async for row in rows_of(connection, table)
                ]
                for table in await tables_of(connection)
            }
    finally:
        await database.dispose()


def changed(before: dict[str, list[Any]], after: dict[str, list[Any]], table: str) -> set[str]:
    """The columns in which rows of a table differ."""
    pairs = zip(before[table], after[table], strict=True)
    return {name for old, new in pairs for name in old if old[name] != new[name]}


async def test_everything_comes_back(
    database: Database, database_url: str, target_url: str, admin: Admin, file: Path
) -> None:
    made = await fill(database)
    async with database.transaction() as session:
        installation = await installation_id(session)
    done = admin(database_url, "backup", str(file))
    assert done.returncode == 0, done.stderr
    assert "you need those with the ids: m1." in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = await content(database_url)

    done = admin(target_url, "restore", str(file))
    assert done.returncode == 0, done.stderr
    assert "2 operations had not begun" in done.stderr
    if target_url.startswith("sqlite"):
        assert stat.S_IMODE(Path(target_url.split("///")[1]).stat().st_mode) == 0o600
    after = await content(target_url)
    assert set(after) == set(before)
    differing = {table: changed(before, after, table) for table in before if table != "audit_entries"}
    assert {table: columns for table, columns in differing.items() if columns} == {
        "installation": {"restored_at", "restored_to", "unknown_since"},
        "environments": {
            *("last_fence", "last_event", "version", "last_active_at", "expires_at", "next_look_at"),
        },
        "operations": {"fence"},
    }
    added = after["audit_entries"][len(before["audit_entries"]) :]
    assert [entry["action"] for entry in added] == ["installation.restore"] * 2

    restored = Database(target_url)
    try:
        async with restored.reading() as session:
            values = await secrets.secret_values(session, made["organization"], made["environment"], KEYS)
            assert values["api-token"] == PLANTED
            assert (await last_restore(session)) is not None
        async with restored.transaction() as session:
            assert await installation_id(session) == installation
            # Numbers go on, and the schema takes what the code writes.
            assert await close_lost(session, made["running"], failure(FailureKind.INTERNAL, "lost"))
            newest = select(Event.number).where(col(Event.environment_id) == made["environment"])
            assert max(await session.exec(newest)) > EVENTS_AHEAD
    finally:
        await restored.dispose()


async def test_numbers_go_on_far_above_what_was_given_out(
    database: Database, database_url: str, target_url: str, admin: Admin, file: Path
) -> None:
    made = await fill(database)
    admin(database_url, "backup", str(file))
    before = await content(database_url)
    admin(target_url, "restore", str(file))
    after = await content(target_url)
    for old, new in zip(before["environments"], after["environments"], strict=True):
        assert new["last_fence"] == old["last_fence"] + FENCES_AHEAD
        assert new["last_event"] == old["last_event"] + EVENTS_AHEAD
        assert new["version"] > old["version"]
    # The one whose workflow may live on keeps its fence; those that nobody has begun are above all others.
    fences = {row["id"]: row["fence"] for row in after["operations"]}
    assert fences[made["running"]] == 1
    assert fences[made["again"]] > FENCES_AHEAD
    limits = {row["id"]: row["last_fence"] for row in after["environments"]}
    assert all(row["fence"] < limits[row["environment_id"]] for row in after["operations"])


async def test_nothing_expires_at_once(
    database: Database, database_url: str, target_url: str, admin: Admin, file: Path
) -> None:
    """It may have been extended since: nobody knows."""
    made = await fill(database)
    past = datetime.now(UTC) - timedelta(days=3)
    async with database.transaction() as session:
        await session.exec(
            update(Environment).where(col(Environment.id) == made["other"]).values(expires_at=past)
        )
        session.add(Orphan(cluster="c", uid="u", namespace="n", organization_id="o", seen_at=past))
    admin(database_url, "backup", str(file))
    assert admin(target_url, "restore", str(file)).returncode == 0
    after = await content(target_url)
    [other] = [row for row in after["environments"] if row["id"] == made["other"]]
    assert datetime.fromisoformat(other["expires_at"]) > datetime.now(UTC) + timedelta(hours=23)
    assert after["orphans"] == []


async def test_a_backup_of_an_older_schema(
    database: Database,
    database_url: str,
    target_url: str,
    admin: Admin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tables are made as they were, filled, and migrated."""
    await fill(database)
    await database.dispose()
    await downgrade(database_url, "0007")
    old = tmp_path / "old.backup"
    # What the version of that schema wrote.
    monkeypatch.setattr("admin.backup.newest_revision", lambda: "0007")
    older = Database(database_url)
    rewritten = (await back_up(older, old, sealing=None)).rows
    await older.dispose()
    assert "orphans" not in rewritten
    done = admin(target_url, "restore", str(old))
    assert done.returncode == 0, done.stderr
    after = await content(target_url)
    assert "orphans" in after
    assert len(after["environments"]) == 3
    engine = migration_engine(target_url)
    async with engine.connect() as connection:
        found = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    await engine.dispose()
    assert found == newest_revision()


async def test_a_running_writer_does_not_tear_it(database: Database, database_url: str, file: Path) -> None:
    """One state of everything: what is committed while the backup is written is in it whole or not at all."""
    tenant = await make_tenant(database)
    async with database.transaction() as session:
        await installation_id(session)
    await accept(database, tenant, shop("before"))
    async with database.snapshot() as connection:
        tables = {table.name: table for table in await tables_of(connection)}
        assert len([row async for row in rows_of(connection, tables["environments"])]) == 1
        await accept(database, tenant, shop("meanwhile"))
        for name in ("environments", "operations", "revisions"):
            assert len([row async for row in rows_of(connection, tables[name])]) == 1, name


class TestKeys:
    async def test_the_wrong_master_key_restores_nothing(
        self, database: Database, database_url: str, target_url: str, admin: Admin, file: Path
    ) -> None:
        await fill(database)
        admin(database_url, "backup", str(file))
        wrong = MasterKeys("m1", {"m1": os.urandom(32)})
        done = admin(target_url, "restore", str(file), keys=wrong)
        assert done.returncode == 1
        assert "The keys do not fit: data key dk_" in done.stderr
        assert await _tables(target_url) == set()
        missing = MasterKeys("m9", {"m9": os.urandom(32)})
        assert (
            "master key 'm1' is not configured"
            in admin(target_url, "restore", str(file), keys=missing).stderr
        )
        assert admin(target_url, "restore", str(file)).returncode == 0

    async def test_sealed_keys_come_back_with_the_passphrase(
        self, database: Database, database_url: str, admin: Admin, file: Path, tmp_path: Path
    ) -> None:
        await fill(database)
        secret = tmp_path / "passphrase"
        secret.write_text(f"{PASSPHRASE}\n")
        done = admin(database_url, "backup", str(file), "--passphrase-file", str(secret))
        assert done.returncode == 0, done.stderr
        clear = gzip.decompress(file.read_bytes())
        for hidden in (PASSPHRASE.encode(), written(KEYS).encode(), PLANTED.encode(), *KEYS.keys.values()):
            assert hidden not in clear
        target, keys_to = f"sqlite:///{tmp_path / 'target.db'}", tmp_path / "keys"
        none = {"PERDURE_MASTER_KEYS": ""}
        asked = ("restore", str(file), "--keys-to", str(keys_to))
        assert admin(target, *asked, more=none).returncode == 2
        secret.write_text("another passphrase\n")
        done = admin(target, *asked, "--passphrase-file", str(secret), more=none)
        assert (done.returncode, "wrong passphrase" in done.stderr) == (2, True)
        assert not keys_to.exists()
        more = {**none, "PERDURE_BACKUP_PASSPHRASE": PASSPHRASE}
        assert admin(database_url, *asked, more=more).returncode == 1, "it is not empty"
        assert not keys_to.exists()
        done = admin(target, *asked, more=more)
        assert done.returncode == 0, done.stderr
        assert keys_to.read_text().strip() == written(KEYS)
        assert stat.S_IMODE(keys_to.stat().st_mode) == 0o600

    async def test_a_restore_that_was_killed_is_made_again_with_the_same_words(
        self, sqlite_url: str, admin: Admin, file: Path, tmp_path: Path
    ) -> None:
        await filled(sqlite_url)
        more = {"PERDURE_BACKUP_PASSPHRASE": PASSPHRASE}
        assert admin(sqlite_url, "backup", str(file), more=more).returncode == 0
        file_of_target = tmp_path / "target.db"
        target, keys_to = f"sqlite:///{file_of_target}", tmp_path / "keys"
        asked = ("restore", str(file), "--keys-to", str(keys_to))
        # Somebody holds the target's lock: the restore stands between its keys and its first row.
        with closing(sqlite3.connect(file_of_target, isolation_level=None)) as holder:
            holder.execute("PRAGMA journal_mode = WAL")
            holder.execute("BEGIN IMMEDIATE")
            with started(target, *asked, more=more):
                eventually(keys_to.exists, "the keys are there", within=30)
            holder.execute("ROLLBACK")
        assert keys_to.exists()
        done = admin(target, *asked, more=more)
        assert done.returncode == 0, done.stderr
        assert keys_to.read_text().strip() == written(KEYS)

    def test_a_restore_that_ends_otherwise_takes_only_its_own_file_along(self, tmp_path: Path) -> None:
        path = tmp_path / "keys"
        with pytest.raises(KeyboardInterrupt), kept_keys(path, KEYS):
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []
        with kept_keys(path, KEYS):
            assert path.exists()
        with pytest.raises(KeyboardInterrupt), kept_keys(path, KEYS):
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == [path]

    async def test_a_file_that_holds_anything_else_is_left_alone(
        self, sqlite_url: str, admin: Admin, file: Path, tmp_path: Path
    ) -> None:
        await filled(sqlite_url)
        more = {"PERDURE_BACKUP_PASSPHRASE": PASSPHRASE}
        assert admin(sqlite_url, "backup", str(file), more=more).returncode == 0
        keys_to = tmp_path / "keys"
        for content in (b"", b"m1:other", b"\xff"):
            keys_to.write_bytes(content)
            asked = ("restore", str(file), "--keys-to", str(keys_to))
            done = admin(f"sqlite:///{tmp_path / 'target.db'}", *asked, more=more)
            assert (done.returncode, "holds something else" in done.stderr) == (2, True)
            assert keys_to.read_bytes() == content
        assert not (tmp_path / "target.db").exists()
        done = admin(f"sqlite:///{tmp_path / 'target.db'}", *asked[:3], "/nowhere/keys", more=more)
        assert (done.returncode, "/nowhere/keys cannot be made" in done.stderr) == (2, True)

    async def test_what_is_sealed_is_named_though_nothing_needs_it_yet(
        self, sqlite_url: str, admin: Admin, file: Path
    ) -> None:
        database = Database(sqlite_url)
        async with database.transaction() as session:
            await installation_id(session)
        await database.dispose()
        done = admin(sqlite_url, "backup", str(file), more={"PERDURE_BACKUP_PASSPHRASE": PASSPHRASE})
        assert "The master keys (m1) are in it" in done.stderr
        done = admin(sqlite_url, "backup", "/nowhere/perdure.backup")
        assert done.stderr.startswith("Error: /nowhere/perdure.backup cannot be made: No such file")

    async def test_keys_that_are_not_those_of_the_database_are_not_sealed(
        self, database: Database, database_url: str, admin: Admin, file: Path
    ) -> None:
        await fill(database)
        more = {"PERDURE_BACKUP_PASSPHRASE": PASSPHRASE}
        done = admin(
            database_url, "backup", str(file), keys=MasterKeys("m9", {"m9": os.urandom(32)}), more=more
        )
        assert (done.returncode, "lack m1" in done.stderr) == (1, True)
        assert not file.exists()

    async def test_a_short_passphrase(self, sqlite_url: str, admin: Admin, file: Path) -> None:
        done = admin(sqlite_url, "backup", str(file), more={"PERDURE_BACKUP_PASSPHRASE": "short"})
        assert (done.returncode, "too short" in done.stderr) == (2, True)


class TestFiles:
    @pytest.fixture
    async def whole(self, sqlite_url: str, admin: Admin, file: Path) -> bytes:
        """A good backup's bytes."""
        await filled(sqlite_url)
        assert admin(sqlite_url, "backup", str(file)).returncode == 0
        return file.read_bytes()

    @pytest.fixture
    def target(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'target.db'}"

    async def refused(self, admin: Admin, target: str, file: Path, why: str) -> None:
        """A restore that changes nothing and says why."""
        done = admin(target, "restore", str(file))
        assert done.returncode == 1
        assert why in done.stderr
        assert not Path(target.removeprefix("sqlite:///")).exists() or await _tables(target) == set()

    async def test_cut_off_anywhere(self, whole: bytes, admin: Admin, target: str, file: Path) -> None:
        for length in (len(whole) - 1, len(whole) // 2, 20):
            file.write_bytes(whole[:length])
            await self.refused(admin, target, file, "cannot be restored" if length > 20 else "backup")
        file.write_bytes(b"")
        await self.refused(admin, target, file, "is not a backup of Perdure")

    async def test_changed(self, whole: bytes, admin: Admin, target: str, file: Path) -> None:
        clear = gzip.decompress(whole)
        lines = clear.splitlines(keepends=True)
        for other in (
            clear.replace(b'"running"', b'"jogging"', 1),
            b"".join([*lines[:5], *lines[6:]]),
            b"".join(lines[:-1]),
            clear + lines[1],
        ):
            assert other != clear
            file.write_bytes(gzip.compress(other))
            await self.refused(admin, target, file, "cannot be restored")

    async def test_something_else(self, admin: Admin, target: str, file: Path) -> None:
        file.write_bytes(b"not gzip")
        await self.refused(admin, target, file, "backup")
        file.write_bytes(gzip.compress(b'{"some": "json"}\n'))
        await self.refused(admin, target, file, "is not a backup of Perdure")
        assert admin(target, "restore", "/no/such/file").returncode == 2

    async def test_of_a_later_version(self, whole: bytes, admin: Admin, target: str, file: Path) -> None:
        lines = gzip.decompress(whole).splitlines(keepends=True)
        head = json.loads(lines[0])
        for change, why in (
            ({"schema_revision": "9999"}, "the schema 9999, which this version does not know"),
            ({"perdure_backup": 2}, "is in format 2"),
        ):
            file.write_bytes(
                gzip.compress(b"".join([json.dumps({**head, **change}).encode() + b"\n", *lines[1:]]))
            )
            await self.refused(admin, target, file, why)

    async def test_a_database_that_is_not_empty(
        self, whole: bytes, sqlite_url: str, admin: Admin, file: Path
    ) -> None:
        before = await content(sqlite_url)
        done = admin(sqlite_url, "restore", str(file))
        assert (done.returncode, "The database is not empty" in done.stderr) == (1, True)
        assert await content(sqlite_url) == before

    @pytest.mark.postgres
    async def test_a_migrated_database_without_rows_is_empty(
        self, whole: bytes, postgres_url: str, admin: Admin, file: Path
    ) -> None:
        done = admin(postgres_url, "restore", str(file))
        assert done.returncode == 0, done.stderr

    async def test_nothing_is_written_over(
        self, whole: bytes, sqlite_url: str, admin: Admin, file: Path
    ) -> None:
        done = admin(sqlite_url, "backup", str(file))
        assert (done.returncode, "exists already" in done.stderr) == (1, True)
        assert file.read_bytes() == whole
        assert [each.name for each in file.parent.iterdir() if "partial" in each.name] == []

    async def test_an_installation_that_has_not_begun(
        self, sqlite_url: str, admin: Admin, file: Path
    ) -> None:
        done = admin(sqlite_url, "backup", str(file))
        assert (done.returncode, "nothing to back up" in done.stderr) == (1, True)
        assert not file.exists()


@pytest.mark.postgres
async def test_a_backup_that_is_killed_leaves_no_file_of_its_name(postgres_url: str, file: Path) -> None:
    """A lock on a table of the middle holds it up with the file begun."""
    database = Database(postgres_url)
    try:
        await fill(database)
        async with database.transaction() as session:
            await session.exec(text("LOCK TABLE operations IN ACCESS EXCLUSIVE MODE"))  # type: ignore[call-overload]
            with started(postgres_url, "backup", str(file)):
                eventually(lambda: [*file.parent.glob(".perdure.backup.*.partial")], "the file is begun")
        assert not file.exists()
    finally:
        await database.dispose()


@pytest.mark.postgres
async def test_a_restore_that_is_killed_leaves_an_empty_database(
    sqlite_url: str, postgres_server: Any, file: Path, admin: Admin
) -> None:
    source = Database(sqlite_url)
    await fill(source)
    await source.dispose()
    assert admin(sqlite_url, "backup", str(file)).returncode == 0
    target = postgres_server.new_database()
    engine = migration_engine(target)
    async with engine.begin() as connection:
        # The lock that a migration takes: held here, the restore waits with its transaction open.
        await connection.execute(text("SELECT pg_advisory_xact_lock(7402311905)"))
        with started(target, "restore", str(file)):

            async def waits() -> bool:
                found = await connection.scalar(
                    text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                )
                return bool(found)

            await eventually_async(waits, "the restore waits")
    await engine.dispose()
    assert await _tables(target) == set()
    assert admin(target, "restore", str(file)).returncode == 0


async def test_a_restore_that_is_killed_with_everything_loaded(
    sqlite_url: str, target_url: str, file: Path, admin: Admin
) -> None:
    source = Database(sqlite_url)
    await fill(source)
    await source.dispose()
    assert admin(sqlite_url, "backup", str(file)).returncode == 0
    assert _killed_before_its_commit(target_url, file) == -signal.SIGKILL
    assert await _tables(target_url) == set()
    assert admin(target_url, "restore", str(file)).returncode == 0


def _killed_before_its_commit(url: str, file: Path) -> int:
    program = """
import os, signal, sys
from admin import restore
from admin.main import app
async def die(*_): os.kill(os.getpid(), signal.SIGKILL)
restore._go_on_from_here = die
app(["restore", sys.argv[1]])
"""
    arguments = [sys.executable, "-c", program, str(file)]
    return subprocess.run(arguments, env=variables(url), check=False, timeout=60).returncode


async def _tables(url: str) -> set[str]:
    database = Database(url)
    try:
        async with database.snapshot() as connection:
            return {table.name for table in await tables_of(connection)}
    finally:
        await database.dispose()
