"""How an RDB file of Redis is written.

    "REDIS" | version, 4 digits | auxiliary fields | database, its keys | ... | 0xFF | CRC-64

The checksum is looked at by those who want to know (`facts.rdb`): it costs more than the rest of reading.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Generator
from struct import Struct
from typing import Final

from activities.snapshots.reading import ContentBroken, Reading, Steps, Unknown, ignore

_OLDEST, _NEWEST = 6, 12
_DATABASE: Final = 0xFE
_AUXILIARY: Final = 0xFA
_FUNCTIONS: Final = 0xF5
_SIZES: Final = {0xFB: 2, 0xF4: 3}
"""Sizes of the tables that are to come, of a whole database and of a slot."""
_EXPIRES: Final = {0xFD: (4, 1000), 0xFC: (8, 1)}
"""Bytes of the time when the next key expires, and milliseconds of its unit."""
_IDLE: Final = 0xF8
_USED: Final = 0xF9
_OF_THE_NEXT_KEY: Final = frozenset({*_EXPIRES, _IDLE, _USED})
_END: Final = 0xFF
_MARK_BYTES: Final = 40
_MARK: Final = re.compile(rb"[0-9a-f]+")
"""What `redis-cli --rdb -` leaves at the end: by it a server that does not know the size says where it is."""
STRING: Final = 0
KINDS: Final = {
    STRING: "string",
    **dict.fromkeys((1, 10, 14, 18), "list"),
    **dict.fromkeys((2, 11, 20), "set"),
    **dict.fromkeys((3, 5, 12, 17), "zset"),
    **dict.fromkeys((4, 13, 16, 24, 25), "hash"),
    **dict.fromkeys((15, 19, 21), "stream"),
}
"""What a value is, by the type under which it is written."""
_SORTED_OLD, _HASH, _SORTED, NODES, _TIMED, TIMED_PACKED = 3, 4, 5, 18, 24, 25
TIMED: Final = frozenset({_TIMED, TIMED_PACKED})
"""Hashes whose fields have their own times to expire."""
_COUNTED: Final = frozenset({1, 2, _SORTED_OLD, _HASH, _SORTED, 14, NODES, _TIMED})
"""Types whose number of items stands before them; of others, all is one packed string."""
_STREAMS: Final = (15, 19, 21)
PLAIN: Final = b"1"
_LONG_LENGTHS: Final = {0x80: 4, 0x81: 8}
_LZF: Final = 3
DOUBLE: Final = Struct("<d")
_NO_NUMBERS: Final = {253: b"nan", 254: b"inf", 255: b"-inf"}
"""What stands for a score in place of its length."""


class RdbReading(Reading):
    """Reads an RDB file, key by key."""

    _database = 0
    _expires: int | None = None
    """When the key that comes next does, in milliseconds since 1970."""

    @abstractmethod
    def _key(self, code: int) -> Steps[None]:
        """Read a key and its value of this type."""

    @abstractmethod
    def _checksum(self) -> Steps[None]:
        """Read the checksum: 8 bytes, of all before it."""

    def _between(self) -> None:
        """Do what is to be done where a key may begin, or the times before it."""

    def _library(self) -> Steps[None]:
        """Read the code of a library of functions."""
        yield from self._string(ignore)

    def _auxiliary(self, name: bytes, value: bytes) -> None:
        """Take note of what is said of the file."""

    def _read(self) -> Steps[None]:
        yield from self._start()
        code = _DATABASE
        while code != _END:
            if code not in _OF_THE_NEXT_KEY:
                self._between()
            code = (yield from self._take(1))[0]
            if code in KINDS:
                yield from self._key(code)
                self._expires = None
            elif code != _END:
                yield from self._note(code)
        yield from self._checksum()
        if not (yield from self._at_end()) and not _MARK.fullmatch((yield from self._take(_MARK_BYTES))):
            raise ContentBroken("there is something behind its end")

    def _note(self, code: int) -> Steps[None]:
        """Read what is said of the file, a database, or the key that comes next."""
        if code in _EXPIRES:
            size, unit = _EXPIRES[code]
            self._expires = int.from_bytes((yield from self._take(size)), "little") * unit
        elif code == _DATABASE:
            self._database = yield from self._length()
        elif code in _SIZES:
            for _ in range(_SIZES[code]):
                yield from self._length()
        elif code == _AUXILIARY:
            name = yield from self._text()
            self._auxiliary(name, (yield from self._text()))
        elif code == _USED:  # how often
            yield from self._take(1)
        elif code == _IDLE:  # how long
            yield from self._length()
        elif code == _FUNCTIONS:
            yield from self._library()
        else:
            raise Unknown(f"an RDB file with something of type {code}")

    def _start(self) -> Steps[None]:
        start = yield from self._take(9)
        if start[:5] != b"REDIS" or not start[5:].isdigit():
            raise ContentBroken("it is no RDB file")
        if not _OLDEST <= int(start[5:]) <= _NEWEST:
            raise Unknown(f"an RDB file of version {int(start[5:])}")

    def _skip_value(self, code: int) -> Steps[None]:
        if code in _STREAMS:
            yield from self._stream(code, ignore)
            return
        for item in self._items(code, self._skip):
            if item is None:
                yield

    def _items(self, code: int, string: Callable[[], Steps[bytes]]) -> Generator[tuple[bytes, ...] | None]:
        """Yield the items of a collection as they are written, and None where bytes are waited for.

        Strings are read by `string`. An item is an element, or a string that has packed ones; of a hash field
        and value, and when it expires in a hash of `TIMED` (0: never); of a sorted set member and score, as a
        double; of a list of nodes how a node is written (`PLAIN`: it is one element), and the node.
        """
        first = int.from_bytes((yield from self._take(8)), "little") if code in TIMED else 0
        for _ in range((yield from self._length()) if code in _COUNTED else 1):
            if code == _HASH:
                yield (yield from string()), (yield from string())
            elif code in (_SORTED_OLD, _SORTED):
                yield (yield from string()), (yield from self._score(code))
            elif code == NODES:
                yield b"%d" % (yield from self._length()), (yield from string())
            elif code == _TIMED:
                after = yield from self._length()
                field, value = (yield from string()), (yield from string())
                yield field, value, b"%d" % (first + after - 1 if after else 0)
            else:
                yield ((yield from string()),)

    def _score(self, code: int) -> Steps[bytes]:
        if code == _SORTED:
            return (yield from self._take(8))
        size = (yield from self._take(1))[0]
        return DOUBLE.pack(float(_NO_NUMBERS.get(size) or (yield from self._take(size))))

    def _stream(self, code: int, take: Callable[[bytes], object]) -> Steps[None]:
        """Hand on a stream: entries, groups and what waits in them. Not when somebody read last."""
        version = _STREAMS.index(code) + 1
        for _ in range((yield from self._length())):
            for _ in range(2):  # the first id, and entries from there on
                yield from self._string(take)
        # Length, last and first id, highest one deleted, how many ever.
        yield from self._numbers(3 if version == 1 else 8, take)
        for _ in range((yield from self._length())):
            yield from self._string(take)
            yield from self._numbers(2 if version == 1 else 3, take)  # last id handed out, how many were
            for _ in range((yield from self._length())):
                take((yield from self._take(16)))
                yield from self._take(8)
                yield from self._numbers(1, take)
            for _ in range((yield from self._length())):
                yield from self._string(take)
                yield from self._take(8 if version < 3 else 16)
                for _ in range((yield from self._length())):
                    take((yield from self._take(16)))

    def _numbers(self, count: int, take: Callable[[bytes], object]) -> Steps[None]:
        for _ in range(count):
            take(b"%d," % (yield from self._length()))

    def _head(self) -> Steps[tuple[int, int | None, bytes]]:
        """Return a length, and None; or 0, and how the string is encoded; and the bytes that say it."""
        start = yield from self._take(1)
        first = start[0]
        if first < 0x40:
            return first, None, start
        if first < 0x80:
            more = yield from self._take(1)
            return (first & 0x3F) << 8 | more[0], None, start + more
        if first in _LONG_LENGTHS:
            more = yield from self._take(_LONG_LENGTHS[first])
            return int.from_bytes(more), None, start + more
        if not 0 <= first - 0xC0 <= _LZF:
            raise ContentBroken("the RDB file has a length that is not written as it is known")
        return 0, first & 0x3F, start

    def _length(self) -> Steps[int]:
        length, encoding, _ = yield from self._head()
        if encoding is not None:
            raise ContentBroken("the RDB file has a string where a number belongs")
        return length

    def _stored(self) -> Steps[tuple[int, int, int | None, bytes]]:
        """Return of a string its bytes in the file and in full, how it is encoded, and what says all this."""
        size, encoding, head = yield from self._head()
        if encoding is None:
            return size, size, None, head
        if encoding < _LZF:
            return 1 << encoding, 1 << encoding, encoding, head
        size, odd, first = yield from self._head()
        full, odder, second = yield from self._head()
        if odd is not None or odder is not None:
            raise ContentBroken("the RDB file has a string where a number belongs")
        return size, full, encoding, head + first + second

    def _string(self, take: Callable[[bytes], object]) -> Steps[None]:
        """Hand on a string as it is written, which follows from its content; nothing is kept of it."""
        if end := self._short():
            take(self._data[self._at : end])
            self._at = end
            return
        size, _, _, head = yield from self._stored()
        take(head)
        yield from self._hand(size, take)

    def _skip(self) -> Steps[bytes]:
        yield from self._string(ignore)
        return b""

    def _text(self) -> Steps[bytes]:
        """Return a string's content."""
        if end := self._short():
            text = self._data[self._at + 1 : end]
            self._at = end
            return text
        size, full, encoding, _ = yield from self._stored()
        return (yield from self._content(size, full, encoding))

    def _short(self) -> int:
        """Return where a string ends that is less than 64 bytes and all there, as most are; else 0."""
        data, at = self._data, self._at
        if at < len(data) and (size := data[at]) < 0x40 and (end := at + 1 + size) <= len(data):
            return end
        return 0

    def _content(self, size: int, full: int, encoding: int | None) -> Steps[bytes]:
        data = yield from self._take(size)
        if encoding is None:
            return data
        if encoding == _LZF:
            return uncompressed(data, full)
        return b"%d" % int.from_bytes(data, "little", signed=True)


def uncompressed(data: bytes, size: int) -> bytes:
    """Expand what LZF compressed to the `size` that it had. Raises ContentBroken."""
    out, at = bytearray(), 0
    try:
        while at < len(data):
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            distance = ((control & 0x1F) << 8) + data[at] + 1
            at += 1
            length += 2
            start = len(out) - distance
            if start < 0 or len(out) + length > size:
                raise ContentBroken("a compressed string leads nowhere")
            if distance >= length:
                out += out[start : start + length]
            else:  # it repeats what it is just writing
                pattern = bytes(out[start:])
                out += (pattern * (length // distance + 1))[:length]
    except IndexError:
        raise ContentBroken("a compressed string is cut") from None
    if len(out) != size:
        raise ContentBroken("a compressed string has another size than it says")
    return bytes(out)
