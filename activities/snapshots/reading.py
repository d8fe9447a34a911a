"""Reading a stream while it goes by: what the readers of all formats have in common.

A reader is a generator that yields whenever it needs more bytes than there are: its code is written as if it
had all of them, while memory stays bounded and it does not matter how the stream is cut in pieces. A format
is read in one place, on which both stand that have to know it: facts, and masking.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from enum import Enum, auto
from typing import Final, TypeVar

from workflows.domain.masking import DumpUnreadable

LONGEST: Final = 1024 * 1024
"""Most bytes that are kept at once of what is read as a whole."""

T = TypeVar("T")
Steps = Generator[None, None, T]


class ContentBroken(Exception):
    """A stream is not a whole archive of its kind: cut, or not one at all."""


class Unknown(Exception):
    """A stream is of a version, or holds something, that is not known here."""


class Reading(ABC):
    """A stream, and the place up to which it was read."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._gone = 0
        self._coming: list[bytes] = []
        self._wanted = 0
        self._ended = False
        self._steps = self._read()

    @abstractmethod
    def _read(self) -> Steps[None]:
        """Read the stream to its end. Raises ContentBroken, Unknown."""

    def _grow(self, data: bytes) -> bool:
        """Take the next bytes. Whether there are as many now as were waited for."""
        self._coming.append(data)
        self._wanted -= len(data)
        if self._wanted > 0 and not self._ended:
            return False
        self._let_go(self._done())
        self._data = b"".join((self._data, *self._coming))
        self._coming.clear()
        self._wanted = 0
        return True

    def _done(self) -> int:
        """Return up to where nothing is needed any more, before it is let go."""
        return self._at

    def _let_go(self, end: int) -> None:
        self._data = self._data[end:]
        self._at -= end
        self._gone += end

    @property
    def _place(self) -> int:
        """Bytes of the stream that lie before where it is read."""
        return self._gone + self._at

    @property
    def _there(self) -> int:
        """Bytes that can be read at once."""
        return len(self._data) - self._at

    def _need(self, size: int) -> Steps[None]:
        """Wait until there are so many bytes. Raises ContentBroken when there will not be."""
        while self._there < size:
            if self._ended:
                raise ContentBroken("it is cut")
            self._wanted = size - self._there
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

    def _rest(self) -> Steps[None]:
        """Read on to the end, whatever there is."""
        while not (yield from self._at_end()):
            self._at = len(self._data)

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


class Fate(Enum):
    """What becomes of that which is read."""

    PASSES = auto()
    IS_OPEN = auto()
    """It is kept until that is known."""
    ENDS = auto()


class Rewriting(Reading):
    """Hands on what it reads, but for what ends here; what stands in its place is added to `_out`."""

    def __init__(self) -> None:
        super().__init__()
        self._out = bytearray()
        self._fate = Fate.PASSES
        self._settled = 0

    def write(self, data: bytes) -> bytes:
        """Take the next bytes and return what became of those that could be understood. DumpUnreadable."""
        return self._given() if self._grow(data) else b""

    def finish(self) -> bytes:
        """Say that there is no more; return the rest. Raises DumpUnreadable when there should be more."""
        self._ended = True
        self._grow(b"")
        return self._given()

    def _given(self) -> bytes:
        try:
            next(self._steps)
        except StopIteration:
            if self._there:
                raise DumpUnreadable("something follows the end of a dump") from None
        except (ContentBroken, Unknown) as fault:
            raise DumpUnreadable(f"a dump cannot be read: {fault}") from None
        self._settle()
        out = bytes(self._out)
        self._out.clear()
        return out

    def _turn(self, fate: Fate) -> None:
        """Say what becomes of that which is read from here on, and of what was open up to here."""
        self._settle()
        self._fate = fate

    def _settle(self) -> None:
        if self._fate is Fate.PASSES:
            self._out += self._data[self._settled : self._at]
        if self._fate is not Fate.IS_OPEN:
            self._settled = self._at

    def _done(self) -> int:
        self._settle()
        return self._settled

    def _let_go(self, end: int) -> None:
        super()._let_go(end)
        self._settled -= end


def ignore(_data: object) -> None:
    """Take what is of no interest."""
