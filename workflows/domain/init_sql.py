"""SQL init scripts that run once, by exec in the service's own pod.

PostgreSQL: exactly once. Script and marker row commit together, an advisory lock keeps two runs apart, and
the last line that is sent is the COMMIT: a stream that was cut is rolled back.

MySQL and MariaDB: exactly once for scripts that change rows of tables with transactions only: what one that
failed wrote into others (MyISAM, Aria) stays, and is written again the next time. There every DDL statement
commits by itself, so a script with DDL that is cut in the middle leaves what it did; the marker then says
`begun`, and the same script is refused from then on rather than run twice (a changed one is run). A ROLLBACK
would take the marker away with the rows, so no script may hold one.

Passwords are read from the container's own environment inside it, never put on a command line.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from workflows.domain.blueprint_models import DataStore
from workflows.domain.init_sql_mysql import refuse_rollback
from workflows.domain.init_sql_postgres import refuse_transaction_control
from workflows.domain.init_sql_scan import InitScriptInvalid

__all__ = [
    "InitCommand",
    "InitOutcome",
    "InitScriptInvalid",
    "Mark",
    "check_sql",
    "outcome",
    "sql_fault",
    "sql_init",
]

MARKER_TABLE: Final = "perdure.init_marker"
"""In a schema (MySQL: a database) of its own: a script may drop `public`, and the mark has to stay."""
_APPLIED: Final = "perdure-init: applied"
_ALREADY: Final = "perdure-init: already"
_HALF: Final = "perdure-init: half"
_NOT_YET: Final = 2
"""Exit code of psql when it has no connection; the MySQL wrapper keeps to it."""


class InitOutcome(StrEnum):
    """How a run of the command ended."""

    APPLIED = "applied"
    ALREADY = "already"
    """It had run before; nothing was done."""
    NOT_YET = "not_yet"
    """No connection, or it was lost: try again, that is no failure. A wrong password looks the same."""
    FAILED = "failed"
    """The script (or the client tool) failed; see its output."""
    HALF_DONE = "half_done"
    """MySQL only: an earlier run of this script ended in the middle, after DDL. It is not run again."""


@dataclass(frozen=True, slots=True)
class InitCommand:
    """What to exec in the service's container and what to feed it; needs `sh`, `head`, and the client."""

    command: tuple[str, ...]
    stdin: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """What remembers a script in the database: one row says that it has run, another which run did it.

    `key`: of the script, wherever it is asked for. `digest`: of the script, kept with the row. `run`: of this
    run alone; a second attempt that finds it is the one that has applied the script. None: nobody asks who it
    was. `anew`: run although the script has run before (needs `run`).
    """

    key: str
    digest: str
    run: str | None = None
    anew: bool = False

    @property
    def rows(self) -> tuple[str, ...]:
        """Keys of the rows, the one that has to be absent first."""
        if self.run is None:
            return (self.key,)
        return (self.run, self.key) if self.anew else (self.key, self.run)


def sql_init(store: DataStore | None, script: str, mark: Mark, before: str = "") -> InitCommand:
    """The command that runs `script` once per mark; `before` are statements of ours that go before it.

    Raises InitScriptInvalid for a store without SQL, and for what `check_sql` refuses.
    """
    check_sql(store, script)
    script = script.removeprefix("\ufeff")
    match store:
        case DataStore.POSTGRES:
            return _fed(_POSTGRES_CLIENT, _postgres(script, mark, before))
        case DataStore.MYSQL:
            return _fed(_MYSQL_CLIENT, _mysql(script, mark, before))
        case DataStore.REDIS | DataStore.MONGODB | DataStore.FILES | None:
            raise InitScriptInvalid(_no_sql(store))
        case _:
            assert_never(store)


def check_sql(store: DataStore | None, script: str) -> None:
    """Raise InitScriptInvalid, with line and reason, for a script that `sql_init` would refuse."""
    if store not in (DataStore.POSTGRES, DataStore.MYSQL):
        raise InitScriptInvalid(_no_sql(store))
    if "\0" in script:
        raise InitScriptInvalid("a script cannot contain a NUL character", "take it out")
    if store is DataStore.POSTGRES:
        refuse_transaction_control(script)
    else:
        refuse_rollback(script)


