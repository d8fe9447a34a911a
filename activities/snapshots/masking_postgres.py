"""Masks what `pg_dump -Fc` wrote, on its way to `pg_restore`: rows of tables that rules name, nothing else.

The table of contents comes first and says all about tables, so that what does not fit is known before a
row is looked at. Indexes, constraints and triggers are made by `pg_restore` after the rows, of what it got.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from activities.snapshots.postgres_archive import (
    INT_BYTES,
    Entry,
    Head,
    HeadIncomplete,
    number,
    read_head,
    written,
    written_text,
)
from workflows.domain.errors import FieldError
from workflows.domain.masking import (
    ColumnRule,
    DumpUnreadable,
    ForeignKey,
    MaskedColumn,
    ServiceMasking,
    Table,
    Unmaskable,
    chosen_rules,
    torn_keys,
)
from workflows.domain.masking_ddl import definition, first_name, names, qualified, without_strings
from workflows.domain.masking_values import ColumnKind, ColumnType, Compared, Masker, value_masker

_Field = Callable[[bytes], bytes]
"""A field of COPY's text format, as it is written, to another."""
_DATA: Final = 1
_BLOBS: Final = 3
_NULL: Final = rb"\N"
_END: Final = rb"\."


class _At(Enum):
    """What comes next in an archive, behind its head."""

    BLOCK = auto()
    ROWS = auto()
    LARGE_OBJECT = auto()
    LARGE_OBJECT_DATA = auto()


@dataclass
class _Plan:
    """What is to be done with one database."""

    fields: dict[int, tuple[int, dict[int, _Field]]] = field(default_factory=dict)
    """By the entry of the data: number of columns, and the columns to be changed."""
    matched: set[int] = field(default_factory=set)
    faults: list[FieldError] = field(default_factory=list)
    rewritten: dict[tuple[int, int], str] = field(default_factory=dict)
    """Definitions that change, by their place in the head."""


class PostgresMasking:
    """One database's dump in, the masked one out, piece by piece.

    `matched` and `faults` are there once the head has come, which is before anything is given out.
    """

    def __init__(self, database: str, rules: ServiceMasking, key: bytes) -> None:
        self._database = database
        self._rules = rules.columns
        self._key = key
        self._held = bytearray()
        self._try_at = 0
        self._plan: _Plan | None = None
        self._at = _At.BLOCK
        self._skip = 0
        self._columns: tuple[int, dict[int, _Field]] | None = None
        self._rest = b""
        self._ended = False

    @property
    def matched(self) -> frozenset[int]:
        """The numbers of the rules that found their column here."""
        return frozenset(self._plan.matched) if self._plan else frozenset()

    @property
    def faults(self) -> tuple[FieldError, ...]:
        """What does not fit; then nothing is given out."""
        return tuple(self._plan.faults) if self._plan else ()

    def write(self, data: bytes) -> bytes:
        """Take the next bytes and return what became of those that could be understood. DumpUnreadable."""
        self._held += data
        out = bytearray()
        if self._plan is None:
            if len(self._held) < self._try_at:
                return b""
            try:
                head = read_head(bytes(self._held))
            except HeadIncomplete:
                self._try_at = len(self._held) * 2
                return b""
            self._plan = _planned(self._database, head, self._rules, self._key)
            out += _rewritten(self._held[: head.size], self._plan.rewritten)
            del self._held[: head.size]
        if not self._plan.faults:
            self._take_blocks(out)
        return bytes(out) if not self._plan.faults else b""

    def finish(self) -> bytes:
        """Say that there is no more. Raises DumpUnreadable when there should be."""
        self._try_at = 0
        out = self.write(b"")
        if not self.faults and (self._plan is None or self._at is not _At.BLOCK or self._held or self._skip):
            raise DumpUnreadable("a dump ends in the middle")
        return out

    def _take_blocks(self, out: bytearray) -> None:
        held = self._held
        position = done = 0
        while True:
            if self._skip:
                step = min(self._skip, len(held) - position)
                self._skip -= step
                position += step
                if self._skip:
                    break
            if len(held) - position < INT_BYTES + (self._at is _At.BLOCK):
                break
            if self._at is _At.BLOCK:
                self._begin(held[position], number(held, position + 1))
                position += 1 + INT_BYTES
                continue
            size = number(held, position)
            if self._at is _At.ROWS and self._columns is not None and size:
                end = position + INT_BYTES + size
                if len(held) < end:
                    break
                out += held[done:position]
                if rows := self._masked(bytes(held[position + INT_BYTES : end])):
                    out += written(len(rows))
                    out += rows
                position = done = end
                continue
            position += INT_BYTES
            self._passed(size)
        out += held[done:position]
        del held[:position]

    def _begin(self, kind: int, entry: int) -> None:
        if kind not in (_DATA, _BLOBS) or self._plan is None:
            raise DumpUnreadable(f"a dump has a block of kind {kind}")
        self._columns = self._plan.fields.get(entry)
        self._rest, self._ended = b"", False
        self._at = _At.ROWS if kind == _DATA else _At.LARGE_OBJECT

    def _passed(self, size: int) -> None:
        """A number that goes on as it is: a length, an OID, or the end of one of these."""
        match self._at:
            case _At.LARGE_OBJECT:
                self._at = _At.LARGE_OBJECT_DATA if size else _At.BLOCK
            case _At.LARGE_OBJECT_DATA if not size:
                self._at = _At.LARGE_OBJECT
            case _At.ROWS if not size:
                if self._columns is not None and (self._rest or not self._ended):
                    raise DumpUnreadable("the rows of a table end in the middle")
                self._at = _At.BLOCK
            case _:
                self._skip = size

    def _masked(self, data: bytes) -> bytes:
        """The whole rows of what came, changed; the beginning of one more is kept."""
        if self._ended or self._columns is None:
            return data
        count, changed = self._columns
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for index, line in enumerate(lines):
            if line == _END:
                # What follows is no row, though it may look like one.
                tail, self._rest, self._ended = self._rest, b"", True
                return b"\n".join([*lines, tail])
            fields = line.split(b"\t")
            if len(fields) != count:
                raise DumpUnreadable(f"a row has {len(fields)} fields, and its table {count}")
            for column, change in changed.items():
                if fields[column] != _NULL:
                    fields[column] = change(fields[column])
            lines[index] = b"\t".join(fields)
        return b"".join(line + b"\n" for line in lines)


