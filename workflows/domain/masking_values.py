"""What a value becomes: derived from the value and the organisation's masking key alone.

Equal values of one kind give equal results in every table, database and snapshot of one organisation, and
others in another. Whoever has the results but not the key can neither compute nor try them out.

- Text: HMAC-SHA256 in hexadecimal, 32 digits unless said otherwise. n digits collide among m values with a
  probability of about m²/2^(4n+1): with 32 digits and a thousand million values, 10^-21.
- Integers: a permutation, so that no two ever collide. The first is that of 1 to 32767, then there is one
  from each power of two to the next, so that every type of integer holds the result and sequences keep their
  room. Negative ones mirror them; 0 and -1 stay. The size of a number stays visible to within a factor of
  two.
- Binary: 32 bytes of the HMAC, 16 where a column has no room for them.
- Text that the database compares without case (or accents, or blanks behind it) is compared so here as well.
"""

import hashlib
import hmac
import unicodedata
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from workflows.domain.masking import ColumnRule, FakeKind, MaskHow, Unmaskable
from workflows.domain.masking_fakes import DISTINCT, FAKES, LONGEST, fake_uuid

DEFAULT_HASH: Final = 32
_SMALLEST_BITS: Final = 15
_LARGEST_BITS: Final = 64
_ROUNDS: Final = 10
_REMEMBERED: Final = 4096
"""Integers whose results are kept, per column: a permutation costs as much as twenty hashes of text."""

Value = str | int | bytes
Masker = Callable[[Value], Value | None]
"""None is NULL. Takes and gives the Python type of the column's kind; `VERBATIM` kinds give text."""


class ColumnKind(StrEnum):
    """Types of columns, as far as masking tells them apart."""

    TEXT = "text"
    INTEGER = "integer"
    UUID = "uuid"
    BINARY = "binary"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TIME = "time"
    ARRAY = "array"
    OTHER = "other"


class Compared(StrEnum):
    """How a database compares texts, or how little of them."""

    EXACTLY = "exactly"
    WITHOUT_CASE = "without case"
    BY_LETTERS = "by letters"
    """Without case and accents."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column as a dump declares it.

    `declared`: its type as written. `limit`: the most characters (binary: bytes), None without one. `unique`:
    it is a column of a unique constraint, alone or beside others. `padded`: blanks at its end mean nothing.
    """

    kind: ColumnKind
    declared: str
    limit: int | None = None
    nullable: bool = True
    unique: bool = False
    padded: bool = False
    compared: Compared = Compared.EXACTLY
    tiny: bool = False
    """An integer of one byte."""


_REDACTED: Final[dict[ColumnKind, Value]] = {
    ColumnKind.TEXT: "redacted",
    ColumnKind.INTEGER: 0,
    ColumnKind.UUID: str(uuid.UUID(int=0)),
    ColumnKind.BINARY: b"",
    ColumnKind.NUMBER: "0",
    ColumnKind.BOOLEAN: "0",
    ColumnKind.JSON: "{}",
    ColumnKind.DATE: "1970-01-01",
    ColumnKind.TIMESTAMP: "1970-01-01 00:00:01",
    ColumnKind.TIME: "00:00:00",
    ColumnKind.ARRAY: "{}",
}
"""A second after the epoch: at the epoch itself MySQL's timestamps do not begin yet, east of Greenwich."""


_UNIQUE: Final = "is unique, alone or with others"


def value_masker(rule: ColumnRule, column: ColumnType, key: bytes) -> Masker:
    """Return what makes a column's values. Raises Unmaskable for what cannot be done, with the reason."""
    match rule.how:
        case MaskHow.NULLIFY:
            if not column.nullable:
                raise Unmaskable("is NOT NULL: nullify is impossible, use redact or hash")
            return _null
        case MaskHow.REDACT:
            return _redacting(column)
        case MaskHow.MASK:
            return _masking(rule, column)
        case MaskHow.HASH:
            return _hashing(rule, column, key)
        case MaskHow.FAKE:
            return _faking(rule, column, key)
        case MaskHow.DELETE:
            raise Unmaskable("delete is for keys")


def digest(key: bytes, what: str, value: bytes) -> bytes:
    """The 32 bytes that everything about a value is taken from; `what` keeps uses apart."""
    return hmac.digest(key, what.encode() + b"\0" + value, hashlib.sha256)


def _null(_value: Value) -> None:
    return None


def _redacting(column: ColumnType) -> Masker:
    if column.kind not in _REDACTED:
        raise Unmaskable(f"is of type {column.declared}: only nullify is possible")
    if column.unique:
        raise Unmaskable(f"{_UNIQUE}, and redact makes all values the same: use hash or fake")
    value = _REDACTED[column.kind]
    if isinstance(value, str) and column.kind is ColumnKind.TEXT:
        value = value[: column.limit]
    return lambda _value: value


