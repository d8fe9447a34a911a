"""Definitions of tables as dumps write them: the items between their parentheses, and names in quotes.

`pg_dump` and `mariadb-dump` print what the server has parsed, so that this has to read their writing only,
not whatever SQL allows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    r"""
    (?P<string> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' )
  | (?P<name> "(?:[^"]|"")*" | `(?:[^`]|``)*` )
  | (?P<open> \( ) | (?P<close> \) ) | (?P<comma> , )
  | (?P<other> [^'"`(),eE]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_BACKSLASHED: Final = re.compile(
    _TOKEN.pattern.replace("'(?:[^']|'')*'", r"'(?:[^'\\]|\\.|'')*'"), _TOKEN.flags
)
"""In MariaDB a backslash escapes in every string."""
_NAME: Final = re.compile(r'\s*(?:"((?:[^"]|"")*)"|`((?:[^`]|``)*)`|([^\s"`.,();]+))')


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition: the items between its first parentheses (blanks around them taken off), and the rest."""

    items: tuple[str, ...]
    after: str


def definition(text: str, *, backslashes: bool = False) -> Definition:
    """Take apart `CREATE TABLE ... (items) after`; no items when there are no parentheses."""
    depth, start = 0, 0
    items: list[str] = []
    for match in (_BACKSLASHED if backslashes else _TOKEN).finditer(text):
        if match["open"]:
            depth += 1
            if depth == 1:
                start = match.end()
        elif match["close"]:
            depth -= 1
            if depth == 0:
                items.append(text[start : match.start()].strip())
                return Definition(tuple(each for each in items if each), text[match.end() :])
        elif match["comma"] and depth == 1:
            items.append(text[start : match.start()].strip())
            start = match.end()
    return Definition((), "")


def names(text: str) -> tuple[str, ...]:
    """The names in `a, "b c", d`."""
    return tuple(name for name, _ in _names(text))


def first_name(text: str) -> tuple[str, str]:
    """A name at the beginning, and what follows it; an empty name when there is none."""
    match = _NAME.match(text)
    return ("", text) if match is None else (_unquoted(match), text[match.end() :])


def qualified(text: str) -> tuple[tuple[str, ...], str]:
    """The parts of `schema.table` at the beginning, and what follows."""
    name, rest = first_name(text)
    parts = [name]
    while rest.startswith("."):
        name, rest = first_name(rest[1:])
        parts.append(name)
    return tuple(parts), rest


def without_strings(text: str, *, backslashes: bool = False) -> str:
    """The text with nothing in its quotes, so that words of SQL can be looked for."""
    found = (_BACKSLASHED if backslashes else _TOKEN).finditer(text)
    return "".join("''" if match["string"] or match["name"] else match[0] for match in found)


def _names(text: str) -> Iterator[tuple[str, str]]:
    while text.strip():
        name, text = first_name(text)
        if not name:
            return
        yield name, text
        text = text.lstrip().removeprefix(",")


def _unquoted(match: re.Match[str]) -> str:
    if match[1] is not None:
        return match[1].replace('""', '"')
    if match[2] is not None:
        return match[2].replace("``", "`")
    return match[3]
