"""Facts of a PostgreSQL database, from the archive that `pg_dump` writes of it (`postgres_archive`)."""

import re
from typing import Final

from activities.snapshots.facts.observer import Observer
from activities.snapshots.facts.tallies import Counting, Lines, digest_of, new_digest, number
from activities.snapshots.postgres_archive import ArchiveReading, Entry, dotted
from activities.snapshots.reading import ContentBroken, Steps
from workflows.domain.snapshot_facts import Facts, Format, Kind

_END_OF_ROWS: Final = b"\\.\n\n\n"
_SETVAL: Final = re.compile(r"setval\('.*', (-?[0-9]+), (true|false)\)", re.DOTALL)
_NO_DEFINITION: Final = frozenset(
    {"TABLE DATA", "SEQUENCE SET", "BLOB", "BLOBS", "BLOB METADATA", "BLOB COMMENTS"}
)
"""What is counted elsewhere, or is put together differently by each version."""


class PostgresObserver(ArchiveReading, Observer):
    """Counts and digests of rows by table, of large objects, and of what is defined; values of sequences."""

    format = Format.POSTGRES

    def __init__(self) -> None:
        self._tables = Counting(Kind.TABLES)
        self._sequences = Counting(Kind.SEQUENCES)
        self._large = Counting(Kind.LARGE_OBJECTS)
        self._definitions = Counting(Kind.DEFINITIONS)
        super().__init__()

    def _keeps(self, entry: Entry) -> bool:
        if entry.sort == "SEQUENCE SET" and (value := _SETVAL.search(entry.definition)) is not None:
            self._sequences.add(dotted(entry), int(value[1]), 0, digest_of(value[2]))
        elif entry.sort not in _NO_DEFINITION:
            sort = entry.sort.encode("utf-8", "surrogateescape").decode(errors="replace")
            self._definitions.add(sort, 1, 0, digest_of(entry.schema, entry.name, entry.owner))
        return entry.has_data

    def _rows(self, entry: Entry) -> Steps[None]:
        rows = Lines()
        yield from self._chunks(lambda chunks: rows.take(b"".join(chunks)))
        if not rows.drop(_END_OF_ROWS):
            raise ContentBroken(f"the rows of {dotted(entry)} do not end with their end")
        self._tables.add(dotted(entry), rows.count, rows.size, rows.value)

    def _large_object(self, oid: int) -> Steps[None]:
        content, size = new_digest(b"%d:" % oid), 0

        def take(chunks: list[bytes]) -> None:
            nonlocal size
            for chunk in chunks:
                content.update(chunk)
                size += len(chunk)

        yield from self._chunks(take)
        self._large.add("", 1, size, number(content))

    def _found(self) -> Facts:
        return self._facts(self._tables, self._sequences, self._large, self._definitions)
