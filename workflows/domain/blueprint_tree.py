"""A parsed YAML or JSON document as a tree of nodes that know their place, and the list of its faults.

A node keeps its path through merges, so that a fault in a plan is reported where the user wrote it. What YAML
makes of unquoted text (dates, `on:` as true, `.nan`) is reported here, once; the readers above never see it.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from workflows.domain.errors import FieldError, Path, PathPart

MAX_DEPTH: Final = 24
MAX_NODES: Final = 30_000
MAX_REPORTED: Final = 200
_LARGEST_INTEGER: Final = 2**63


class Unusable:
    """Stands for a value that was already reported and that no reader may look at."""


UNUSABLE: Final = Unusable()
Scalar = str | int | float | bool | None | Unusable


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place: `path` as written, `order` the positions of its ancestors and itself."""

    value: Scalar | dict[str, Node] | list[Node]
    path: Path
    order: tuple[int, ...]

    @property
    def mapping(self) -> dict[str, Node]:
        """The entries of a mapping; empty for everything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list; empty for everything else."""
        return self.value if isinstance(self.value, list) else []

    @property
    def absent(self) -> bool:
        """Whether the value is null, which for an optional field is the same as leaving it out."""
        return self.value is None

    def at(self, *keys: PathPart) -> Node:
        """Where to report: the descendant at these keys, or the nearest ancestor of it that exists."""
        node = self
        for key in keys:
            if isinstance(key, int):
                if key >= len(node.items):
                    return node
                node = node.items[key]
            else:
                child = node.mapping.get(key)
                if child is None:
                    return node
                node = child
        return node


@dataclass(frozen=True, slots=True)
class _Placed:
    order: tuple[int, ...]
    error: FieldError


class Faults:
    """Collects faults and answers whether a place is already known to be broken."""

    def __init__(self) -> None:
        self._placed: dict[tuple[Path, str], _Placed] = {}
        self._prefixes: set[Path] = set()
        self._paths: set[Path] = set()

    @property
    def suggesting(self) -> bool:
        """Whether to look for nearest names still: nobody reads the suggestions of a fault that is not shown,
        and finding them costs time that a hostile document could buy.
        """
        return len(self._placed) < MAX_REPORTED

    def __len__(self) -> int:
        return len(self._placed)

    def add(
        self,
        node: Node,
        message: str,
        suggestion: str | None = None,
        *,
        key: str | None = None,
        code: str | None = None,
    ) -> None:
        """Note a fault at a node, or at a key of it that is missing or has no node of its own."""
        path = node.path if key is None else (*node.path, key)
        error = FieldError(path=path, message=message, suggestion=suggestion, code=code)
        self._keep(_Placed(node.order, error))

    def _keep(self, placed: _Placed) -> None:
        path = placed.error.path
        self._placed.setdefault((path, placed.error.message), placed)
        self._paths.add(path)
        self._prefixes.update(path[:length] for length in range(len(path) + 1))

    def broken(self, node: Node) -> bool:
        """Whether a fault was noted at this place, below it, or at one of its ancestors."""
        path = node.path
        return path in self._prefixes or any(path[:length] in self._paths for length in range(1, len(path)))

    def broken_at(self, node: Node, key: str) -> bool:
        """Whether a key of the node is there and broken."""
        child = node.mapping.get(key)
        return child is not None and self.broken(child)

    def adopt(self, other: Faults, *, under: Path, base: Faults | None, prefix: str) -> None:
        """Take over what another reading of the same document found below `under`.

        With `base`, also what was found elsewhere and not in that reading, its message begun with `prefix`.
        """
        for key, placed in other._placed.items():
            path = placed.error.path
            if path[: len(under)] == under:
                self._keep(placed)
            elif base is not None and key not in base._placed:
                message = prefix + placed.error.message
                self._keep(_Placed(placed.order, placed.error.model_copy(update={"message": message})))

    def ordered(self) -> tuple[FieldError, ...]:
        """All faults in document order; beyond 200 a last entry says how many more there are."""
        placed = sorted(self._placed.values(), key=lambda entry: entry.order)
        errors = [entry.error for entry in placed[:MAX_REPORTED]]
        more = len(placed) - len(errors)
        if more:
            message = f"{more} more {'fault' if more == 1 else 'faults'} after these {MAX_REPORTED}"
            errors.append(FieldError(path=(), message=message, suggestion="mend these and validate again"))
        return tuple(errors)


def show(value: object) -> str:
    """A short, safe form of a value for messages; never for secrets."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str | int | float) or value is None:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 60 else text[:56] + '..."'
    return kind_of(value)


def kind_of(value: object) -> str:  # noqa: PLR0911 - a table
    """What a user would call the type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case Mapping() | dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"[:60]


