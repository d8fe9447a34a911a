"""What the head of a PostgreSQL dump says about tables: their columns, kinship, and what refers to what."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from activities.snapshots.postgres_archive import Entry, Head
from workflows.domain.masking import ForeignKey, Table
from workflows.domain.masking_ddl import definition, first_name, names, qualified, without_strings
from workflows.domain.masking_values import ColumnKind, ColumnType, Compared

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


@dataclass
class TableDefinition:
    """A table as the head defines it; `partitioned_by`: the key of its partitions, as it is written."""

    table: Table
    columns: dict[str, ColumnType] = field(default_factory=dict)
    generated: set[str] = field(default_factory=set)
    parents: list[Table] = field(default_factory=list)
    partitioned_by: str = ""


def copied_columns(entry: Entry) -> tuple[str, ...]:
    """The columns of a table's data, in the order of their fields."""
    match = _COPY.fullmatch(entry.copy)
    return tuple(names(match[1])) if match else ()


def tables_in(database: str, head: Head) -> dict[Table, TableDefinition]:
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
    tables: dict[Table, TableDefinition] = {}
    for entry in head.entries:
        table = Table((database, entry.schema, entry.name))
        if entry.sort == "TABLE" and _CREATE.match(entry.definition):
            tables[table] = _defined(database, table, entry.definition, domains, folding)
    for entry in head.entries:
        table = Table((database, entry.schema, entry.name))
        if entry.sort == "TABLE DATA" and table not in tables:
            # Of an extension, which makes the table itself: its columns are all that is known.
            unknown = {name: ColumnType(ColumnKind.OTHER, "unknown") for name in copied_columns(entry)}
            tables[table] = TableDefinition(table, unknown)
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
) -> TableDefinition:
    made = TableDefinition(table)
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


def _mark_unique(database: str, entry: Entry, tables: Mapping[Table, TableDefinition]) -> None:
    """Note columns that are unique, by themselves or together; expressions are left to the database."""
    if entry.sort == "INDEX":
        index = _UNIQUE_INDEX.match(entry.definition)
        if index is None or " WHERE " in entry.definition:
            return
        name, rest = qualified(index[1])
        listed = definition(rest).items
        columns = () if any("(" in item for item in listed) else tuple(first_name(each)[0] for each in listed)
    else:
        altered, unique = _ALTER.match(entry.definition), _UNIQUE.search(entry.definition)
        if altered is None or unique is None:
            return
        name = qualified(altered[1])[0]
        columns = names(unique[1])
    known = tables.get(Table((database, *name)))
    if known is not None:
        for column in known.columns.keys() & set(columns):
            known.columns[column] = replace(known.columns[column], unique=True)


def lineage_of(table: Table, tables: Mapping[Table, TableDefinition]) -> list[Table]:
    """The table, and all whose rows its rows are too."""
    found = [table]
    for each in found:
        found += [parent for parent in tables[each].parents if parent in tables and parent not in found]
    return found


def type_of(column: str, lineage: list[Table], tables: Mapping[Table, TableDefinition]) -> ColumnType:
    """What a column is, by all that its lineage says of it."""
    kinds = [tables[each].columns[column] for each in lineage if column in tables[each].columns]
    return replace(
        kinds[0], nullable=all(each.nullable for each in kinds), unique=any(each.unique for each in kinds)
    )


def foreign_keys(database: str, head: Head) -> Iterator[ForeignKey]:
    """All foreign keys, by the tables that have them."""
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


def is_named(column: str, key: str) -> bool:
    """Whether a partition key is made of this column, or may be."""
    quoted = '"' + column.replace('"', '""') + '"'
    return bool(key) and (quoted in key or re.search(rf"(?<!\w){re.escape(column)}(?!\w)", key) is not None)
