"""Masks what `mariadb-dump` wrote, on its way to `mariadb`: rows of tables that rules name, and nothing else.

A table is defined before its rows come; one that a key refers to may come later, so that keys are looked at
in the end, once by their rules, and once more by the server: a dump switches its checks off.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from activities.snapshots.mariadb_dump import DumpReading
from activities.snapshots.reading import Fate, Rewriting, Steps
from workflows.domain.errors import FieldError
from workflows.domain.masking import (
    DumpUnreadable,
    ForeignKey,
    MaskedColumn,
    MaskHow,
    ServiceMasking,
    Table,
    Unmaskable,
    chosen_rules,
    torn_keys,
)
from workflows.domain.masking_ddl import Definition, definition, first_name, names, qualified, without_strings
from workflows.domain.masking_values import ColumnKind, ColumnType, Compared, Masker, value_masker

_Literal = Callable[[bytes], bytes]
"""A value as it is written in an INSERT, to another."""
_NULL: Final = b"NULL"
_VALUE: Final = re.compile(
    rb"(?:_\w+ )?'[^'\\]*(?:\\.[^'\\]*)*'|[0-9A-Za-z.+-]+",
    re.DOTALL,
)
_CREATE: Final = b"CREATE TABLE `"
_UNCHECKED: Final = b"/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;"
_CHECKED: Final = b"/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=1 */;"


@dataclass
class _Known:
    """A table that was defined: the order of its columns, and what is to be done with which."""

    order: tuple[str, ...] = ()
    literals: dict[str, _Literal] = field(default_factory=dict)


@dataclass
class _Rows:
    """An INSERT under way: how many values a row has, and which are changed."""

    count: int = 0
    literals: dict[int, _Literal] = field(default_factory=dict)


class MariadbMasking(DumpReading, Rewriting):
    """A server's dump in, the masked one out, piece by piece.

    `matched` and `faults` grow with what has come; they are whole after `finish`.
    """

    def __init__(self, rules: ServiceMasking, key: bytes) -> None:
        super().__init__()
        self._rules = rules.columns
        self._key = key
        self._create: list[bytes] = []
        self._tables: dict[Table, _Known] = {}
        self._keys: list[ForeignKey] = []
        self._masked: dict[tuple[Table, str], MaskedColumn] = {}
        self._matched: set[int] = set()
        self._faults: list[FieldError] = []

    @property
    def matched(self) -> frozenset[int]:
        """The numbers of the rules that have found a column."""
        return frozenset(self._matched)

    @property
    def faults(self) -> tuple[FieldError, ...]:
        """What does not fit, as far as it is known. From the first on, what is given out is of no use."""
        return tuple(self._faults)

    def _read(self) -> Steps[None]:
        if not self._rules:
            yield from self._rest()
            return
        yield from super()._read()
        if self._create:
            raise DumpUnreadable("a dump ends in the middle")
        self._turn(Fate.ENDS)
        self._faults += torn_keys(self._keys, self._masked)
        line_end = "" if self._data.endswith(b"\n") or not self._data else "\n"
        self._out += (line_end + "".join(self._checks())).encode()

    def _statement(self, line: bytes) -> None:
        if self._is_body:
            return
        if self._create or line.startswith(_CREATE):
            self._create.append(line)
            if line.endswith(b";"):
                self._define(_text_of(b"\n".join(self._create)))
                self._create = []
        elif line == _UNCHECKED:
            self._settle()
            start = self._out.rfind(_UNCHECKED)
            self._out[start : start + len(_UNCHECKED)] = _CHECKED

    def _insert(self, inserted: re.Match[bytes]) -> Steps[None]:
        rows = self._rows_of(inserted)
        if not rows.literals:
            yield from self._skip_rows()
            return
        self._turn(Fate.ENDS)
        more = True
        while more:
            more = self._whole_rows(lambda found, start: self._mask(rows, found, start))
            if more and self._data.find(b"\n", self._at) >= 0:
                raise DumpUnreadable("a row is not written as it is known")
            if more:
                yield from self._need(self._there + 1)
        self._turn(Fate.PASSES)

    def _rows_of(self, inserted: re.Match[bytes]) -> _Rows:
        table = Table((_unquoted(self._database), _unquoted(inserted["table"])))
        known = self._tables.get(table)
        if known is None:
            raise DumpUnreadable(f"rows of {table} come before its definition")
        if inserted["ignore"]:
            raise DumpUnreadable(f"rows of {table} would be left out where they do not fit")
        order = names(_text_of(inserted["columns"])) if inserted["columns"] else known.order
        if missing := [each for each in known.literals if each not in order]:
            raise DumpUnreadable(f"the rows of {table} come without {', '.join(missing)}")
        count = len(order) + 2 * bool(inserted["period"])
        return _Rows(count, {order.index(column): made for column, made in known.literals.items()})

    def _mask(self, rows: _Rows, found: list[bytes], at: int) -> None:
        """Put rows into the place of those that begin at a place, with what stands between them."""
        for row in found:
            values = _values(row)
            if len(values) != rows.count:
                raise DumpUnreadable(f"a row has {len(values)} values, and its table {rows.count}")
            for column, change in rows.literals.items():
                values[column] = change(values[column])
            end = at + len(row)
            at = end + 1 + (self._data[end + 1 : end + 2] == b"\n")
            self._out += b"(" + b",".join(values) + b")" + self._data[end:at]

    def _define(self, text: str) -> None:
        name, _ = first_name(text.removeprefix("CREATE TABLE "))
        table = Table((_unquoted(self._database), name))
        found = definition(text, backslashes=True)
        columns, generated = _columns(found)
        known = _Known(tuple(columns))
        self._keys += _foreign_keys(table, found)
        chosen, faults = chosen_rules(self._rules, [table], columns)
        self._faults += faults
        for column, index in chosen.items():
            kind, rule = columns[column], self._rules[index]
            self._matched.add(index)
            same = kind.limit if kind.kind is ColumnKind.BINARY else None
            self._masked[table, column] = MaskedColumn(
                index, rule, (kind.kind, kind.compared, kind.padded, same)
            )
            try:
                if column in generated:
                    raise Unmaskable("is generated: mask the columns that it is made of")
                known.literals[column] = _literal(value_masker(rule, kind, self._key), kind.kind)
            except Unmaskable as fault:
                self._faults.append(FieldError(path=("columns", index), message=f"{table}.{column} {fault}"))
        if known.literals:
            # Their values are in the dump, made of what was there before; the server makes them again.
            known.literals |= dict.fromkeys(generated, lambda _value: b"DEFAULT")
        self._tables[table] = known

    def _checks(self) -> Iterator[str]:
        for key in self._keys:
            rules = [self._masked.get((key.table, mine)) for mine, _ in key.columns]
            if not any(each is not None and each.rule.how is not MaskHow.NULLIFY for each in rules):
                continue
            same = " AND ".join(f"c.{_name(mine)} = p.{_name(theirs)}" for mine, theirs in key.columns)
            there = " AND ".join(f"c.{_name(mine)} IS NOT NULL" for mine, _ in key.columns)
            message = f"{key.table}: a foreign key to {key.parent} does not hold after masking"[:120]
            orphans = (
                f"SELECT 1 FROM {_dotted(key.table)} c LEFT JOIN {_dotted(key.parent)} p ON {same} "  # noqa: S608
                f"WHERE {there} AND p.{_name(key.columns[0][1])} IS NULL"
            )
            yield (
                f"\nDELIMITER ;;\nBEGIN NOT ATOMIC IF EXISTS ({orphans})\n"
                f"THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {_text(message).decode()}; END IF; END;;\n"
                "DELIMITER ;\n"
            )


def _values(row: bytes) -> list[bytes]:
    """The values of a row in its parentheses."""
    values: list[bytes] = []
    position = 1
    while match := _VALUE.match(row, position):
        values.append(match[0])
        position = match.end() + 1
        if position == len(row):
            return values
        if row[position - 1 : position] != b",":
            break
    raise DumpUnreadable("a row is not written as it is known")


def _unquoted(name: bytes) -> str:
    return _text_of(name.replace(b"``", b"`"))


def _text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


_TYPE: Final = re.compile(r"\s*(\w+)(?:\((\d+)(?:,\d+)?\))?")
_KINDS: Final = {
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), ColumnKind.TEXT),
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), ColumnKind.INTEGER),
    **dict.fromkeys(("decimal", "float", "double"), ColumnKind.NUMBER),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), ColumnKind.BINARY),
    **dict.fromkeys(("datetime", "timestamp"), ColumnKind.TIMESTAMP),
    "date": ColumnKind.DATE,
    "time": ColumnKind.TIME,
    "uuid": ColumnKind.UUID,
    "json": ColumnKind.JSON,
}
_LIMITED: Final = ("char", "varchar", "binary", "varbinary")
_TINY_LIMIT: Final = 255
_COLLATE: Final = re.compile(r"\bCOLLATE[ =](\w+)")
_CHARSET: Final = re.compile(r"\b(?:CHARACTER SET |CHARSET=)(\w+)")


def _columns(found: Definition) -> tuple[dict[str, ColumnType], list[str]]:
    """A table's columns in their order, and the names of those that the server makes of others."""
    columns: dict[str, ColumnType] = {}
    generated: list[str] = []
    after = without_strings(found.after, backslashes=True)
    for item in found.items:
        if item.startswith("`"):
            name, rest = first_name(item)
            bare = without_strings(rest, backslashes=True)
            columns[name] = _column_type(rest, bare, after)
            if " GENERATED ALWAYS AS " in bare or re.search(
                r" AS \(.*\) (?:VIRTUAL|STORED|PERSISTENT)", bare
            ):
                generated.append(name)
            if " PRIMARY KEY" in bare or " UNIQUE" in bare:
                columns[name] = replace(columns[name], unique=True)
    for item in found.items:
        if item.startswith(("PRIMARY KEY", "UNIQUE KEY")):
            for each in definition(item, backslashes=True).items:
                name, _ = first_name(each)
                if name in columns:
                    columns[name] = replace(columns[name], unique=True)
    return columns, generated


