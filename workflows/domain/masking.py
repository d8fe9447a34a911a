"""Rules for masking while restoring: which columns (or keys) come back as something else, and as what.

A rule names a table by its end: `users` means every table of that name, `public.users` that of a schema in
every database, `shop.public.users` one table. What a rule names and the data do not have is a fault: nothing
is left unmasked in silence. The values themselves are made in `masking_values`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import Final

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from workflows.domain.blueprint_models import DataStore
from workflows.domain.errors import FieldError, Path
from workflows.domain.failures import WireModel
from workflows.domain.snapshot import Component, Engine

MOST_RULES: Final = 2000
"""Rules for one service."""
SHORTEST_HASH: Final = 8
LONGEST_HASH: Final = 64
"""Hexadecimal digits of a hash."""
LONGEST_KEPT: Final = 64
_LONGEST_NAME: Final = 1000


class MaskHow(StrEnum):
    """What becomes of a value. One that is NULL stays NULL."""

    MASK = "mask"
    """Each character becomes `*`; `keepLast` of them stay, at most half."""
    HASH = "hash"
    """The same value becomes the same other one, everywhere: what was joined still joins."""
    FAKE = "fake"
    """Like hash, and looks like what it stands for (`kind`)."""
    REDACT = "redact"
    """All values become the same."""
    NULLIFY = "nullify"
    """NULL."""
    DELETE = "delete"
    """Of keys: they do not come back."""


class FakeKind(StrEnum):
    """What a fake looks like."""

    EMAIL = "email"
    NAME = "name"
    FIRST_NAME = "first-name"
    LAST_NAME = "last-name"
    PHONE = "phone"
    UUID = "uuid"
    USERNAME = "username"
    COMPANY = "company"
    STREET = "street"
    CITY = "city"
    IP = "ip"


class _Rule(WireModel):
    """Base of rules. A field that is not known is a fault: it may be what keeps a value from being seen."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="forbid",
    )


class ColumnRule(_Rule):
    """One column of a table, or of all tables whose name ends so. What is not of its `how` is None."""

    table: str
    column: str
    how: MaskHow
    kind: FakeKind | None = None
    """Of `fake`."""
    keep_last: int | None = None
    """Of `mask`: characters that stay."""
    length: int | None = None
    """Of `hash`, for text: hexadecimal digits, 32 where none are given."""

    @property
    def makes(self) -> tuple[object, ...]:
        """What decides the value: two columns whose rules are equal in this still join."""
        return (self.how, self.kind, self.keep_last, self.length)


class KeyRule(_Rule):
    """The keys of a Redis server that match a glob (`*`, `?`, `[a-z]`, and a backslash before these)."""

    keys: str
    how: MaskHow


class ServiceMasking(_Rule):
    """The rules for one service's data."""

    columns: tuple[ColumnRule, ...] = ()
    keys: tuple[KeyRule, ...] = ()


class MaskingRules(_Rule):
    """The rules of a restore, by service."""

    services: dict[str, ServiceMasking] = {}


class MaskingRefused(Exception):
    """The rules do not fit the data; `faults` holds all that was found, and nothing was changed."""

    def __init__(self, faults: Iterable[FieldError]) -> None:
        self.faults: tuple[FieldError, ...] = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))


class Unmaskable(ValueError):
    """A rule cannot be followed for a column; the text says why."""


class DumpUnreadable(ValueError):
    """A dump is not written as we know it, so that it cannot be masked; the text says where."""


def masking_faults(
    rules: MaskingRules, components: Iterable[Component], place: Path = ()
) -> tuple[FieldError, ...]:
    """All that can be seen to be wrong before the data are looked at.

    `components` are those of the snapshot; `place` is where the rules stand.
    """
    known = {each.service: each for each in components}
    faults: list[FieldError] = []
    if not rules.services:
        faults.append(_fault((*place, "services"), "names no service", "name one, or leave masking out"))
    for service, asked in rules.services.items():
        where: Path = (*place, "services", service)
        component = known.get(service)
        if component is None:
            listed = ", ".join(sorted(known)) or "none"
            faults.append(_fault(where, "the snapshot has no such service", f"it has: {listed}"))
            continue
        faults += _service_faults(asked, component, where)
    return tuple(faults)


