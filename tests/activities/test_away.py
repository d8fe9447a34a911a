"""A directory store that is away for a while: renamed, or an empty mount point in its place."""

import asyncio
import hashlib
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from activities.storage.directory import MARK, Directory, StoreAway
from activities.storage.objects import ObjectNotFound, ObjectStore, StoreUnavailable
from activities.storage.streams import StoredStream, reading, writing

KIB = 1024
Away = Callable[[Path], AbstractContextManager[Path]]


@contextmanager
def renamed(store: Path) -> Iterator[Path]:
    """The directory is elsewhere; yields where."""
    away = store.rename(store.with_name("elsewhere"))
    yield away
    away.rename(store)


@contextmanager
def unmounted(store: Path) -> Iterator[Path]:
    """An empty directory is in its place, as where a mount is not there; nothing is ever put into it."""
    away = store.rename(store.with_name("elsewhere"))
    store.mkdir()
    yield away
    assert list(store.iterdir()) == []
    store.rmdir()
    away.rename(store)


@contextmanager
def another(store: Path) -> Iterator[Path]:
    """Another process has begun meanwhile, and has made a store of the empty mount point."""
    away = store.rename(store.with_name("elsewhere"))
    Directory(store, patience=0).make()
    yield away
    assert [each.name for each in store.iterdir()] == [MARK]
    shutil.rmtree(store)
    away.rename(store)


