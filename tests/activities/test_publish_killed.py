"""Publishing and discarding by a process that is killed at each thing that it does to the store's disk.

In place of the process, the n-th call to the system never comes back, and no later one of it does anything:
what is on the disk then is what a kill -9 leaves. Kills of whole workers: tests/e2e/test_kill_snapshots.py.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from activities.secrets import Opener, new_private_key
from activities.snapshots.capture import ClusterSnapshot
from activities.storage.objects import ObjectStore
from tests.api.support import FakeCluster
from tests.helpers.attempts import handed_out
from tests.helpers.contexts import CONTEXT
from tests.helpers.snapshots import to_publish
from workflows.contracts.snapshot import Discard
from workflows.domain.snapshot_manifest import SnapshotManifest, manifest_key, snapshot_prefix

SNAPSHOT: Final = "snap_1"
BELOW: Final = snapshot_prefix(CONTEXT.organization_id, SNAPSHOT)
MANIFEST: Final = manifest_key(CONTEXT.organization_id, SNAPSHOT)
NAMED: Final = f"{BELOW}/db/globals/{'a' * 16}"
GIVEN_UP: Final = f"{BELOW}/db/globals/{'b' * 16}"
SOUND: Final = {MANIFEST, f"{BELOW}/installation.json", f"{NAMED}/00000000", f"{NAMED}/00000001"}
MOST_CALLS: Final = 200


class Killed(BaseException):
    """The process is gone: not even what it does at its end is done."""


class Fate:
    """Kills who works on the store at the n-th call that changes something."""

    CHANGING: Final = ("open", "write", "fsync", "replace", "unlink", "rmdir", "mkdir")

    def __init__(self, at: int) -> None:
        self.left = at
        self.killed = False

    def decide(self, patch: pytest.MonkeyPatch) -> None:
        """Stand before each call of that kind."""
        for name in self.CHANGING:
            patch.setattr(os, name, self._before(name, getattr(os, name)))

    def _before(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **options: Any) -> Any:
            # The store works in threads; whoever else opens files is no part of this.
            reads = name == "open" and not arguments[1] & os.O_CREAT
            if threading.current_thread() is not threading.main_thread() and not reads:
                self.killed = self.killed or self.left == 0
                self.left -= 1
            if self.killed:
                raise Killed
            return call(*arguments, **options)

        return instead


async def _captured(path: Path) -> ObjectStore:
    """A store with what was captured, and what a killed attempt had stored: an object, and one unfinished."""
    objects = ObjectStore(str(path))
    for number in range(2):
        await objects.put_bytes(f"{NAMED}/0000000{number}", b"sealed")
    await objects.put_bytes(f"{GIVEN_UP}/00000000", b"given up")
    (path / f"{GIVEN_UP}/00000001#0123abcd").write_bytes(b"half")
    return objects


def _snapshot_of(objects: ObjectStore) -> ClusterSnapshot:
    return ClusterSnapshot(FakeCluster(), Opener(new_private_key()), objects, asyncio.Semaphore())


def _files(path: Path) -> set[str]:
    """What there is of the snapshot, unfinished files and empty directories included."""
    there = {each for each in (path / BELOW).rglob("*") if each.is_file() or not any(each.iterdir())}
    return {str(each.relative_to(path)) for each in there}


async def _killed_at_each(
    path: Path,
    work: Callable[[ClusterSnapshot], Awaitable[None]],
    left: Callable[[Path], None],
    after: Callable[[Path], None],
) -> None:
    """Kill it at its first call to the disk, its second and so on until it comes to its end.

    `left` looks at what each kill leaves, `after` at what is there once another process has done it anew.
    """
    for at in range(MOST_CALLS):
        where, fate = path / str(at), Fate(at)
        objects = await _captured(where)
        with pytest.MonkeyPatch.context() as patch:
            fate.decide(patch)
            with contextlib.suppress(Killed):
                await work(_snapshot_of(objects))
        left(where)
        await work(_snapshot_of(ObjectStore(str(where))))
        after(where)
        if not fate.killed:
            assert at > 5, "it was killed at hardly anything"
            return
    pytest.fail(f"it did not come to its end in {MOST_CALLS} calls")


async def test_published_once_and_whole_whenever_it_is_killed(tmp_path: Path) -> None:
    publish = to_publish(SNAPSHOT, NAMED, 12)

    async def work(snapshot: ClusterSnapshot) -> None:
        await handed_out().run(snapshot.publish, publish)

    def left(where: Path) -> None:
        """Where there is a manifest, there is all that it names, and nothing else."""
        if (where / MANIFEST).exists():
            after(where)

    def after(where: Path) -> None:
        assert _files(where) == SOUND
        assert SnapshotManifest.model_validate_json((where / MANIFEST).read_bytes()) == publish.manifest

    await _killed_at_each(tmp_path, work, left, after)


async def test_nothing_is_left_of_what_is_discarded_whenever_it_is_killed(tmp_path: Path) -> None:
    async def work(snapshot: ClusterSnapshot) -> None:
        await handed_out().run(snapshot.discard, Discard(context=CONTEXT, snapshot_id=SNAPSHOT))

    def left(where: Path) -> None:
        assert not (where / MANIFEST).exists()

    def after(where: Path) -> None:
        assert _files(where) == set()

    await _killed_at_each(tmp_path, work, left, after)
