"""Masks a Redis server's RDB file on its way to a server: values of keys that rules name, nothing else.

Keys stay what they are. A file is read record by record; those that no rule touches pass as they came.
"""

import re
from collections.abc import Generator
from typing import Final

from workflows.domain.errors import FieldError
from workflows.domain.masking import DumpUnreadable, MaskHow, ServiceMasking, key_pattern
from workflows.domain.masking_values import DEFAULT_HASH, digest

_Reading = Generator[None, None, bytes]
_OLDEST: Final = 6
_NEWEST: Final = 12
_DATABASE: Final = 0xFE
_SIZES: Final = 0xFB
_SLOT: Final = 0xF4
_FUNCTION: Final = 0xF5
_AUXILIARY: Final = 0xFA
_OF_THE_NEXT_KEY: Final = {0xFC: 8, 0xFD: 4, 0xF9: 1}
"""Bytes behind the marks of a key's expiry and use."""
_IDLE: Final = 0xF8
_END: Final = 0xFF
_STRING: Final = 0
_ONE_STRING: Final = frozenset({0, 9, 10, 11, 12, 13, 16, 17, 20})
_STRINGS: Final = {1: 1, 2: 1, 4: 2, 14: 1}
"""Strings for each element of what is a number and so many elements."""
_SORTED_OLD: Final = 3
_SORTED: Final = 5
_QUICK_LIST: Final = 18
_STREAMS: Final = (15, 19, 21)
_HASH_WITH_TIMES: Final = 24
_PACKED_HASH_WITH_TIMES: Final = 25
_COMPRESSED: Final = 3
_MARK_BYTES: Final = 40
_MARK: Final = re.compile(rb"[0-9a-f]{0,40}")
"""Behind the file, where `redis-cli --rdb -` leaves the mark by which the server told it the end."""


