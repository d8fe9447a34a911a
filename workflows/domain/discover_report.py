"""What a discovery says: the sources that it found, notes on what it did, faults, what was left behind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from workflows.domain.blueprint_tree import MAX_REPORTED
from workflows.domain.errors import FieldError, Path, render_path

MOST_LISTED: Final = 1_000
_LONGEST: Final = 500


class SourceKind(StrEnum):
    """What a file describes services in."""

    COMPOSE = "compose"
    KUBERNETES = "kubernetes"
    DOCKERFILE = "dockerfile"
    HELM = "helm"
    KUSTOMIZE = "kustomize"


class Severity(StrEnum):
    """Whether somebody has to look at a note."""

    INFO = "info"
    WARNING = "warning"


class NoteKind(StrEnum):
    """What a note is about."""

    CHOSEN = "chosen"
    """Which source was taken, and why."""
    LEFT = "left"
    """A source that was found and not taken."""
    UNREADABLE = "unreadable"
    """A file that could not be read."""
    CHANGED = "changed"
    """Carried over in another form."""
    ASSUMED = "assumed"
    """The source does not say it, so that it was filled in."""
    SECRET = "secret"  # noqa: S105 - a word
    """A value that the caller has to give."""


@dataclass(frozen=True, slots=True)
class Note:
    """One remark. `file` is empty when it is about all of them, `place` when it is about a whole file."""

    file: str
    kind: NoteKind
    severity: Severity
    message: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """Something of a file that the Blueprint does not hold; `place` is empty for the whole file."""

    file: str
    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What keeps the Blueprint from being created; `file` is empty when the place is one of the Blueprint."""

    file: str
    error: FieldError


@dataclass(frozen=True, slots=True)
class Source:
    """A file that describes services; `used` when the Blueprint was made from it."""

    file: str
    kind: SourceKind
    used: bool


@dataclass(slots=True)
class Report:
    """The account of one discovery, in the making."""

    notes: list[Note] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def say(self, file: str, kind: NoteKind, message: str, *, place: Path = ()) -> None:
        """Note what is good to know."""
        self._add(Note(file, kind, Severity.INFO, _short(message), _short(render_path(place))))

    def warn(self, file: str, kind: NoteKind, message: str, *, place: Path = ()) -> None:
        """Note what somebody has to look at."""
        self._add(Note(file, kind, Severity.WARNING, _short(message), _short(render_path(place))))

    def _add(self, note: Note) -> None:
        if note not in self.notes[-1:]:
            self.notes.append(note)

    def listed_notes(self) -> tuple[Note, ...]:
        """All notes; beyond 1,000 a last one counts the rest."""
        more = len(self.notes) - MOST_LISTED
        if more <= 0:
            return tuple(self.notes)
        rest = f"{more} more notes after these {MOST_LISTED}"
        return (*self.notes[:MOST_LISTED], Note("", NoteKind.LEFT, Severity.WARNING, rest))

    def listed_left(self) -> tuple[Left, ...]:
        """All that is not carried over; beyond 1,000 a last entry counts the rest."""
        more = len(self.left) - MOST_LISTED
        if more <= 0:
            return tuple(self.left)
        return (*self.left[:MOST_LISTED], Left("", "", f"{more} more after these {MOST_LISTED}"))

    def leave(self, file: str, place: Path, reason: str) -> None:
        """Note what is not carried over."""
        self.left.append(Left(file, _short(render_path(place)), _short(reason)))

    def fault(self, file: str, message: str, suggestion: str | None = None, *, place: Path = ()) -> None:
        """Note what has to be mended."""
        self.faults.append(
            Fault(
                file,
                FieldError(path=place, message=_short(message), suggestion=suggestion and _short(suggestion)),
            )
        )

    def adopt_faults(self, file: str, errors: Iterable[FieldError]) -> None:
        """Take over what the reading of a document found."""
        self.faults.extend(Fault(file, error) for error in errors)

    def bounded_faults(self) -> tuple[Fault, ...]:
        """All faults, those of one reading at most 200 and so are all; a last one counts the rest."""
        more = len(self.faults) - MAX_REPORTED
        if more <= 0:
            return tuple(self.faults)
        rest = FieldError(path=(), message=f"{more} more after these {MAX_REPORTED}")
        return (*self.faults[:MAX_REPORTED], Fault("", rest))


def _short(text: str) -> str:
    """A message with what stood in a file, which may be very long."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
