"""The process runner: one supervisord per stack, reached over its own Unix socket."""

import http.client
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from supervisor.states import RUNNING_STATES, ProcessStates
from supervisor.xmlrpc import SupervisorTransport

from devstack.errors import DevstackError
from devstack.processes import command_of, end, read_pid, wait_for_end
from devstack.settings import Stack, inherited

CONFIG: Final = "devstack/supervisord.conf"
PROGRAMS: Final = {"temporal": "server start-dev", "worker": "-m worker", "api": "-m api"}
"""In the order of their start, each with words of its command line."""
_STOP_SECONDS: Final = 60.0
_UNREACHABLE: Final = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Program:
    """One program as the runner sees it; `pid` is 0 when it is not running."""

    name: str
    running: bool = False
    pid: int = 0
    note: str = "stopped"


@dataclass(frozen=True, slots=True)
class Runner:
    """Starts, asks and stops the process runner of one stack, and its programs."""

    stack: Stack

    def alive(self) -> bool:
        """Whether the runner answers."""
        try:
            with self._rpc() as rpc:
                rpc.supervisor.getState()
        except _UNREACHABLE:
            return False
        return True

    def ensure(self) -> None:
        """Start the runner when it is not there, and no program yet. Raises DevstackError."""
        if self.alive():
            return
        self._end_orphans()
        self.stack.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # It goes to the background once its socket listens.
        made = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", CONFIG],
            cwd=self.stack.repo,
            env=inherited(self.stack, sys.executable),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0 or not self.alive():
            raise DevstackError(f"the process runner did not start:\n{(made.stderr or made.stdout).strip()}")

    def program(self, name: str) -> Program:
        """Return the state of one program; without a runner nothing runs."""
        try:
            with self._rpc() as rpc:
                info = rpc.supervisor.getProcessInfo(name)
        except _UNREACHABLE:
            return Program(name)
        if info["state"] in RUNNING_STATES:
            return Program(name, running=True, pid=int(info["pid"]), note=str(info["description"]))
        return Program(name, note=_ending(info))

    def start(self, name: str) -> None:
        """Start one program that is not running. Raises DevstackError."""
        try:
            with self._rpc() as rpc:
                rpc.supervisor.startProcess(name)
        except xmlrpc.client.Fault as fault:
            raise DevstackError(f"{name} did not start: {fault.faultString}\n{self.tail(name)}") from fault

    def stop(self, name: str) -> None:
        """Stop one program and wait for its end; one that is not running is fine."""
        if self.program(name).running:
            with self._rpc() as rpc:
                rpc.supervisor.stopProcess(name)

    def shut_down(self) -> None:
        """Stop every program and the runner, and wait until they are gone. Raises DevstackError."""
        try:
            with self._rpc() as rpc:
                pid = int(rpc.supervisor.getPID())
                rpc.supervisor.shutdown()
        except _UNREACHABLE:
            pass
        else:
            if not wait_for_end(pid, _STOP_SECONDS):
                raise DevstackError(
                    f"the process runner (pid {pid}) did not end within {_STOP_SECONDS:.0f} s"
                )
        self._end_orphans()
        for name in (*PROGRAMS, "supervisord"):
            self.stack.pid_file(name).unlink(missing_ok=True)
        self.stack.socket.unlink(missing_ok=True)
        if self.stack.socket.parent != self.stack.run and self.stack.socket.parent.exists():
            self.stack.socket.parent.rmdir()

    def tail(self, name: str, lines: int = 20) -> str:
        """Return the last lines of a program's log."""
        try:
            text = (self.stack.log / f"{name}.log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _end_orphans(self) -> None:
        """End programs that outlived a runner that was killed."""
        for name, words in PROGRAMS.items():
            pid = read_pid(self.stack.pid_file(name))
            # Its number may have gone to somebody else since.
            if pid is not None and words in command_of(pid):
                end(pid, seconds=15)

    @contextmanager
    def _rpc(self) -> Iterator[Any]:
        transport = SupervisorTransport(None, None, f"unix://{self.stack.socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            yield proxy


def _ending(info: dict[str, Any]) -> str:
    """Return how a program that does not run came to that."""
    if info["state"] == ProcessStates.EXITED:
        # Supervisor has -1 for a program that a signal ended.
        return "was killed" if info["exitstatus"] < 0 else f"ended with status {info['exitstatus']}"
    return str(info["spawnerr"]) or str(info["statename"]).lower()