def _column_type(rest: str, bare: str, after: str) -> ColumnType:
    match = _TYPE.match(rest)
    word = match[1] if match else ""
    declared = match[0].strip() if match else ""
    kind = _KINDS.get(word, ColumnKind.OTHER)
    limit = int(match[2]) if match and match[2] and word in _LIMITED else None
    if word in ("tinytext", "tinyblob"):
        limit = _TINY_LIMIT
    if kind is ColumnKind.TEXT and "json_valid(" in bare:
        kind = ColumnKind.JSON
    compared, padded = _comparison(bare, after) if kind is ColumnKind.TEXT else (Compared.EXACTLY, False)
    return ColumnType(
        kind,
        declared,
        limit,
        nullable=" NOT NULL" not in bare,
        padded=padded,
        compared=compared,
        tiny=word == "tinyint",
    )


def _comparison(bare: str, after: str) -> tuple[Compared, bool]:
    """How texts of a column are compared, and whether blanks at their end mean nothing."""
    own = _COLLATE.search(bare)
    # A character set that is named alone comes with its own default, which knows no case.
    if own is None and _CHARSET.search(bare) is None:
        own = _COLLATE.search(after)
    collation = own[1] if own else ""
    padded = "nopad" not in collation
    if collation.endswith(("_bin", "_cs")) or "_bin_" in collation:
        return Compared.EXACTLY, padded
    return (Compared.WITHOUT_CASE if "_as_" in collation else Compared.BY_LETTERS), padded


