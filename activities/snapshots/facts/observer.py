"""Observers of streams: what they have in common."""

from abc import abstractmethod

from activities.snapshots.facts.tallies import Counting
from activities.snapshots.reading import ContentBroken, Reading, Unknown
from workflows.domain.snapshot_facts import Facts, Format, Tally


class Observer(Reading):
    """Reads one stream. `write` all its pieces, then ask for its `facts`.

    `write` never raises: what is wrong with a stream must not end the dump before it has been told why.
    """

    format: Format

    def __init__(self) -> None:
        super().__init__()
        self._fault: ContentBroken | Unknown | None = None

    @abstractmethod
    def _found(self) -> Facts:
        """Return the facts, when all was read."""

    def write(self, data: bytes) -> None:
        """Take the next bytes of the stream: some milliseconds of calculation for each megabyte."""
        if self._fault is None and self._grow(data):
            self._advance()

    def facts(self) -> Facts:
        """Return what the stream held, now that it has ended. Raises ContentBroken."""
        if not self._ended:
            self._ended = True
            self.write(b"")
        if isinstance(self._fault, Unknown):
            return Facts(format=self.format, unread=str(self._fault))
        if self._fault is not None:
            raise self._fault
        return self._found()

    def _facts(self, *counted: Counting) -> Facts:
        tallies = (each.tally() for each in counted)
        return Facts(
            format=self.format, tallies=tuple(each for each in tallies if each != Tally(kind=each.kind))
        )

    def _advance(self) -> None:
        try:
            next(self._steps)
        except StopIteration:
            if self._at < len(self._data):
                self._fault = ContentBroken("there is something behind its end")
        except (ContentBroken, Unknown) as fault:
            self._fault = fault
        except (ValueError, IndexError) as fault:  # a number that is none, a place that is not there
            self._fault = ContentBroken("it cannot be read")
            self._fault.__cause__ = fault
        if self._fault is not None:
            self._data = b""
