"""Masks what `pg_dump -Fc` wrote, on its way to `pg_restore`: rows of tables that rules name, nothing else.

The table of contents comes first and says all about tables, so that what does not fit is known before a
row is looked at. Indexes, constraints and triggers are made by `pg_restore` after the rows, of what it got.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from activities.snapshots.postgres_archive import ArchiveReading, Entry, Head, written, written_text
from activities.snapshots.postgres_copy import NULL, Field, field_masker
from activities.snapshots.postgres_tables import (
    copied_columns,
    foreign_keys,
    is_named,
    lineage_of,
    tables_in,
    type_of,
)
from activities.snapshots.reading import Fate, Rewriting, Steps
from workflows.domain.errors import FieldError
from workflows.domain.masking import (
    ColumnRule,
    DumpUnreadable,
    MaskedColumn,
    ServiceMasking,
    Table,
    Unmaskable,
    chosen_rules,
    torn_keys,
)
from workflows.domain.masking_ddl import first_name, qualified
from workflows.domain.masking_values import value_masker

_END: Final = rb"\."


@dataclass
class _Plan:
    """What is to be done with one database."""

    fields: dict[int, tuple[int, dict[int, Field]]] = field(default_factory=dict)
    """By the entry of the data: number of columns, and the columns to be changed."""
    matched: set[int] = field(default_factory=set)
    faults: list[FieldError] = field(default_factory=list)
    rewritten: dict[tuple[int, int], str] = field(default_factory=dict)
    """Definitions that change, by their place in the head."""


class PostgresMasking(ArchiveReading, Rewriting):
    """One database's dump in, the masked one out, piece by piece.

    `matched` and `faults` are there once the head has come, which is before anything is given out.
    """

    _longest = 64 * 1024 * 1024
    """Of the whole head: it has to be known before anything is given out."""

    def __init__(self, database: str, rules: ServiceMasking, key: bytes) -> None:
        super().__init__()
        self._database = database
        self._rules = rules.columns
        self._key = key
        self._plan: _Plan | None = None
        self._rest_of_row = b""
        self._rows_ended = False

    @property
    def matched(self) -> frozenset[int]:
        """The numbers of the rules that found their column here."""
        return frozenset(self._plan.matched) if self._plan else frozenset()

    @property
    def faults(self) -> tuple[FieldError, ...]:
        """What does not fit; then nothing is given out."""
        return tuple(self._plan.faults) if self._plan else ()

    def _done(self) -> int:
        if self._plan is None and len(self._data) > self._longest:
            raise DumpUnreadable("the table of contents of a dump is larger than 64 MiB")
        return super()._done()

    def _read(self) -> Steps[None]:
        self._turn(Fate.IS_OPEN)
        head = yield from self._head()
        self._plan = _planned(self._database, head, self._rules, self._key)
        written_head = _rewritten(self._data[: self._at], self._plan.rewritten)
        self._turn(Fate.ENDS)
        if self._plan.faults:
            yield from self._rest()
            return
        self._turn(Fate.PASSES)
        self._out += written_head
        yield from self._blocks(head)

    def _rows(self, entry: Entry) -> Steps[None]:
        columns = self._plan.fields.get(entry.id) if self._plan else None
        if columns is None:
            yield from super()._rows(entry)
            return
        self._turn(Fate.ENDS)
        self._rest_of_row, self._rows_ended = b"", False
        yield from self._chunks(lambda chunks: self._mask(chunks, *columns), whole=True)
        if self._rest_of_row or not self._rows_ended:
            raise DumpUnreadable("the rows of a table end in the middle")
        self._out += written(0)
        self._turn(Fate.PASSES)

    def _mask(self, chunks: list[bytes], count: int, changed: Mapping[int, Field]) -> None:
        for chunk in chunks:
            if rows := self._masked(chunk, count, changed):
                self._out += written(len(rows)) + rows

    def _masked(self, data: bytes, count: int, changed: Mapping[int, Field]) -> bytes:
        """The whole rows of what came, changed; the beginning of one more is kept."""
        if self._rows_ended:
            return data
        lines = (self._rest_of_row + data).split(b"\n")
        self._rest_of_row = lines.pop()
        for index, line in enumerate(lines):
            if line == _END:
                # What follows is no row, though it may look like one.
                tail, self._rest_of_row, self._rows_ended = self._rest_of_row, b"", True
                return b"\n".join([*lines, tail])
            fields = line.split(b"\t")
            if len(fields) != count:
                raise DumpUnreadable(f"a row has {len(fields)} fields, and its table {count}")
            for column, change in changed.items():
                if fields[column] != NULL:
                    fields[column] = change(fields[column])
            lines[index] = b"\t".join(fields)
        return b"".join(line + b"\n" for line in lines)


def _planned(database: str, head: Head, rules: tuple[ColumnRule, ...], key: bytes) -> _Plan:
    plan = _Plan()
    tables = tables_in(database, head)
    masked: dict[tuple[Table, str], MaskedColumn] = {}
    makers: dict[tuple[Table, str], Field] = {}
    for table, known in tables.items():
        lineage = lineage_of(table, tables)
        columns = {name: type_of(name, lineage, tables) for each in lineage for name in tables[each].columns}
        chosen, faults = chosen_rules(rules, lineage, columns)
        plan.faults += faults
        for column, index in chosen.items():
            plan.matched.add(index)
            kind = columns[column]
            masked[table, column] = MaskedColumn(index, rules[index], (kind.kind, kind.compared, kind.padded))
            try:
                if any(column in tables[each].generated for each in lineage):
                    raise Unmaskable("is generated: mask the columns that it is made of")
                if is_named(column, known.partitioned_by):
                    raise Unmaskable("says into which partition a row goes: it cannot be masked")
                makers[table, column] = field_masker(value_masker(rules[index], kind, key), kind.kind)
            except Unmaskable as fault:
                plan.faults.append(FieldError(path=("columns", index), message=f"{table}.{column} {fault}"))
    plan.faults += torn_keys(foreign_keys(database, head), masked)
    for entry in head.entries:
        if entry.sort == "TABLE DATA":
            _plan_rows(plan, entry, Table((database, entry.schema, entry.name)), makers)
        if entry.sort == "STATISTICS DATA" and rules:
            plan.faults.append(
                FieldError(path=("columns",), message="the dump has statistics, which hold values")
            )
    integers = {each for each, kind in masked.items() if kind.rule.how == "hash"}
    plan.rewritten |= _sequences(database, head, integers)
    return plan


def _plan_rows(plan: _Plan, entry: Entry, table: Table, makers: Mapping[tuple[Table, str], Field]) -> None:
    ours = {column: maker for (named, column), maker in makers.items() if named == table}
    if not ours:
        return
    listed = copied_columns(entry)
    if missing := [column for column in ours if column not in listed]:
        raise DumpUnreadable(f"the data of {table} come without {', '.join(missing)}")
    plan.fields[entry.id] = (len(listed), {listed.index(column): maker for column, maker in ours.items()})


_SET_VALUE: Final = re.compile(r"(SELECT pg_catalog\.setval\('.+', )(\d+), (?:true|false)\);\s*", re.DOTALL)
_OWNED: Final = re.compile(r"ALTER SEQUENCE (.+?) OWNED BY (.+);", re.DOTALL)
_IDENTITY: Final = re.compile(
    r"ALTER TABLE (.+?) ALTER COLUMN (.+?) ADD GENERATED .*?SEQUENCE NAME (.+?)\n", re.DOTALL
)


def _sequences(
    database: str, head: Head, hashed: set[tuple[Table, str]]
) -> Iterator[tuple[tuple[int, int], str]]:
    """Sequences of hashed columns go on above all that a hash can have become of what they gave out."""
    owned: set[tuple[str, ...]] = set()
    for entry in head.entries:
        if match := _OWNED.search(entry.definition):
            *table, column = qualified(match[2])[0]
            if (Table((database, *table)), column) in hashed:
                owned.add(qualified(match[1])[0])
        elif (match := _IDENTITY.search(entry.definition)) and (
            Table((database, *qualified(match[1])[0])),
            first_name(match[2])[0],
        ) in hashed:
            owned.add(qualified(match[3])[0])
    for entry in head.entries:
        match = _SET_VALUE.fullmatch(entry.definition)
        if entry.sort == "SEQUENCE SET" and match and (entry.schema, entry.name) in owned:
            above = (1 << max(int(match[2]).bit_length(), 15)) - 1
            yield entry.span, f"{match[1]}{above}, true);\n"


def _rewritten(head: bytes, changes: Mapping[tuple[int, int], str]) -> bytes:
    out, done = bytearray(), 0
    for (start, end), text in sorted(changes.items()):
        out += head[done:start] + written_text(text)
        done = end
    return bytes(out + head[done:])
