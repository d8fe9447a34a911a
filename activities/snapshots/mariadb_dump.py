"""What `mariadb-dump` writes: statements, and rows as `INSERT INTO`.

Rows may stand one to a line or many. They have no line ends of their own, for strings are escaped and binary
data are in hexadecimal. Between two lines `DELIMITER` stands the body of something that a user has written,
which may have lines that look like any of this.
"""

import re
from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from activities.snapshots.reading import LONGEST, ContentBroken, Reading, Steps, Unknown
from workflows.domain.possessive import any_number

NAME: Final = rb"`((?:[^`]|``)+)`"
_INSERT: Final = re.compile(
    rb"INSERT (?P<ignore>IGNORE )?INTO `(?P<table>(?:[^`]|``)+)`"
    rb"(?: \((?P<columns>`(?:[^`]|``)+`(?:, ?`(?:[^`]|``)+`)*)(?P<period>, row_start, row_end)?\))?"
    rb" VALUES[ \n]"
)
INSIDE: Final = any_number(r"[^'\\]++|\\.")
"""What may stand between quotes."""
VALUES: Final = r"\(" + any_number(f"[^'()]++|'{INSIDE}'") + r"\)"
_ROW: Final = re.compile(rf"({VALUES})([,;])\n?".encode(), re.DOTALL)
_STRUCTURE: Final = re.compile(rb"(DELIMITER )|(INSERT |REPLACE )|USE " + NAME)
_ENDS: Final = (b"-- Dump completed", b"-- There is no database.")


class DumpReading(Reading):
    """Reads a dump, statement by statement."""

    _database = b""
    """As names are written, but for the quotes around it."""
    _is_body = False

    @abstractmethod
    def _statement(self, line: bytes) -> None:
        """Take note of a line that is no row; of a very long one only the beginning is there."""

    @abstractmethod
    def _insert(self, inserted: re.Match[bytes]) -> Steps[None]:
        """Read the rows of an INSERT, which is before them: `table`, perhaps `columns`, `period`, `ignore`.

        With a `period` they are current and past ones, and end with two times that are no columns.
        """

    def _use(self, database: bytes) -> None:
        self._database = database

    def _read(self) -> Steps[None]:
        last = b""
        while not (yield from self._at_end()):
            while self._data.find(b"\n", self._at) < 0 and self._there < LONGEST and not self._ended:
                yield
            inserted = _INSERT.match(self._data, self._at)
            if inserted is not None and self._has_rows(inserted.end()):
                self._at = inserted.end()
                yield from self._insert(inserted)
                continue
            line = yield from self._line()
            last = line or last
            structure = _STRUCTURE.match(line)
            if structure is not None and structure[1]:
                self._is_body = line != b"DELIMITER ;"
            elif structure is None or self._is_body:
                self._statement(line)
            elif structure[2]:
                if self._ended and not self._there:
                    raise ContentBroken("the dump is cut")
                raise Unknown("a dump with rows that are not written as they are known")
            else:
                self._use(structure[3])
        if self._is_body or not last.startswith(_ENDS):
            raise ContentBroken("the dump is cut")

    def _has_rows(self, _start: int) -> bool:
        """Whether what looks like an INSERT, whose rows would begin there, is one."""
        return not self._is_body

    def _whole_rows(self, take: Callable[[list[bytes], int], object]) -> bool:
        """Hand on the rows that are there to their ends, and where they begin; whether there are more."""
        data, at, rows, more = self._data, self._at, [], True
        while more and (row := _ROW.match(data, at)) is not None:
            # The end of the line may be yet to come.
            if row.end() == len(data) and not data.endswith(b"\n") and not self._ended:
                break
            at = row.end()
            rows.append(row[1])
            more = row[2] == b","
        if not more and at < len(data) and data[at - 1 : at] != b"\n" and not self._is_body:
            raise ContentBroken("something follows the rows of a table")
        start, self._at = self._at, at
        take(rows, start)
        return more

    def _skip_rows(self) -> Steps[None]:
        """Read to the end of an INSERT."""
        while (end := self._data.find(b";\n", self._at)) < 0 and not self._ended:
            self._at = max(self._at, len(self._data) - 1)
            yield
        if end < 0 and not self._data.endswith(b";"):
            raise ContentBroken("the dump is cut")
        self._at = end + 2 if end >= 0 else len(self._data)
