"""Objects in an S3 bucket."""

import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from obstore.store import S3Store

_LIST_PAGE: Final = 1000


class Bucket:
    """Objects below a prefix in a bucket, `s3://bucket/prefix`.

    One request is tried again for `patience` seconds. Every method raises FileNotFoundError where there is no
    such object, or bucket; what else is wrong as `obstore.exceptions.BaseError` or OSError. Raises ValueError
    for another scheme.
    """

    def __init__(self, url: str, *, patience: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3":
            raise ValueError(f"an object store is a directory or s3://, not {parts.scheme}://")
        self._store = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            retry_config={
                "retry_timeout": timedelta(seconds=patience),
                # A connection that is refused costs no time: the number of tries must not end it before that.
                "max_retries": 10_000,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )

    async def put(self, key: str, content: bytes | bytearray) -> None:
        """Store an object as a whole."""
        await self._store.put_async(key, content, use_multipart=False)

    async def get(self, key: str) -> bytes:
        """Return an object."""
        return bytes(await (await self._store.get_async(key)).bytes_async())

    async def size(self, key: str) -> int:
        """Return an object's size in bytes."""
        return (await self._store.head_async(key))["size"]

    async def read(self, key: str, start: int, end: int | None, chunk: int) -> AsyncGenerator[bytes]:
        """Yield an object from `start` to before `end`, or its own end, in pieces of about `chunk` bytes."""
        if start or end is not None:
            size = await self.size(key)
            end = size if end is None else min(end, size)
            if start >= end:  # which no request can ask for
                return
            found = await self._store.get_async(key, options={"range": (start, end)})
        else:
            found = await self._store.get_async(key)
        async for piece in found.stream(min_chunk_size=chunk):
            yield bytes(piece)

    async def below(self, prefix: str) -> AsyncGenerator[list[tuple[str, int]]]:
        """Yield keys and sizes of all objects below a prefix, a page at a time."""
        async for page in self._store.list(prefix, chunk_size=_LIST_PAGE):
            yield [(found["path"], found["size"]) for found in page]

    async def names_below(self, prefix: str) -> list[str]:
        """Return the next segments of keys below a prefix that have more than one after it."""
        found = await self._store.list_with_delimiter_async(f"{prefix}/")
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"])

    async def delete(self, key: str) -> None:
        """Remove an object that may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            await self._store.delete_async(key)

    async def delete_below(self, prefix: str) -> int:
        """Remove all below a prefix, a page in one request; return how many objects there were."""
        removed = 0
        async for page in self.below(prefix):
            await self._store.delete_async([key for key, _ in page])
            removed += len(page)
        return removed

    async def delete_unfinished(self, _prefix: str) -> None:
        """Do nothing: an object of a bucket is whole or not there."""
