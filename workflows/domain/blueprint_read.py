"""Reading single fields of a document tree: each reader gives a good value, or notes a fault."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from workflows.domain.blueprint_tree import Faults, Node, Unusable, kind_of, show
from workflows.domain.wording import listed

Choice = TypeVar("Choice", bound=StrEnum)
Check = Callable[[str], tuple[str, str | None] | None]
"""A rule for text: None when it holds, else what is wrong and, when known, what to write."""

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
# What people bring along from other formats.
_KNOWN_AS: Final = {
    "environment": "env",
    "envvars": "env",
    "entrypoint": "command",
    "healthcheck": "probes",
    "instances": "replicas",
    "scale": "replicas",
    "dependencies": "dependsOn",
    "needs": "dependsOn",
    "public": "expose",
    "ttl": "ttlMinutes",
    "profiles": "plans",
    "port": "containerPort",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word a user most likely meant, whatever its case, `_` and `-`; None when none is near."""
    by_plain = {_plain(candidate): candidate for candidate in known}
    plain = _plain(word[:64])
    meant = _KNOWN_AS.get(plain)
    if meant is not None and meant in by_plain.values():
        return meant
    found = difflib.get_close_matches(plain, by_plain, n=1, cutoff=0.6)
    return by_plain[found[0]] if found else None