def _service_faults(asked: ServiceMasking, component: Component, where: Path) -> Iterator[FieldError]:
    if not asked.columns and not asked.keys:
        yield _fault(where, "has no rule", "name columns or keys, or leave the service out")
        return
    if (reason := _unreachable(component)) is not None:
        yield _fault(where, reason)
        return
    redis = component.store is DataStore.REDIS
    if asked.columns and redis:
        yield _fault((*where, "columns"), "a Redis server has no columns", "use keys")
    if asked.keys and not redis:
        yield _fault((*where, "keys"), f"a {component.store} server has no keys", "use columns")
    for field, given in (("columns", asked.columns), ("keys", asked.keys)):
        if len(given) > MOST_RULES:
            yield _fault((*where, field), f"are more than {MOST_RULES} rules")
    if not redis:
        levels = 3 if component.store is DataStore.POSTGRES else 2
        yield from _columns_faults(asked.columns, levels, (*where, "columns"))
    else:
        yield from _keys_faults(asked.keys, (*where, "keys"))


def _unreachable(component: Component) -> str | None:
    """Why this component's data cannot be masked; None when they can."""
    if component.store is None or component.engine is Engine.MANIFEST_ONLY:
        return "no data of this service are in the snapshot"
    if component.engine in (Engine.CSI, Engine.CSI_GROUP):
        return f"captured by {component.engine}: volumes are copied by the storage, nobody looks into them"
    if component.store not in (DataStore.POSTGRES, DataStore.MYSQL, DataStore.REDIS):
        return f"{component.store}: what is in files is not known, it cannot be masked"
    return None


def _columns_faults(rules: Sequence[ColumnRule], levels: int, where: Path) -> Iterator[FieldError]:
    seen: dict[tuple[tuple[str, ...], str], int] = {}
    for index, rule in enumerate(rules):
        at: Path = (*where, index)
        name = table_name(rule.table)
        if name is None or len(rule.table) > _LONGEST_NAME:
            yield _fault((*at, "table"), "is no name of a table", 'write users, public.users or "od.d".users')
        elif len(name) > levels:
            yield _fault((*at, "table"), f"has {len(name)} parts, and a table here at most {levels}")
        if not rule.column or "\0" in rule.column:
            yield _fault((*at, "column"), "is no name of a column")
        if name is not None and (first := seen.setdefault((name, rule.column), index)) != index:
            yield _fault(at, f"is the second rule for this column; the first is {first}")
        yield from _option_faults(rule, at)


def _option_faults(rule: ColumnRule, at: Path) -> Iterator[FieldError]:
    if rule.how is MaskHow.DELETE:
        yield _fault((*at, "how"), "delete is for keys", "use nullify")
    for field, value, of in (
        ("kind", rule.kind, MaskHow.FAKE),
        ("keepLast", rule.keep_last, MaskHow.MASK),
        ("length", rule.length, MaskHow.HASH),
    ):
        if value is not None and rule.how is not of:
            yield _fault((*at, field), f"belongs to {of}, not to {rule.how}")
    if rule.how is MaskHow.FAKE and rule.kind is None:
        yield _fault((*at, "kind"), "is required for fake", f"one of: {', '.join(FakeKind)}")
    if rule.keep_last is not None and not 0 <= rule.keep_last <= LONGEST_KEPT:
        yield _fault((*at, "keepLast"), f"is not between 0 and {LONGEST_KEPT}")
    if rule.length is not None and not SHORTEST_HASH <= rule.length <= LONGEST_HASH:
        yield _fault((*at, "length"), f"is not between {SHORTEST_HASH} and {LONGEST_HASH}")


