"""Objects outside the database, evidence for one: a directory or an S3 bucket behind one interface."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store
from pydantic import JsonValue

MAX_KEY: Final = 512
_LIST_PAGE: Final = 1000
_READ_CHUNK: Final = 1024 * 1024
_QUOTED: Final = 300
"""Characters of what the store said that stand in an error's message."""
_RETRY_SECONDS: Final = 120
"""How long one request to a bucket is tried again: a store that is away for half a minute is waited for."""
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


class ObjectKeyInvalid(ValueError):
    """The key is not one that may be stored under."""


class ObjectNotFound(LookupError):
    """Nothing is stored under this key."""


class StoreUnavailable(Exception):
    """The store cannot be reached, is full, refuses us or has no such bucket; the text says which."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is there: its key and its size in bytes."""

    key: str
    size: int


class ObjectStore:
    """Stores bytes and JSON documents under keys like `evidence/org_1/op_2/step.json`.

    A key is made of segments of letters, digits and `._=-`, none beginning with a dot: no key leads out of
    the store. Everything else raises ObjectKeyInvalid. An object is there as a whole or not at all: nobody
    sees half of one. Every method raises StoreUnavailable when the store does not do what it should.

    What is too large for memory is in `activities.storage.streams`.
    """

    def __init__(self, url: str) -> None:
        """Open a directory (a path or `file://`, made when missing) or a bucket (`s3://bucket/prefix`).

        A bucket's endpoint, region and credentials come from the usual AWS variables or the machine's role.
        Raises ValueError for another scheme.
        """
        self._store = _open(url)
        self._directory = local_directory(url)

    async def put_bytes(self, key: str, content: bytes | bytearray) -> None:
        """Store content, in the place of what was there."""
        with _translated():
            try:
                await self._store.put_async(checked_key(key), content, use_multipart=False)
            except FileNotFoundError as fault:
                raise StoreUnavailable(_said("there is no such store", fault)) from fault

    async def get_bytes(self, key: str) -> bytes:
        """Return what is stored. Raises ObjectNotFound."""
        with _translated(key):
            result = await self._store.get_async(checked_key(key))
            return bytes(await result.bytes_async())

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Yield what is stored from byte `start` to before byte `end`, in chunks of about 1 MiB.

        Raises ObjectNotFound. A range that goes beyond the object ends where the object does.
        """
        with _translated(key):
            whole = await self._store.head_async(checked_key(key)) if start or end is not None else None
            if whole is None:
                result = await self._store.get_async(checked_key(key))
            else:
                end = whole["size"] if end is None else min(end, whole["size"])
                if start >= end:  # which no request can ask for
                    return
                result = await self._store.get_async(checked_key(key), options={"range": (start, end)})
            async for chunk in result.stream(min_chunk_size=_READ_CHUNK):
                yield bytes(chunk)

    async def head(self, key: str) -> StoredObject:
        """Return what is known of an object without reading it. Raises ObjectNotFound."""
        with _translated(key):
            found = await self._store.head_async(checked_key(key))
        return StoredObject(key, found["size"])

    async def objects_below(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Yield every object whose key begins with `prefix/`, a page at a time, in no promised order."""
        with _translated():
            try:
                async for page in self._store.list(checked_key(prefix), chunk_size=_LIST_PAGE):
                    for found in page:
                        yield StoredObject(found["path"], found["size"])
            except FileNotFoundError:  # a directory that is not there, or went while it was read
                return

    async def names_below(self, prefix: str) -> tuple[str, ...]:
        """Return the next segments of all keys that begin with `prefix/` and have more than one after it."""
        with _translated():
            try:
                found = await self._store.list_with_delimiter_async(f"{checked_key(prefix)}/")
            except FileNotFoundError:
                return ()
        return tuple(sorted(each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"]))

    async def delete_below(self, prefix: str) -> int:
        """Remove every object whose key begins with `prefix/` and return how many there were."""
        removed = 0
        keys: list[str] = []
        async for found in self.objects_below(prefix):
            keys.append(found.key)
            if len(keys) == _LIST_PAGE:
                removed += await self._delete_all(keys)
                keys = []
        removed += await self._delete_all(keys)
        if self._directory is not None:
            # With it goes what a killed process had not yet given its name, and no list shows.
            await asyncio.to_thread(shutil.rmtree, self._directory / prefix, ignore_errors=True)
        return removed

    async def _delete_all(self, keys: list[str]) -> int:
        """Remove these, in one request where the store has one for it."""
        if not keys:
            return 0
        if self._directory is None:
            with _translated():
                await self._store.delete_async(keys)
        else:
            for key in keys:  # a missing one would end the rest of a bulk delete
                await self.delete(key)
        return len(keys)

    async def put_json(self, key: str, document: JsonValue) -> None:
        """Store a document as UTF-8 JSON."""
        await self.put_bytes(key, json.dumps(document, ensure_ascii=False, allow_nan=False).encode())

    async def get_json(self, key: str) -> JsonValue:
        """Return a stored document. Raises ObjectNotFound."""
        document: JsonValue = json.loads(await self.get_bytes(key))
        return document

    async def delete(self, key: str) -> None:
        """Remove what is stored; nothing there is success."""
        with _translated():
            try:
                await self._store.delete_async(checked_key(key))
            except FileNotFoundError:
                return


@contextmanager
def _translated(key: str | None = None) -> Iterator[None]:
    """Raise what the store says as one of our errors; a missing file is `key` not being there."""
    try:
        yield
    except FileNotFoundError as fault:
        if key is None:
            raise
        raise ObjectNotFound(key) from fault
    except (BaseError, OSError) as fault:
        raise StoreUnavailable(_said("the object store failed", fault)) from fault


def _said(what: str, fault: Exception) -> str:
    # The client adds how it was reached, over many lines; the first one says what happened.
    said = next(iter(str(fault).splitlines()), "")
    return f"{what}: {said[:_QUOTED]}"


def _open(url: str) -> LocalStore | S3Store:
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            retry_config={
                "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
                # A connection that is refused costs no time: the number of tries must not end it before that.
                "max_retries": 10_000,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )
    directory = local_directory(url)
    if directory is None:
        raise ValueError(f"an object store is a directory or s3://, not {parts.scheme}://")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return LocalStore(directory)


def local_directory(url: str) -> Path | None:
    """Return the directory that an object store's URL names, None when it names none."""
    parts = urlsplit(url)
    if parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path) if parts.scheme else url)


def checked_key(key: str) -> str:
    """Return the key when it is one. Raises ObjectKeyInvalid."""
    segments = key.split("/")
    if len(key) > MAX_KEY or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ObjectKeyInvalid(f"not an object key: {key[:80]!r}")
    return key
