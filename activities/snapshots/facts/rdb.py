"""Facts of a Redis, from its RDB file (`rdb_file`).

A collection has many encodings, and which one it has may change when it is loaded: its elements are compared,
not its bytes, and without their order where that has no meaning.
"""

from collections.abc import Sequence
from itertools import starmap
from typing import Final

from activities.snapshots.facts.crc64 import Crc64
from activities.snapshots.facts.observer import Observer
from activities.snapshots.facts.packed import integers, listpack, ziplist
from activities.snapshots.facts.tallies import Counting, digest_of, new_digest, number, sum_of
from activities.snapshots.rdb_file import DOUBLE, KINDS, NODES, PLAIN, STRING, TIMED, TIMED_PACKED, RdbReading
from activities.snapshots.reading import LONGEST, ContentBroken, Steps, Unknown
from workflows.domain.snapshot_facts import Facts, Format, Kind

_PACKED: Final = {
    **dict.fromkeys((10, 14), (ziplist, 1)),
    11: (integers, 1),
    **dict.fromkeys((12, 13), (ziplist, 2)),
    **dict.fromkeys((16, 17), (listpack, 2)),
    **dict.fromkeys((NODES, 20), (listpack, 1)),
    TIMED_PACKED: (listpack, 3),
}
"""How what is packed is found by its type, and how many belong together."""


class RdbObserver(RdbReading, Observer):
    """Counts and digests of keys by database: those that stay, and those that expire after the dump.

    A key that had expired when the dump was made is not counted, whether or not the server had noticed.
    Fields of a hash that expire by themselves are counted as one more key that does, with the first of them.
    """

    format = Format.RDB

    def __init__(self) -> None:
        self._keys: dict[int, list[int]] = {}
        self._expiring: dict[int, list[int]] = {}
        self._libraries = Counting(Kind.LIBRARIES)
        self._made_ms: int | None = None
        self._expires_ms: int | None = None
        self._first: int | None = None
        self._passing = 0
        self._crc = Crc64()
        self._summed = 0
        super().__init__()

    def _auxiliary(self, name: bytes, value: bytes) -> None:
        if name == b"ctime" and value.isdigit():
            self._made_ms = int(value) * 1000

    def _library(self) -> Steps[None]:
        library = new_digest()
        yield from self._string(library.update)
        self._libraries.add("", 1, 0, number(library))

    def _between(self) -> None:
        """Count at once what is there next of strings that do not expire and are not compressed.

        Large stores are full of them.
        """
        data, at, last, keys = self._data, self._at, len(self._data) - 2, []
        while at <= last and data[at] == STRING:
            end = at + 1
            for _ in range(2):
                if end > last or (first := data[end]) > 0x7F:
                    end = 0
                    break
                end += 1 + first if first < 0x40 else 2 + ((first & 0x3F) << 8 | data[end + 1])
            if not at < end <= last:
                break
            keys.append(data[at + 1 : end])
            at = end
        self._at = at
        if keys:
            self._count(len(keys), sum_of(keys))

    def _count(self, keys: int, value: int, expires: int | None = None) -> None:
        kept = self._keys
        if expires is not None:
            if self._is_over(expires):
                return
            self._expires_ms = min(expires, self._expires_ms or expires)
            kept, value = self._expiring, digest_of(value, expires)
        sums = kept.setdefault(self._database, [0, 0])
        sums[0] += keys
        sums[1] += value

    def _is_over(self, expires: int) -> bool:
        return self._made_ms is not None and expires <= self._made_ms

    def _key(self, code: int) -> Steps[None]:
        """Count a key, with the digest of itself and its value."""
        key, kind = new_digest(), KINDS[code]
        yield from self._string(key.update)
        if code == STRING:
            yield from self._string(key.update)
            self._count(1, number(key), self._expires)
            return
        if kind == "stream":
            whole = new_digest()
            yield from self._stream(code, whole.update)
            count, value = 1, number(whole)
        else:
            count, value = yield from self._collection(code, kind)
        if count:
            self._count(1, digest_of(number(key), kind, value), self._expires)
        if self._first is not None:
            expires = min(self._first, self._expires or self._first)
            self._count(1, digest_of(number(key), "fields", self._passing), expires)
            self._first, self._passing = None, 0

    def _collection(self, code: int, kind: str) -> Steps[tuple[int, int]]:
        """Return how many elements there are, and the digest of all."""
        count, members, ordered = 0, 0, new_digest()
        for item in self._items(code, self._text):
            if item is None:
                yield
                continue
            elements = self._elements(code, item) if code in _PACKED else (item,)
            if code in TIMED:
                elements = self._lasting(elements)
            count += len(elements)
            if kind == "list":
                for (element,) in elements:
                    ordered.update(b"%d:" % len(element))
                    ordered.update(element)
            else:
                members += sum(starmap(digest_of, elements))
        return count, digest_of(count, number(ordered) if kind == "list" else members)

    def _lasting(self, fields: Sequence[tuple[bytes, ...]]) -> Sequence[tuple[bytes, ...]]:
        """Return the fields that never expire; sum up those that will."""
        lasting = []
        for name, value, time in fields:
            if not (expires := int(time)):
                lasting.append((name, value))
            elif not self._is_over(expires):
                self._passing += digest_of(name, value, expires)
                self._first = min(expires, self._first or expires)
        return lasting

    def _elements(self, code: int, item: tuple[bytes, ...]) -> Sequence[tuple[bytes, ...]]:
        if code == NODES and item[0] == PLAIN:
            return (item[1:],)
        if len(item[-1]) > LONGEST:
            raise Unknown("an RDB file with a very large packed value")
        unpacked, together = _PACKED[code]
        texts = unpacked(item[-1])
        if KINDS[code] == "zset":
            return tuple(zip(texts[::2], map(DOUBLE.pack, map(float, texts[1::2])), strict=True))
        return tuple(zip(*[iter(texts)] * together, strict=True))

    def _checksum(self) -> Steps[None]:
        self._sum_up()
        given = int.from_bytes((yield from self._take(8)), "little")
        if given not in (0, self._crc.value):
            raise ContentBroken("the RDB file has another checksum than its own")

    def _content(self, size: int, full: int, encoding: int | None) -> Steps[bytes]:
        """Return a string's content; of a very long one its beginning, length and digest."""
        if max(size, full) > LONGEST:
            digest = new_digest(b"%d:" % full)
            yield from self._hand(size, digest.update)
            return bytes(LONGEST) + digest.digest()
        return (yield from super()._content(size, full, encoding))

    def _done(self) -> int:
        self._sum_up()
        self._summed = 0
        return super()._done()

    def _sum_up(self) -> None:
        self._crc.update(self._data[self._summed : self._at])
        self._summed = self._at

    def _found(self) -> Facts:
        counted = [self._libraries]
        for kind, databases in ((Kind.KEYS, self._keys), (Kind.EXPIRING_KEYS, self._expiring)):
            counting = Counting(kind)
            for database, (count, value) in databases.items():
                counting.add(str(database), count, 0, value)
            counted.append(counting)
        times = {"at_ms": self._made_ms, "expires_ms": self._expires_ms}
        return self._facts(*counted).model_copy(update=times)
