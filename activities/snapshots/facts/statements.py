"""Facts of roles, users and rights, from the statements that make them."""

import re
from typing import Final

from activities.snapshots.facts.observer import Observer
from activities.snapshots.facts.tallies import Counting, digest_of
from activities.snapshots.reading import ContentBroken, Steps
from workflows.domain.snapshot_facts import Facts, Format, Kind

_VERB: Final = re.compile(
    rb"(?:/\*[!M0-9]+ )?((?:CREATE|ALTER) [A-Z]+|GRANT|COMMENT ON|SECURITY LABEL|SET DEFAULT ROLE)\b"
)
"""What makes something. The rest sets up the connection, or is a line of a text."""
_END: Final = {
    Format.POSTGRES_GLOBALS: b"-- PostgreSQL database cluster dump complete",
    Format.MARIADB_USERS: b"-- Dump completed",
}
_PASSWORD: Final = {
    Format.POSTGRES_GLOBALS: re.compile(rb" PASSWORD E?'(?:[^'\\]|''|\\.)*'"),
    Format.MARIADB_USERS: re.compile(
        rb" IDENTIFIED (?:BY|VIA) .*?(?= WITH GRANT OPTION|;$| (?:REQUIRE|PASSWORD EXPIRE|ACCOUNT)\b)"
    ),
}


class StatementsObserver(Observer):
    """Counts and digests of statements, line by line, by what they do.

    Passwords are left out: those of the first users stay as they are in each environment, and the stream does
    not say who they are.
    """

    def __init__(self, format_: Format) -> None:
        self.format = format_
        self._statements = Counting(Kind.STATEMENTS)
        super().__init__()

    def _read(self) -> Steps[None]:
        last = b""
        while not (yield from self._at_end()):
            line = yield from self._line()
            if line.startswith(b"-- "):
                last = line
            elif (verb := _VERB.match(line)) is not None:
                statement = _PASSWORD[self.format].sub(b"", line)
                self._statements.add(verb[1].decode(), 1, 0, digest_of(statement))
                last = b""
        if not last.startswith(_END[self.format]):
            raise ContentBroken("the dump of roles and users is cut")

    def _found(self) -> Facts:
        return self._facts(self._statements)
