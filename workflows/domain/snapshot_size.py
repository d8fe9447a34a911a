"""How large a snapshot may get as it is written down: that goes through Temporal, which takes 2 MiB at once.

A stream takes about 1.1 KiB, and what its facts list by name up to 13 KiB more. So lists are cut where there
are many streams; what was counted over all stays, and by that a restore is proved all the same.
"""

from collections.abc import Iterable
from typing import Final

from workflows.domain.snapshot_facts import LARGEST_LIST, Facts, Tally, listed
from workflows.domain.snapshot_manifest import SnapshotManifest, StoredComponent, StoredPart

MOST_STREAMS: Final = 1_000
"""Of one snapshot. Without any list they fit, whatever their names are."""
LARGEST_COMPONENTS: Final = 1_500_000
"""Bytes of all components as JSON; a load adds a key for each stream."""
LARGEST_MANIFEST: Final = 1_900_000
"""Bytes of a manifest as JSON; its Blueprint may take more than what is left besides the components."""


class SnapshotTooLarge(Exception):
    """A snapshot cannot be written down; the text says how large it is, and what the limit is."""


def check_streams(service: str, streams: int, besides: int) -> None:
    """Refuse more streams than a snapshot can have: `streams` of a service, `besides` of others.

    Raises SnapshotTooLarge.
    """
    if streams + besides > MOST_STREAMS:
        others = f", and there are {besides} of other services" if besides else ""
        raise SnapshotTooLarge(
            f"{service} has {streams} streams of data (one for each database or volume){others}; "
            f"a snapshot has at most {MOST_STREAMS}"
        )


def fitted(
    components: Iterable[StoredComponent], largest: int = LARGEST_COMPONENTS
) -> tuple[StoredComponent, ...]:
    """Return components with lists cut, all alike, as far as is needed. Raises SnapshotTooLarge."""
    fitting = whole = tuple(components)
    room = LARGEST_LIST
    while (size := _size(fitting)) > largest:
        if not room:
            raise SnapshotTooLarge(f"its data take {size} bytes to write down, {largest} are possible")
        room = room // 2 if room > 256 else 0
        fitting = tuple(_cut(each, room) for each in whole)
    return fitting


def fitted_manifest(manifest: SnapshotManifest) -> SnapshotManifest:
    """Return a manifest that can be written down. Raises SnapshotTooLarge."""
    rest = len(manifest.model_copy(update={"components": ()}).model_dump_json().encode())
    largest = min(LARGEST_COMPONENTS, LARGEST_MANIFEST - rest)
    return manifest.model_copy(update={"components": fitted(manifest.components, largest)})


def _size(components: tuple[StoredComponent, ...]) -> int:
    return sum(len(each.model_dump_json().encode()) for each in components)


def _cut(component: StoredComponent, room: int) -> StoredComponent:
    return component.model_copy(update={"parts": tuple(_cut_part(each, room) for each in component.parts)})


def _cut_part(part: StoredPart, room: int) -> StoredPart:
    return part if part.facts is None else part.model_copy(update={"facts": _cut_facts(part.facts, room)})


def _cut_facts(facts: Facts, room: int) -> Facts:
    return facts.model_copy(update={"tallies": tuple(_cut_tally(each, room) for each in facts.tallies)})


def _cut_tally(tally: Tally, room: int) -> Tally:
    entries, all_of_them = listed(tally.entries, room)
    return tally.model_copy(update={"entries": entries, "complete": tally.complete and all_of_them})
