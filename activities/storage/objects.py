"""Objects outside the database, evidence for one: a directory or an S3 bucket behind one interface."""

import json
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore.store import LocalStore, S3Store
from pydantic import JsonValue

MAX_KEY: Final = 512
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


class ObjectKeyInvalid(ValueError):
    """The key is not one that may be stored under."""


class ObjectNotFound(LookupError):
    """Nothing is stored under this key."""


class ObjectStore:
    """Stores bytes and JSON documents under keys like `evidence/org_1/op_2/step.json`.

    A key is made of segments of letters, digits and `._=-`, none beginning with a dot: no key leads out of
    the store. Everything else raises ObjectKeyInvalid.
    """

    def __init__(self, url: str) -> None:
        """Open a directory (a path or `file://`, made when missing) or a bucket (`s3://bucket/prefix`).

        A bucket's endpoint, region and credentials come from the usual AWS variables or the machine's role.
        Raises ValueError for another scheme.
        """
        self._store = _open(url)

    async def put_bytes(self, key: str, content: bytes) -> None:
        """Store content, in the place of what was there."""
        await self._store.put_async(checked_key(key), content)

    async def get_bytes(self, key: str) -> bytes:
        """Return what is stored. Raises ObjectNotFound."""
        try:
            result = await self._store.get_async(checked_key(key))
        except FileNotFoundError as fault:
            raise ObjectNotFound(key) from fault
        return bytes(await result.bytes_async())

    async def put_json(self, key: str, document: JsonValue) -> None:
        """Store a document as UTF-8 JSON."""
        await self.put_bytes(key, json.dumps(document, ensure_ascii=False, allow_nan=False).encode())

    async def get_json(self, key: str) -> JsonValue:
        """Return a stored document. Raises ObjectNotFound."""
        document: JsonValue = json.loads(await self.get_bytes(key))
        return document

    async def delete(self, key: str) -> None:
        """Remove what is stored; nothing there is success."""
        try:
            await self._store.delete_async(checked_key(key))
        except FileNotFoundError:
            return


def _open(url: str) -> LocalStore | S3Store:
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3Store(parts.netloc, prefix=parts.path.strip("/") or None)
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
