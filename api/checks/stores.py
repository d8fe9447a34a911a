"""Checks of what the API keeps things in: database, keys, object store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import func
from sqlmodel import select

from activities.db.repositories.installation import store_note
from activities.db.repositories.secrets import wrapped_keys
from activities.db.revisions import applied_revision, newest_revision
from activities.secrets import MasterKeys, SecretsError, WrappedKey
from api.checks.schemas import CheckOut, fail, ok, warn
from api.state import AppState

CLOCKS_APART: Final = timedelta(seconds=5)
"""How far clocks may differ: heartbeats and leases count in seconds."""
_SPACE_WARN: Final = 0.10
_SPACE_FAIL: Final = 0.02
_GIBIBYTE: Final = 2**30


async def database(state: AppState) -> list[CheckOut]:
    """Whether the database answers, has this code's schema, and a clock like ours."""
    async with state.database.reading() as session:
        connection = await session.connection()
        applied = await applied_revision(connection)
        told = None
        if not state.database.is_sqlite:
            told = (await session.exec(select(func.clock_timestamp()))).one()
    newest = await asyncio.to_thread(newest_revision)
    kind = "SQLite" if state.database.is_sqlite else "Postgres"
    found = [ok("database", f"{kind} answers")]
    if applied == newest:
        found.append(ok("database/schema", f"revision {newest}"))
    else:
        found.append(
            fail(
                "database/schema",
                f"the schema is at {applied or 'no revision'}, this version needs {newest}",
                "Migrate with `python -m activities.db.migrate URL`, then restart API and workers.",
            )
        )
    if isinstance(told, datetime):
        found.append(clock("database/clock", told))
    return found


def clock(name: str, told: datetime, tolerance: timedelta = CLOCKS_APART) -> CheckOut:
    """Compare another machine's time, told just now, with ours."""
    apart = abs(datetime.now(UTC) - told)
    if apart <= tolerance:
        return ok(name, f"within {tolerance.total_seconds():g} s of the API's clock")
    return fail(
        name,
        f"{apart.total_seconds():.0f} s apart from the API's clock",
        "Let both machines follow the same time servers (NTP).",
    )


async def master_keys(state: AppState) -> list[CheckOut]:
    """Whether each organisation's data keys open with the master keys of this process."""
    async with state.database.reading() as session:
        stored = await wrapped_keys(session)
    name, current = "master-keys", state.master_keys.current_id
    closed = Counter(key.master_key_id for key in stored if not _opens(state.master_keys, key))
    if closed:
        return [
            fail(
                name,
                f"{closed.total()} of {len(stored)} data keys do not open; wrapped by {_listed(closed)}",
                "Put the right master keys of these ids into PERDURE_MASTER_KEYS of API and control workers.",
            )
        ]
    older = Counter(key.master_key_id for key in stored if key.master_key_id != current)
    if older:
        return [
            warn(
                name,
                f"{older.total()} of {len(stored)} data keys are not under the current master key "
                f"{current!r} but under {_listed(older)}",
                "Finish the rotation with `perdure admin rotate-keys` (docs/admin.md).",
            )
        ]
    return [ok(name, f"{len(stored)} data keys open, all under {current!r}")]


async def objects(state: AppState) -> list[CheckOut]:
    """Whether the object store answers; of a directory, whether it can be written and has room."""
    # Late: only a process that serves needs the object store.
    from activities.storage.directory import MARK  # noqa: PLC0415
    from activities.storage.objects import local_directory  # noqa: PLC0415

    name = "object-store"
    directory = local_directory(state.settings.object_store)
    if directory is None:
        with contextlib.suppress(LookupError):
            await state.objects.get_json("doctor/nothing")
        return [ok(name, "the bucket answers")]
    return await asyncio.to_thread(_directory, name, directory, MARK)


async def snapshots(state: AppState) -> list[CheckOut]:
    """Whether the sweep of snapshots leaves something in the object store that it cannot place."""
    async with state.database.reading() as session:
        note = await store_note(session)
    name = "object-store/snapshots"
    if not note:
        return [ok(name, "the database knows all of this installation")]
    return [
        warn(
            name,
            note,
            "See whether this database is the right one, and whether the backup it was restored from was the "
            "newest. What you are sure of you may delete by hand: snapshots/ORGANISATION/SNAPSHOT "
            "(docs/snapshots.md).",
        )
    ]


def _directory(name: str, directory: Path, mark: str) -> list[CheckOut]:
    if not (directory / mark).is_file():
        return [
            fail(
                name,
                "no store is in the directory that PERDURE_OBJECT_STORE names",
                "Mount it. Where there never was one, the first worker that starts makes it.",
            )
        ]
    if not os.access(directory, os.W_OK):
        return [
            fail(
                name,
                "the directory that PERDURE_OBJECT_STORE names cannot be written",
                "Give the workers' user the directory.",
            )
        ]
    room = shutil.disk_usage(directory)
    return [judge_room(name, room.free, room.total)]


def judge_room(name: str, free: int, total: int) -> CheckOut:
    """Judge what is free of a disk, both in bytes."""
    message = f"{free / _GIBIBYTE:.1f} of {total / _GIBIBYTE:.1f} GiB free"
    remedy = "Free disk space, or move the object store (PERDURE_OBJECT_STORE) to a larger disk or a bucket."
    if free < total * _SPACE_FAIL:
        return fail(name, message, remedy)
    if free < total * _SPACE_WARN:
        return warn(name, message, remedy)
    return ok(name, message)


def _opens(keys: MasterKeys, key: WrappedKey) -> bool:
    try:
        keys.unwrap(key)
    except SecretsError:
        return False
    return True


def _listed(counts: Counter[str]) -> str:
    return ", ".join(repr(each) for each in sorted(counts))
