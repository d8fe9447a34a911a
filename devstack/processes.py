"""Processes of this machine by number, and who holds a port."""

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path


def command_of(pid: int) -> str:
    """Return the command line of a process; empty when there is none of this number, or only its remains."""
    asked = subprocess.run(
        ["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, command = asked.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else command.strip()


def read_pid(path: Path) -> int | None:
    """Return the number in a pid file; None when there is no file or no number in it."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def wait_for_end(pid: int, seconds: float) -> bool:
    """Wait for a process that need not be our child to end; False when it is there still."""
    deadline = time.monotonic() + seconds
    while command_of(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def end(pid: int, seconds: float) -> None:
    """Ask a process to end, and make it after `seconds`; one that is gone is fine."""
    try:
        os.kill(pid, signal.SIGTERM)
        if not wait_for_end(pid, seconds):
            os.kill(pid, signal.SIGKILL)
            wait_for_end(pid, seconds)
    except ProcessLookupError:
        return


def port_taken(port: int) -> bool:
    """Whether something listens on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # What a server sets itself: without it a port that was left a moment ago would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def listener(port: int) -> str:
    """Return who listens on a port, as `name (pid N)`; empty where the system does not tell."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        except OSError:
            continue
        inodes |= {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in Path("/proc").glob("[0-9]*/fd") if wanted else ():
        if wanted & _held(folder):
            pid = folder.parent.name
            return f"{Path(command_of(int(pid)).partition(' ')[0]).name} (pid {pid})"
    return ""


def _held(folder: Path) -> set[str]:
    """Return what a process has open; of one that is somebody else's, or gone by now, nothing."""
    held = set()
    try:
        for link in folder.iterdir():
            # One of them is this very look, gone when it is read.
            with suppress(FileNotFoundError):
                held.add(str(link.readlink()))
    except OSError:
        return set()
    return held