def _keys_faults(rules: Sequence[KeyRule], where: Path) -> Iterator[FieldError]:
    allowed = (MaskHow.REDACT, MaskHow.HASH, MaskHow.DELETE)
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        if not rule.keys or len(rule.keys) > _LONGEST_NAME or "\0" in rule.keys:
            yield _fault((*where, index, "keys"), "is no pattern of keys", "write session:*")
        elif not _is_pattern(rule.keys):
            yield _fault((*where, index, "keys"), "has a range that ends before it begins")
        if rule.keys in seen:
            yield _fault((*where, index), "is the second rule for this pattern")
        seen.add(rule.keys)
        if rule.how not in allowed:
            yield _fault(
                (*where, index, "how"), f"{rule.how} is not for keys", f"one of: {', '.join(allowed)}"
            )


def _is_pattern(glob: str) -> bool:
    try:
        key_pattern(glob)
    except re.error:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a rule may name it: database, schema (not in MariaDB) and name."""

    path: tuple[str, ...]

    def is_meant(self, name: tuple[str, ...]) -> bool:
        """Whether a rule's name is the end of this one's."""
        return self.path[-len(name) :] == name

    def __str__(self) -> str:
        """As a rule would write it."""
        return ".".join(each if _PLAIN.fullmatch(each) else _quoted(each) for each in self.path)


_PLAIN: Final = re.compile(r"[^\s.\"`]+")
_NAME_PART: Final = re.compile(r'"((?:[^"\0]|"")+)"|([^\s.\"`\0]+)')


def table_name(text: str) -> tuple[str, ...] | None:
    """The parts of a table's name, as they are in the catalogue (case counts); None when it is none."""
    parts: list[str] = []
    position = 0
    while (match := _NAME_PART.match(text, position)) is not None:
        parts.append(match[2] or match[1].replace('""', '"'))
        position = match.end()
        if position == len(text):
            return tuple(parts)
        if text[position] != ".":
            return None
        position += 1
    return None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Survey:
    """What masking one part of a component came to, before anything was changed.

    `size`: bytes that the masked stream has. `matched`: numbers of the rules that found their column (or
    key). `faults`: places count from the component's rules (`columns[0]`).
    """

    size: int
    matched: frozenset[int] = frozenset()
    faults: tuple[FieldError, ...] = ()


def check_surveys(rules: ServiceMasking, surveys: Iterable[Survey]) -> None:
    """Raise MaskingRefused with all faults of all parts, and with the rules that found nothing in any.

    A pattern of keys that matches none is no fault: keys come and go, columns do not.
    """
    surveys = tuple(surveys)
    faults = [fault for survey in surveys for fault in survey.faults]
    matched = frozenset[int]().union(*(survey.matched for survey in surveys))
    told = {fault.path[:2] for fault in faults}
    for index, rule in enumerate(rules.columns):
        place: Path = ("columns", index)
        if index not in matched and place not in told:
            message = f"the snapshot has no table {rule.table} with a column {rule.column}"
            faults.append(_fault(place, message, "case counts; views and foreign tables hold no data"))
    if faults:
        raise MaskingRefused(dict.fromkeys(faults))


_LONGEST_TOLD: Final = 280
"""Characters of one fault among others."""


def misfits_told(found: Sequence[Sequence[FieldError]], *, more: int, limit: int) -> tuple[str, bool]:
    """What is wrong with the rules in at most `limit` characters, and whether that is all of it.

    `found`: faults by service; each service has its turn before another one has its next. `more`: faults
    that are not among them.
    """
    head, tail = "The rules do not fit what the snapshot has: ", "; and {} more."
    turns = [each for turn in zip_longest(*found) for each in turn if each is not None]
    room = limit - len(head) - len(tail) - 4
    told: list[FieldError] = []
    texts = {fault: _cut(str(fault)) for fault in turns}
    for fault in turns:
        if room >= len(texts[fault]):
            told.append(fault)
            room -= len(texts[fault]) + 2
    listed = "; ".join(texts[each] for faults in found for each in faults if each in told)
    left = len(turns) - len(told) + more
    whole = not left and all(texts[each] == str(each) for each in told)
    return head + listed + (tail.format(left) if left else "."), whole


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TOLD else text[: _LONGEST_TOLD - 1] + "…"


