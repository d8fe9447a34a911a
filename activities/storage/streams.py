"""Streams of any length in the object store, in bounded memory: numbered objects of one size below a prefix.

Each part is an object of its own and not a part of a multipart upload: what a killed process leaves is then
in every list, so that anybody can find and remove it, and a part that failed is tried again by itself. No
object says that the stream is complete: whoever made it keeps the `StoredStream` that `finish` gave, and
publishes that.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from activities.storage.objects import ObjectNotFound, ObjectStore, StoreUnavailable, checked_key

PART_BYTES: Final = 8 * 1024 * 1024
_AT_ONCE: Final = 2
"""Parts on their way at once. Memory: these and the one that is being filled."""
_NUMBER: Final = "{:08d}"
_ABORT_SECONDS: Final = 30.0
"""How long the removal may take of what a store that failed, or somebody who cancels, leaves behind."""


class StreamDamaged(Exception):
    """A stored stream is not what was stored: a part is missing, or shorter or longer than it was."""


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A stream in the store. All parts have `part_bytes` bytes but the last, which may have fewer."""

    prefix: str
    size: int
    part_bytes: int = PART_BYTES

    @property
    def parts(self) -> int:
        """How many objects it is; an empty stream is one, too."""
        return max(1, -(-self.size // self.part_bytes))

    def key(self, number: int) -> str:
        """Return the key of a part, counted from 0."""
        return f"{self.prefix}/{_NUMBER.format(number)}"

    def part_size(self, number: int) -> int:
        """Return how many bytes a part has."""
        return min(self.part_bytes, self.size - number * self.part_bytes)


class StreamWriter:
    """Takes a stream's bytes; see `writing`."""

    def __init__(self, store: ObjectStore, prefix: str, part_bytes: int) -> None:
        self._store = store
        self._stream = StoredStream(checked_key(prefix), 0, part_bytes)
        # Joined when they are a part: a buffer that grows is moved again and again, and its holes stay.
        self._filling: list[memoryview] = []
        self._filled = 0
        self._parts = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._finished = False

    async def write(self, data: bytes) -> None:
        """Take the next bytes; returns when there is room for more. Raises StoreUnavailable."""
        rest = memoryview(data)
        while rest:
            piece = rest[: self._stream.part_bytes - self._filled]
            self._filling.append(piece)
            self._filled += len(piece)
            rest = rest[len(piece) :]
            if self._filled == self._stream.part_bytes:
                await self._send()

    async def finish(self) -> StoredStream:
        """Store what is left and return what the stream is. Raises StoreUnavailable."""
        size = self._parts * self._stream.part_bytes + self._filled
        if self._filled or not self._parts:
            await self._send()
        await self._settle(asyncio.ALL_COMPLETED)
        self._finished = True
        return StoredStream(self._stream.prefix, size, self._stream.part_bytes)

    async def _send(self) -> None:
        while len(self._under_way) >= _AT_ONCE:
            await self._settle(asyncio.FIRST_COMPLETED)
        content = b"".join(self._filling)
        self._filling, self._filled = [], 0
        key = self._stream.key(self._parts)
        self._parts += 1
        self._under_way.add(asyncio.create_task(self._store.put_bytes(key, content)))

    async def _settle(self, until: str) -> None:
        if self._under_way:
            ended, self._under_way = await asyncio.wait(self._under_way, return_when=until)
            for each in ended:
                each.result()

    async def abort(self) -> None:
        """Remove what was stored. What is on its way ends first: it would be there after its removal."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._store.delete_below(self._stream.prefix)

    @property
    def finished(self) -> bool:
        """Whether all of it is stored."""
        return self._finished


@asynccontextmanager
async def writing(
    store: ObjectStore, prefix: str, *, part_bytes: int = PART_BYTES
) -> AsyncIterator[StreamWriter]:
    """Write a stream below a prefix that nobody else uses, another attempt at the same thing included.

    Left without `finish`, or by an exception, it leaves no object behind; when the store does not let it, the
    exception has a note that says so, and the prefix is for whoever cleans up.
    """
    writer = StreamWriter(store, prefix, part_bytes)
    try:
        yield writer
        if not writer.finished:
            await writer.abort()
    except BaseException as fault:
        # Whoever cancels waits for this, and a store that was waited for once is not waited for again.
        hurried = isinstance(fault, StoreUnavailable | asyncio.CancelledError)
        try:
            async with asyncio.timeout(_ABORT_SECONDS if hurried else None):
                await writer.abort()
        except (StoreUnavailable, TimeoutError) as kept:
            fault.add_note(f"what was stored below {prefix} is still there: {kept}")
        raise


async def reading(
    store: ObjectStore, stream: StoredStream, start: int = 0, end: int | None = None
) -> AsyncGenerator[bytes]:
    """Yield a stream's bytes from `start` to before `end`, in chunks of about 1 MiB.

    Raises StreamDamaged where a part is missing or has another size, StoreUnavailable.
    """
    end = stream.size if end is None else min(end, stream.size)
    for number in range(start // stream.part_bytes, stream.parts):
        offset = number * stream.part_bytes
        size = stream.part_size(number)
        if offset >= end and size:
            return
        try:
            there = (await store.head(stream.key(number))).size
            if there != size:
                raise StreamDamaged(f"part {number} has {there} bytes, not {size}")
            bounds = (max(0, start - offset), min(size, end - offset))
            part = store.read(stream.key(number), *(() if bounds == (0, size) else bounds))
            async with contextlib.aclosing(part) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ObjectNotFound as fault:
            raise StreamDamaged(f"part {number} is missing") from fault
