"""What is stored in a directory outlives a power cut: it is on the disk before it is called stored."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from activities.storage.directory import MARK
from activities.storage.objects import ObjectStore, StoreUnavailable
from activities.storage.streams import writing

KIB = 1024


class Disk:
    """What of the files below a directory would be left after a power cut: what was flushed, by inode.

    A name is left when its directory was flushed since; the content of a file as it was when that was.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flushed: dict[int, Any] = {}
        self.failing: dict[str, int] = {}
        """What flushes fail with: of a `file`, or of a `directory`."""
        self.nameless: list[str] = []
        """Names that were given to what had not been flushed."""
        self._fsync, self._replace = os.fsync, os.replace
        self._one_by_one = threading.Lock()
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)

    def fsync(self, file: int) -> None:
        path = Path(f"/proc/self/fd/{file}").resolve()
        kind = "directory" if path.is_dir() else "file"
        if kind in self.failing:
            raise OSError(self.failing[kind], os.strerror(self.failing[kind]))
        # One flush after another: of two at once, the one that began first may end last, knowing less.
        with self._one_by_one:
            # Looked at before: others go on meanwhile, and what they do may be too late for this flush.
            names = {each.name: each.inode() for each in os.scandir(path)} if kind == "directory" else {}
            self._fsync(file)
            self.flushed[os.fstat(file).st_ino] = names if kind == "directory" else path.read_bytes()

    def replace(self, source: str, target: str, **where: int) -> None:
        number = os.stat(source, dir_fd=where["src_dir_fd"]).st_ino
        if number not in self.flushed:
            self.nameless.append(target)
        self._replace(source, target, **where)

    def left(self, top: Path) -> dict[str, bytes]:
        """The files below a directory that a power cut would leave, by path: drafts are not looked at."""
        return dict(self._left(top.stat().st_ino, ""))

    def _left(self, number: int, path: str) -> Iterator[tuple[str, bytes]]:
        match self.flushed.get(number):
            case bytes(content):
                yield path, content
            case dict(names):
                for name, inner in names.items():
                    if "#" not in name:
                        yield from self._left(inner, f"{path}/{name}".lstrip("/"))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_what_is_stored_is_left_after_a_power_cut(tmp_path: Path, disk: Disk) -> None:
    store = ObjectStore(str(tmp_path / "volumes" / "objects"))
    [mark] = disk.left(tmp_path).items()
    assert mark == (f"volumes/objects/{MARK}", (tmp_path / "volumes" / "objects" / MARK).read_bytes())
    stored: dict[str, bytes] = {}
    for key, content in (
        ("snapshots/org_1/snap_1/installation.json", b"{}"),
        ("snapshots/org_1/snap_1/db/data/0123/00000000", bytes(300 * KIB)),
        ("snapshots/org_1/snap_1/db/data/0123/00000001", b"end"),
        ("snapshots/org_1/snap_1/manifest.json", b"whole"),
        ("snapshots/org_1/snap_2/manifest.json", b"another"),
        ("snapshots/org_1/snap_1/manifest.json", b"in its place"),
        ("at-the-top", b"x"),
    ):
        await store.put_bytes(key, content)
        stored[f"volumes/objects/{key}"] = content
        assert disk.left(tmp_path) == dict([mark]) | stored
    assert disk.nameless == []


async def test_a_stream_is_left_as_a_whole(tmp_path: Path, disk: Disk) -> None:
    """Its objects are stored at once, and each may come first."""
    store = ObjectStore(str(tmp_path))
    content = os.urandom(300 * KIB)
    async with writing(store, "streams/a/b", part_bytes=16 * KIB) as writer:
        await writer.write(content)
        await writer.finish()
    left = disk.left(tmp_path)
    assert b"".join(left[key] for key in sorted(left) if key != MARK) == content
    assert disk.nameless == []


async def test_a_directory_that_another_process_made_or_that_is_made_anew(tmp_path: Path, disk: Disk) -> None:
    store = ObjectStore(str(tmp_path))
    (tmp_path / "a" / "b").mkdir(parents=True)  # by one that was killed before it came to flush
    await store.put_bytes("a/b/c", b"1")
    assert disk.left(tmp_path)["a/b/c"] == b"1"
    await store.delete_below("a")
    disk.flushed.clear()  # what comes may get the numbers of what is gone
    await store.put_bytes("a/b/c", b"2")
    assert disk.left(tmp_path)["a/b/c"] == b"2"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
async def test_a_flush_that_fails_is_told_and_nothing_gets_the_name(
    tmp_path: Path, disk: Disk, code: int
) -> None:
    store = ObjectStore(str(tmp_path), patience=0)
    await store.put_bytes("a/before", b"old")
    disk.failing["file"] = code
    for key in ("a/before", "a/new"):
        with pytest.raises(StoreUnavailable, match=os.strerror(code)):
            await store.put_bytes(key, b"new")
    assert sorted(each.name for each in (tmp_path / "a").iterdir()) == ["before"]
    assert await store.get_bytes("a/before") == b"old"
    disk.failing.clear()
    await store.put_bytes("a/new", b"new")
    assert disk.left(tmp_path)["a/new"] == b"new"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_a_directory_that_cannot_be_flushed_is_told(tmp_path: Path, disk: Disk, code: int) -> None:
    store = ObjectStore(str(tmp_path), patience=0)
    disk.failing["directory"] = code
    with pytest.raises(StoreUnavailable, match=os.strerror(code)):
        await store.put_bytes("a/b", b"x")
    # A repeat does all of it again: nothing was taken for flushed that was not.
    disk.failing.clear()
    await store.put_bytes("a/b", b"x")
    assert disk.left(tmp_path)["a/b"] == b"x"


async def test_where_directories_have_no_flush_objects_are_stored_all_the_same(
    tmp_path: Path, disk: Disk
) -> None:
    store = ObjectStore(str(tmp_path), patience=0)
    disk.failing["directory"] = errno.EINVAL
    await store.put_bytes("a/b", b"x")
    assert await store.get_bytes("a/b") == b"x"


async def test_a_device_that_comes_back_is_waited_for_and_all_is_written_again(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed flush leaves in memory is not what is on the disk: it is not flushed once more."""
    store = ObjectStore(str(tmp_path))
    disk.failing["file"] = errno.EIO
    pause = asyncio.sleep

    async def repaired(_seconds: float) -> None:
        disk.failing.clear()
        await pause(0)

    monkeypatch.setattr(asyncio, "sleep", repaired)
    await store.put_bytes("a/b", b"x")
    assert disk.left(tmp_path)["a/b"] == b"x"
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["b"]
