"""What an init script may not say in MySQL and MariaDB, where what defines things commits by itself.

Read as their client does: https://dev.mysql.com/doc/refman/8.4/en/mysql-commands.html for `DELIMITER`,
https://dev.mysql.com/doc/refman/8.4/en/comments.html and string-literals.html for what is no statement.
"""

import re
from collections.abc import Iterator
from typing import Final

from workflows.domain.init_sql_scan import InitScriptInvalid, Statement
from workflows.domain.possessive import any_number, one_or_more

_DELIMITER: Final = re.compile(r"DELIMITER[ \t]+(\S+)[^\n]*", re.IGNORECASE)
_BETWEEN: Final = one_or_more(
    r"[ \t\r\n\f\v]++ | \#[^\n]* | --(?=\s|\Z)[^\n]* | /\*(?!M?!).*?(?:\*/|\Z) | /\*M?![0-9]* | \*/"
)
"""What stands in comments with an exclamation mark is none of it: the server reads that."""
_IN_SINGLE: Final = any_number(r"[^'\\]|\\.")
_IN_DOUBLE: Final = any_number(r'[^"\\]|\\.')
_TOKEN: Final = re.compile(
    rf"""
    (?P<between> {_BETWEEN} )
    | (?P<quoted> '{_IN_SINGLE}(?:'|\\?\Z) | "{_IN_DOUBLE}(?:"|\\?\Z) | `[^`]*+(?:`|\Z) )
    # Without the dollar that names may hold: `END$$` ends with a delimiter.
    | (?P<word> [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]* )
    | (?P<other> [0-9,()]++ | . )
    """,
    re.VERBOSE | re.DOTALL,
)


def refuse_rollback(script: str) -> None:
    """Raise InitScriptInvalid for a statement that takes back the mark that the script has begun.

    COMMIT is none of those: with the mark the server keeps what was done, as after any definition.
    """
    for statement in _statements(script):
        if statement.words[0] == "ROLLBACK" and "TO" not in statement.words[1:3]:
            raise InitScriptInvalid(
                f"line {statement.line}: ROLLBACK is not allowed in a script that runs once: "
                "it would take back the mark that the script has begun",
                "leave it out, or type: shell",
            )


def _statements(script: str) -> Iterator[Statement]:
    """The top-level statements that have words, in order. What does not end reaches to the script's end."""
    current: Statement | None = None
    delimiter, position = ";", 0
    counted, line = 0, 1
    while token := _TOKEN.match(script, position):
        start, position = position, token.end()
        if script.startswith(delimiter, start):
            position = start + len(delimiter)
            if current is not None:
                yield current
            current = None
        elif token.lastgroup == "word":
            if current is None and (change := _DELIMITER.match(script, start)):
                delimiter, position = change[1], change.end()
                continue
            if current is None:
                line, counted = line + script.count("\n", counted, start), start
                current = Statement(line)
            current.add(token[0].upper())
    if current is not None:
        yield current