def sql_fault(store: DataStore | None, script: str) -> InitScriptInvalid | None:
    """What `check_sql` would raise; None when the script may run."""
    try:
        check_sql(store, script)
    except InitScriptInvalid as fault:
        return fault
    return None


def outcome(exit_code: int, stdout: bytes) -> InitOutcome:
    """What the command's exit code and output mean."""
    lines = stdout.decode(errors="replace").split()
    last = " ".join(lines[-2:])
    if last == _ALREADY:
        return InitOutcome.ALREADY
    if last == _HALF:
        return InitOutcome.HALF_DONE
    if exit_code == 0 and last == _APPLIED:
        return InitOutcome.APPLIED
    return InitOutcome.NOT_YET if exit_code == _NOT_YET else InitOutcome.FAILED


def _no_sql(store: DataStore | None) -> str:
    return f"SQL needs a postgres or mysql store, not {store or 'an unknown one'}"


def _fed(client: str, text: str) -> InitCommand:
    """Feed exactly the text's bytes: the exec protocol that keeps exit codes cannot say end of file.

    `cat` takes what a client that ended early left, or the sender would hang on a full pipe.
    """
    data = text.encode()
    shell = f"head -c {len(data)} | {{ {client}\nrc=$?; cat >/dev/null; exit $rc; }}"
    return InitCommand(("sh", "-c", shell), data)


# 127.0.0.1: while the official images initialise, a temporary server listens on its socket only.
_POSTGRES_CLIENT: Final = """
user="${POSTGRES_USER:-postgres}"
if [ -z "${POSTGRES_PASSWORD:-}" ] && [ -r "${POSTGRES_PASSWORD_FILE:-}" ]; then
  POSTGRES_PASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")"
fi
PGPASSWORD="${POSTGRES_PASSWORD:-}" PGCLIENTENCODING=UTF8 PGCONNECT_TIMEOUT=5 PGOPTIONS= \\
  psql -X -q -A -t -w -v ON_ERROR_STOP=1 -h 127.0.0.1 -U "$user" -d "${POSTGRES_DB:-$user}" -f -
"""


def _postgres(script: str, mark: Mark, before: str) -> str:
    """One transaction: lock, marker, script, COMMIT. `\\q` ends the input where the marker is found.

    The marker goes in before the script, so that a `search_path` or role that the script sets does not
    matter. Its results go nowhere: the last line of the output has to be ours, however much there is.

    A server hears of a client's death only when it has something to say to it, so it is told to look (14 and
    later can): or a long statement of a run that was cut would keep the next one waiting to its end.
    """
    lock = int.from_bytes(
        hashlib.sha256(f"perdure-init {mark.key}".encode()).digest()[:8], "big", signed=True
    )
    found = "" if mark.run is None else _postgres_ends_if(mark.run, _APPLIED)
    if not mark.anew:
        found += _postgres_ends_if(mark.key, _ALREADY)
    rows = ", ".join(f"({_quoted(row)}, {_quoted(mark.digest)})" for row in mark.rows)
    return f"""\
SET client_min_messages = warning;
DO 'BEGIN PERFORM set_config(name, ''1s'', false) FROM pg_settings
  WHERE name = ''client_connection_check_interval''; END';
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
DO 'BEGIN PERFORM pg_advisory_xact_lock({lock}); END';
CREATE SCHEMA IF NOT EXISTS perdure;
CREATE TABLE IF NOT EXISTS {MARKER_TABLE} (
  key text PRIMARY KEY, digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
{found}INSERT INTO {MARKER_TABLE} (key, digest) VALUES {rows} ON CONFLICT (key) DO NOTHING;
RESET client_min_messages;
\\o /dev/null
{before}{script}
;
COMMIT;
\\o
\\echo {_APPLIED}
"""  # noqa: S608


