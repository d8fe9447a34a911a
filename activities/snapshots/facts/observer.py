"""Reading a stream while it goes by: what its readers have in common.

A reader is a generator that yields whenever it needs more bytes than there are: its code is written as if it
had all of them, while memory stays bounded and it does not matter how the stream is cut in pieces.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Final, TypeVar

from activities.snapshots.facts.tallies import Counting
from workflows.domain.snapshot_facts import Facts, Format, Tally

LONGEST: Final = 1024 * 1024
"""Most bytes that are kept at once of what is read as a whole."""

T = TypeVar("T")
Steps = Generator[None, None, T]


class ContentBroken(Exception):
    """A stream is not a whole archive of its kind: cut, or not one at all."""


class Unknown(Exception):
    """A stream is of a version, or holds something, that is not known here."""


class Observer(ABC):
    """Reads one stream. `write` all its pieces, then ask for its `facts`.

    `write` never raises: what is wrong with a stream must not end the dump before it has been told why.
    """

    format: Format

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._ended = False
        self._fault: ContentBroken | Unknown | None = None
        self._steps = self._read()
        self._advance()

    @abstractmethod
    def _read(self) -> Steps[None]:
        """Read the stream to its end. Raises ContentBroken, Unknown."""

    @abstractmethod
    def _found(self) -> Facts:
        """Return the facts, when all was read."""

    def write(self, data: bytes) -> None:
        """Take the next bytes of the stream: some milliseconds of calculation for each megabyte."""
        if self._fault is None:
            self._drop()
            self._data += data
            self._advance()

    def facts(self) -> Facts:
        """Return what the stream held, now that it has ended. Raises ContentBroken."""
        if not self._ended:
            self._ended = True
            self._advance()
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

    def _drop(self) -> None:
        """Let go of what was read."""
        self._data = self._data[self._at :]
        self._at = 0

    @property
    def _there(self) -> int:
        """Bytes that can be read at once."""
        return len(self._data) - self._at

    def _need(self, size: int) -> Steps[None]:
        """Wait until there are so many bytes. Raises ContentBroken when there will not be."""
        while self._there < size:
            if self._ended:
                raise ContentBroken("it is cut")
            yield

    def _take(self, size: int) -> Steps[bytes]:
        """Return so many bytes, at most a few MiB."""
        if self._there < size:
            yield from self._need(size)
        start = self._at
        self._at = start + size
        return self._data[start : self._at]

    def _hand(self, size: int, take: Callable[[bytes], object]) -> Steps[None]:
        """Hand on so many bytes, in pieces."""
        while size > 0:
            if not self._there:
                yield from self._need(1)
            piece = self._data[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            take(piece)

    def _at_end(self) -> Steps[bool]:
        """Whether the stream has ended here."""
        while not self._there and not self._ended:
            yield
        return not self._there

    def _line(self) -> Steps[bytes]:
        """Return the next line without its end, the beginning of it when it is very long; b"" at the end."""
        while (end := self._data.find(b"\n", self._at)) < 0 and self._there < LONGEST and not self._ended:
            yield
        if end < 0:
            line = self._data[self._at : self._at + LONGEST]
            self._at += len(line)
            yield from self._skip_line()
            return line
        line = self._data[self._at : end]
        self._at = end + 1
        return line

    def _skip_line(self) -> Steps[None]:
        while (end := self._data.find(b"\n", self._at)) < 0:
            self._at = len(self._data)
            if self._ended:
                return
            yield
        self._at = end + 1
