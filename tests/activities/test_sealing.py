"""The sealed stream: what was sealed comes out again, and nothing else ever does."""

import asyncio
import itertools
import os
import random
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from activities.secrets import DataKey
from activities.snapshots.archive import header_of, opened, seal_into
from activities.snapshots.frames import (
    FRAME_BYTES,
    TAG_BYTES,
    Component,
    ComponentKey,
    FileKey,
    SealBroken,
    data_key_id,
)
from activities.snapshots.sealing import Opening, Sealing
from activities.storage.objects import ObjectStore, StoreUnavailable

COMPONENT = Component("snap_1", "db/postgres")
DATA_KEY = DataKey(id="key_1", organization_id="org_1", key=bytes(range(32)))
SEALED = FRAME_BYTES + TAG_BYTES


def noise(size: int) -> bytes:
    """Bytes that do not get smaller, so that their number says how many frames there are."""
    return random.Random(size).randbytes(size)


def sealed(content: bytes, key: FileKey, piece: int = 100_000) -> bytes:
    sealing = Sealing(key, COMPONENT)
    pieces = [sealing.write(content[start : start + piece]) for start in range(0, len(content), piece)]
    stored = b"".join(pieces) + sealing.finish()
    assert sealing.digests().plain_bytes == len(content)
    assert sealing.digests().stored_bytes == len(stored)
    return stored


def unsealed(stored: bytes, key: FileKey, component: Component = COMPONENT, piece: int = 70_001) -> bytes:
    opening = Opening(key, component)
    parts = [stored[start : start + piece] for start in range(0, len(stored), piece)]
    content = b"".join(itertools.chain.from_iterable(opening.write(part) for part in parts))
    return content + b"".join(opening.finish())


@pytest.fixture(scope="module")
def key() -> FileKey:
    """One stream's key."""
    return ComponentKey.new(DATA_KEY, COMPONENT).stream_key()


@pytest.fixture(scope="module")
def long(key: FileKey) -> bytes:
    """A sealed stream of five frames, the last one not full."""
    stored = sealed(noise(4 * FRAME_BYTES + 1000), key)
    assert (len(stored) - len(key.header)) // SEALED == 4
    return stored


@pytest.mark.parametrize(
    "content",
    [b"", b"x", noise(FRAME_BYTES), noise(3 * FRAME_BYTES), noise(1_000_003), bytes(3_000_000)],
    ids=["empty", "one byte", "a frame", "three frames", "odd", "zeros"],
)
def test_what_was_sealed_comes_out(key: FileKey, content: bytes) -> None:
    stored = sealed(content, key)
    assert unsealed(stored, FileKey.open(DATA_KEY, key.header, COMPONENT)) == content
    assert unsealed(stored, key, piece=1_000_000) == content
    assert b"xxxx" not in stored


@pytest.mark.parametrize("size", range(FRAME_BYTES - 40, FRAME_BYTES + 8))
def test_a_last_frame_that_is_just_full(key: FileKey, size: int) -> None:
    """Somewhere here the compressed content is one frame exactly, and a byte more than one."""
    assert unsealed(sealed(noise(size), key, 1 << 20), key, piece=1 << 20) == noise(size)


def test_every_length_of_it_is_found_to_be_cut(key: FileKey, long: bytes) -> None:
    head = len(key.header)
    edges = [head + frames * SEALED + more for frames in range(5) for more in (-1, 0, 1, TAG_BYTES)]
    for length in {0, 1, head - 1, *edges, len(long) - 1}:
        # Found by the frames, before the content is asked whether it ends.
        with pytest.raises(SealBroken, match="frame" if length >= head else "header"):
            unsealed(long[:length], key)


def test_any_changed_byte_is_found(key: FileKey) -> None:
    stored = sealed(b"a short one", key)
    for place in range(len(stored)):
        changed = bytearray(stored)
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            unsealed(bytes(changed), key)


def test_any_changed_byte_of_the_header_is_found(key: FileKey) -> None:
    stored = sealed(b"a short one", key)[len(key.header) :]
    for place in range(len(key.header)):
        changed = bytearray(key.header)
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            # Another salt is another key, which opens no frame.
            unsealed(bytes(changed) + stored, FileKey.open(DATA_KEY, bytes(changed), COMPONENT))


def test_frames_have_their_places(key: FileKey, long: bytes) -> None:
    head, body = long[: len(key.header)], long[len(key.header) :]
    first, second, third, fourth, last = (
        body[start : start + SEALED] for start in range(0, len(body), SEALED)
    )
    for wrong in (
        [second, first, third, fourth, last],
        [first, first, third, fourth, last],
        [first, second, second, third, fourth, last],
        [first, third, fourth, last],
        [first, second, third, last],
        [first, second, third, fourth, last, last],
        [first, second, third, fourth, last + b"x"],
        [first, second, third, fourth],
        [last],
        [],
    ):
        with pytest.raises(SealBroken, match="frame"):
            unsealed(head + b"".join(wrong), key)
    assert unsealed(head + b"".join((first, second, third, fourth, last)), key)


