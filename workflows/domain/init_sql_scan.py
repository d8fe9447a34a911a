"""Reads a PostgreSQL script far enough to know where its statements begin and end.

The lexical rules are those of https://www.postgresql.org/docs/current/sql-syntax-lexical.html, and the
splitting that of psql: no end of a statement inside parentheses or the `BEGIN ATOMIC .. END` of a routine.
"""

import re
from dataclasses import dataclass, field
from typing import Final, NoReturn

from workflows.domain.possessive import any_number, one_or_more

_BETWEEN: Final = one_or_more(r"[ \t\r\n\f\v]+ | --[^\n]*")
_REST: Final = one_or_more(
    r"""[0-9][0-9A-Za-z_.]* | '[^']*' | "[^"]*" | -(?!-) | /(?!\*)
    | [^\x80-\U0010ffffA-Za-z0-9_'"$\\;()/\-\s] | [ \t\r\n\f\v]"""
)
"""Numbers, whole quoted texts and operators: nothing in them ends a statement or begins a comment."""
_TOKEN: Final = re.compile(
    rf"""
    (?P<between> {_BETWEEN} )
    | (?P<comment> /\* )
    | (?P<end> ; )
    | (?P<backslash> \\\S{{0,19}} )
    | (?P<open> \( ) | (?P<close> \) )
    | (?P<escaped> [eE]' )
    | (?P<word> [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]* )
    | (?P<tag> \$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$ )
    | (?P<rest> {_REST} )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_MARK: Final = re.compile(r"/\*|\*/")
_ESCAPED_TEXT: Final = re.compile(any_number(r"[^'\\]|\\.") + "'", re.DOTALL)
_REST_OF_LINE: Final = re.compile(r"[ \t\r]*(?:--[^\n]*)?\n")
_COPY_END: Final = re.compile(r"^\\\.\r?$", re.MULTILINE)
_KEPT_WORDS: Final = 64


class InitScriptInvalid(ValueError):
    """The script cannot be run exactly once, or not at all.

    `reason` tells its author where and why, `way_out` what to do instead when that is known.
    """

    def __init__(self, reason: str, way_out: str | None = None) -> None:
        super().__init__(f"{reason}; {way_out}" if way_out else reason)
        self.reason = reason
        self.way_out = way_out


@dataclass(slots=True)
class Statement:
    """One top-level statement: its line, and its first words outside quotes and comments, in capitals.

    `copies_from_stdin`: data follows it in the script, up to a line `\\.`.
    """

    line: int
    words: list[str] = field(default_factory=list)
    last_word: str = ""
    copies_from_stdin: bool = False
    defines_routine: bool = False

    def add(self, word: str) -> None:
        """Take in the next word."""
        if len(self.words) < _KEPT_WORDS:
            self.words.append(word)
            self.defines_routine = self.defines_routine or _defines_routine(self.words)
        if word == "STDIN" and self.last_word == "FROM" and self.words[0] == "COPY":
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
        script, match = self._script, _TOKEN.match
        while token := match(script, self._position):
            self._take(token)
        if self._parentheses:
            self._refuse(len(script), "a parenthesis is not closed")
        if self._blocks:
            self._refuse(len(script), "a BEGIN ATOMIC body has no END")
        if self._current is not None and self._current.copies_from_stdin:
            self._refuse(len(script), "COPY .. FROM STDIN without its data")
        self._finish()
        return self._statements

    def _take(self, token: re.Match[str]) -> None:
        kind, start = token.lastgroup, self._position
        self._position = token.end()
        if kind == "between":
            return
        if kind == "comment":
            self._skip_comment(start)
        elif kind == "end":
            self._semicolon()
        elif kind == "backslash":
            reason = f"psql command {token[0]} is not allowed in a script that runs once"
            self._refuse(start, reason, "leave it out, or type: shell")
        else:
            if self._current is None:
                self._current = Statement(self._line(start))
            self._take_in(self._current, kind, token)

    def _take_in(self, statement: Statement, kind: str | None, token: re.Match[str]) -> None:
        """Take in a part of a statement."""
        match kind:
            case "word":
                self._word(statement, token[0].upper())
            case "open":
                self._parentheses += 1
            case "close":
                self._parentheses = max(0, self._parentheses - 1)
            case "tag":
                closing = self._script.find(token[0], token.end())
                self._skip_quoted(token, -1 if closing < 0 else closing + len(token[0]))
            case "escaped":
                ended = _ESCAPED_TEXT.match(self._script, token.end())
                self._skip_quoted(token, -1 if ended is None else ended.end())
            case "other" if token[0] in "'\"":
                self._skip_quoted(token, -1)

    def _word(self, statement: Statement, word: str) -> None:
        statement.add(word)
        if statement.defines_routine and not self._parentheses:
            if word == "BEGIN" or (word == "CASE" and self._blocks):
                self._blocks += 1
            elif word == "END" and self._blocks:
                self._blocks -= 1

    def _semicolon(self) -> None:
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

    def _skip_quoted(self, opening: re.Match[str], end: int) -> None:
        """Go on at `end`, behind a quoted text; -1: it does not end.

        A doubled quote is two quoted texts side by side, which comes to the same.
        """
        if end < 0:
            self._refuse(opening.start(), f"the text quoted by {opening[0]} does not end")
        self._position = end

    def _skip_comment(self, start: int) -> None:
        """Skip a block comment; they nest."""
        depth = 1
        while mark := _COMMENT_MARK.search(self._script, self._position):
            self._position = mark.end()
            depth += 1 if mark[0] == "/*" else -1
            if depth == 0:
                return
        self._refuse(start, "the comment does not end")

    def _line(self, position: int) -> int:
        """The number of the line at a position; positions mostly grow, so counting goes on from the last."""
        known, line = self._counted
        if position < known:
            known, line = 0, 1
        self._counted = position, line + self._script.count("\n", known, position)
        return self._counted[1]

    def _refuse(self, position: int, reason: str, way_out: str | None = None) -> NoReturn:
        raise InitScriptInvalid(f"line {self._line(position)}: {reason}", way_out)


def statements(script: str) -> list[Statement]:
    """The script's statements in order. Raises InitScriptInvalid for psql commands and what does not end."""
    return _Scanner(script).scan()


def _defines_routine(words: list[str]) -> bool:
    if words[:1] != ["CREATE"]:
        return False
    rest = words[3:4] if words[1:3] == ["OR", "REPLACE"] else words[1:2]
    return rest in (["FUNCTION"], ["PROCEDURE"])
