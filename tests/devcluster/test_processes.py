"""Processes with pid files."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.errors import DevclusterError
from devcluster.processes import Processes
from devcluster.tools import wait_until


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    for pid in made.leftovers():
        os.kill(pid, signal.SIGKILL)


def test_a_process_starts_once_and_leads_a_session_of_its_own(processes: Processes) -> None:
    assert processes.start("sleeper", ["sleep", "60"]) is True
    pid = processes.pid("sleeper")
    assert pid is not None
    assert os.getsid(pid) == pid
    assert processes.start("sleeper", ["sleep", "60"]) is False
    assert processes.pid("sleeper") == pid


def test_the_settings_of_the_shell_do_not_reach_it(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    monkeypatch.setenv("ETCD_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("GODEBUG", "netdns=cgo")
    monkeypatch.setenv("GOGC", "400")
    monkeypatch.setenv("GOMEMLIMIT", "2GiB")
    processes.start("sleeper", ["sleep", "60"])
    environment = Path(f"/proc/{processes.pid('sleeper')}/environ").read_bytes()
    assert b"/elsewhere" not in environment
    assert b"GODEBUG" not in environment
    # How often they collect their garbage changes nothing else.
    assert {b"GOGC=400", b"GOMEMLIMIT=2GiB"} <= set(environment.split(b"\0"))


@pytest.mark.parametrize("through_link", ["start", "stop"])
def test_what_was_started_by_another_path_to_the_same_place_is_ours(
    processes: Processes, through_link: str
) -> None:
    link = processes.state / "link"
    link.symlink_to(processes.state)
    starter, stopper = processes, Processes(link)
    if through_link == "start":
        starter, stopper = stopper, starter
    starter.start("sleeper", ["sleep", "60"])
    pid = starter.pid("sleeper")
    assert pid is not None
    assert (stopper.pid("sleeper"), stopper.leftovers()) == (pid, [pid])
    assert Processes(processes.state / "elsewhere").leftovers() == []
    stopper.stop("sleeper", grace=0)
    assert starter.leftovers() == []


def test_a_frozen_process_that_ignores_sigterm_ends_all_the_same(processes: Processes) -> None:
    program = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    processes.start("deaf", [sys.executable, "-c", program])
    pid = processes.pid("deaf")
    assert pid is not None
    wait_until(lambda: "deaf" in processes.log_file("deaf").read_text(), 10, "start")
    os.kill(pid, signal.SIGSTOP)
    processes.stop("deaf", grace=0.2)
    assert processes.pid("deaf") is None
    assert not processes.pid_file("deaf").exists()


def test_a_pid_that_now_belongs_to_somebody_else_is_neither_ours_nor_stopped(processes: Processes) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        processes.pid_file("server").parent.mkdir(parents=True)
        processes.pid_file("server").write_text(f"{stranger.pid}\n")
        assert processes.pid("server") is None
        processes.stop("server", grace=0)
        assert stranger.poll() is None
        stranger.kill()


def test_a_process_that_has_ended_is_reported_with_the_end_of_its_log(processes: Processes) -> None:
    processes.start("server", ["sh", "-c", "echo address in use; exit 1"])
    os.waitpid(int(processes.pid_file("server").read_text()), 0)
    with pytest.raises(DevclusterError, match="server has ended") as error:
        processes.require("server")
    assert "address in use" in str(error.value)
