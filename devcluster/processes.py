"""Long-lived processes with a pid file and a log each, independent of the shell that started them."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.tools import wait_until

# Marks our processes in /proc/PID/environ: a pid file may be older than the pid's present owner.
MARK = "PERDURE_DEVCLUSTER"


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of one cluster; pid files in ``state/run``, logs in ``state/log``."""

    state: Path

    def pid_file(self, name: str) -> Path:
        """Where the pid of a component is."""
        return self.state / "run" / f"{name}.pid"

    def log_file(self, name: str) -> Path:
        """Where a component's output goes."""
        return self.state / "log" / f"{name}.log"

    def pid(self, name: str) -> int | None:
        """The pid of a component that runs, else None."""
        try:
            pid = int(self.pid_file(name).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> bool:
        """Start a component unless it runs; tells whether it was started now."""
        if self.pid(name) is not None:
            return False
        log = self.log_file(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.pid_file(name).parent.mkdir(parents=True, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Not subprocess: nobody here waits for the end of these.
            pid = os.posix_spawnp(
                str(argv[0]),
                [str(word) for word in argv],
                {**clean_environment(), **(env or {}), MARK: str(self.state)},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(output)
        self.pid_file(name).write_text(f"{pid}\n")
        wait_until(lambda: _recognisable(pid), 10, f"start of {name}")
        return True

    def stop(self, name: str, grace: float) -> None:
        """End a component: SIGTERM, and SIGKILL after the grace (seconds). A frozen one is thawed first."""
        pid = self.pid(name)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM if grace > 0 else signal.SIGKILL)
            if not self._ended(pid, grace):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                wait_until(lambda: not self._is_ours(pid), 10, f"end of {name}")
        self.pid_file(name).unlink(missing_ok=True)

    def require(self, name: str) -> None:
        """Raise with the end of its log when a component that should run does not."""
        if self.pid(name) is None:
            lines = self.log_file(name).read_text(errors="replace").splitlines()[-8:]
            raise DevclusterError(f"{name} has ended; the end of {self.log_file(name)}:\n" + "\n".join(lines))

    def leftovers(self) -> list[int]:
        """Pids of all processes that belong to this cluster, found by their mark."""
        return [pid for pid in all_pids() if self._is_ours(pid)]

    def _ended(self, pid: int, grace: float) -> bool:
        deadline = time.monotonic() + grace
        while self._is_ours(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _is_ours(self, pid: int) -> bool:
        reap(pid)
        try:
            environment = (Path("/proc") / str(pid) / "environ").read_bytes()
        except OSError:
            return False
        mark = f"{MARK}=".encode()
        marks = [word[len(mark) :] for word in environment.split(b"\0") if word.startswith(mark)]
        # Also by another path: it may have been started through a link.
        return any(self._is_state(Path(os.fsdecode(word))) for word in marks)

    def _is_state(self, path: Path) -> bool:
        return path == self.state or path.resolve() == self.state.resolve()


def clean_environment() -> dict[str, str]:
    """Our environment without what would change the behaviour of the servers started with it.

    `GOGC` and `GOMEMLIMIT` stay: they trade their memory for processor time, and nothing else.
    """
    changing = ("KUBE", "ETCD_", "GO", "REGISTRY_", MARK)
    stays = ("GOGC", "GOMEMLIMIT")
    return {k: v for k, v in os.environ.items() if k in stays or not k.startswith(changing)}


def all_pids() -> Iterator[int]:
    """Every pid of the machine, at the moment of asking."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def reap(pid: int) -> None:
    """Take the exit status of a child that has ended, so that it does not stay as a zombie of ours."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _recognisable(pid: int) -> bool:
    """Whether a child's environment can be read, or the child has ended already; its exit status stays.

    The spawn returns while the kernel still sets the new program up: until then the environment is empty.
    """
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        return True
    try:
        return (Path("/proc") / str(pid) / "environ").read_bytes() != b""
    except ProcessLookupError:
        return False  # it ended just now: the next look sees that


def resident_bytes(pid: int) -> int:
    """Resident memory of a process in bytes, 0 when it is gone."""
    try:
        for line in (Path("/proc") / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
