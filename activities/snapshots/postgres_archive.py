"""The archive that `pg_dump -Fc -Z0` writes to a pipe, as PostgreSQL 12 to 18 do (versions 1.14 to 1.16).

    "PGDMP" | version | sizes of numbers | compression | when, what, by whom | table of contents
    block of data | block of data | ...

A block is one table's rows as COPY writes them, or large objects, in chunks. There is no mark at the end: the
archive is whole when each entry that has data has had its block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from activities.snapshots.reading import LONGEST, ContentBroken, Reading, Steps, Unknown, ignore

INT_BYTES: Final = 5
"""A sign, and four bytes with the least first."""
_INT: Final = Struct("<BI")
_SIZES: Final = (INT_BYTES - 1, 8)
"""Bytes of numbers without their sign, and of a place in a file."""
_CUSTOM: Final = 1
_OLDEST, _NEWEST = (1, 14), (1, 16)
_WITH_ALGORITHM, _WITH_KIND = (1, 15), (1, 16)
_ROWS, _LARGE_OBJECTS = 1, 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a database, in the table of contents.

    `sort`: `TABLE`, `TABLE DATA`, `FK CONSTRAINT` and so on. `definition`: the SQL that makes it, `copy` that
    which data follow. `span`: where the definition lies in the archive, its length included. Texts that are
    no UTF-8 have surrogates in them.
    """

    id: int
    sort: str
    schema: str
    name: str
    owner: str
    definition: str
    copy: str
    span: tuple[int, int]
    has_data: bool


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
    return _INT.pack(0, value)


def written_text(text: str) -> bytes:
    """Write a text."""
    data = text.encode("utf-8", "surrogateescape")
    return written(len(data)) + data


def read_head(data: bytes) -> Head:
    """Read the table of contents of an archive that is there. Raises ContentBroken, Unknown."""
    reading = ArchiveReading()
    reading._grow(data)
    try:
        next(reading._head())
    except StopIteration as read:
        head: Head = read.value
        return head
    raise ContentBroken("it is cut")


class ArchiveReading(Reading):
    """Reads an archive: its head, then block by block."""

    _longest = LONGEST
    """Most bytes that are kept of a text."""

    def _keeps(self, _entry: Entry) -> bool:
        """Take note of an entry; whether it is kept: one that has data must be."""
        return True

    def _rows(self, _entry: Entry) -> Steps[None]:
        """Read the rows of a table."""
        yield from self._chunks(ignore)

    def _large_object(self, _oid: int) -> Steps[None]:
        """Read a large object."""
        yield from self._chunks(ignore)

    def _read(self) -> Steps[None]:
        yield from self._blocks((yield from self._head()))

    def _head(self) -> Steps[Head]:
        """Read all that comes before the data."""
        version = yield from self._header()
        entries = []
        for _ in range((yield from self._int())):
            entry = yield from self._entry(version)
            if self._keeps(entry):
                entries.append(entry)
        return Head(tuple(entries), self._place)

    def _blocks(self, head: Head) -> Steps[None]:
        waiting = {entry.id: entry for entry in head.entries if entry.has_data}
        while not (yield from self._at_end()):
            kind = (yield from self._take(1))[0]
            entry = waiting.pop((yield from self._int()), None)
            if entry is None:
                raise ContentBroken("the archive has data that is not in its table of contents")
            if kind == _ROWS:
                yield from self._rows(entry)
            elif kind == _LARGE_OBJECTS:
                while oid := (yield from self._int()):
                    yield from self._large_object(oid)
            else:
                raise Unknown(f"the archive has data of type {kind}")
        if waiting:
            missing = next(iter(waiting.values()))
            raise ContentBroken(f"the archive ends before the data of {dotted(missing)}")

    def _header(self) -> Steps[tuple[int, int]]:
        start = yield from self._take(11)
        if start[:5] != b"PGDMP":
            raise ContentBroken("it is no archive of pg_dump")
        version = (start[5], start[6])
        if not _OLDEST <= version <= _NEWEST or start[10] != _CUSTOM:
            raise Unknown(f"an archive of pg_dump of version {start[5]}.{start[6]}, format {start[10]}")
        if (start[8], start[9]) != _SIZES:
            raise Unknown("an archive of pg_dump with other sizes of numbers than those known")
        if version >= _WITH_ALGORITHM:
            compression = (yield from self._take(1))[0]
        else:
            compression = yield from self._int()
        if compression:
            raise Unknown("an archive of pg_dump that it has compressed itself")
        for _ in range(7):  # when it was made
            yield from self._int()
        for _ in range(3):  # which database, by which versions
            yield from self._text()
        return version

    def _entry(self, version: tuple[int, int]) -> Steps[Entry]:
        entry_id = yield from self._int()
        has_data = bool((yield from self._int()))
        yield from self._text()  # numbers that a server gives by itself
        yield from self._text()
        name = yield from self._text()
        sort = yield from self._text()
        yield from self._int()  # section
        start = self._place
        definition = yield from self._text()
        span = (start, self._place)
        yield from self._text()  # how to drop it
        copy = yield from self._text()
        schema = yield from self._text()
        yield from self._text()  # tablespace
        yield from self._text()  # access method
        if version >= _WITH_KIND:
            yield from self._int()
        owner = yield from self._text()
        yield from self._text()  # with OIDs
        while (yield from self._optional()) is not None:  # what it depends on
            pass
        yield from self._take(1 + _SIZES[1])  # where its data lie: not known in a stream
        return Entry(entry_id, sort, schema, name, owner, definition, copy, span, has_data)

    def _chunks(self, take: Callable[[list[bytes]], object], *, whole: bool = False) -> Steps[None]:
        """Hand on chunks until the empty one: all that are there at once, of a long one parts, or `whole`."""
        while True:
            yield from self._need(INT_BYTES)
            data, at, there, chunks = self._data, self._at, len(self._data), []
            while at + INT_BYTES <= there:
                negative, length = _INT.unpack_from(data, at)
                if negative or not length or (end := at + INT_BYTES + length) > there:
                    break
                chunks.append(data[at + INT_BYTES : end])
                at = end
            self._at = at
            if chunks:
                take(chunks)
            if self._there < INT_BYTES:
                continue
            length = yield from self._int()
            if length <= 0:
                break
            if whole:
                take([(yield from self._take(length))])
            else:
                yield from self._hand(length, lambda part: take([part]))
        if length:
            raise ContentBroken("a chunk has a length below zero")

    def _int(self) -> Steps[int]:
        if self._there < INT_BYTES:
            yield from self._need(INT_BYTES)
        value = number(self._data, self._at)
        self._at += INT_BYTES
        return value

    def _text(self) -> Steps[str]:
        """Return a text, the beginning of a very long one; "" when there is none."""
        return (yield from self._optional()) or ""

    def _optional(self) -> Steps[str | None]:
        length = yield from self._int()
        if length < 0:
            return None
        start = yield from self._take(min(length, self._longest))
        yield from self._hand(length - len(start), ignore)
        return start.decode("utf-8", "surrogateescape")


def dotted(entry: Entry) -> str:
    """Return an entry's name with its schema before it, fit to be shown."""
    name = ".".join(part for part in (entry.schema, entry.name) if part)
    return name.encode("utf-8", "surrogateescape").decode(errors="replace")
