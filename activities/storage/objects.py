"""Objects outside the database, evidence for one: a directory or an S3 bucket behind one interface."""

import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore.exceptions import BaseError
from pydantic import JsonValue

from activities.storage.bucket import Bucket
from activities.storage.directory import Directory, StoreAway

MAX_KEY: Final = 512
PATIENCE_SECONDS: Final = 120.0
"""How long one request is tried again: a store that is away for half a minute is waited for."""
_READ_CHUNK: Final = 1024 * 1024
_QUOTED: Final = 300
"""Characters of what the store said that stand in an error's message."""
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

    def __init__(self, url: str, *, make: bool = True, patience: float = PATIENCE_SECONDS) -> None:
        """Open a directory (a path or `file://`) or a bucket (`s3://bucket/prefix`).

        A directory that is not there is made now, or with `make` False not at all: from then on it is away
        when it is not there. `patience`: seconds for which a request is tried again while the store is away.
        A bucket's endpoint, region and credentials come from the usual AWS variables or the machine's role.
        Raises ValueError for another scheme.
        """
        directory = local_directory(url)
        self._place: Directory | Bucket
        if directory is None:
            self._place = Bucket(url, patience=patience)
        else:
            self._place = Directory(directory, patience=patience)
            if make:
                self._place.make()

    async def put_bytes(self, key: str, content: bytes | bytearray) -> None:
        """Store content, in the place of what was there."""
        with _translated():
            await self._place.put(checked_key(key), content)

    async def get_bytes(self, key: str) -> bytes:
        """Return what is stored. Raises ObjectNotFound."""
        with _translated(key):
            return await self._place.get(checked_key(key))

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Yield what is stored from byte `start` to before byte `end`, in chunks of about 1 MiB.

        Raises ObjectNotFound. A range that goes beyond the object ends where the object does.
        """
        with _translated(key):
            chunks = self._place.read(checked_key(key), start, end, _READ_CHUNK)
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    yield chunk

    async def head(self, key: str) -> StoredObject:
        """Return what is known of an object without reading it. Raises ObjectNotFound."""
        with _translated(key):
            return StoredObject(key, await self._place.size(checked_key(key)))

    async def objects_below(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Yield every object whose key begins with `prefix/`, in no promised order."""
        with _translated():
            async for page in self._place.below(checked_key(prefix)):
                for key, size in page:
                    yield StoredObject(key, size)

    async def names_below(self, prefix: str) -> tuple[str, ...]:
        """Return the next segments of all keys that begin with `prefix/` and have more than one after it."""
        with _translated():
            return tuple(await self._place.names_below(checked_key(prefix)))

    async def delete_below(self, prefix: str) -> int:
        """Remove every object whose key begins with `prefix/` and return how many there were.

        In a directory with it goes what a killed process had not yet given its name, and no list shows.
        """
        with _translated():
            return await self._place.delete_below(checked_key(prefix))

    async def delete_unfinished(self, prefix: str) -> None:
        """Remove what killed processes left directly below `prefix/`, and no list shows.

        Whoever is writing there is told that the store is not available.
        """
        with _translated():
            await self._place.delete_unfinished(checked_key(prefix))

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
            await self._place.delete(checked_key(key))


@contextmanager
def _translated(key: str | None = None) -> Iterator[None]:
    """Raise what the store says as one of our errors; a missing file is `key` not being there."""
    try:
        yield
    except StoreAway as away:
        raise StoreUnavailable(f"it is away: {away}") from away
    except FileNotFoundError as fault:
        if key is None:
            raise StoreUnavailable(_said("there is no such store", fault)) from fault
        raise ObjectNotFound(key) from fault
    except (BaseError, OSError) as fault:
        raise StoreUnavailable(_said("the object store failed", fault)) from fault


def _said(what: str, fault: Exception) -> str:
    # A path on this machine is nobody's business: of a file only what happened to it is told.
    said = fault.strerror if isinstance(fault, OSError) else None
    # The client adds how it was reached, over many lines; the first one says what happened.
    said = said or next(iter(str(fault).splitlines()), "")
    return f"{what}: {said[:_QUOTED]}"


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