@dataclass
class _Definition:
    """A table as the head defines it."""

    table: Table
    columns: dict[str, ColumnType] = field(default_factory=dict)
    generated: set[str] = field(default_factory=set)
    parents: list[Table] = field(default_factory=list)
    partitioned_by: str = ""


def _planned(database: str, head: Head, rules: tuple[ColumnRule, ...], key: bytes) -> _Plan:
    plan = _Plan()
    tables = _tables(database, head)
    masked: dict[tuple[Table, str], MaskedColumn] = {}
    makers: dict[tuple[Table, str], _Field] = {}
    for table, known in tables.items():
        lineage = _lineage(table, tables)
        columns = {name: _type_of(name, lineage, tables) for each in lineage for name in tables[each].columns}
        chosen, faults = chosen_rules(rules, lineage, columns)
        plan.faults += faults
        for column, index in chosen.items():
            plan.matched.add(index)
            kind = columns[column]
            masked[table, column] = MaskedColumn(index, rules[index], (kind.kind, kind.compared, kind.padded))
            try:
                if any(column in tables[each].generated for each in lineage):
                    raise Unmaskable("is generated: mask the columns that it is made of")
                if _is_named(column, known.partitioned_by):
                    raise Unmaskable("says into which partition a row goes: it cannot be masked")
                makers[table, column] = _field(value_masker(rules[index], kind, key), kind.kind)
            except Unmaskable as fault:
                plan.faults.append(FieldError(path=("columns", index), message=f"{table}.{column} {fault}"))
    plan.faults += torn_keys(_foreign_keys(database, head), masked)
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


def _plan_rows(plan: _Plan, entry: Entry, table: Table, makers: Mapping[tuple[Table, str], _Field]) -> None:
    ours = {column: maker for (named, column), maker in makers.items() if named == table}
    if not ours:
        return
    match = _COPY.fullmatch(entry.copy)
    listed = names(match[1]) if match else ()
    if missing := [column for column in ours if column not in listed]:
        raise DumpUnreadable(f"the data of {table} come without {', '.join(missing)}")
    plan.fields[entry.id] = (len(listed), {listed.index(column): maker for column, maker in ours.items()})


_COPY: Final = re.compile(r"COPY .+? \((.*)\) FROM stdin;\n?", re.DOTALL)
_CREATE: Final = re.compile(r"CREATE (?:UNLOGGED )?TABLE ")
_INHERITS: Final = re.compile(r"\s*INHERITS \((.*?)\)", re.DOTALL)
_PARTITION_BY: Final = re.compile(r"\s*PARTITION BY \w+ (.*?);?\s*$", re.DOTALL)
_ATTACH: Final = re.compile(r"ALTER TABLE ONLY (.+?) ATTACH PARTITION (.+)", re.DOTALL)
_ALTER: Final = re.compile(r"ALTER TABLE (?:ONLY )?(.+)", re.DOTALL)
_UNIQUE: Final = re.compile(
    r"ADD CONSTRAINT .+? (?:PRIMARY KEY|UNIQUE(?: NULLS NOT DISTINCT)?) \((.*?)\)", re.DOTALL
)
_UNIQUE_INDEX: Final = re.compile(r"CREATE UNIQUE INDEX .+? ON (?:ONLY )?(.+)", re.DOTALL)
_FOREIGN: Final = re.compile(r"FOREIGN KEY \((.*?)\) REFERENCES (.+)", re.DOTALL)
_KEYWORD: Final = re.compile(
    r"\s(?:COLLATE|DEFAULT|NOT NULL|GENERATED|CONSTRAINT|STORAGE|COMPRESSION|OPTIONS|WITH OPTIONS)\b"
)


