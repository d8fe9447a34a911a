"""`perdure admin` as a process of its own, over databases of each kind.

What `perdure` makes of it, which is to start the other program, is shown in tests/admin/test_program.py.
"""

import base64
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from activities.secrets import MasterKeys
from tests.helpers import forking
from tests.helpers.databases import (
    database,
    database_url,
    empty_database_url,
    postgres_server,
    postgres_url,
    sqlite_template,
    sqlite_url,
)
from tests.helpers.tenants import KEYS

__all__ = [
    "database",
    "database_url",
    "empty_database_url",
    "postgres_server",
    "postgres_url",
    "sqlite_template",
    "sqlite_url",
]
ROOT = Path(__file__).resolve().parents[2]

Admin = Callable[..., subprocess.CompletedProcess[str]]


def written(keys: MasterKeys) -> str:
    """Master keys as PERDURE_MASTER_KEYS holds them."""
    order = sorted(keys.keys, key=lambda each: each != keys.current_id)
    return ",".join(f"{each}:{base64.b64encode(keys.keys[each]).decode()}" for each in order)


def command(*arguments: str) -> list[str]:
    """The command line of `perdure admin`."""
    return [sys.executable, "-m", "cli", "admin", *arguments]


def variables(url: str, keys: MasterKeys = KEYS, **more: str) -> dict[str, str]:
    """The environment of an operator."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PERDURE_")}
    ours = {"PERDURE_DATABASE_URL": url, "PERDURE_MASTER_KEYS": written(keys), "PYTHONPATH": str(ROOT)}
    return {**inherited, **ours, **more}


@contextmanager
def started(
    url: str, *arguments: str, keys: MasterKeys = KEYS, more: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A command that runs while the body does, and is killed at its end."""
    with TemporaryDirectory() as elsewhere:
        env = variables(url, keys, **(more or {}))
        process = forking.Forked(("admin", *arguments), env=env, cwd=ROOT, out=Path(elsewhere) / "out")
        try:
            yield
        finally:
            process.kill()
            process.wait(30)


@pytest.fixture
def admin(tmp_path: Path) -> Admin:
    """Run a command to its end; no key is ever in what it prints."""

    def run(
        url: str, *arguments: str, keys: MasterKeys = KEYS, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = forking.run(("admin", *arguments), env=variables(url, keys, **(more or {})), cwd=tmp_path)
        for key in keys.keys.values():
            assert base64.b64encode(key).decode() not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run