class RedisMasking:
    """An RDB file in, the masked one out, piece by piece."""

    def __init__(self, rules: ServiceMasking, key: bytes) -> None:
        self._rules = [(index, each.how, key_pattern(each.keys)) for index, each in enumerate(rules.keys)]
        self._key = key
        self._held = bytearray()
        self._out = bytearray()
        self._dropping = False
        self._matched: set[int] = set()
        self._faults: dict[tuple[int, int], FieldError] = {}
        self._reading = self._file()
        self._ended = False

    @property
    def matched(self) -> frozenset[int]:
        """The numbers of the patterns that have matched a key."""
        return frozenset(self._matched)

    @property
    def faults(self) -> tuple[FieldError, ...]:
        """What does not fit, as far as it is known. From the first on, what is given out is of no use."""
        return tuple(self._faults.values())

    def write(self, data: bytes) -> bytes:
        """Take the next bytes and return what became of those that could be understood. DumpUnreadable."""
        if not self._rules:
            return data
        self._held += data
        try:
            next(self._reading)
        except StopIteration:
            self._ended = True
        if self._ended and not _MARK.fullmatch(self._held):
            raise DumpUnreadable("something follows the end of an RDB file")
        out = bytes(self._out)
        self._out.clear()
        return out

    def finish(self) -> bytes:
        """Say that there is no more; return the rest. Raises DumpUnreadable when there should be more."""
        if self._rules and (not self._ended or len(self._held) not in (0, _MARK_BYTES)):
            raise DumpUnreadable("an RDB file ends in the middle")
        return bytes(self._held)

    def _take(self, size: int) -> _Reading:
        """Bytes that are wanted here, and do not go on by themselves."""
        while len(self._held) < size:
            yield
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def _pass(self, size: int) -> Generator[None]:
        """Bytes of which nothing is wanted; as many as there are go on at once."""
        while size:
            step = min(size, len(self._held))
            if not step:
                yield
            if not self._dropping:
                self._out += self._held[:step]
            del self._held[:step]
            size -= step

    def _emit(self, data: bytes) -> None:
        if not self._dropping:
            self._out += data

    def _file(self) -> Generator[None]:
        head = yield from self._take(9)
        if head[:5] != b"REDIS" or not head[5:].isdigit() or not _OLDEST <= int(head[5:]) <= _NEWEST:
            raise DumpUnreadable(
                f"an RDB file begins with {head!r}, and versions {_OLDEST} to {_NEWEST} are known"
            )
        self._emit(head)
        before = b""
        while True:
            mark = (yield from self._take(1))[0]
            if (size := _OF_THE_NEXT_KEY.get(mark)) is not None:
                before += bytes([mark]) + (yield from self._take(size))
                continue
            if mark == _IDLE:
                before += bytes([mark]) + (yield from self._number())[1]
                continue
            if mark == _END:
                # The check sum is no longer right; none is what zeros say.
                yield from self._take(8)
                self._emit(bytes([mark]) + bytes(8))
                return
            if mark >= _SLOT:
                self._emit(bytes([mark]))
                yield from self._note(mark)
            else:
                yield from self._record(mark, before)
                before = b""

    def _note(self, mark: int) -> Generator[None]:
        """What is said of the file, not of a key."""
        if mark == _FUNCTION:
            yield from self._strings(1)
        elif mark == _AUXILIARY:
            yield from self._strings(2)
        elif mark in (_DATABASE, _SIZES, _SLOT):
            yield from self._numbers({_DATABASE: 1, _SIZES: 2, _SLOT: 3}[mark])
        else:
            raise DumpUnreadable(f"an RDB file has a note of kind {mark}")

    def _record(self, kind: int, before: bytes) -> Generator[None]:
        name, written = yield from self._string()
        rule = next(((index, how) for index, how, pattern in self._rules if pattern.fullmatch(name)), None)
        if rule is None:
            self._emit(before + bytes([kind]) + written)
            yield from self._value(kind)
            return
        index, how = rule
        self._matched.add(index)
        if how is not MaskHow.DELETE and kind == _STRING:
            clear, _ = yield from self._string()
            self._emit(before + bytes([kind]) + written + _written(self._masked(how, clear)))
            return
        if how is not MaskHow.DELETE:
            message = f"matches a {_NAMES.get(kind, 'value')}, and {how} is for strings: use delete"
            self._faults[index, kind] = FieldError(path=("keys", index), message=message)
        self._dropping = True
        yield from self._value(kind)
        self._dropping = False

    def _masked(self, how: MaskHow, value: bytes) -> bytes:
        if how is MaskHow.REDACT:
            return b"redacted"
        return digest(self._key, "text", value).hex()[:DEFAULT_HASH].encode()

    def _value(self, kind: int) -> Generator[None]:
        if kind in _ONE_STRING:
            yield from self._strings(1)
        elif kind in _STRINGS:
            yield from self._strings((yield from self._count()) * _STRINGS[kind])
        elif kind in (_SORTED_OLD, _SORTED):
            for _ in range((yield from self._count())):
                yield from self._strings(1)
                yield from self._pass(8) if kind == _SORTED else self._old_score()
        elif kind == _QUICK_LIST:
            for _ in range((yield from self._count())):
                yield from self._numbers(1)
                yield from self._strings(1)
        elif kind in _STREAMS:
            yield from self._stream(_STREAMS.index(kind) + 1)
        elif kind == _HASH_WITH_TIMES:
            yield from self._pass(8)
            for _ in range((yield from self._count())):
                yield from self._numbers(1)
                yield from self._strings(2)
        elif kind == _PACKED_HASH_WITH_TIMES:
            yield from self._pass(8)
            yield from self._strings(1)
        else:
            raise DumpUnreadable(f"an RDB file has a value of kind {kind}, of a module or a newer server")

    def _old_score(self) -> Generator[None]:
        size = yield from self._take(1)
        self._emit(size)
        if size[0] < 253:  # those above are no number and the two infinities
            yield from self._pass(size[0])

    def _stream(self, version: int) -> Generator[None]:
        yield from self._strings((yield from self._count()) * 2)
        yield from self._numbers(3 if version == 1 else 8)
        for _ in range((yield from self._count())):  # groups
            yield from self._strings(1)
            yield from self._numbers(2 if version == 1 else 3)
            for _ in range((yield from self._count())):  # delivered and not acknowledged
                yield from self._pass(16 + 8)
                yield from self._numbers(1)
            for _ in range((yield from self._count())):  # consumers
                yield from self._strings(1)
                yield from self._pass(8 if version < 3 else 16)
                yield from self._pass(16 * (yield from self._count()))

    def _number(self) -> Generator[None, None, tuple[int, bytes, bool]]:
        """A length, how it is written, and whether it is none but says how a string is written."""
        first = yield from self._take(1)
        top, low = first[0] >> 6, first[0] & 0x3F
        if top == 0:
            return low, first, False
        if top == 1:
            more = yield from self._take(1)
            return low << 8 | more[0], first + more, False
        if top == 3:
            return low, first, True
        more = yield from self._take({0x80: 4, 0x81: 8}.get(first[0], 0))
        if not more:
            raise DumpUnreadable("an RDB file has a length that is not written as it is known")
        return int.from_bytes(more), first + more, False

    def _count(self) -> Generator[None, None, int]:
        value, written, odd = yield from self._number()
        if odd:
            raise DumpUnreadable("an RDB file has a string where a number is expected")
        self._emit(written)
        return value

    def _numbers(self, count: int) -> Generator[None]:
        for _ in range(count):
            yield from self._count()

    def _strings(self, count: int) -> Generator[None]:
        """Strings that pass as they came."""
        for _ in range(count):
            value, written, odd = yield from self._number()
            self._emit(written)
            if odd and value == _COMPRESSED:
                size = yield from self._count()
                yield from self._numbers(1)
                yield from self._pass(size)
            elif odd:
                yield from self._pass(_integer_bytes(value))
            else:
                yield from self._pass(value)

    def _string(self) -> Generator[None, None, tuple[bytes, bytes]]:
        """A string, and how it is written."""
        value, written, odd = yield from self._number()
        if not odd:
            data = yield from self._take(value)
            return data, written + data
        if value != _COMPRESSED:
            data = yield from self._take(_integer_bytes(value))
            return str(int.from_bytes(data, "little", signed=True)).encode(), written + data
        size, first, _ = yield from self._number()
        length, second, _ = yield from self._number()
        data = yield from self._take(size)
        return _expanded(data, length), written + first + second + data


