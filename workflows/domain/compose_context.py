"""The account of a Compose import: what was used, what is refused and why, notes and faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from workflows.domain.blueprint_tree import Faults, Node, Unusable
from workflows.domain.errors import Path, render_path

_REASONS = {
    "networks": "an environment is one network in which every service reaches every other by name",
    "links": "services reach each other by name",
    "container_name": "a service is known by its name",
    "version": "obsolete, without meaning in Compose too",
    "extends": "other files are not read: write the service out",
    "include": "other files are not read: write the services out",
    "labels": "labels of containers have no counterpart; a Blueprint has labels of its own",
    "hostname": "a service is known by its name",
    "develop": "files are not watched: an environment runs images",
    "logging": "logs are kept by the cluster",
}


_NO_COUNTERPART = "has no counterpart in a Blueprint, or is not written as Compose has it"


class Unsupported(BaseModel):
    """Something of a Compose file that the Blueprint does not hold."""

    model_config = ConfigDict(frozen=True)

    path: tuple[str | int, ...]
    reason: str

    @property
    def field(self) -> str:
        """The path in its written form."""
        return render_path(self.path)


@dataclass(slots=True)
class Context:
    """The account of one import."""

    faults: Faults
    files: Mapping[str, str]
    images: Mapping[str, str]
    variables: Mapping[str, str]
    notes: list[str] = field(default_factory=list)
    unset: list[str] = field(default_factory=list)
    _used: set[Path] = field(default_factory=set)
    _above_used: set[Path] = field(default_factory=set)
    _refused: dict[Path, tuple[Node, str]] = field(default_factory=dict)

    def use(self, node: Node) -> None:
        """Note that the whole value at `node` is in the result, or has no meaning that could be lost."""
        self._used.add(node.path)
        self._mark(node)

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
            self.refuse(node, _REASONS.get(last, _NO_COUNTERPART))

    def listed(self) -> tuple[Unsupported, ...]:
        """What was refused, in document order."""
        ordered = sorted(self._refused.values(), key=lambda entry: entry[0].order)
        return tuple(Unsupported(path=node.path, reason=reason) for node, reason in ordered)


def dns_label(text: str, longest: int) -> str:
    """The DNS label nearest to a text, beginning with a letter; empty when nothing of it can stay."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).lstrip("-0123456789")[:longest].strip("-")
