"""Files of a restored volume that are not as they were captured: did they come so, or were they written to?

A restore gives a file the time that it had when it was captured, after its content, and a directory after
what is in it. Who writes to them later changes that time. So what differs and still has its time came wrong;
what has another one was written, made, moved or removed by somebody since (ADR 0039).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from activities.snapshots.facts.tar import Seen

_DIRECTORY: Final = "directory"
_FILE: Final = "file"
_CLOCKS: Final = 60
"""Seconds that the clock of who writes files may be behind that of who took the snapshot."""
_MOST_NAMES: Final = 5
_LONGEST_NAME: Final = 80

Members = Mapping[bytes, Seen]


class _Verdict(Enum):
    CAME_WRONG = auto()
    SINCE = auto()
    OPEN = auto()


@dataclass(frozen=True, slots=True)
class Differing:
    """The paths that differ. Those written, gone and new became so after the restore."""

    came_wrong: frozenset[bytes] = frozenset()
    open: frozenset[bytes] = frozenset()
    """Of these it cannot be told."""
    written: frozenset[bytes] = frozenset()
    gone: frozenset[bytes] = frozenset()
    new: frozenset[bytes] = frozenset()

    def __str__(self) -> str:
        """What became of files since, with the first names."""
        told = (
            (f"{len(self.written)} written since ({_named(self.written)})", self.written),
            (f"{len(self.gone)} gone since ({_named(self.gone)})", self.gone),
            (f"{len(self.new)} new since ({_named(self.new)})", self.new),
        )
        return ", ".join(text for text, paths in told if paths)


def differing(captured: Members, found: Members, taken: float) -> Differing:
    """Compare what was captured with what is there, by path. `taken`: when that was, since 1970."""
    paths = [
        path
        for path in captured.keys() | found.keys()
        if path and _digest(captured, path) != _digest(found, path)
    ]
    judge = _Judge(captured, found, taken - _CLOCKS)
    verdicts = {path: judge.of(path) for path in paths}
    since = frozenset(path for path, verdict in verdicts.items() if verdict is _Verdict.SINCE)
    return Differing(
        came_wrong=frozenset(path for path in paths if verdicts[path] is _Verdict.CAME_WRONG),
        open=frozenset(path for path in paths if verdicts[path] is _Verdict.OPEN),
        written=since & captured.keys() & found.keys(),
        gone=since - found.keys(),
        new=since - captured.keys(),
    )


class _Judge:
    """Says of a path that differs how it came to that."""

    def __init__(self, captured: Members, found: Members, taken: float) -> None:
        self._captured = captured
        self._found = found
        self._taken = taken
        kept = {path for path, seen in captured.items() if found.get(path) == seen}
        files = any(seen.kind == _FILE for seen in captured.values())
        # Without one file that is as it was, times may be something that this storage does not keep; and
        # nothing would have been compared.
        self._times_are_kept = not files or any(captured[path].kind == _FILE for path in kept)
        # Busybox gives a directory its time before it fills it.
        full = {_above(path) for path in captured.keys() & found.keys() if path}
        self._directories_are_kept = any(
            path in found and captured[path].time == found[path].time for path in full & captured.keys()
        )

    def of(self, path: bytes) -> _Verdict:
        before, now = self._captured.get(path), self._found.get(path)
        if now is None:
            return self._by_directory(path)
        if before is None:
            return _Verdict.SINCE if now.time >= self._taken else self._by_directory(path)
        if before.kind != now.kind or before.kind not in (_FILE, _DIRECTORY):
            return self._by_directory(path)
        if before.time == now.time or before.kind == _DIRECTORY:  # a directory's mode has no time
            return _Verdict.CAME_WRONG
        if now.time < self._taken:  # moved here, or given a time of its own
            moved = self._by_directory(path) is _Verdict.SINCE
            return self._since_or_open() if moved else _Verdict.OPEN
        return self._since_or_open()

    def _since_or_open(self) -> _Verdict:
        return _Verdict.SINCE if self._times_are_kept else _Verdict.OPEN

    def _by_directory(self, path: bytes) -> _Verdict:
        """Judge what is made and removed, not written: by the directory that it is in, or was."""
        above = _above(path)
        before, now = self._captured.get(above), self._found.get(above)
        if before is None or now is None or before.kind != now.kind:
            return self.of(above) if above else _Verdict.OPEN
        if before.time == now.time:
            return _Verdict.CAME_WRONG
        return self._since_or_open() if self._directories_are_kept else _Verdict.OPEN


def _digest(members: Members, path: bytes) -> int | None:
    seen = members.get(path)
    return None if seen is None else seen.digest


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def named(path: bytes) -> str:
    """Return a path for a message."""
    name = path.decode(errors="backslashreplace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _named(paths: frozenset[bytes]) -> str:
    return ", ".join(_first(paths))


def _first(paths: frozenset[bytes]) -> Iterator[str]:
    yield from (named(path) for path in sorted(paths)[:_MOST_NAMES])
    if len(paths) > _MOST_NAMES:
        yield f"and {len(paths) - _MOST_NAMES} more"