_NAMES: Final = {
    **dict.fromkeys((1, 10, 14, 18), "list"),
    **dict.fromkeys((2, 11, 20), "set"),
    **dict.fromkeys((3, 5, 12, 17), "sorted set"),
    **dict.fromkeys((4, 9, 13, 16, 24, 25), "hash"),
    **dict.fromkeys(_STREAMS, "stream"),
}


def _integer_bytes(way: int) -> int:
    if way > 2:
        raise DumpUnreadable("an RDB file has a string that is not written as it is known")
    return 1 << way


def _written(value: bytes) -> bytes:
    """A short string as it is written: what values are masked with has at most 63 bytes."""
    return bytes([len(value)]) + value


def _expanded(data: bytes, length: int) -> bytes:
    """Expand LZF: pieces as they are, and references to what came before."""
    out = bytearray()
    position = 0
    try:
        while position < len(data):
            control = data[position]
            position += 1
            if control < 32:
                out += data[position : position + control + 1]
                position += control + 1
                continue
            size = control >> 5
            if size == 7:
                size += data[position]
                position += 1
            start = len(out) - ((control & 0x1F) << 8) - data[position] - 1
            position += 1
            for _ in range(size + 2):
                out.append(out[start])
                start += 1
    except IndexError:
        raise DumpUnreadable("an RDB file has a compressed string that is damaged") from None
    if len(out) != length:
        raise DumpUnreadable("an RDB file has a compressed string of another length than it says")
    return bytes(out)
