"""Facts about what a dump holds: recorded when a snapshot is taken, measured again after a restore.

They are read from the stream itself, so they are of the dump's own point, and the same code reads the dump of
the snapshot and the dump of what was restored. What may differ between the two without any loss is left out:
the order of rows, times of dumps, numbers that a server gives by itself (docs/adr/0030-facts-of-a-stream.md).
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final

from workflows.domain.failures import WireModel

VERSION: Final = 1
"""How facts are made. Whoever changes what is counted, or how digests are made, counts this up."""
LARGEST_LIST: Final = 4096
"""Bytes that the entries of one tally may take, roughly, as JSON; the rest is in its totals only."""
MOST_DIFFERENCES: Final = 50
"""Lines that `differences` gives of one pair; one more says how many there are besides."""
_ENTRY_BYTES: Final = 70
"""What an entry takes besides its name."""
_CLOCKS_MS: Final = 60_000
"""How far apart the clocks of two servers may be for what expires."""


class Format(StrEnum):
    """What kind of stream it is."""

    TAR = "tar"
    RDB = "rdb"
    POSTGRES = "postgres"
    """A database, by `pg_dump -Fc`."""
    POSTGRES_GLOBALS = "postgres-globals"
    MARIADB = "mariadb"
    MARIADB_USERS = "mariadb-users"


class Kind(StrEnum):
    """What a tally counts."""

    TABLES = "tables"
    HISTORY = "history"
    """Rows of tables with system versioning, current and past, with their times. Those that are current are
    in `TABLES` too, without them: older facts have no more than that."""
    SEQUENCES = "sequences"
    """`count` is the value that a sequence, or an `AUTO_INCREMENT`, stands at."""
    LARGE_OBJECTS = "large-objects"
    DEFINITIONS = "definitions"
    """Tables, indexes, views, routines and so on, by their kind: names, not texts."""
    STATEMENTS = "statements"
    """Roles, users and rights, by the statements that make them; passwords are left out."""
    FILES = "files"
    """By directory at the top of the volume, `.` for what lies there itself."""
    CONTENTS = "contents"
    """What files hold, apart from their names: where there are hard links, the first name varies."""
    KEYS = "keys"
    """By number of the database: keys that stay."""
    EXPIRING_KEYS = "expiring-keys"
    LIBRARIES = "libraries"


class Entry(WireModel):
    """One of what is counted. `size`: bytes in the dump. `digest`: of its content, in whatever order."""

    name: str
    count: int
    size: int = 0
    digest: str


class Tally(WireModel):
    """All of one kind, and by name as many as there is room for, in the order of their names."""

    kind: Kind
    count: int = 0
    size: int = 0
    digest: str = ""
    entries: tuple[Entry, ...] = ()
    complete: bool = True
    """Whether `entries` are all that there are."""


class Facts(WireModel):
    """What one stream holds. At most a few KiB as JSON, however large it was."""

    format: Format
    version: int = VERSION
    tallies: tuple[Tally, ...] = ()
    unread: str = ""
    """Why nothing is known of it: a version that is not known here. The stream may be good all the same."""
    at_ms: int | None = None
    """Of a Redis: when it was dumped, milliseconds since 1970, by its own clock."""
    expires_ms: int | None = None
    """Of a Redis: when the first key expires."""


def listed(entries: Iterable[Entry], room: int = LARGEST_LIST) -> tuple[tuple[Entry, ...], bool]:
    """Return the first entries by name that there is room for, in bytes, and whether they are all."""
    kept: list[Entry] = []
    for entry in sorted(entries, key=lambda each: each.name):
        room -= len(entry.name.encode()) + _ENTRY_BYTES
        if room < 0:
            return tuple(kept), False
        kept.append(entry)
    return tuple(kept), True


def incomparable(recorded: Facts, measured: Facts) -> str:
    """Say why nothing can be told of two streams of one kind, good or bad; empty: they can be compared."""
    return "" if recorded.format is not measured.format else "; ".join(_unlike(recorded, measured))


def _unlike(recorded: Facts, measured: Facts) -> tuple[str, ...]:
    if recorded.version != measured.version:
        return (f"facts of version {recorded.version} cannot be compared with those of {measured.version}",)
    return tuple(
        f"what was {when} cannot be compared: {facts.unread}"
        for when, facts in (("recorded", recorded), ("found", measured))
        if facts.unread
    )


def differences(recorded: Facts, measured: Facts) -> tuple[str, ...]:
    """Say in words what was recorded and is not what is there now; empty when all is equal.

    Facts that could not be read are a difference too: nothing was proved. Keys that expire are compared only
    as long as none of them can have expired.
    """
    if recorded.format is not measured.format:
        return (f"a stream of kind {recorded.format} was recorded, one of {measured.format} found",)
    if unlike := _unlike(recorded, measured):
        return unlike
    before, now = _by_kind(recorded), _by_kind(measured)
    if (Kind.CONTENTS in before) is not (Kind.CONTENTS in now):
        which = ("recorded, none found", "found, none recorded")[Kind.CONTENTS in now]
        return (f"files with more than one name (hard links) {which}: the rest cannot be compared",)
    lapsed = _may_have_expired(recorded, measured)
    # A dump without any was taken when none could be, or of a server that had none.
    kinds = [kind for kind in Kind if kind is not Kind.HISTORY or kind in before]
    lines = [
        line
        for kind in kinds
        for line in _compare(
            before.get(kind, Tally(kind=kind)),
            now.get(kind, Tally(kind=kind)),
            fewer_is_fine=lapsed and kind is Kind.EXPIRING_KEYS,
        )
    ]
    if len(lines) > MOST_DIFFERENCES:
        lines[MOST_DIFFERENCES:] = [f"and {len(lines) - MOST_DIFFERENCES} differences more"]
    return tuple(lines)


_WORDS: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.TABLES: ("table", "rows"),
    Kind.HISTORY: ("table with its history", "rows"),
    Kind.SEQUENCES: ("sequence", ""),
    Kind.LARGE_OBJECTS: ("large objects", ""),
    Kind.DEFINITIONS: ("definitions of kind", ""),
    Kind.STATEMENTS: ("roles and rights,", "statements"),
    Kind.FILES: ("directory", "files"),
    Kind.CONTENTS: ("contents of files", ""),
    Kind.KEYS: ("database", "keys"),
    Kind.EXPIRING_KEYS: ("database", "keys that expire"),
    Kind.LIBRARIES: ("libraries of functions", ""),
}
"""For each kind what one of it is called, and what is counted of it."""


def _by_kind(facts: Facts) -> dict[Kind, Tally]:
    return {each.kind: each for each in facts.tallies}


def _may_have_expired(recorded: Facts, measured: Facts) -> bool:
    if recorded.expires_ms is None or measured.at_ms is None:
        return False
    return recorded.expires_ms <= measured.at_ms + _CLOCKS_MS


def _compare(before: Tally, now: Tally, *, fewer_is_fine: bool) -> Iterator[str]:
    """Compare by name what both list, and then what is left of the totals."""
    if fewer_is_fine:
        if now.count > before.count:
            yield _line(before.kind, "", before, now)
        return
    if (before.count, before.size, before.digest) == (now.count, now.size, now.digest):
        return
    old, new = ({each.name: each for each in tally.entries} for tally in (before, now))
    names = [name for name in sorted(old | new) if _known(name, before) and _known(name, now)]
    found = [
        _line(before.kind, name, old.get(name), new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]
    yield from found
    rest = tuple((_without(tally, entries, names)) for tally, entries in ((before, old), (now, new)))
    if not found or rest[0] != rest[1]:
        yield (
            f"{before.kind.replace('-', ' ')} that are not listed by name: "
            f"{_counted(before.kind, rest[0], rest[1])}"
        )


def _known(name: str, tally: Tally) -> bool:
    """Whether a name that a tally does not list is not there at all: entries are the first by name."""
    return tally.complete or (bool(tally.entries) and name <= tally.entries[-1].name)


def _without(tally: Tally, entries: Mapping[str, Entry], names: Iterable[str]) -> tuple[int, int]:
    """Count and bytes of what is not compared by name."""
    own = [entries[name] for name in names if name in entries]
    return tally.count - sum(each.count for each in own), tally.size - sum(each.size for each in own)


def _line(kind: Kind, name: str, before: Entry | Tally | None, now: Entry | Tally | None) -> str:
    noun, unit = _WORDS[kind]
    what = f"{noun} {name}".strip()
    if before is None:
        return f"{what}: not recorded, found{_with(now, unit)}"
    if now is None:
        return f"{what}: recorded{_with(before, unit)}, not found"
    return f"{what}: {_counted(kind, (before.count, before.size), (now.count, now.size))}"


def _with(what: Entry | Tally | None, unit: str) -> str:
    return f" with {what.count}{_of(unit)}" if what is not None else ""


def _of(unit: str) -> str:
    return f" {unit}" if unit else ""


def _counted(kind: Kind, before: tuple[int, int], now: tuple[int, int]) -> str:
    unit = _of(_WORDS[kind][1])
    if before[0] != now[0]:
        return f"{before[0]}{unit} recorded, {now[0]} found"
    same = f"{before[0]}{unit} as recorded, but with other content"
    return same if before[1] == now[1] else f"{same}: {before[1]} bytes recorded, {now[1]} found"
