"""What a tool that loads data says of its failure, without the data that it quotes.

A message of a failed load is read by people who may not see the rows, and stands in histories that nobody
masks; a restore may even be one that hides values.
"""

import re
from typing import Final

_HIDDEN: Final = "[...]"
_NAMED: Final = re.compile(
    r"\b(?:collation|column|constraint|database|engine|extension|function|index|option|relation|role|schema"
    r"|sequence|table|trigger|type|user|variable|view)\s+([\"'])[^\"'\n]{1,128}\1",
    re.IGNORECASE,
)
"""Names of what a dump makes, which say where it failed."""
_QUOTE: Final = re.compile(r"(?<!\w)[\"']|[\"'](?!\w)")
"""Not the apostrophe of a word."""
_PARTICULARS: Final = re.compile(
    r"^(?:DETAIL|CONTEXT|LINE \d+|QUERY|STATEMENT):.*?(?=^\S.*\b(?:ERROR|FATAL|WARNING|NOTICE):|\Z)",
    re.MULTILINE | re.DOTALL,
)
"""What PostgreSQL adds to a message: rows and statements, unquoted ones too."""
_STATEMENT: Final = re.compile(r"\A.*^-{14}$\s*", re.MULTILINE | re.DOTALL)
"""The statement that failed, as MariaDB's client repeats it between two such lines, if need be megabytes."""


def without_content(said: str) -> str:
    """Return what a tool said without what may be content of the dump that it was reading.

    Everything from the first quotation mark to the last is taken out, since content may hold such marks
    itself; names of tables and the like are left when they come before that.
    """
    said = _STATEMENT.sub("", said)
    said = _PARTICULARS.sub(f"{_HIDDEN}\n", said)
    names = [match.span() for match in _NAMED.finditer(said)]
    quotes = [match.start() for match in _QUOTE.finditer(said)]
    opening = next((quote for quote in quotes if not any(start <= quote < end for start, end in names)), None)
    if opening is None:
        return said
    return f"{said[:opening]}{_HIDDEN}{said[quotes[-1] + 1 :] if quotes[-1] > opening else ''}"
