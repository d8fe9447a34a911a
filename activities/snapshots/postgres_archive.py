"""The head of what `pg_dump -Fc` writes: its table of contents, which comes before all data.

As PostgreSQL 13 to 18 write it (versions 1.14 to 1.16); another version is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from workflows.domain.masking import DumpUnreadable

INT_BYTES: Final = 5
"""A sign, and four bytes with the least first."""
_MAGIC: Final = b"PGDMP"
_CUSTOM: Final = 1
_OLDEST: Final = (1, 14)
_NEWEST: Final = (1, 16)
_STAMPS: Final = 7
_MOST_HEAD: Final = 64 * 1024 * 1024


class HeadIncomplete(Exception):
    """More bytes are needed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a database.

    `sort`: `TABLE`, `TABLE DATA`, `FK CONSTRAINT` and so on. `definition`: the SQL that makes it, `copy` that
    which data follow. `span`: where the definition lies in the head, its length included.
    """

    id: int
    sort: str
    schema: str
    name: str
    definition: str
    copy: str
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Head:
    """A table of contents; `size`: bytes before the data."""

    entries: tuple[Entry, ...]
    size: int


def number(data: bytes | bytearray | memoryview, position: int) -> int:
    """Read an integer."""
    size = int.from_bytes(data[position + 1 : position + INT_BYTES], "little")
    return -size if data[position] else size


def written(value: int) -> bytes:
    """Write an integer that is not negative."""
    return b"\0" + value.to_bytes(4, "little")


def written_text(text: str) -> bytes:
    """Write a text."""
    data = text.encode("utf-8", "surrogateescape")
    return written(len(data)) + data


def read_head(data: bytes) -> Head:
    """Read the table of contents. Raises HeadIncomplete when it is not all there, DumpUnreadable."""
    if len(data) > _MOST_HEAD:
        raise DumpUnreadable("the table of contents of a dump is larger than 64 MiB")
    reader = _Reader(data)
    if reader.take(5) != _MAGIC:
        raise DumpUnreadable("a dump does not begin as pg_dump -Fc begins")
    version = (reader.byte(), reader.byte())
    reader.byte()
    if not _OLDEST <= version <= _NEWEST:
        raise DumpUnreadable(f"a dump has version {version[0]}.{version[1]}, and only 1.14 to 1.16 are known")
    if (reader.byte(), reader.byte(), reader.byte()) != (4, 8, _CUSTOM):
        raise DumpUnreadable(
            "a dump has other sizes of numbers than those known, or is not of the custom format"
        )
    compression = reader.byte() if version >= (1, 15) else reader.number()
    if compression:
        raise DumpUnreadable("a dump is compressed by pg_dump")
    for _ in range(_STAMPS):
        reader.number()
    for _ in ("database", "server", "tool"):
        reader.text()
    entries = tuple(_entries(reader, version))
    return Head(entries, reader.position)


def _entries(reader: "_Reader", version: tuple[int, int]) -> Iterator[Entry]:
    for _ in range(reader.number()):
        entry_id = reader.number()
        reader.number()  # whether data follow
        reader.text()  # OID of its catalogue
        reader.text()  # OID
        name, sort = reader.text(), reader.text()
        reader.number()  # section
        start = reader.position
        definition = reader.text()
        span = (start, reader.position)
        reader.text()  # how to drop it
        copy, schema = reader.text(), reader.text()
        reader.text()  # tablespace
        reader.text()  # access method
        if version >= (1, 16):
            reader.number()  # kind of relation
        reader.text()  # owner
        reader.text()  # with OIDs
        while reader.text_or_none() is not None:
            pass  # what it depends on
        reader.take(9)  # where its data lie: not known in a stream
        yield Entry(entry_id, sort, schema, name, definition, copy, span)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise HeadIncomplete
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return number(self.take(INT_BYTES), 0)

    def text_or_none(self) -> str | None:
        size = self.number()
        return None if size < 0 else self.take(size).decode("utf-8", "surrogateescape")

    def text(self) -> str:
        return self.text_or_none() or ""
