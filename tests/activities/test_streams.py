"""Streams in a directory and in a real S3 bucket: bounded memory, ranges, and nothing left behind."""

import asyncio
import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.storage.directory import MARK
from activities.storage.objects import ObjectNotFound, ObjectStore, StoreUnavailable
from activities.storage.streams import StoredStream, StreamDamaged, reading, writing
from tests.helpers.s3 import BUCKET, S3Server, running_s3
from tests.helpers.small_disk import grow, small_disk

KIB = 1024


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for the tests here; each has a prefix of its own."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@dataclass
class Place:
    """A store and what really lies in it, hidden and half-written files included."""

    store: ObjectStore
    directory: Path

    def files(self) -> list[str]:
        return sorted(
            str(file.relative_to(self.directory))
            for file in self.directory.rglob("*")
            if file.is_file() and file.name != MARK
        )


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty store: a directory, and a bucket of a real server."""
    if request.param == "directory":
        return Place(ObjectStore(str(tmp_path / "objects")), tmp_path / "objects")
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    prefix = f"p{random.randrange(10**12)}"
    return Place(ObjectStore(f"s3://{BUCKET}/{prefix}"), server.root / BUCKET / prefix)


async def collected(store: ObjectStore, stream: StoredStream, *span: int) -> bytes:
    return b"".join([chunk async for chunk in reading(store, stream, *span)])


async def written(store: ObjectStore, content: bytes) -> StoredStream:
    async with writing(store, "streams/a", part_bytes=64 * KIB) as writer:
        await writer.write(content)
        return await writer.finish()


@pytest.mark.parametrize("size", [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 640 * KIB, 700_001])
async def test_what_was_written_is_read(place: Place, size: int) -> None:
    content = random.Random(size).randbytes(size)
    async with writing(place.store, "streams/a", part_bytes=64 * KIB) as writer:
        for start in range(0, size, 10_007):
            await writer.write(content[start : start + 10_007])
        stream = await writer.finish()
    assert stream.size == size
    assert len(place.files()) == stream.parts == max(1, -(-size // (64 * KIB)))
    assert await collected(place.store, stream) == content
    for start, end in (
        (0, 1),
        (10, 100_000),
        (64 * KIB, 128 * KIB),
        (64 * KIB - 1, 64 * KIB + 1),
        (size // 2, size),
    ):
        assert await collected(place.store, stream, start, end) == content[start:end]
    assert await place.store.delete_below("streams/a") == stream.parts
    assert place.files() == []


async def test_objects_are_listed_ranged_and_removed_by_prefix(place: Place) -> None:
    for key in ("a/b/1", "a/b/2", "a/c", "ab/1"):
        await place.store.put_bytes(key, key.encode() * 100)
    assert sorted(each.key for each in [_ async for _ in place.store.objects_below("a")]) == [
        "a/b/1",
        "a/b/2",
        "a/c",
    ]
    assert [each.size async for each in place.store.objects_below("ab")] == [400]
    assert [each async for each in place.store.objects_below("a/b/1")] == []
    assert b"".join([_ async for _ in place.store.read("a/b/1", 3, 8)]) == b"/1a/b"
    assert b"".join([_ async for _ in place.store.read("a/b/1", 498, 9000)]) == b"/1"
    assert [_ async for _ in place.store.read("a/b/1", 500)] == []
    with pytest.raises(ObjectNotFound):
        await place.store.head("a/b")
    assert await place.store.delete_below("a") == 3
    assert await place.store.delete_below("a") == 0
    assert [each.key async for each in place.store.objects_below("ab")] == ["ab/1"]


async def test_more_objects_than_one_page_are_removed(place: Place) -> None:
    for first in range(0, 1100, 100):
        await asyncio.gather(*(place.store.put_bytes(f"many/{n}", b"") for n in range(first, first + 100)))
    assert await place.store.delete_below("many") == 1100
    assert [each async for each in place.store.objects_below("many")] == []


@pytest.mark.parametrize("how", ["raised", "cancelled", "left"])
async def test_an_abort_leaves_nothing(place: Place, how: str) -> None:
    async def write() -> None:
        async with writing(place.store, "streams/a", part_bytes=64 * KIB) as writer:
            await writer.write(bytes(500_000))
            if how == "raised":
                raise ZeroDivisionError
            if how == "cancelled":
                reached.set()
                await asyncio.Event().wait()

    await place.store.put_bytes("streams/b", b"stays")
    reached = asyncio.Event()
    writes = asyncio.create_task(write())
    if how == "cancelled":
        await reached.wait()
        writes.cancel()
    await asyncio.wait([writes])
    assert writes.cancelled() == (how == "cancelled")
    if how == "raised":
        with pytest.raises(ZeroDivisionError):
            writes.result()
    assert place.files() == ["streams/b"]


async def test_a_damaged_stream_is_told(place: Place) -> None:
    stream = await written(place.store, bytes(200_000))
    last = await place.store.get_bytes(stream.key(3))
    await place.store.put_bytes(stream.key(3), last[:-1])
    with pytest.raises(StreamDamaged, match="part 3 has 3391 bytes, not 3392"):
        await collected(place.store, stream)
    await place.store.delete(stream.key(1))
    with pytest.raises(StreamDamaged, match="part 1 is missing"):
        await collected(place.store, stream)
    assert await collected(place.store, stream, 0, 64 * KIB) == bytes(64 * KIB)


async def test_a_slow_store_holds_the_writer_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast the source is, no more than two parts are on their way and one is being filled."""
    put, waiting, go = place.store.put_bytes, 0, asyncio.Event()

    async def slow(key: str, content: bytes) -> None:
        nonlocal waiting
        waiting += 1
        await go.wait()
        await put(key, content)

    monkeypatch.setattr(place.store, "put_bytes", slow)
    written = 0
    async with writing(place.store, "streams/a", part_bytes=64 * KIB) as writer:

        async def source() -> StoredStream:
            nonlocal written
            while written < 100 * 64 * KIB:
                await writer.write(bytes(16 * KIB))
                written += 16 * KIB
            return await writer.finish()

        sending = asyncio.create_task(source())
        for _ in range(1000):
            await asyncio.sleep(0)
        assert waiting == 2
        assert written < 3 * 64 * KIB
        go.set()
        assert (await sending).size == 100 * 64 * KIB


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.slow)])
def small(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A store on a disk of its own that has 3 MiB: a directory, and a bucket of a real server."""
    with small_disk(tmp_path / "disk", "3m") as disk, ExitStack() as until_end:
        if request.param == "directory":
            yield Place(ObjectStore(str(disk / "objects"), patience=1), disk / "objects")
            return
        server = until_end.enter_context(running_s3(disk))
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield Place(ObjectStore(f"s3://{BUCKET}/full", patience=1), disk / BUCKET)


async def test_a_disk_that_is_full_is_told_and_takes_more_once_it_has_room(small: Place) -> None:
    content = os.urandom(8 << 20)
    with pytest.raises(StoreUnavailable):
        await written(small.store, content)
    assert small.files() == []
    grow(small.directory.parent, "20m")
    assert await collected(small.store, await written(small.store, content)) == content


@pytest.mark.slow
class TestServer:
    """A bucket's server that is not there, or does not have us."""

    async def test_a_store_that_was_away_is_waited_for(
        self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in s3_server.environment.items():
            monkeypatch.setenv(name, value)
        store = ObjectStore(f"s3://{BUCKET}/away")
        digest, content = hashlib.sha256(), os.urandom(64 * KIB)
        async with writing(store, "streams/a", part_bytes=64 * KIB) as writer:
            await writer.write(content)
            s3_server.stop()
            sending = asyncio.create_task(writer.write(content * 20))
            done, _ = await asyncio.wait([sending], timeout=1)
            assert not done
            await asyncio.to_thread(s3_server.start)
            await sending
            stream = await writer.finish()
        async for chunk in reading(store, stream):
            digest.update(chunk)
        assert digest.digest() == hashlib.sha256(content * 21).digest()

    async def test_a_refusal_is_told(self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {**s3_server.environment, "AWS_SECRET_ACCESS_KEY": "another"}.items():
            monkeypatch.setenv(name, value)
        store = ObjectStore(f"s3://{BUCKET}/refused")
        with pytest.raises(StoreUnavailable):
            await store.put_bytes("a", b"x")
        with pytest.raises(StoreUnavailable):
            await store.get_bytes("a")

    async def test_a_bucket_that_is_not_there_is_told(
        self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in s3_server.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StoreUnavailable):
            await ObjectStore("s3://no-such-bucket").put_bytes("a", b"x")