def _tables(database: str, head: Head) -> dict[Table, _Definition]:
    """All tables by name, with what was said of them anywhere in the head."""
    domains = {
        qualified(entry.definition.removeprefix("CREATE DOMAIN "))[0]: entry.definition
        for entry in head.entries
        if entry.sort == "DOMAIN"
    }
    folding = frozenset(
        (entry.schema, entry.name)
        for entry in head.entries
        if entry.sort == "COLLATION" and "deterministic = false" in entry.definition
    )
    tables: dict[Table, _Definition] = {}
    for entry in head.entries:
        table = Table((database, entry.schema, entry.name))
        if entry.sort == "TABLE" and _CREATE.match(entry.definition):
            tables[table] = _defined(database, table, entry.definition, domains, folding)
    for entry in head.entries:
        table = Table((database, entry.schema, entry.name))
        if entry.sort == "TABLE DATA" and table not in tables:
            # Of an extension, which makes the table itself: its columns are all that is known.
            match = _COPY.fullmatch(entry.copy)
            unknown = {
                name: ColumnType(ColumnKind.OTHER, "unknown") for name in names(match[1] if match else "")
            }
            tables[table] = _Definition(table, unknown)
        elif entry.sort == "TABLE ATTACH" and (match := _ATTACH.search(entry.definition)):
            child = Table((database, *qualified(match[2])[0]))
            if child in tables:
                tables[child].parents.append(Table((database, *qualified(match[1])[0])))
        elif entry.sort in ("CONSTRAINT", "INDEX"):
            _mark_unique(database, entry, tables)
    return tables


def _defined(
    database: str,
    table: Table,
    text: str,
    domains: Mapping[tuple[str, ...], str],
    folding: frozenset[tuple[str, str]],
) -> _Definition:
    made = _Definition(table)
    found = definition(text)
    for item in found.items:
        if item.startswith(("CONSTRAINT ", "CHECK ", "EXCLUDE ", "LIKE ")):
            continue  # such a name in lower case has quotes
        name, rest = first_name(item)
        bare = without_strings(rest)
        if " GENERATED ALWAYS AS (" in bare:
            made.generated.add(name)
        kind = _column_type(_KEYWORD.split(rest, maxsplit=1)[0].strip(), domains)
        if " NOT NULL" in bare:
            kind = replace(kind, nullable=False)
        collation = re.search(r" COLLATE (.+)", rest, re.DOTALL)
        if collation and qualified(collation[1])[0] in folding:
            kind = replace(kind, compared=Compared.WITHOUT_CASE)
        made.columns[name] = kind
    if inherits := _INHERITS.match(found.after):
        text = inherits[1]
        while text.strip():
            parent, text = qualified(text)
            made.parents.append(Table((database, *parent)))
            text = text.lstrip().removeprefix(",")
    if partition := _PARTITION_BY.match(found.after):
        made.partitioned_by = partition[1]
    return made


def _mark_unique(database: str, entry: Entry, tables: Mapping[Table, _Definition]) -> None:
    """Note columns that are unique by themselves; expressions are left to the database."""
    if entry.sort == "INDEX":
        index = _UNIQUE_INDEX.match(entry.definition)
        if index is None or " WHERE " in entry.definition:
            return
        name, rest = qualified(index[1])
        listed = definition(rest).items
        columns = tuple(first_name(item)[0] for item in listed if "(" not in item)
    else:
        altered, unique = _ALTER.match(entry.definition), _UNIQUE.search(entry.definition)
        if altered is None or unique is None:
            return
        name = qualified(altered[1])[0]
        columns = listed = names(unique[1])
    known = tables.get(Table((database, *name)))
    if known is not None and len(listed) == len(columns) == 1 and columns[0] in known.columns:
        known.columns[columns[0]] = replace(known.columns[columns[0]], alone=True)


def _lineage(table: Table, tables: Mapping[Table, _Definition]) -> list[Table]:
    """The table, and all whose rows its rows are too."""
    found = [table]
    for each in found:
        found += [parent for parent in tables[each].parents if parent in tables and parent not in found]
    return found


def _type_of(column: str, lineage: list[Table], tables: Mapping[Table, _Definition]) -> ColumnType:
    kinds = [tables[each].columns[column] for each in lineage if column in tables[each].columns]
    return replace(
        kinds[0], nullable=all(each.nullable for each in kinds), alone=any(each.alone for each in kinds)
    )


