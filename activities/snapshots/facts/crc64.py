"""The checksum of RDB files: CRC-64 with the polynomial of Jones, bits reflected, from 0.

The standard library has none, and a loop over bytes is slower than any stream. So a piece is laid out in rows
of bytes that lie `_DEPTH` apart: each column is a run of the piece, and all columns are summed up side by
side, by operations on whole rows. What the columns come to is put together at the end: a checksum is linear,
and that of a run with zeros behind it follows from its own by a table.
"""

from functools import cache
from typing import Final

_POLYNOMIAL: Final = 0x95AC9329AC4BC9B5
_DEPTH: Final = 128
"""Bytes of a column."""
_FEWEST: Final = 128
"""Columns that are worth it."""


def _of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE: Final = [_of_byte(byte) for byte in range(256)]
_PLANES: Final = [bytes(value >> 8 * plane & 0xFF for value in _TABLE) for plane in range(8)]
"""The table once more: for each byte of a checksum, what `bytes.translate` takes."""


def _step_by_step(value: int, data: bytes) -> int:
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value


@cache
def _ahead() -> list[list[int]]:
    """For each byte of a checksum, what becomes of it over a column of zeros."""
    zeros = bytes(_DEPTH)
    return [[_step_by_step(byte << 8 * plane, zeros) for byte in range(256)] for plane in range(8)]


class Crc64:
    """A checksum under way."""

    def __init__(self) -> None:
        self.value = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        columns = len(data) // _DEPTH
        if columns < _FEWEST:
            columns = 0
        else:
            self._side_by_side(data[: columns * _DEPTH], columns)
        self.value = _step_by_step(self.value, data[columns * _DEPTH :])

    def _side_by_side(self, data: bytes, columns: int) -> None:
        number = int.from_bytes
        planes = [0] * 8
        for row in range(_DEPTH):
            place = (planes[0] ^ number(data[row::_DEPTH])).to_bytes(columns)
            planes = [
                more ^ number(place.translate(plane))
                for more, plane in zip((*planes[1:], 0), _PLANES, strict=True)
            ]
        value, ahead = self.value, _ahead()
        for own in zip(*(plane.to_bytes(columns) for plane in planes), strict=True):
            after = number(bytes(own), "little")
            for table in ahead:
                after ^= table[value & 0xFF]
                value >>= 8
            value = after
        self.value = value
