"""Counting while bytes go by: sums of digests, which do not depend on the order of what is summed.

The digests are 64 bits of BLAKE2b. They are there to find what got lost or changed by accident; against those
who would change a snapshot on purpose it is sealed (docs/adr/0025-sealed-streams.md).
"""

import sys
from array import array
from collections.abc import Iterable
from functools import partial
from hashlib import blake2b
from operator import methodcaller
from typing import Final, TypeAlias

from workflows.domain.snapshot_facts import Entry, Kind, Tally, listed

DIGEST_BYTES: Final = 8
MOST_NAMES: Final = 20_000
"""Names that are kept in memory for one tally; of one with more, only the totals are told."""
Digest: TypeAlias = blake2b
new_digest = partial(blake2b, digest_size=DIGEST_BYTES)
_digest: Final = methodcaller("digest")
_MASK: Final = (1 << 64) - 1


def number(digest: Digest) -> int:
    """Return a digest as what sums are made of."""
    return int.from_bytes(digest.digest(), "little")


def digest_of(*parts: bytes | int | str) -> int:
    """Return the digest of parts as a number; the same bytes parted at another place give another one."""
    whole = new_digest()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode(errors="surrogateescape")
        whole.update(b"%d:" % len(data))
        whole.update(data)
    return number(whole)


def sum_of(pieces: Iterable[bytes]) -> int:
    """Return the sum of the digests of all pieces: no line of Python for each, for there are millions."""
    digests = array("Q", b"".join(map(_digest, map(new_digest, pieces))))
    if sys.byteorder == "big":
        digests.byteswap()
    return sum(digests)


class Counting:
    """A tally under way."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._total = [0, 0, 0]
        self._names: dict[str, list[int]] | None = {}

    def add(self, name: str, count: int, size: int, value: int) -> None:
        """Count `count` more under a name, with the sum of their digests.

        How what belongs to one name is divided into calls has to follow from the content alone.
        """
        self._sum(self._total, count, size, digest_of(name, count, value & _MASK))
        if self._names is None:
            return
        sums = self._names.setdefault(name, [0, 0, 0])
        self._sum(sums, count, size, value)
        if len(self._names) > MOST_NAMES:
            self._names = None

    def tally(self) -> Tally:
        """Return what was counted."""
        entries, complete = listed(
            Entry(name=name, count=count, size=size, digest=_hex(value))
            for name, (count, size, value) in (self._names or {}).items()
        )
        count, size, value = self._total
        if not self._total[0] and self._names == {}:
            return Tally(kind=self._kind)
        return Tally(
            kind=self._kind,
            count=count,
            size=size,
            digest=_hex(value),
            entries=entries,
            complete=complete and self._names is not None,
        )

    @staticmethod
    def _sum(sums: list[int], count: int, size: int, value: int) -> None:
        sums[0] += count
        sums[1] += size
        sums[2] = (sums[2] + value) & _MASK


class Lines:
    """Lines of a stream, each one whatever its order among the others; however long, none is kept."""

    def __init__(self) -> None:
        self.count = self.size = self.value = 0
        self._open = new_digest()
        self._tail = b""

    def take(self, data: bytes) -> None:
        """Take the next bytes."""
        first, *more = data.split(b"\n")
        self._open.update(first)
        if more:
            last = more.pop()
            self.value += number(self._open) + sum_of(more)
            self.count += 1 + len(more)
            self._open = new_digest(last)
        self.size += len(data)
        self._tail = (self._tail + data[-16:])[-16:]

    def drop(self, end: bytes) -> bool:
        """Leave out the lines that stand at the end; whether they do."""
        if not self._tail.endswith(end):
            return False
        lines = end.split(b"\n")[:-1]
        self.value -= sum_of(lines)
        self.count -= len(lines)
        self.size -= len(end)
        return True


def _hex(value: int) -> str:
    return f"{value:016x}"