@pytest.fixture(params=[renamed, unmounted, another])
def away(request: pytest.FixtureRequest) -> Away:
    """How a store is away."""
    how: Away = request.param
    return how


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set each time when a store was looked for and not found."""
    event = asyncio.Event()
    pause = asyncio.sleep

    async def sleep(seconds: float) -> None:
        event.set()
        await pause(min(seconds, 0.01))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return event


async def while_away(looked: asyncio.Event, store: Path, away: Away, work: Coroutine[Any, Any, Any]) -> Any:
    """Begin some work while the store is away, and let it come back once the work waits for it."""
    with away(store):
        looked.clear()
        task = asyncio.ensure_future(work)
        waiting = asyncio.ensure_future(looked.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        assert not task.done()
    return await task


def files(below: Path) -> list[str]:
    """What there is, hidden files and directories included."""
    return sorted(str(each.relative_to(below)) for each in below.rglob("*"))


async def listed(store: ObjectStore, prefix: str) -> list[str]:
    return sorted([each.key async for each in store.objects_below(prefix)])


async def collected(source: AsyncIterator[bytes]) -> bytes:
    return b"".join([each async for each in source])


async def test_every_request_waits_for_the_store(tmp_path: Path, away: Away, looked: asyncio.Event) -> None:
    path = tmp_path / "objects"
    store = ObjectStore(str(path))
    for key in ("a/b/1", "a/b/2", "a/c", "d/e/1"):
        await store.put_bytes(key, key.encode())
    requests: list[tuple[Coroutine[Any, Any, Any], Any]] = [
        (store.get_bytes("a/c"), b"a/c"),
        (collected(store.read("a/c", 1, 3)), b"/c"),
        (store.put_bytes("f/1", b"new"), None),
        (listed(store, "a"), ["a/b/1", "a/b/2", "a/c"]),
        (store.names_below("a"), ("b",)),
        (store.delete("a/c"), None),
        (store.delete_below("a"), 2),
    ]
    for request, answer in requests:
        assert await while_away(looked, path, away, request) == answer
    assert (await store.head("f/1")).size == 3
    assert await listed(store, "a") == []
    # What is missing is told only when the store is there.
    with pytest.raises(ObjectNotFound):
        await while_away(looked, path, away, store.head("a/c"))


async def test_a_stream_goes_on_where_it_was(tmp_path: Path, away: Away, looked: asyncio.Event) -> None:
    path = tmp_path / "objects"
    store, content = ObjectStore(str(path)), random.Random(1).randbytes(1000 * KIB)
    async with writing(store, "streams/a", part_bytes=64 * KIB) as writer:
        await writer.write(content[: 300 * KIB])
        await while_away(looked, path, away, writer.write(content[300 * KIB :]))
        stream = await writer.finish()
    read, digest = 0, hashlib.sha256()
    chunks = reading(store, stream)
    async for chunk in chunks:
        read += len(chunk)
        digest.update(chunk)
        if read == 64 * KIB * 3:
            digest.update(await while_away(looked, path, away, anext(chunks)))
    assert digest.digest() == hashlib.sha256(content).digest()


async def test_a_store_away_for_too_long_is_told_and_nothing_is_made(tmp_path: Path, away: Away) -> None:
    path = tmp_path / "objects"
    store = ObjectStore(str(path), patience=0)
    await store.put_bytes("a/b", b"x")
    stream = StoredStream("a", 1, 1)
    with away(path):
        there = files(tmp_path)
        for request in (
            store.put_bytes("a/c", b"y"),
            store.get_bytes("a/b"),
            store.get_bytes("missing"),
            store.delete("a/b"),
            store.delete_below("a"),
            store.names_below("a"),
            listed(store, "a"),
            collected(reading(store, stream)),
            store.put_json("j", {}),
        ):
            with pytest.raises(StoreUnavailable, match="it is away") as told:
                await request
            assert str(tmp_path) not in str(told.value)
        assert files(tmp_path) == there
    assert await listed(store, "a") == ["a/b"]


async def test_an_aborted_stream_does_not_wait_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.storage.streams._ABORT_SECONDS", 0.05)
    path = tmp_path / "objects"
    store = ObjectStore(str(path))

    async def write() -> None:
        async with writing(store, "streams/a", part_bytes=64 * KIB) as writer:
            await writer.write(bytes(200 * KIB))
            path.rename(tmp_path / "elsewhere")
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError) as told:
        await write()
    assert "still there" in told.value.__notes__[0]
    assert not path.exists()


async def test_who_only_reads_makes_no_store_and_finds_it_later(tmp_path: Path) -> None:
    path = tmp_path / "objects"
    reader = ObjectStore(str(path), make=False, patience=0)
    with pytest.raises(StoreUnavailable, match="its directory is not there"):
        await reader.get_json("a")
    assert not path.exists()
    await ObjectStore(str(path)).put_json("a", 1)
    assert await reader.get_json("a") == 1


async def test_a_directory_of_before_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"old")
    (tmp_path / "a" / "c#1").write_bytes(b"half")
    one, two = ObjectStore(str(tmp_path)), ObjectStore(str(tmp_path))
    assert await listed(one, "a") == await listed(two, "a") == ["a/b"]
    assert await one.delete_below("a") == 1
    assert files(tmp_path) == [MARK]


async def test_a_device_that_is_away_in_the_middle_of_a_read_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.Random(2).randbytes(3 * KIB)
    place = Directory(tmp_path, patience=0)
    place.make()
    await place.put("a", content)
    pread, failing = os.pread, [2 * KIB]

    def broken(file: int, wanted: int, at: int) -> bytes:
        if at in failing:
            failing.remove(at)
            raise OSError(116, "Stale file handle")
        return pread(file, wanted, at)

    monkeypatch.setattr(os, "pread", broken)
    assert await collected(place.read("a", 0, None, KIB)) == content
    # One that is there, and still cannot be read, is told.
    failing += [KIB, KIB]
    with pytest.raises(StoreAway, match="Stale"):
        await collected(place.read("a", 0, None, KIB))


async def test_a_cancelled_write_is_over_when_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removes what it left would miss it otherwise."""
    store = ObjectStore(str(tmp_path))
    under_way, go = asyncio.Event(), asyncio.Event()
    to_thread = asyncio.to_thread

    async def held(work: Callable[..., Any], *arguments: Any) -> Any:
        under_way.set()
        await go.wait()
        return await to_thread(work, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", held)
    putting = asyncio.create_task(store.put_bytes("a/b", b"x"))
    await under_way.wait()
    putting.cancel()
    await asyncio.sleep(0)
    assert not putting.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert (tmp_path / "a" / "b").read_bytes() == b"x"