def chosen_rules(
    rules: Sequence[ColumnRule], tables: Sequence[Table], columns: Collection[str]
) -> tuple[dict[str, int], tuple[FieldError, ...]]:
    """The number of the rule for each column of a table, and faults: no such column, two rules for one.

    `tables`: the table itself, then those that it is a part of (partitions) or inherits from: their rules
    are its own.
    """
    chosen: dict[str, int] = {}
    faults: list[FieldError] = []
    for index, rule in enumerate(rules):
        name = table_name(rule.table)
        if name is None or not any(each.is_meant(name) for each in tables):
            continue
        place: Path = ("columns", index)
        if rule.column not in columns:
            listed = ", ".join(columns)[:500]
            faults.append(_fault(place, f"{tables[0]} has no column {rule.column}", f"it has: {listed}"))
        elif rule.column in chosen:
            other = chosen[rule.column]
            faults.append(_fault(place, f"{tables[0]}.{rule.column} has a rule already: columns[{other}]"))
        else:
            chosen[rule.column] = index
    return chosen, tuple(faults)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key: pairs of the column that refers and the one that is referred to."""

    table: Table
    parent: Table
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MaskedColumn:
    """The rule for a column; `like`: what else decides what its values become."""

    index: int
    rule: ColumnRule
    like: object = None


def torn_keys(
    keys: Iterable[ForeignKey], masked: Mapping[tuple[Table, str], MaskedColumn]
) -> tuple[FieldError, ...]:
    """Faults for each foreign key that would not hold: its two ends have to become the same."""
    faults: list[FieldError] = []
    for key in keys:
        for mine, theirs in key.columns:
            child, parent = masked.get((key.table, mine)), masked.get((key.parent, theirs))
            named = f"{key.table}.{mine} refers to {key.parent}.{theirs}"
            if child is not None and child.rule.how is MaskHow.NULLIFY:
                continue
            if child is None and parent is not None:
                faults.append(_fault(("columns", parent.index), f"{named}, and has no rule", _SAME))
            elif child is not None and parent is None:
                faults.append(_fault(("columns", child.index), f"{named}, which has no rule", _SAME))
            elif child is not None and parent is not None:
                if child.rule.makes != parent.rule.makes:
                    faults.append(_fault(("columns", child.index), f"{named}, which has another rule", _SAME))
                elif child.like != parent.like:
                    faults.append(_fault(("columns", child.index), f"{named}, which is of another type"))
    return tuple(faults)


_SAME: Final = "give both the same rule"


def key_pattern(glob: str) -> re.Pattern[bytes]:
    """What Redis's own glob means, over bytes. Raises re.error for a range that ends before it begins.

    What stands between two `*` is taken where it fits first, for good: another place could not fit better,
    and trying all of them for a dozen `*` takes longer than the universe has.
    """
    first, *rest = _between_stars(glob.encode())
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = b"".join(b"(?>.*?" + each + b")" for each in rest[:-1] if each)
    return re.compile(first + middle + b".*" + rest[-1], re.DOTALL)


def _between_stars(glob: bytes) -> list[bytes]:
    """The pieces of a glob between its `*`, each as a regular expression."""
    pieces, position = [b""], 0
    while position < len(glob):
        each = glob[position : position + 1]
        position += 1
        end = glob.find(b"]", position + 1) if each == b"[" else -1
        if each == b"*":
            pieces.append(b"")
        elif each == b"?":
            pieces[-1] += b"."
        elif end > 0:
            inside = glob[position:end]
            no = inside.startswith(b"^")
            # Ranges stay ranges, all else stands for itself.
            letters = re.sub(rb"([\\\[\]&~|^])", rb"\\\1", inside[no:])
            pieces[-1] += b"[" + b"^" * no + letters + b"]"
            position = end + 1
        else:
            if each == b"\\" and position < len(glob):
                each = glob[position : position + 1]
                position += 1
            pieces[-1] += re.escape(each)
    return pieces


def _fault(path: Path, message: str, suggestion: str | None = None) -> FieldError:
    return FieldError(path=path, message=message, suggestion=suggestion)