def _masking(rule: ColumnRule, column: ColumnType) -> Masker:
    if column.kind is not ColumnKind.TEXT:
        raise Unmaskable(f"is of type {column.declared}: mask is for text")
    if column.unique:
        raise Unmaskable(f"{_UNIQUE}, and mask makes different values the same: use hash or fake")
    kept = rule.keep_last or 0

    def masked(value: Value) -> str:
        text = str(value)
        keep = min(kept, len(text) // 2)
        return "*" * (len(text) - keep) + text[len(text) - keep :]

    return masked


def _hashing(rule: ColumnRule, column: ColumnType, key: bytes) -> Masker:
    match column.kind:
        case ColumnKind.TEXT:
            length = rule.length or DEFAULT_HASH
            _fits(column, length, f"a hash of {length} digits; give a smaller length")
            return lambda value: digest(key, "text", _plain(value, column)).hex()[:length]
        case ColumnKind.INTEGER:
            if column.tiny:
                raise Unmaskable(f"is of type {column.declared}: it has too few values for a hash")
            return lru_cache(_REMEMBERED)(lambda value: permuted(key, int(value)))
        case ColumnKind.UUID:
            return lambda value: fake_uuid(digest(key, "uuid", uuid.UUID(str(value)).bytes))
        case ColumnKind.BINARY:
            _fits(column, 16, "a hash of 16 bytes")
            size = 32 if column.limit is None or column.limit >= 32 else 16
            return lambda value: digest(key, "binary", value if isinstance(value, bytes) else b"")[:size]
        case _:
            raise Unmaskable(f"is of type {column.declared}: hash is for text, integers, uuid and binary")


def _faking(rule: ColumnRule, column: ColumnType, key: bytes) -> Masker:
    kind = rule.kind or FakeKind.NAME
    if column.kind is ColumnKind.UUID and kind is FakeKind.UUID:
        return lambda value: fake_uuid(digest(key, "uuid", uuid.UUID(str(value)).bytes))
    if column.kind is not ColumnKind.TEXT:
        raise Unmaskable(f"is of type {column.declared}: fake is for text (and kind uuid for uuid)")
    if column.unique and kind not in DISTINCT:
        listed = ", ".join(sorted(DISTINCT))
        raise Unmaskable(f"{_UNIQUE}, and there are few of {kind}: use hash, or a kind of {listed}")
    make = FAKES[kind]
    _fits(column, LONGEST[kind], f"{kind}, of up to {LONGEST[kind]} characters")
    return lambda value: make(digest(key, "text", _plain(value, column)))


def _fits(column: ColumnType, length: int, what: str) -> None:
    if column.limit is not None and column.limit < length:
        raise Unmaskable(f"is of type {column.declared}: too short for {what}")


def _plain(value: Value, column: ColumnType) -> bytes:
    """A text as far as its database tells it from others."""
    text = str(value)
    if column.padded:
        text = text.rstrip(" ")
    if column.compared is Compared.BY_LETTERS:
        text = "".join(
            each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each)
        )
    if column.compared is not Compared.EXACTLY:
        text = unicodedata.normalize("NFC", text.casefold())
    # Bytes that are no UTF-8 came in as lone surrogates.
    return text.encode("utf-8", "surrogateescape")


def permuted(key: bytes, value: int) -> int:
    """Another integer of the same size; a permutation of the 64-bit integers, signed and unsigned."""
    if value < 0:
        return -1 - permuted(key, -1 - value)
    bits = value.bit_length()
    if bits > _LARGEST_BITS:
        raise Unmaskable("holds an integer of more than 64 bits")
    if value == 0:
        return 0
    if bits <= _SMALLEST_BITS:
        # Where the permutation gives 0, which is taken, what it makes of 0 is free.
        return _feistel(key, value, _SMALLEST_BITS) or _feistel(key, 0, _SMALLEST_BITS)
    floor = 1 << (bits - 1)
    return floor + _feistel(key, value - floor, bits - 1)


def _feistel(key: bytes, value: int, bits: int) -> int:
    """A permutation of the integers of so many bits: two halves, each changed by the other in turn."""
    low_bits = bits // 2
    sizes = (bits - low_bits, low_bits)
    high, low = value >> low_bits, value & ((1 << low_bits) - 1)
    for number in range(_ROUNDS):
        made = digest(key, f"integer {bits} {number}", low.to_bytes(8))
        high, low = low, (high + int.from_bytes(made[:8])) & ((1 << sizes[number % 2]) - 1)
    return high << low_bits | low
