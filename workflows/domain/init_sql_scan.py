"""Reads a PostgreSQL script far enough to know where its statements begin and end.

The lexical rules are those of https://www.postgresql.org/docs/current/sql-syntax-lexical.html, and the
splitting that of psql: no end of a statement inside parentheses or the `BEGIN ATOMIC .. END` of a routine.
"""

import re
from dataclasses import dataclass, field
from typing import Final

_DOLLAR_TAG: Final = re.compile(r"\$(?:[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)?\$")
_WORD: Final = re.compile(r"[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*")
_NUMBER: Final = re.compile(r"[0-9][0-9A-Za-z_.]*")
_SPACE: Final = re.compile(r"\s+")
_COMMENT_MARK: Final = re.compile(r"/\*|\*/")
_ESCAPED_TEXT: Final = re.compile(r"(?:[^'\\]|\\.)*'", re.DOTALL)
_REST_OF_LINE: Final = re.compile(r"[ \t\r]*(?:--[^\n]*)?\n")
_COPY_END: Final = re.compile(r"^\\\.\r?$", re.MULTILINE)
_KEPT_WORDS: Final = 64


class InitScriptInvalid(ValueError):
    """The script cannot be run exactly once, or not at all. The message tells its author where and why."""


@dataclass(slots=True)
class Statement:
    """One top-level statement: its line, and its first words outside quotes and comments, in capitals.

    `copies_from_stdin`: data follows it in the script, up to a line `\\.`.
    """

    line: int
    words: list[str] = field(default_factory=list)
    last_word: str = ""
    copies_from_stdin: bool = False

    def add(self, word: str) -> None:
        """Take in the next word."""
        if len(self.words) < _KEPT_WORDS:
            self.words.append(word)
        if (self.last_word, word) == ("FROM", "STDIN") and self.words[0] == "COPY":
            self.copies_from_stdin = True
        self.last_word = word


