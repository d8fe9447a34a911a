"""One component's bytes on their way into the object store and back, sealed, in bounded memory."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from activities.snapshots.frames import Component, FileKey, SealBroken, header_length
from activities.snapshots.sealing import Digests, Opening, Sealing
from activities.storage.objects import ObjectStore
from activities.storage.streams import StoredStream, reading, writing

_AHEAD: Final = 8
"""Pieces of a source that wait to be sealed: 2 MiB of what comes out of a pod."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A component in the store: where it lies, and what it was and is."""

    stream: StoredStream
    digests: Digests


async def seal_into(
    store: ObjectStore,
    prefix: str,
    source: AsyncIterator[bytes],
    *,
    key: FileKey,
    component: Component,
    progress: Callable[[int], None] = lambda _bytes: None,
) -> Archive:
    """Store what the source yields; `progress` hears how many bytes of it have been taken.

    `prefix` is this attempt's alone. When the source raises, or this is cancelled, nothing of it stays in the
    store. Raises StoreUnavailable.
    """
    sealing = Sealing(key, component)
    taken = 0
    async with writing(store, prefix) as writer:
        async with contextlib.aclosing(_ahead(source)) as pieces:
            async for data in pieces:
                await writer.write(await asyncio.to_thread(sealing.write, data))
                taken += len(data)
                progress(taken)
        await writer.write(await asyncio.to_thread(sealing.finish))
        stream = await writer.finish()
    return Archive(stream, sealing.digests())


async def opened(
    store: ObjectStore,
    archive: Archive,
    *,
    key: FileKey,
    component: Component,
    progress: Callable[[int], None] = lambda _bytes: None,
) -> AsyncGenerator[bytes]:
    """Yield a component's content as it was; `progress` hears how many bytes of it have been given.

    Only when this has ended without an exception was it all of it. Raises StreamDamaged, SealBroken,
    StoreUnavailable.
    """
    opening = Opening(key, component)
    given = 0
    async with contextlib.aclosing(reading(store, archive.stream)) as stored:
        async for data in stored:
            pieces = opening.write(data)
            while piece := await asyncio.to_thread(next, pieces, b""):
                yield piece
                given += len(piece)
                progress(given)
    pieces = opening.finish()
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
    if opening.digests() != archive.digests:
        raise SealBroken("a stored stream has not the digests that it was stored with")


async def _ahead(source: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield what the source yields, read up to `_AHEAD` pieces before they are wanted.

    So the next ones come over the network while one is sealed. Raises what the source raises, at its place.
    """
    pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(_AHEAD)

    async def read() -> None:
        fault: Exception | None = None
        try:
            async for piece in source:
                await pieces.put(piece)
        except Exception as error:  # noqa: BLE001 - raised by who takes the pieces
            fault = error
        await pieces.put(fault)

    reading_on = asyncio.create_task(read())
    try:
        while isinstance(piece := await pieces.get(), bytes):
            yield piece
        if piece is not None:
            raise piece
    finally:
        reading_on.cancel()
        await asyncio.wait((reading_on,))


async def header_of(store: ObjectStore, stream: StoredStream) -> bytes:
    """Return the header of a stored stream, which holds its key. Raises SealBroken, StreamDamaged."""
    start = b""
    async with contextlib.aclosing(reading(store, stream, 0, 2048)) as stored:
        async for data in stored:
            start += data
    length = header_length(start)
    if length is None or len(start) < length:
        raise SealBroken("a stored stream is cut in its header")
    return start[:length]
