"""Facts of a MariaDB server, from what `mariadb-dump` writes (`mariadb_dump`).

What is counted of a row is its text, with its parentheses. A row of a table that has a history ends with the
times from when to when it was so: all of them are counted as they are, and the current ones also without.
"""

import re
from typing import Final

from activities.snapshots.facts.observer import Observer
from activities.snapshots.facts.tallies import Counting, digest_of, new_digest, number, sum_of
from activities.snapshots.mariadb_dump import INSIDE, NAME, VALUES, DumpReading
from activities.snapshots.reading import LONGEST, ContentBroken, Steps
from workflows.domain.possessive import any_number
from workflows.domain.snapshot_facts import Facts, Format, Kind

_ROWS_OF_A_LINE: Final = re.compile(f"{any_number(f'{VALUES},')}{VALUES};".encode(), re.DOTALL)
_OUTSIDE: Final = re.compile(rb"[^')]*+")
_INSIDE: Final = re.compile(INSIDE.encode(), re.DOTALL)
_TABLE: Final = re.compile(rb"CREATE TABLE " + NAME + rb" \(")
_NEXT_ID: Final = re.compile(rb"\) ENGINE=.* AUTO_INCREMENT=(\d+)")
_SETVAL: Final = re.compile(rb"(?:DO|SELECT) SETVAL\(" + NAME + rb", (-?\d+), ([01])")
_MADE: Final = {
    "DATABASE": re.compile(rb"CREATE DATABASE (?:/\*.*?\*/ )?" + NAME),
    "VIEW": re.compile(rb"/\*!50001 VIEW " + NAME),
    "TRIGGER": re.compile(rb"(?:/\*!50003 )?CREATE\b.*? TRIGGER (`(?:[^`]|``)+`|\S+)"),
    "EVENT": re.compile(rb"(?:/\*!50106 )?CREATE\b.*? EVENT " + NAME),
    "ROUTINE": re.compile(rb"CREATE\b.*? (?:FUNCTION|PROCEDURE|PACKAGE|PACKAGE BODY) (`(?:[^`]|``)+`|\S+)"),
    "SEQUENCE": re.compile(rb"CREATE SEQUENCE " + NAME),
}
_TIMES: Final = re.compile(rb",'[-0-9:. ]{26}','([-0-9:. ]{26})'\)")
_TIMES_SIZE: Final = 59
_CURRENT: Final = (b"2038-01-19 03:14:07.999999", b"2106-02-07 06:28:15.999999")
"""When a row ends that is not of the past: before MariaDB 11.5, and since."""
_LARGEST: Final = (1 << 30) - (1 << 20)
"""Bytes of a row that a server takes, with names of its columns before it."""
_BEGINNINGS: Final = b"C/)DS"
"""First letters of the lines that anything is known by."""