def _foreign_keys(database: str, head: Head) -> Iterator[ForeignKey]:
    for entry in head.entries:
        altered, foreign = _ALTER.match(entry.definition), _FOREIGN.search(entry.definition)
        if entry.sort != "FK CONSTRAINT" or altered is None or foreign is None:
            continue
        parent, rest = qualified(foreign[2])
        theirs = definition(rest).items
        pairs = tuple(zip(names(foreign[1]), (first_name(item)[0] for item in theirs), strict=False))
        yield ForeignKey(Table((database, *qualified(altered[1])[0])), Table((database, *parent)), pairs)


_INTEGERS: Final = ("smallint", "integer", "bigint")
_KINDS: Final = {
    **dict.fromkeys(("text", "name"), ColumnKind.TEXT),
    **dict.fromkeys(_INTEGERS, ColumnKind.INTEGER),
    **dict.fromkeys(("numeric", "real", "double precision", "money"), ColumnKind.NUMBER),
    **dict.fromkeys(("json", "jsonb"), ColumnKind.JSON),
    "boolean": ColumnKind.BOOLEAN,
    "uuid": ColumnKind.UUID,
    "bytea": ColumnKind.BINARY,
    "date": ColumnKind.DATE,
}
_CHARACTER: Final = re.compile(r"(character varying|character)(?:\((\d+)\))?")
_CLOCK: Final = re.compile(r"(timestamp|time)(?:\(\d+\))? with(?:out)? time zone")
_NAME_LIMIT: Final = 63


def _column_type(declared: str, domains: Mapping[tuple[str, ...], str]) -> ColumnType:
    if declared.endswith("[]"):
        return ColumnType(ColumnKind.ARRAY, declared)
    if character := _CHARACTER.fullmatch(declared):
        padded = character[1] == "character"
        limit = int(character[2]) if character[2] else (1 if padded else None)
        return ColumnType(ColumnKind.TEXT, declared, limit, padded=padded)
    if clock := _CLOCK.fullmatch(declared):
        return ColumnType(ColumnKind.TIMESTAMP if clock[1] == "timestamp" else ColumnKind.TIME, declared)
    name, rest = qualified(declared)
    if name in domains and not rest:
        below = domains[name].partition(" AS ")[2]
        base = _column_type(_KEYWORD.split(re.split(r"[;\n]", below)[0], maxsplit=1)[0].strip(), domains)
        nullable = base.nullable and " NOT NULL" not in without_strings(below)
        return replace(base, declared=declared, nullable=nullable)
    if name[-1] == "citext" and not rest:
        return ColumnType(ColumnKind.TEXT, declared, compared=Compared.WITHOUT_CASE)
    kind = _KINDS.get(re.sub(r"\(.*\)$", "", declared), ColumnKind.OTHER)
    return ColumnType(kind, declared, _NAME_LIMIT if declared == "name" else None)


def _is_named(column: str, key: str) -> bool:
    """Whether a partition key is made of this column, or may be."""
    quoted = '"' + column.replace('"', '""') + '"'
    return bool(key) and (quoted in key or re.search(rf"(?<!\w){re.escape(column)}(?!\w)", key) is not None)


_ESCAPES: Final = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_TO_ESCAPE: Final = re.compile(rb"[\b\f\n\r\t\v\\]")
_WRITTEN: Final = {clear: b"\\" + letter for letter, clear in _ESCAPES.items()} | {b"\\": rb"\\"}


def _unescaped(data: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]), data) if b"\\" in data else data


def _escaped(data: bytes) -> bytes:
    return _TO_ESCAPE.sub(lambda match: _WRITTEN[match[0]], data)


def _field(masker: Masker, kind: ColumnKind) -> _Field:
    """The masker of a column's values, as one of fields."""

    def changed(data: bytes) -> bytes:
        match kind:
            case ColumnKind.INTEGER:
                made = masker(int(data))
            case ColumnKind.BINARY:
                clear = _unescaped(data)
                if not clear.startswith(rb"\x"):
                    raise DumpUnreadable("binary data are not written in hexadecimal")
                made = masker(bytes.fromhex(clear[2:].decode()))
            case _:
                made = masker(_unescaped(data).decode("utf-8", "surrogateescape"))
        if made is None:
            return _NULL
        if isinstance(made, bytes):
            return rb"\\x" + made.hex().encode()
        return _escaped(str(made).encode("utf-8", "surrogateescape"))

    return changed


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


def _rewritten(head: bytearray, changes: Mapping[tuple[int, int], str]) -> bytes:
    out, done = bytearray(), 0
    for (start, end), text in sorted(changes.items()):
        out += head[done:start] + written_text(text)
        done = end
    return bytes(out + head[done:])
