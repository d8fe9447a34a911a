"""Known secret values taken out of text before it leaves the cluster's worker."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

REPLACEMENT: Final = "[redacted]"
WITHHELD: Final = "[withheld: the environment's Secrets could not be read, so that nothing can be taken out]"
SHORTEST: Final = 4
"""Values below this length are left: they would tear ordinary words apart."""
_SHORTEST_PART: Final = 8
"""Shortest line of a many-line value, or part of an encoding, that is looked for by itself."""


class Redactor:
    """Replaces secret values, and the forms they take in logs, by `[redacted]`.

    Forms: as it is, each longer line of a value with many lines, JSON-escaped, URL-encoded, and base64 (both
    alphabets, also in the middle of a longer encoded text, as in a basic authorization header).
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values if len(value) >= SHORTEST for form in _forms(value)}
        self._forms = sorted(forms, key=lambda form: (-len(form), form))

    def redact(self, text: str) -> str:
        """The text with every occurrence of every form replaced; overlapping ones together by one mark."""
        spans = sorted(span for form in self._forms for span in _occurrences(text, form))
        if not spans:
            return text
        parts: list[str] = []
        position, (start, end) = 0, spans[0]
        for next_start, next_end in spans[1:]:
            if next_start < end:
                end = max(end, next_end)
                continue
            parts += (text[position:start], REPLACEMENT)
            position, start, end = end, next_start, next_end
        parts += (text[position:start], REPLACEMENT, text[end:])
        return "".join(parts)


class Withholder(Redactor):
    """Lets nothing through: for text in which the values to take out are not known."""

    def __init__(self) -> None:
        super().__init__(())

    def redact(self, text: str) -> str:
        """A note in the place of any text."""
        return WITHHELD if text else text


def _occurrences(text: str, form: str) -> Iterator[tuple[int, int]]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + 1)


def _forms(value: str) -> Iterator[str]:
    pieces = [value]
    lines = value.splitlines()
    if len(lines) > 1:
        pieces += [line.strip() for line in lines if len(line.strip()) >= _SHORTEST_PART]
    for piece in pieces:
        yield piece
        yield json.dumps(piece)[1:-1]
        yield json.dumps(piece, ensure_ascii=False)[1:-1]
        yield quote(piece, safe="")
        yield quote(piece)
        yield quote_plus(piece)
        yield from _base64_forms(piece.encode(errors="surrogatepass"))


def _base64_forms(data: bytes) -> Iterator[str]:
    """The whole encoding, and for each of the three positions in a longer text the part that is certain."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(data).decode()
        yield whole
        yield whole.rstrip("=")
        for before in range(3):
            encoded = encode(b"\0" * before + data).decode()
            first = (before * 8 + 5) // 6
            last = (before + len(data)) * 8 // 6
            if last - first >= _SHORTEST_PART:
                yield encoded[first:last]
