"""What an init script may not say in PostgreSQL, where it runs in one transaction with its mark."""

from itertools import pairwise
from typing import Final

from workflows.domain.init_sql_scan import InitScriptInvalid, Statement, statements

_CONTROLS: Final = (
    ("BEGIN",),
    ("START", "TRANSACTION"),
    ("COMMIT",),
    ("END",),
    ("ROLLBACK",),
    ("ABORT",),
    ("PREPARE", "TRANSACTION"),
)
"""These end the transaction, or begin one."""
_STANDS_ALONE: Final = (
    ("CREATE", "DATABASE"),
    ("DROP", "DATABASE"),
    ("CREATE", "TABLESPACE"),
    ("DROP", "TABLESPACE"),
    ("ALTER", "SYSTEM"),
    ("DISCARD", "ALL"),
    ("VACUUM",),
    ("CREATE", "INDEX", "CONCURRENTLY"),
    ("CREATE", "UNIQUE", "INDEX", "CONCURRENTLY"),
    ("DROP", "INDEX", "CONCURRENTLY"),
)
"""These the server runs outside transactions only; `_stands_alone` knows more, which begin harmlessly."""
_QUOTING: Final = "STANDARD_CONFORMING_STRINGS"
_REINDEXED: Final = frozenset({"INDEX", "TABLE", "SCHEMA", "DATABASE", "SYSTEM"})
_NOTEWORTHY: Final = frozenset(
    {words[0] for words in (*_CONTROLS, *_STANDS_ALONE)} | {"REINDEX", "ALTER", "SET"}
)
"""First words of all that is looked at; most statements of a long script are not."""
_ONE_TRANSACTION: Final = "it runs in one transaction together with the mark that it has run"
_WAY_OUT: Final = "leave it out, or type: shell, which has no transaction around it"


def refuse_transaction_control(script: str) -> None:
    """Raise InitScriptInvalid when a statement would break the transaction around the script."""
    for statement in statements(script):
        if not statement.words or statement.words[0] not in _NOTEWORTHY:
            continue
        if words := _controls(statement):
            reason = f"{words} is not allowed in a script that runs once: {_ONE_TRANSACTION}"
            raise _invalid(statement, reason, _WAY_OUT)
        if words := _stands_alone(statement):
            where = "in a script that runs once"
            reason = f"{words} is not possible {where}: {_ONE_TRANSACTION}, and this wants none"
            raise _invalid(statement, reason, _WAY_OUT)
        if _changes_quoting(statement):
            reason = "standard_conforming_strings stays on in a script that runs once"
            raise _invalid(statement, reason, "leave it out")


def _invalid(statement: Statement, reason: str, way_out: str) -> InitScriptInvalid:
    return InitScriptInvalid(f"line {statement.line}: {reason}", way_out)


def _controls(statement: Statement) -> str:
    to_savepoint = statement.words[:1] == ["ROLLBACK"] and "TO" in statement.words[1:3]
    return "" if to_savepoint else _beginning(statement, _CONTROLS)


def _stands_alone(statement: Statement) -> str:
    words = statement.words
    match words:
        case ["REINDEX", *rest]:
            what = next((word for word in rest if word in _REINDEXED), "")
            if what in ("SCHEMA", "DATABASE", "SYSTEM"):
                return f"REINDEX {what}"
            return "REINDEX CONCURRENTLY" if "CONCURRENTLY" in rest else ""
        case ["ALTER", "TABLE", *rest] if "DETACH" in rest and statement.last_word == "CONCURRENTLY":
            return "DETACH PARTITION CONCURRENTLY"
        case ["ALTER", "DATABASE", *rest] if ("SET", "TABLESPACE") in pairwise(rest):
            return "ALTER DATABASE SET TABLESPACE"
    return _beginning(statement, _STANDS_ALONE)


def _changes_quoting(statement: Statement) -> bool:
    words = statement.words
    return words[:1] == ["SET"] and _QUOTING in words[1:3] and statement.last_word != "ON"


def _beginning(statement: Statement, known: tuple[tuple[str, ...], ...]) -> str:
    """The one of the known beginnings that the statement has; empty when it has none."""
    words = tuple(statement.words)
    return next((" ".join(each) for each in known if words[: len(each)] == each), "")
