"""Fields of COPY's text format, as a PostgreSQL dump has its rows."""

import re
from collections.abc import Callable
from typing import Final

from workflows.domain.masking import DumpUnreadable
from workflows.domain.masking_values import ColumnKind, Masker

Field = Callable[[bytes], bytes]
"""A field as it is written, to another."""
NULL: Final = rb"\N"
_ESCAPES: Final = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_TO_ESCAPE: Final = re.compile(rb"[\b\f\n\r\t\v\\]")
_WRITTEN: Final = {clear: b"\\" + letter for letter, clear in _ESCAPES.items()} | {b"\\": rb"\\"}


def _unescaped(data: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]), data) if b"\\" in data else data


def _escaped(data: bytes) -> bytes:
    return _TO_ESCAPE.sub(lambda match: _WRITTEN[match[0]], data)


def field_masker(masker: Masker, kind: ColumnKind) -> Field:
    """The masker of a column's values, as one of fields."""

    def changed(data: bytes) -> bytes:
        match kind:
            case ColumnKind.INTEGER:
                made = masker(int(data))
            case ColumnKind.BINARY:
                clear = _unescaped(data)
                if not clear.startswith(rb"\x"):
                    raise DumpUnreadable("binary data are not written in hexadecimal")
                made = masker(bytes.fromhex(clear[2:].decode()))
            case _:
                made = masker(_unescaped(data).decode("utf-8", "surrogateescape"))
        if made is None:
            return NULL
        if isinstance(made, bytes):
            return rb"\\x" + made.hex().encode()
        return _escaped(str(made).encode("utf-8", "surrogateescape"))

    return changed
