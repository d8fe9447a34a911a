"""The graph of services as a picture: layers from those that nothing waits for down to what all stand on.

Layers by longest path, the order within a layer by the middle of what points to each (one pass of the
barycentre method of Sugiyama, Tagawa and Toda, 1981). The same graph gives the same picture. Colours are
classes of the style sheet, so that the picture follows light and dark.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH, HEIGHT = 152, 52
"""Of a box, in pixels."""
_GAP_X, _GAP_Y, _MARGIN = 20, 44, 8
PER_ROW: Final = 4
"""Boxes side by side; a fuller layer takes several rows."""
_MOST_COLUMNS: Final = 17
"""Of text in a box; a wide character takes two."""
_MARKS: Final = {"good": "✓", "busy": "…", "bad": "✕", "off": "○"}


@dataclass(frozen=True, slots=True)
class Node:
    """One service. `tone`: good, busy, bad or off; `note` says the same in words."""

    name: str
    tone: str
    note: str
    exposed: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Upper left corners of the boxes by name, and the size of the whole, in pixels."""

    places: Mapping[str, tuple[int, int]]
    width: int
    height: int


def layers(names: Sequence[str], edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Put each name below all that point to it. Edges from, to or between strangers are left out.

    Names on a circle, which no Blueprint has, make up the last layer.
    """
    known = dict.fromkeys(names)
    above: dict[str, set[str]] = {name: set() for name in known}
    for source, target in edges:
        if source in known and target in known and source != target:
            above[target].add(source)
    depth: dict[str, int] = {}
    left = list(known)
    while left:
        placed = [name for name in left if above[name] <= depth.keys()]
        for name in placed:
            depth[name] = max((depth[other] + 1 for other in above[name]), default=0)
        if not placed:
            depth.update(dict.fromkeys(left, max(depth.values(), default=-1) + 1))
            break
        left = [name for name in left if name not in depth]
    found: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in known:
        found[depth[name]].append(name)
    place: dict[str, float] = {}
    for layer in found:
        middles = {name: _middle([place[other] for other in above[name] if other in place]) for name in layer}
        layer.sort(key=lambda name: (middles[name], name))
        for index, name in enumerate(layer):
            place[name] = (index + 0.5) / len(layer)
    return found


def lay_out(names: Sequence[str], edges: Iterable[tuple[str, str]]) -> Layout:
    """Place the boxes: no two overlap, and each stands below all that point to it."""
    rows = [
        layer[start : start + PER_ROW]
        for layer in layers(names, edges)
        for start in range(0, len(layer), PER_ROW)
    ]
    widest = max((len(row) for row in rows), default=0)
    whole = widest * WIDTH + max(0, widest - 1) * _GAP_X
    places = {}
    for number, row in enumerate(rows):
        taken = len(row) * WIDTH + (len(row) - 1) * _GAP_X
        for index, name in enumerate(row):
            left = _MARGIN + (whole - taken) // 2 + index * (WIDTH + _GAP_X)
            places[name] = (left, _MARGIN + number * (HEIGHT + _GAP_Y))
    height = len(rows) * HEIGHT + max(0, len(rows) - 1) * _GAP_Y
    return Layout(places, whole + 2 * _MARGIN, height + 2 * _MARGIN)


def draw(nodes: Sequence[Node], edges: Sequence[tuple[str, str]]) -> str:
    """Return the picture as an SVG element: every text in it escaped, nothing in it loaded or run."""
    layout = lay_out([node.name for node in nodes], edges)
    lines = [
        _line(layout.places[source], layout.places[target])
        for source, target in edges
        if source in layout.places and target in layout.places and source != target
    ]
    boxes = [_box(node, *layout.places[node.name]) for node in nodes]
    count = f"{len(nodes)} service{'' if len(nodes) == 1 else 's'}"
    return (
        f'<svg class="picture" role="img" xmlns="http://www.w3.org/2000/svg"'
        f' aria-label="Picture of the topology: {count}; the table says the same in words"'
        f' viewBox="0 0 {layout.width} {layout.height}" width="{layout.width}" height="{layout.height}">'
        f"{''.join(lines)}{''.join(boxes)}</svg>"
    )


def _middle(places: Sequence[float]) -> float:
    return sum(places) / len(places) if places else 0.5


def _line(source: tuple[int, int], target: tuple[int, int]) -> str:
    x1, y1 = source[0] + WIDTH // 2, source[1] + HEIGHT
    x2, y2 = target[0] + WIDTH // 2, target[1]
    bend = (y2 - y1) // 2
    tip = f"M{x2 - 4} {y2 - 7}L{x2} {y2}L{x2 + 4} {y2 - 7}"
    return f'<path class="wire" d="M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}{tip}"/>'


def _box(node: Node, x: int, y: int) -> str:
    note = f"{_MARKS.get(node.tone, '○')} {node.note}{' ↗' if node.exposed else ''}"
    tone = escape(node.tone)
    return (
        f'<g class="node {tone}"><title>{_clean(f"{node.name}: {node.note}")}</title>'
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="9"/>'
        f'<text class="name" x="{x + 12}" y="{y + 22}">{_clean(shortened(node.name))}</text>'
        f'<text class="note" x="{x + 12}" y="{y + 40}">{_clean(shortened(note, _MOST_COLUMNS + 4))}</text>'
        "</g>"
    )


def shortened(text: str, columns: int = _MOST_COLUMNS) -> str:
    """Cut a text to so many columns, the last one an ellipsis when something is missing."""
    taken = 0
    for index, character in enumerate(text):
        wide = _columns(character)
        if taken + wide > columns or (taken + wide == columns and index < len(text) - 1):
            return f"{text[:index]}…"
        taken += wide
    return text


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _clean(text: str) -> str:
    """Escape a text; control characters, which XML does not allow, become spaces."""
    return escape(
        "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text)
    )
