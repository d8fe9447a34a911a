"""What the readers of imported files share: the node that is not there, and scalars in other forms."""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from workflows.domain.blueprint_tree import Node

Document = dict[str, JsonValue]
"""A part of a Blueprint document that is being written."""
NOTHING: Final = Node(None, (), ())
"""Stands for what is not there: it has no entries, no items and no value."""


def escaped(text: str) -> str:
    """The text with `$(NAME)` kept as it is, as Compose does; Kubernetes would put a variable there."""
    return text.replace("$(", "$$(")


def scalar(node: Node) -> str:
    """A scalar as text; booleans as YAML writes them."""
    return str(node.value).lower() if isinstance(node.value, bool) else str(node.value)


def whole(node: Node | None, lowest: int, highest: int) -> int | None:
    """The whole number at a node, written as one or as text; None when it is none, or out of bounds."""
    if node is None or isinstance(node.value, bool):
        return None
    text = str(node.value)
    if not (text.isascii() and text.isdigit() and len(text) <= 6) or not lowest <= int(text) <= highest:
        return None
    return int(text)


def child(node: Node, *keys: str) -> Node:
    """The node below these keys; NOTHING when there is none."""
    for key in keys:
        node = node.mapping.get(key, NOTHING)
    return node


def text_at(node: Node, *keys: str) -> str | None:
    """The text below these keys; None when there is none, or it is empty."""
    value = child(node, *keys).value
    return value if isinstance(value, str) and value else None
