"""Redis' packed values: their elements as strings, numbers in decimal. All raise IndexError or ValueError."""

from collections.abc import Callable, Iterator
from typing import Final

from activities.snapshots.rdb_file import uncompressed

__all__ = ["integers", "listpack", "uncompressed", "ziplist"]

_END: Final = 0xFF


def listpack(data: bytes) -> list[bytes]:
    """Return the elements of a listpack."""
    return list(_elements(data, 6, _listpack_entry))


def ziplist(data: bytes) -> list[bytes]:
    """Return the elements of a ziplist."""
    return list(_elements(data, 10, _ziplist_entry))


def integers(data: bytes) -> list[bytes]:
    """Return the members of a set of integers."""
    width, count = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    if width not in (2, 4, 8) or len(data) != 8 + width * count:
        raise ValueError("a set of integers has another size")
    return [_integer(data[at : at + width]) for at in range(8, len(data), width)]


def _elements(data: bytes, at: int, entry: Callable[[bytes, int], tuple[bytes, int]]) -> Iterator[bytes]:
    if int.from_bytes(data[:4], "little") != len(data):
        raise ValueError("a packed value has another size")
    while data[at] != _END:
        element, at = entry(data, at)
        yield element
    if at + 1 != len(data):
        raise ValueError("a packed value ends before its end")


def _listpack_entry(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the element at a place, and where the next one is."""
    first, start = data[at], at
    if first < 0x80:
        element, at = b"%d" % first, at + 1
    elif first < 0xC0:
        element, at = _cut(data, at + 1, first & 0x3F)
    elif first < 0xE0:
        number = (first & 0x1F) << 8 | data[at + 1]
        element, at = b"%d" % (number - (1 << 13) if number >= 1 << 12 else number), at + 2
    elif first < 0xF0:
        element, at = _cut(data, at + 2, (first & 0x0F) << 8 | data[at + 1])
    elif first == 0xF0:
        element, at = _cut(data, at + 5, int.from_bytes(data[at + 1 : at + 5], "little"))
    else:
        width = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}.get(first)
        if width is None:
            raise ValueError(f"a listpack has an element of encoding {first}")
        element, at = _integer(data[at + 1 : at + 1 + width]), at + 1 + width
    size = at - start
    # Behind it stands how long it was, in groups of seven bits.
    return element, at + max(1, -(-size.bit_length() // 7))


def _ziplist_entry(data: bytes, at: int) -> tuple[bytes, int]:
    at += 5 if data[at] == 0xFE else 1
    first = data[at]
    match first >> 6:
        case 0:
            return _cut(data, at + 1, first & 0x3F)
        case 1:
            return _cut(data, at + 2, (first & 0x3F) << 8 | data[at + 1])
        case 2:
            return _cut(data, at + 5, int.from_bytes(data[at + 1 : at + 5]))
    if 0xF1 <= first <= 0xFD:
        return b"%d" % ((first & 0x0F) - 1), at + 1
    width = {0xFE: 1, 0xC0: 2, 0xF0: 3, 0xD0: 4, 0xE0: 8}.get(first)
    if width is None:
        raise ValueError(f"a ziplist has an element of encoding {first}")
    return _integer(data[at + 1 : at + 1 + width]), at + 1 + width


def _cut(data: bytes, start: int, length: int) -> tuple[bytes, int]:
    if start + length >= len(data):
        raise ValueError("an element is longer than what it is in")
    return data[start : start + length], start + length


def _integer(data: bytes) -> bytes:
    return b"%d" % int.from_bytes(data, "little", signed=True)