class MariadbObserver(DumpReading, Observer):
    """Rows by table, what is defined, and what sequences and AUTO_INCREMENT stand at."""

    format = Format.MARIADB

    def __init__(self) -> None:
        self._tables = Counting(Kind.TABLES)
        self._sequences = Counting(Kind.SEQUENCES)
        self._definitions = Counting(Kind.DEFINITIONS)
        self._table: str | None = None
        self._rows = [0, 0, 0]
        self._history = Counting(Kind.HISTORY)
        self._all_rows: list[int] | None = None
        super().__init__()

    def _use(self, database: bytes) -> None:
        self._finish_table()
        super()._use(database)

    def _has_rows(self, start: int) -> bool:
        """Whether rows begin here: in a body what looks like them to its `;`, as it always was counted."""
        if super()._has_rows(start):
            return True
        end = self._data.find(b"\n", start)
        return end >= 0 and _ROWS_OF_A_LINE.match(self._data, start, end) is not None

    def _statement(self, line: bytes) -> None:
        if line[:1] not in _BEGINNINGS:
            return
        if (table := _TABLE.match(line)) is not None:
            self._begin_table(self._qualified(table[1]))
            self._definitions.add("TABLE", 1, 0, digest_of(self._qualified(table[1])))
        elif (next_id := _NEXT_ID.match(line)) is not None and self._table is not None:
            self._sequences.add(f"{self._table} (next id)", int(next_id[1]), 0, 0)
        elif (value := _SETVAL.match(line)) is not None:
            self._sequences.add(self._qualified(value[1]), int(value[2]), 0, digest_of(value[3]))
        else:
            for kind, pattern in _MADE.items():
                if (made := pattern.match(line)) is not None:
                    self._definitions.add(kind, 1, 0, digest_of(_plain(self._database), made[1]))
                    break

    def _insert(self, inserted: re.Match[bytes]) -> Steps[None]:
        table = self._qualified(inserted["table"])
        if table != self._table:
            self._begin_table(table)
        if inserted["period"] and self._all_rows is None:
            self._all_rows = [0, 0, 0]
        more = True
        while more:
            if not self._there:
                yield from self._need(1)
            more = self._whole_rows(self._count_whole)
            if more and self._there >= LONGEST:
                more = yield from self._long_row()
            elif more:
                yield from self._need(self._there + 1)

    def _count_whole(self, rows: list[bytes], _start: int) -> None:
        if self._all_rows is not None:
            _count(self._all_rows, len(rows), sum(map(len, rows)), sum_of(rows))
            rows = [row[:-_TIMES_SIZE] + b")" for row in rows if self._is_current(row[-_TIMES_SIZE:])]
        _count(self._rows, len(rows), sum(map(len, rows)), sum_of(rows))

    def _is_current(self, times: bytes) -> bool:
        found = _TIMES.fullmatch(times)
        if found is None:
            raise ContentBroken(f"the rows of {self._table} do not end with their times")
        return found[1] in _CURRENT

    def _long_row(self) -> Steps[bool]:
        """Count one row without keeping it; whether there are more."""
        if self._data[self._at : self._at + 1] != b"(":
            raise ContentBroken(f"the rows of {self._table} cannot be read")
        digest, size, inside = new_digest(), 0, False
        # Without its times, which may be the last of what is there.
        bare, times = new_digest(), b""
        while True:
            yield from self._need(2)
            run = (_INSIDE if inside else _OUTSIDE).match(self._data, self._at)
            stop = run.end() if run is not None else self._at
            end = min(stop + 1, len(self._data))
            # A backslash at the end of what is there belongs to what comes next.
            end -= inside and end > stop and self._data[stop:end] == b"\\"
            digest.update(self._data[self._at : end])
            if self._all_rows is not None:
                times += self._data[self._at : end]
                bare.update(times[:-_TIMES_SIZE])
                times = times[-_TIMES_SIZE:]
            size += end - self._at
            last, closed = self._data[end - 1 : end], end > stop
            self._at = end
            if closed and last == b"'":
                inside = not inside
            elif closed:
                break
        if size > _LARGEST:
            raise ContentBroken(f"a row of {self._table} takes {size} bytes, and a server no more than 1 GiB")
        if self._all_rows is None:
            _count(self._rows, 1, size, number(digest))
        else:
            _count(self._all_rows, 1, size, number(digest))
            if self._is_current(times):
                bare.update(b")")
                _count(self._rows, 1, size - _TIMES_SIZE + 1, number(bare))
        separator = yield from self._take(1)
        while not (yield from self._at_end()) and self._data[self._at : self._at + 1] == b"\n":
            self._at += 1
        return separator == b","

    def _begin_table(self, name: str) -> None:
        self._finish_table()
        self._table = name

    def _finish_table(self) -> None:
        if self._table is not None:
            self._tables.add(self._table, *self._rows)
            if self._all_rows is not None:
                self._history.add(self._table, *self._all_rows)
        self._table, self._rows, self._all_rows = None, [0, 0, 0], None

    def _qualified(self, name: bytes) -> str:
        return f"{_plain(self._database)}.{_plain(name)}"

    def _found(self) -> Facts:
        self._finish_table()
        return self._facts(self._tables, self._history, self._sequences, self._definitions)


def _count(sums: list[int], rows: int, size: int, value: int) -> None:
    for place, more in enumerate((rows, size, value)):
        sums[place] += more


def _plain(name: bytes) -> str:
    return name.replace(b"``", b"`").decode(errors="replace")
