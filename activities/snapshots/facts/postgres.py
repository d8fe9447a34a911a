"""Facts of a PostgreSQL database, from the archive that `pg_dump -Fc -Z0` writes to a pipe.

    "PGDMP" | version | sizes of numbers | compression | when, what, by whom | table of contents
    block of data | block of data | ...

A block is one table's rows as COPY writes them, or large objects. Numbers have a byte of sign before them.
There is no mark at the end: the archive is whole when each entry that has data has had its block.
"""

import re
from dataclasses import dataclass
from struct import Struct
from typing import Final

from activities.snapshots.facts.observer import Observer
from activities.snapshots.facts.tallies import Counting, Lines, digest_of, new_digest, number
from activities.snapshots.reading import LONGEST, ContentBroken, Steps, Unknown
from workflows.domain.snapshot_facts import Facts, Format, Kind

_OLDEST, _NEWEST = (1, 14), (1, 16)
"""Versions of the archive: PostgreSQL 12 to 18."""
_WITH_ALGORITHM, _WITH_KIND = (1, 15), (1, 16)
_CUSTOM: Final = 1
_ROWS, _LARGE_OBJECTS = 1, 3
_LARGEST_INT: Final = 8
_INT: Final = Struct("<BI")
_END_OF_ROWS: Final = b"\\.\n\n\n"
_SETVAL: Final = re.compile(rb"setval\('.*', (-?\d+), (true|false)\)", re.DOTALL)
_NO_DEFINITION: Final = frozenset(
    {"TABLE DATA", "SEQUENCE SET", "BLOB", "BLOBS", "BLOB METADATA", "BLOB COMMENTS"}
)
"""What is counted elsewhere, or is put together differently by each version."""


@dataclass(frozen=True, slots=True)
class _Contents:
    """An entry of the table of contents. `name` has its schema before it."""

    number: int
    kind: str
    name: str
    has_data: bool


class PostgresObserver(Observer):
    """Counts and digests of rows by table, of large objects, and of what is defined; values of sequences."""

    format = Format.POSTGRES

    def __init__(self) -> None:
        self._tables = Counting(Kind.TABLES)
        self._sequences = Counting(Kind.SEQUENCES)
        self._large = Counting(Kind.LARGE_OBJECTS)
        self._definitions = Counting(Kind.DEFINITIONS)
        self._version = (0, 0)
        self._int_bytes = self._offset_bytes = 4
        super().__init__()

    def _read(self) -> Steps[None]:
        yield from self._header()
        waiting: dict[int, _Contents] = {}
        for _ in range((yield from self._int())):
            entry = yield from self._entry()
            if entry.has_data:
                waiting[entry.number] = entry
        while not (yield from self._at_end()):
            kind = (yield from self._take(1))[0]
            entry_number = yield from self._int()
            if entry_number not in waiting:
                raise ContentBroken("the archive has data that is not in its table of contents")
            entry = waiting.pop(entry_number)
            if kind == _ROWS:
                yield from self._rows(entry)
            elif kind == _LARGE_OBJECTS:
                yield from self._objects()
            else:
                raise Unknown(f"the archive has data of type {kind}")
        if waiting:
            raise ContentBroken(f"the archive ends before the data of {next(iter(waiting.values())).name}")

    def _header(self) -> Steps[None]:
        start = yield from self._take(11)
        if start[:5] != b"PGDMP":
            raise ContentBroken("it is no archive of pg_dump")
        self._version = (start[5], start[6])
        if not _OLDEST <= self._version <= _NEWEST or start[10] != _CUSTOM:
            raise Unknown(f"an archive of pg_dump of version {start[5]}.{start[6]}, format {start[10]}")
        self._int_bytes, self._offset_bytes = start[8], start[9]
        if not 0 < self._int_bytes <= _LARGEST_INT or not 0 < self._offset_bytes <= _LARGEST_INT:
            raise ContentBroken("the archive's header is damaged")
        if self._version >= _WITH_ALGORITHM:
            compression = (yield from self._take(1))[0]
        else:
            compression = yield from self._int()
        if compression:
            raise Unknown("an archive of pg_dump that it has compressed itself")
        for _ in range(7):  # when it was made
            yield from self._int()
        for _ in range(3):  # which database, by which versions
            yield from self._string()

    def _entry(self) -> Steps[_Contents]:
        entry_number = yield from self._int()
        has_data = bool((yield from self._int()))
        yield from self._string()  # numbers that a server gives by itself
        yield from self._string()
        tag = yield from self._string()
        kind = (yield from self._string()).decode(errors="replace")
        yield from self._int()
        made_by = yield from self._string()
        yield from self._string()  # how to drop it
        yield from self._string()  # how to copy into it
        schema = yield from self._string()
        yield from self._string()  # tablespace
        yield from self._string()  # access method
        if self._version >= _WITH_KIND:
            yield from self._int()
        owner = yield from self._string()
        yield from self._string()
        while (yield from self._optional()) is not None:  # what it depends on
            pass
        yield from self._take(1 + self._offset_bytes)
        name = b".".join(part for part in (schema, tag) if part).decode(errors="replace")
        if kind == "SEQUENCE SET" and (value := _SETVAL.search(made_by)) is not None:
            self._sequences.add(name, int(value[1]), 0, digest_of(value[2]))
        elif kind not in _NO_DEFINITION:
            self._definitions.add(kind, 1, 0, digest_of(schema, tag, owner))
        return _Contents(entry_number, kind, name, has_data)

    def _rows(self, table: _Contents) -> Steps[None]:
        rows = Lines()
        yield from self._chunks(rows)
        if not rows.drop(_END_OF_ROWS):
            raise ContentBroken(f"the rows of {table.name} do not end with their end")
        self._tables.add(table.name, rows.count, rows.size, rows.value)

    def _objects(self) -> Steps[None]:
        while oid := (yield from self._int()):
            content, size = new_digest(b"%d:" % oid), 0
            while length := (yield from self._int()):
                size += length
                yield from self._hand(length, content.update)
            self._large.add("", 1, size, number(content))

    def _chunks(self, rows: Lines) -> Steps[None]:
        """Hand on chunks until the empty one. Most are one row, so what is there is taken in one go."""
        width = 1 + self._int_bytes
        while True:
            yield from self._need(width)
            data, at, there, pieces = self._data, self._at, len(self._data), []
            if self._int_bytes == _INT.size - 1:
                while at + width <= there:
                    negative, length = _INT.unpack_from(data, at)
                    if negative or not length or (end := at + width + length) > there:
                        break
                    pieces.append(data[at + width : end])
                    at = end
            self._at = at
            if pieces:
                rows.take(b"".join(pieces))
            if self._there < width:
                continue
            length = yield from self._int()
            if not length:
                return
            yield from self._hand(length, rows.take)

    def _int(self) -> Steps[int]:
        data = yield from self._take(1 + self._int_bytes)
        value = int.from_bytes(data[1:], "little")
        return -value if data[0] else value

    def _string(self) -> Steps[bytes]:
        """Return a string, the beginning of a very long one; b"" when there is none."""
        return (yield from self._optional()) or b""

    def _optional(self) -> Steps[bytes | None]:
        length = yield from self._int()
        if length < 0:
            return None
        start = yield from self._take(min(length, LONGEST))
        yield from self._hand(length - len(start), lambda _piece: None)
        return start

    def _found(self) -> Facts:
        return self._facts(self._tables, self._sequences, self._large, self._definitions)
