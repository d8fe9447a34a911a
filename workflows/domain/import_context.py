"""The account of an import into a Blueprint: what was used, what is refused and why, notes and faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict

from workflows.domain.blueprint_tree import Faults, Node, Unusable
from workflows.domain.errors import Path, render_path

_NO_COUNTERPART: Final = "has no counterpart in a Blueprint, or is not written as {language} has it"


class Unsupported(BaseModel):
    """Something of an imported file that the Blueprint does not hold."""

    model_config = ConfigDict(frozen=True)

    path: tuple[str | int, ...]
    reason: str

    @property
    def field(self) -> str:
        """The path in its written form."""
        return render_path(self.path)


@dataclass(slots=True)
class Context:
    """The account of one import.

    `language` is what the file is written in, `reasons` says by the last key of a place why that has no
    counterpart. `files`, `images` and `variables` are what the caller handed in beside the file.
    """

    faults: Faults
    language: str
    reasons: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unset: list[str] = field(default_factory=list)
    read: int = 0
    """Characters of `files` so far, each reading counted."""
    _used: set[Path] = field(default_factory=set)
    _above_used: set[Path] = field(default_factory=set)
    _refused: dict[Path, tuple[Node, str]] = field(default_factory=dict)

    def use(self, node: Node) -> None:
        """Note that the whole value at `node` is in the result, or has no meaning that could be lost."""
        self._used.add(node.path)
        self._mark(node)

    def used(self, node: Node) -> bool:
        """Whether the whole value at `node` was noted as used."""
        return node.path in self._used

    def enter(self, node: Node) -> None:
        """Note that the value at `node` has a meaning here, each of its entries being judged by itself."""
        self._above_used.add(node.path)
        self._mark(node)

    def refuse(self, node: Node, reason: str) -> None:
        """Note that the value at `node` is not carried over."""
        self._refused.setdefault(node.path, (node, reason))
        self._mark(node)

    def _mark(self, node: Node) -> None:
        self._above_used.update(node.path[:length] for length in range(len(node.path)))

    def sweep(self, node: Node) -> None:
        """Refuse what is neither used nor refused below `node`, at the highest place that says it all."""
        if node.path in self._refused or node.path in self._used:
            return
        children = list(node.mapping.values()) or node.items
        if node.path in self._above_used and children:
            for child in children:
                self.sweep(child)
        elif not isinstance(node.value, Unusable) and node.value not in (None, {}, []):
            last = next((part for part in reversed(node.path) if isinstance(part, str)), "")
            self.refuse(node, self.reasons.get(last) or _NO_COUNTERPART.format(language=self.language))

    def listed(self) -> tuple[Unsupported, ...]:
        """What was refused, in document order."""
        ordered = sorted(self._refused.values(), key=lambda entry: entry[0].order)
        return tuple(Unsupported(path=node.path, reason=reason) for node, reason in ordered)


def dns_label(text: str, longest: int) -> str:
    """The DNS label nearest to a text, beginning with a letter; empty when nothing of it can stay."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).lstrip("-0123456789")[:longest].strip("-")