def _plain(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def label_problem(value: str, longest: int, *, letter_first: bool = False) -> tuple[str, str | None] | None:
    """Why a text is no DNS label of at most `longest` characters, and the nearest one; None when it is."""
    suggestion = _suggest_label(value, longest, letter_first)
    if not value:
        return "must not be empty", None
    if len(value) > longest:
        return f"is {len(value)} characters long, at most {longest} are allowed", suggestion
    foreign = next((character for character in value if not re.match(r"[a-z0-9-]", character)), None)
    if foreign is not None:
        name = "" if foreign.isascii() else f" ({unicodedata.name(foreign, 'no Unicode name')})"
        shown = foreign if foreign.isprintable() else f"U+{ord(foreign):04X}"
        return f"contains '{shown}'{name}; it becomes a DNS name, made of a-z, 0-9 and '-' only", suggestion
    if not _LABEL.fullmatch(value):
        return "must begin and end with a letter or digit", suggestion
    if letter_first and not value[0].isalpha():
        return "must begin with a letter: it becomes the name of a Kubernetes Service", suggestion
    return None


def _suggest_label(value: str, longest: int, letter_first: bool) -> str | None:
    plain = unicodedata.normalize("NFKD", value[:256]).encode("ascii", "ignore").decode().lower()
    label = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if letter_first:
        label = label.lstrip("0123456789-")
    label = label[:longest].rstrip("-")
    return f'for example "{label}"' if label else None


@dataclass(frozen=True, slots=True)
class Fields:
    """The entries of one mapping, read field by field."""

    node: Node
    faults: Faults

    @classmethod
    def of(cls, node: Node, faults: Faults, known: Sequence[str], what: str) -> Fields | None:
        """The mapping at `node` with every unknown key noted; None, noted, when it is no mapping."""
        if not isinstance(node.value, dict):
            if not isinstance(node.value, Unusable):
                faults.add(
                    node, f"{what} is a mapping, got {kind_of(node.value)}", f"its keys: {listed(known)}"
                )
            return None
        for key, child in node.value.items():
            if key not in known:
                meant = nearest(key, known) if faults.suggesting else None
                hint = f'did you mean "{meant}"?' if meant else f"known here: {listed(known, 30)}"
                faults.add(child, f"{what} has no such key", hint)
        return cls(node, faults)

    def child(self, key: str) -> Node | None:
        """The node at a key; None when it is absent, null or was already reported."""
        child = self.node.mapping.get(key)
        if child is None or child.absent or isinstance(child.value, Unusable):
            return None
        return child

    def missing(self, key: str, suggestion: str | None = None) -> None:
        """Note that a required key is absent, unless something is there and was reported."""
        child = self.node.mapping.get(key)
        if child is None or child.absent:
            self.faults.add(child or self.node, "is required", suggestion, key=None if child else key)

    def text(self, key: str, check: Check | None = None, longest: int = 4096) -> str | None:
        """The text at a key."""
        child = self.child(key)
        return None if child is None else text_of(child, self.faults, check, longest)

    def integer(self, key: str, lowest: int, highest: int, default: int) -> int:
        """The whole number at a key, within bounds; the default when absent or broken."""
        child = self.child(key)
        if child is None:
            return default
        value = child.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            hint = "write it without quotes" if isinstance(value, str) and value.isdigit() else None
            self.faults.add(
                child, f"must be a whole number from {lowest} to {highest}, got {show(value)}", hint
            )
            return default
        if not lowest <= value <= highest:
            self.faults.add(child, f"must be from {lowest} to {highest}, got {value}")
            return default
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """The boolean at a key; the default when absent or broken."""
        child = self.child(key)
        if child is None:
            return default
        if isinstance(child.value, bool):
            return child.value
        self.faults.add(child, f"must be true or false, got {show(child.value)}")
        return default

    def choice(self, key: str, kinds: type[Choice], *, fold: bool = False) -> Choice | None:
        """The enum member written at a key; `fold`: upper case is understood for lower."""
        child = self.child(key)
        if child is None:
            return None
        words = [member.value for member in kinds]
        if isinstance(child.value, str):
            for member in kinds:
                if member.value == child.value or (fold and member.value == child.value.upper()):
                    return member
        meant = nearest(child.value, words) if isinstance(child.value, str) else None
        hint = f'did you mean "{meant}"?' if meant else None
        self.faults.add(child, f"must be one of {', '.join(words)}, got {show(child.value)}", hint)
        return None

    def items(self, key: str) -> list[Node]:
        """The items of the list at a key; empty when absent or broken."""
        child = self.child(key)
        if child is None:
            return []
        if not isinstance(child.value, list):
            hint = "put it in [ ]" if isinstance(child.value, str | int) else None
            self.faults.add(child, f"must be a list, got {kind_of(child.value)}", hint)
            return []
        return child.value

    def entries(self, key: str, what: str) -> dict[str, Node]:
        """The entries of the free-form mapping at a key; empty when absent or broken."""
        child = self.child(key)
        if child is None:
            return {}
        if not isinstance(child.value, dict):
            self.faults.add(child, f"must be a mapping of {what}, got {kind_of(child.value)}")
            return {}
        return child.value

    def words(self, key: str) -> tuple[str, ...]:
        """The command line at a key: a list of text; numbers and booleans are taken as their text."""
        words: list[str] = []
        child = self.child(key)
        if child is not None and isinstance(child.value, str):
            self.faults.add(child, "must be a list of words, got text", f'["sh", "-c", {show(child.value)}]')
            return ()
        for item in self.items(key):
            value = item.value
            if isinstance(value, bool):
                # `command: [true]` is the program `true`, the way everybody writes it.
                words.append("true" if value else "false")
            elif isinstance(value, str | int | float):
                words.append(str(value))
            elif not isinstance(value, Unusable):
                self.faults.add(item, f"must be text, got {kind_of(value)}", "quote it")
        return tuple(words)


def text_of(node: Node, faults: Faults, check: Check | None = None, longest: int = 4096) -> str | None:
    """The text of a node, at most `longest` characters and passing `check`; else None, noted."""
    value = node.value
    if isinstance(value, Unusable):
        return None
    if not isinstance(value, str):
        hint = f'quote it: "{show(value)}"' if isinstance(value, int | float) else None
        faults.add(node, f"must be text, got {kind_of(value)}", hint)
        return None
    if len(value) > longest:
        faults.add(node, f"is {len(value)} characters long, at most {longest} are allowed")
        return None
    problem = check(value) if check else None
    if problem is not None:
        faults.add(node, *problem)
        return None
    return value