class _Scanner:
    def __init__(self, script: str) -> None:
        self._script = script
        self._position = 0
        self._statements: list[Statement] = []
        self._current: Statement | None = None
        self._parentheses = 0
        self._blocks = 0
        self._counted = (0, 1)

    def scan(self) -> list[Statement]:
        script = self._script
        while self._position < len(script):
            self._step(script[self._position])
        if self._parentheses:
            raise self._fault(len(script), "a parenthesis is not closed")
        if self._blocks:
            raise self._fault(len(script), "a BEGIN ATOMIC body has no END")
        if self._current is not None and self._current.copies_from_stdin:
            raise self._fault(len(script), "COPY .. FROM STDIN without its data")
        self._finish()
        return self._statements

    def _step(self, character: str) -> None:
        script, position = self._script, self._position
        if space := _SPACE.match(script, position):
            self._position = space.end()
        elif script.startswith("--", position):
            newline = script.find("\n", position)
            self._position = len(script) if newline < 0 else newline + 1
        elif script.startswith("/*", position):
            self._skip_comment()
        elif character == ";":
            self._semicolon()
        elif character == "\\":
            command = script[position : position + 20].split()[0]
            raise self._fault(position, f"psql command {command} is not allowed in an init script")
        else:
            self._token(character)

    def _token(self, character: str) -> None:
        script, position = self._script, self._position
        statement = self._open()
        if character in "'\"":
            self._skip_quoted(script.find(character, position + 1), character)
        elif character in "eE" and script.startswith("'", position + 1):
            ended = _ESCAPED_TEXT.match(script, position + 2)
            self._skip_quoted(-1 if ended is None else ended.end() - 1, "E'")
        elif character == "$" and (tag := _DOLLAR_TAG.match(script, position)):
            start = script.find(tag[0], tag.end())
            self._skip_quoted(-1 if start < 0 else start + len(tag[0]) - 1, tag[0])
        elif word := _WORD.match(script, position):
            self._position = word.end()
            self._word(statement, word[0].upper())
        elif digits := _NUMBER.match(script, position):
            self._position = digits.end()
        else:
            if character == "(":
                self._parentheses += 1
            elif character == ")" and self._parentheses:
                self._parentheses -= 1
            self._position += 1

    def _open(self) -> Statement:
        if self._current is None:
            self._current = Statement(self._line(self._position))
        return self._current

    def _word(self, statement: Statement, word: str) -> None:
        statement.add(word)
        if _defines_routine(statement.words) and not self._parentheses:
            if word == "BEGIN" or (word == "CASE" and self._blocks):
                self._blocks += 1
            elif word == "END" and self._blocks:
                self._blocks -= 1

    def _semicolon(self) -> None:
        self._position += 1
        if self._parentheses or self._blocks:
            return
        statement = self._current
        self._finish()
        if statement is not None and statement.copies_from_stdin:
            self._skip_data(statement)

    def _skip_data(self, statement: Statement) -> None:
        """Skip the rows that follow a COPY .. FROM STDIN; they begin with the next line."""
        rest = _REST_OF_LINE.match(self._script, self._position)
        end = None if rest is None else _COPY_END.search(self._script, rest.end())
        if end is None:
            raise InitScriptInvalid(
                f"line {statement.line}: after COPY .. FROM STDIN; the data follow on the next line, "
                "up to a line with \\. alone"
            )
        self._position = end.end()

    def _finish(self) -> None:
        if self._current is not None:
            self._statements.append(self._current)
            self._current = None

    def _skip_quoted(self, end: int, quote: str) -> None:
        """Go on behind `end`, the last character of a quoted text; -1: it does not end.

        A doubled quote is two quoted texts side by side, which comes to the same.
        """
        if end < 0:
            raise self._fault(self._position, f"the text quoted by {quote} does not end")
        self._position = end + 1

    def _skip_comment(self) -> None:
        """Skip a block comment; they nest."""
        start, depth, position = self._position, 0, self._position
        while mark := _COMMENT_MARK.search(self._script, position):
            depth += 1 if mark[0] == "/*" else -1
            position = mark.end()
            if depth == 0:
                self._position = position
                return
        raise self._fault(start, "the comment does not end")

    def _line(self, position: int) -> int:
        """The number of the line at a position; positions mostly grow, so counting goes on from the last."""
        known, line = self._counted
        if position < known:
            known, line = 0, 1
        self._counted = position, line + self._script.count("\n", known, position)
        return self._counted[1]

    def _fault(self, position: int, message: str) -> InitScriptInvalid:
        return InitScriptInvalid(f"line {self._line(position)}: {message}")


def statements(script: str) -> list[Statement]:
    """The script's statements in order. Raises InitScriptInvalid for psql commands and what does not end."""
    return _Scanner(script).scan()


def refuse_transaction_control(script: str) -> None:
    """Raise InitScriptInvalid when a statement would end, or take over, the transaction around the script."""
    for statement in statements(script):
        words = statement.words
        first = words[0] if words else ""
        second = words[1] if len(words) > 1 else ""
        to_savepoint = first == "ROLLBACK" and "TO" in words[1:3]
        if first in ("BEGIN", "COMMIT", "END", "ROLLBACK", "ABORT") and not to_savepoint:
            raise _controls(statement, " ".join(words[:2]))
        if (first, second) in (("START", "TRANSACTION"), ("PREPARE", "TRANSACTION")):
            raise _controls(statement, f"{first} {second}")
        if first == "SET" and "STANDARD_CONFORMING_STRINGS" in words[1:3] and "OFF" in words:
            raise InitScriptInvalid(
                f"line {statement.line}: standard_conforming_strings cannot be switched off in an init script"
            )


def _controls(statement: Statement, words: str) -> InitScriptInvalid:
    return InitScriptInvalid(
        f"line {statement.line}: {words} is not allowed in an init script: it runs in one transaction "
        "together with the mark that it has run; take the statement out"
    )


def _defines_routine(words: list[str]) -> bool:
    if words[:1] != ["CREATE"]:
        return False
    rest = words[3:4] if words[1:3] == ["OR", "REPLACE"] else words[1:2]
    return rest in (["FUNCTION"], ["PROCEDURE"])
