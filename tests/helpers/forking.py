"""Processes of the product that start at once, forked from one that has imported everything.

API, worker and `perdure admin` take seconds of processor time to import what they need, and the tests start
hundreds of them (ADR 0040). Each is a process of its own all the same, which can be killed and waited for.
The true commands are run by tests/admin/test_program.py, `make demo` and `make bench`.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("pytest", "tests.helpers.forking", "api.serving", "worker.main", "worker.devserver"),
        *("admin.main", "admin.backup", "admin.restore", "admin.rotation", "admin.orphans"),
        *("admin.organizations", "tests.helpers.forked_heap"),
    ]
)


class Forked:
    """What `subprocess.Popen` is of `python -m MODULE ARGUMENTS`, without the start of an interpreter."""

    def __init__(
        self, words: Sequence[str], *, env: Mapping[str, str], cwd: Path, out: Path, err: Path | None = None
    ) -> None:
        """Start it. `words`: the module and its arguments; `out` and `err` are appended to, one if alone."""
        given = (tuple(words), dict(env), cwd, out, err or out)
        self._process = _FORKS.Process(target=_become, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: Final = self._process.pid

    def poll(self) -> int | None:
        """Return its exit status once it has ended, negative for a signal."""
        return self._process.exitcode

    def kill(self) -> None:
        """`kill -9`, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end, unless it has."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status; raises subprocess.TimeoutExpired after `timeout` seconds."""
        self._process.join(timeout)
        if (status := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return status


def run(
    words: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run `python -m` of these words to its end, as `subprocess.run` does; nobody answers its questions."""
    with TemporaryDirectory() as elsewhere:
        out, err = Path(elsewhere) / "out", Path(elsewhere) / "err"
        process = Forked(words, env=env, cwd=cwd, out=out, err=err)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(list(words), status, out.read_text(), err.read_text())


def _become(words: tuple[str, ...], env: dict[str, str], cwd: Path, out: Path, err: Path) -> None:
    """Be `python -m`: a process group of its own, its environment, its directory, its output."""
    os.setsid()
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for path, number in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _end_with_the_tests() -> None:
    """Leave nothing behind when the process that runs the tests is killed."""
    if (tests := multiprocessing.parent_process()) is not None:
        tests.join()
        os.kill(os.getpid(), signal.SIGKILL)