_FOREIGN: Final = re.compile(r"FOREIGN KEY (?:`(?:[^`]|``)*` )?\((.*?)\) REFERENCES (.+)", re.DOTALL)


def _foreign_keys(table: Table, found: Definition) -> Iterator[ForeignKey]:
    for item in found.items:
        match = None if item.startswith("`") else _FOREIGN.search(item)
        if match is None:
            continue
        parent, rest = qualified(match[2])
        theirs = (first_name(each)[0] for each in definition(rest, backslashes=True).items)
        path = parent if len(parent) > 1 else (table.path[0], *parent)
        yield ForeignKey(table, Table(path), tuple(zip(names(match[1]), theirs, strict=False)))


_ESCAPES: Final = {b"0": b"\0", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"Z": b"\x1a"}
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_TO_ESCAPE: Final = re.compile(rb"[\0\n\r\x1a\\'\"]")
_WRITTEN: Final = {b"\0": rb"\0", b"\n": rb"\n", b"\r": rb"\r", b"\x1a": rb"\Z"}


def _clear(data: bytes) -> bytes:
    """What a literal stands for: a string's bytes, those of a hexadecimal number, or the literal itself."""
    if data[:2] in (b"0x", b"0X"):
        return bytes.fromhex(data[2:].decode())
    if not data.endswith(b"'"):
        return data
    return _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]), data[data.index(b"'") + 1 : -1])


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return b"'" + _TO_ESCAPE.sub(lambda match: _WRITTEN.get(match[0], b"\\" + match[0]), data) + b"'"


def _literal(masker: Masker, kind: ColumnKind) -> _Literal:
    """The masker of a column's values, as one of literals."""

    def changed(data: bytes) -> bytes:
        if data == _NULL:
            return data
        match kind:
            case ColumnKind.INTEGER:
                made = masker(int(_clear(data)))
            case ColumnKind.BINARY:
                made = masker(_clear(data))
            case _:
                made = masker(_clear(data).decode("utf-8", "surrogateescape"))
        if made is None:
            return _NULL
        if isinstance(made, int):
            return str(made).encode()
        if isinstance(made, bytes):
            return b"0x" + made.hex().encode() if made else b"''"
        return _text(made)

    return changed


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _dotted(table: Table) -> str:
    return ".".join(_name(each) for each in table.path)