class _Builder:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._nodes = 0
        self.full = False

    def build(self, value: object, path: Path, order: tuple[int, ...]) -> Node:
        here = Node(UNUSABLE, path, order)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            if not self.full:
                self.full = True
                root = Node(UNUSABLE, (), ())
                self._faults.add(
                    root, f"the document has more than {MAX_NODES} values", "split it into several"
                )
            return here
        if isinstance(value, Mapping | list | tuple):
            if len(path) >= MAX_DEPTH:
                self._faults.add(
                    here, f"nested deeper than {MAX_DEPTH} levels", "no field needs that: check it"
                )
                return here
            return (
                self._mapping(value, path, order)
                if isinstance(value, Mapping)
                else self._list(value, path, order)
            )
        return Node(self._scalar(value, here), path, order)

    def _list(self, value: list[object] | tuple[object, ...], path: Path, order: tuple[int, ...]) -> Node:
        items: list[Node] = []
        for index, item in enumerate(value):
            if self.full:
                break
            items.append(self.build(item, (*path, index), (*order, index)))
        return Node(items, path, order)

    def _mapping(self, value: Mapping[object, object], path: Path, order: tuple[int, ...]) -> Node:
        entries: dict[str, Node] = {}
        for index, (key, item) in enumerate(value.items()):
            if self.full:
                break
            place = (*order, index)
            if isinstance(key, str) and key.isascii():
                entries[key] = self.build(item, (*path, key), place)
                continue
            shown = _key_text(key)
            problem = _key_problem(key)
            if problem is None:
                entries[shown] = self.build(item, (*path, shown), place)
            else:
                self._faults.add(Node(UNUSABLE, (*path, shown), place), *problem)
        return Node(entries, path, order)

    def _scalar(self, value: object, here: Node) -> Scalar:
        problem: tuple[str, str | None] | None = None
        match value:
            case None | bool():
                return value
            case str():
                problem = _text_problem(value)
                if problem is None:
                    return str(value)
            case int():
                if -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
                    return int(value)
                problem = ("the number is too large for any field", None)
            case float():
                if math.isfinite(value):
                    return float(value)
                problem = ("not a finite number", "quote it if you mean the text")
            case datetime.date() | datetime.time():
                problem = (
                    "YAML read this unquoted text as a date or time",
                    f'quote it: "{value.isoformat()}"',
                )
            case _:
                problem = (
                    f"expected text, a number, a boolean, a list or a mapping, got {kind_of(value)}",
                    None,
                )
        self._faults.add(here, *problem)
        return UNUSABLE


def _key_text(key: object) -> str:
    if isinstance(key, str):
        return key.encode("utf-8", "backslashreplace").decode()
    if isinstance(key, bool) or key is None:
        return json.dumps(key)
    if isinstance(key, int) and not -_LARGEST_INTEGER <= key < _LARGEST_INTEGER:
        return "number"
    return str(key)[:60] if isinstance(key, int | float | datetime.date) else kind_of(key)


def _key_problem(key: object) -> tuple[str, str | None] | None:
    if isinstance(key, str):
        return _text_problem(key)
    if isinstance(key, bool):
        words = "on, yes and true" if key else "off, no and false"
        return (
            f"the key is the boolean {_key_text(key)}, not text: YAML reads the bare words {words} so",
            "quote the key",
        )
    return f"keys are text, got {kind_of(key)}", f'quote it: "{_key_text(key)}"'


def _text_problem(value: str) -> tuple[str, str | None] | None:
    if "\0" in value:
        return "the text contains a NUL character, which no container setting can hold", "remove it"
    if value.isascii():
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return (
            "the text contains half of a surrogate pair and is not valid Unicode",
            "write the whole character",
        )
    return None


def build_tree(document: object, faults: Faults) -> Node:
    """The document as nodes; what no field could hold is reported and left out. Ends on cycles too."""
    builder = _Builder(faults)
    root = builder.build(document, (), ())
    # What was cut off would come back as many faults that are none.
    return Node(UNUSABLE, (), ()) if builder.full else root


def to_plain(node: Node) -> object:
    """The node's value as plain dicts, lists and scalars; what was unusable becomes null."""
    if isinstance(node.value, dict):
        return {key: to_plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [to_plain(item) for item in node.value]
    return None if isinstance(node.value, Unusable) else node.value


def merge(base: Node, over: Node) -> Node:
    """`over` laid on `base`: mappings key by key (null takes the base's entry away), all else replaced."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    entries = dict(base.value)
    for key, child in over.value.items():
        if child.absent:
            entries.pop(key, None)
        elif key in entries:
            entries[key] = merge(entries[key], child)
        else:
            entries[key] = child
    return Node(entries, base.path, base.order)