def test_it_opens_for_nobody_else(key: FileKey, long: bytes) -> None:
    for component in (Component("snap_2", "db/postgres"), Component("snap_1", "cache/redis")):
        with pytest.raises(SealBroken):
            unsealed(long, key, component)
        with pytest.raises(SealBroken):
            FileKey.open(DATA_KEY, key.header, component)
    with pytest.raises(SealBroken, match="frame 0"):
        unsealed(long, FileKey(os.urandom(32), key.header))
    for other in (
        DataKey(id="key_1", organization_id="org_2", key=DATA_KEY.key),
        DataKey(id="key_2", organization_id="org_1", key=DATA_KEY.key),
        DataKey(id="key_1", organization_id="org_1", key=bytes(32)),
    ):
        with pytest.raises(SealBroken):
            FileKey.open(other, key.header, COMPONENT)


def test_the_header_says_which_data_key_and_no_key_is_shown(key: FileKey) -> None:
    assert data_key_id(key.header) == "key_1"
    assert key.key not in key.header
    assert repr(key.key) not in repr(key)


def test_each_attempt_at_a_component_has_a_key_of_its_own() -> None:
    component_key = ComponentKey.new(DATA_KEY, COMPONENT)
    first, second = component_key.stream_key(), component_key.stream_key()
    assert len({first.key, second.key, component_key.key}) == 3
    for each in (first, second):
        assert FileKey.open(DATA_KEY, each.header, COMPONENT) == each
    with pytest.raises(SealBroken, match="frame 0"):
        unsealed(sealed(b"content", second), FileKey(first.key, second.header))


def test_a_stream_that_expands_without_end_needs_no_memory(key: FileKey) -> None:
    sealing = Sealing(key, COMPONENT)
    stored = b"".join(sealing.write(bytes(1 << 20)) for _ in range(256)) + sealing.finish()
    assert len(stored) < 100_000
    opening = Opening(key, COMPONENT)
    tracemalloc.start()
    size = sum(len(piece) for piece in itertools.chain(opening.write(stored), opening.finish()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 256 << 20
    assert peak < 32 << 20


async def _source(content: bytes, fault: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 300_000):
        yield content[start : start + 300_000]
    if fault is not None:
        raise fault


async def test_an_archive_goes_into_the_store_and_back(tmp_path: Path, key: FileKey) -> None:
    store, content, seen = ObjectStore(str(tmp_path)), noise(20_000_000), [0]
    archive = await seal_into(
        store, "s/1", _source(content), key=key, component=COMPONENT, progress=seen.append
    )
    assert seen[-1] == archive.digests.plain_bytes == len(content)
    assert archive.stream.size == archive.digests.stored_bytes
    assert archive.stream.parts == 3
    assert await header_of(store, archive.stream) == key.header
    read = b"".join([piece async for piece in opened(store, archive, key=key, component=COMPONENT)])
    assert read == content
    part = bytearray(await store.get_bytes("s/1/00000001"))
    part[4_000_000] ^= 16
    await store.put_bytes("s/1/00000001", part)
    with pytest.raises(SealBroken):
        [piece async for piece in opened(store, archive, key=key, component=COMPONENT)]


async def test_a_source_that_fails_leaves_nothing(tmp_path: Path, key: FileKey) -> None:
    store = ObjectStore(str(tmp_path))
    source = _source(noise(20_000_000), StoreUnavailable("the tool failed"))
    with pytest.raises(StoreUnavailable, match="the tool failed"):
        await seal_into(store, "s/1", source, key=key, component=COMPONENT)
    assert [each async for each in store.objects_below("s")] == []


async def test_a_source_is_read_ahead_only_so_far(
    tmp_path: Path, key: FileKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read, held = ObjectStore(str(tmp_path)), 0, asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield bytes(1000)

    to_thread = asyncio.to_thread

    async def never_sealed(work: Callable[..., object], *arguments: object, **options: object) -> object:
        if getattr(work, "__self__", None).__class__ is Sealing:
            held.set()
            await asyncio.Event().wait()
        return await to_thread(work, *arguments, **options)

    monkeypatch.setattr(asyncio, "to_thread", never_sealed)
    sealing = asyncio.create_task(seal_into(store, "s/1", endless(), key=key, component=COMPONENT))
    await held.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert 2 < read < 20
    sealing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sealing
    assert [each async for each in store.objects_below("s")] == []
