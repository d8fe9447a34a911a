"""The scripts of dumps and loads, with tools that only write down how they are called."""

import os
import subprocess
from pathlib import Path

import pytest

from workflows.domain.blueprint import parse_blueprint
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_dump import mariadb_parts, postgres_parts, stored_parts

CLIENT = """#!/bin/sh
printf 'mariadb' >>"$LOG"
printf ' [%s]' "$@" >>"$LOG"
echo >>"$LOG"
case "$*" in
*schemata*) printf '%s\\n' -d shop ;;
*VERSIONED*) printf '%s' "$OTHER" ;;
*'SELECT @@GLOBAL'*) echo 4096 ;;
*'SET GLOBAL'*) ;;
*) cat >/dev/null; exit "$STATUS" ;;
esac
"""
DUMP = """#!/bin/sh
case "$*" in *--help*) echo "$HELP"; exit 0 ;; esac
printf 'mariadb-dump' >>"$LOG"
printf ' [%s]' "$@" >>"$LOG"
echo >>"$LOG"
[ -z "$SAYS" ] || printf '%s\\n' "$SAYS" rest
exit "$STATUS"
"""


class Tools:
    """A directory with both of them; what they are told by the environment is given for each run."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "log"
        for name, script in (("mariadb", CLIENT), ("mariadb-dump", DUMP)):
            (directory / name).write_text(script)
            (directory / name).chmod(0o755)
        self._env = {"PATH": f"{directory}:{os.environ['PATH']}", "LOG": str(self._log)}

    def run(self, command: tuple[str, ...], **told: str) -> tuple[int, str, list[str]]:
        """Status, output and calls of a script."""
        self._log.write_text("")
        done = subprocess.run(
            command,
            env={"SAYS": "", "STATUS": "0", "HELP": "", "OTHER": "", **self._env, **told},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
        )
        return done.returncode, done.stdout, self._log.read_text().splitlines()


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path)


@pytest.mark.parametrize("told", [{}, {"HELP": "--dump-history", "OTHER": "NULL"}], ids=["plain", "history"])
@pytest.mark.parametrize("status", ["0", "5"])
def test_names_of_databases_are_no_options_and_the_status_is_the_tools(
    tools: Tools, status: str, told: dict[str, str]
) -> None:
    code, _, calls = tools.run(mariadb_parts()[0].dump, STATUS=status, SAYS="first", **told)
    assert code == int(status)
    assert calls[-1].endswith(" [--databases] [--] [-d] [shop]")
    assert ("[--dump-history]" in calls[-1]) is bool(told)


def test_a_history_asks_who_loads_it_and_only_once_the_tool_writes(tools: Tools) -> None:
    told = {"HELP": "--dump-history", "OTHER": "NULL"}
    _, output, _ = tools.run(mariadb_parts()[0].dump, SAYS="first", **told)
    assert output.startswith(
        "DELIMITER ;;\nBEGIN NOT ATOMIC IF FROM_UNIXTIME(2147483648) IS NULL THEN SIGNAL"
    )
    assert output.endswith("END IF; END;;\nDELIMITER ;\nfirst\nrest\n")
    code, output, _ = tools.run(mariadb_parts()[0].dump, STATUS="5", **told)
    assert (code != 0, output) == (True, "")


@pytest.mark.parametrize("status", ["0", "7"])
def test_the_limit_of_a_server_is_put_back_whatever_became_of_the_load(tools: Tools, status: str) -> None:
    code, _, calls = tools.run(mariadb_parts()[0].restore, STATUS=status)
    assert code == int(status)
    assert [call.rpartition("[")[2] for call in calls] == [
        "SELECT @@GLOBAL.max_allowed_packet]",
        "SET GLOBAL max_allowed_packet = 1073741824]",
        "--max-allowed-packet=1G]",
        "SET GLOBAL max_allowed_packet = 4096]",
    ]


def test_a_database_may_be_called_what_the_part_with_the_roles_is_called() -> None:
    service = parse_blueprint({"name": "shop", "services": {"db": {"image": "postgres:16"}}}).service("db")
    dumped = postgres_parts(["app", "globals", "shop"])
    subjects = {part.key: part.subject for part in dumped}
    assert stored_parts(DataStore.POSTGRES, service, subjects) == dumped