def _postgres_ends_if(row: str, said: str) -> str:
    """Where this row is there already, nothing is done, and this is the last line of the output."""
    return f"""\
SELECT EXISTS (SELECT FROM {MARKER_TABLE} WHERE key = {_quoted(row)}) AS perdure_done \\gset
\\if :perdure_done
ROLLBACK;
\\echo {said}
\\q
\\endif
"""  # noqa: S608


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


# The client has one exit code for every error, so a first connection tells "not yet" apart.
_MYSQL_CLIENT: Final = f"""
cli="$(command -v mariadb || command -v mysql)" || {{ echo 'no mariadb or mysql client' >&2; exit 127; }}
root="${{MARIADB_ROOT_PASSWORD:-${{MYSQL_ROOT_PASSWORD:-}}}}"
file="${{MARIADB_ROOT_PASSWORD_FILE:-${{MYSQL_ROOT_PASSWORD_FILE:-}}}}"
if [ -z "$root" ] && [ -r "$file" ]; then root="$(cat "$file")"; fi
db="${{MARIADB_DATABASE:-${{MYSQL_DATABASE:-}}}}"
export MYSQL_PWD="$root"
sql() {{
  "$cli" --no-defaults --protocol=tcp -h 127.0.0.1 -u root --default-character-set=utf8mb4 -N -B "$@"
}}
sql -e 'DO 0' </dev/null || exit {_NOT_YET}
sql ${{db:+"--database=$db"}} | tail -n 1
"""


_MYSQL_DELIMITER: Final = re.compile(r"^[ \t]*DELIMITER[ \t]+(\S+)", re.IGNORECASE | re.MULTILINE)


def _mysql(script: str, mark: Mark, before: str) -> str:
    """One session that holds a named lock; the insert fails on a marker that is there, which ends it.

    What the last line of the output says then tells why: `already`, `half` for a run that was cut, or
    `applied` when it was this very run that had done it. The client's exit code is lost in the pipe; only a
    run that came to its end says `applied`.
    """
    first, *others = (_mysql_quoted(row) for row in mark.rows)
    rows, version = ", ".join((first, *others)), _mysql_quoted(mark.digest)
    lock = "perdure-" + hashlib.sha256(f"perdure-init {mark.key}".encode()).hexdigest()[:40]
    done = f"'{_APPLIED if mark.anew else _ALREADY}'"
    if mark.run is not None and not mark.anew:
        own = f"{_mysql_quoted(mark.run)} IN (SELECT own.name FROM {MARKER_TABLE} AS own)"  # noqa: S608
        done = f"IF({own}, '{_APPLIED}', {done})"
    insert = f"INTO {MARKER_TABLE} (name, digest, state) VALUES"
    inserts = f"INSERT {insert} ({first}, {version}, 'begun');\n" + "".join(
        f"INSERT IGNORE {insert} ({row}, {version}, 'begun');\n" for row in others
    )
    # The client knows its command only where a statement begins, so the last one has to be ended first.
    delimiter = (_MYSQL_DELIMITER.findall(script) or [";"])[-1]
    return f"""\
DO GET_LOCK('{lock}', 31536000);
CREATE DATABASE IF NOT EXISTS perdure;
CREATE TABLE IF NOT EXISTS {MARKER_TABLE} (name varchar(255) PRIMARY KEY, digest varchar(255) NOT NULL,
  state varchar(16) NOT NULL, applied_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB;
DELETE FROM {MARKER_TABLE} WHERE name = {first} AND state = 'begun' AND digest <> {version};
SELECT IF(state = 'done', {done}, '{_HALF}') FROM {MARKER_TABLE} WHERE name = {first};
START TRANSACTION;
{inserts}{before}{script}
{delimiter}
DELIMITER ;
UPDATE {MARKER_TABLE} SET state = 'done' WHERE name IN ({rows});
COMMIT;
SELECT '{_APPLIED}';
"""  # noqa: S608


def _mysql_quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
