"""The process runner with a real supervisor, and a real Temporal server as its program."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import envfile, health, processes, settings
from devstack.environment import ensure_keys, process_settings
from devstack.errors import DevstackError
from devstack.progress import wait_until
from devstack.runner import PROGRAMS, Runner
from devstack.settings import Stack
from devstack.stack import Up, down
from tests.helpers.ports import free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    # A kubeconfig with one for the service account beside it: a cluster that somebody else keeps.
    (tmp_path / "perdure.kubeconfig").touch()
    made = Stack(
        repo=settings.read({}).repo,
        state=tmp_path / "state",
        api_port=free_port(),
        temporal_port=free_port(),
        temporal_ui_port=free_port(),
        given_kubeconfig=tmp_path / "admin.kubeconfig",
    )
    for folder in (made.run, made.log):
        folder.mkdir(parents=True)
    values = process_settings(made, tmp_path / "perdure.kubeconfig", ensure_keys(made))
    envfile.write_private(made.stack_env, envfile.render(values))
    yield made
    Runner(made).shut_down()


def start_temporal(stack: Stack) -> int:
    """Start the server, wait until it answers, and return its process id."""
    runner = Runner(stack)
    runner.ensure()
    runner.start("temporal")
    assert wait_until("temporal", lambda: health.temporal(stack), seconds=60) is None
    return runner.program("temporal").pid


def test_a_killed_program_stays_dead_until_it_is_started_again(stack: Stack) -> None:
    runner = Runner(stack)
    pid = start_temporal(stack)
    assert processes.read_pid(stack.pid_file("temporal")) == pid
    assert "server start-dev" in processes.command_of(pid)

    os.kill(pid, signal.SIGKILL)
    dead = wait_until("kill", lambda: "runs" if runner.program("temporal").running else None, seconds=10)
    assert dead is None
    assert runner.program("temporal").note == "was killed"

    again = start_temporal(stack)
    assert again != pid
    assert processes.read_pid(stack.pid_file("temporal")) == again


def test_down_leaves_nothing_and_can_be_repeated(stack: Stack) -> None:
    pid = start_temporal(stack)
    down(stack)
    assert processes.command_of(pid) == ""
    assert not Runner(stack).alive()
    assert list(stack.run.iterdir()) == []
    assert not stack.socket.exists()
    assert not processes.port_taken(stack.temporal_port)
    down(stack)


def test_what_outlived_a_killed_runner_is_ended(stack: Stack) -> None:
    orphan = start_temporal(stack)
    supervisor = processes.read_pid(stack.pid_file("supervisord"))
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    assert processes.wait_for_end(supervisor, seconds=10)
    assert processes.command_of(orphan)

    start_temporal(stack)
    assert processes.command_of(orphan) == ""


def test_a_program_that_cannot_start_says_how_it_ended(stack: Stack) -> None:
    envfile.write_private(stack.stack_env, "PERDURE_DEV_PYTHON=/bin/false\n")
    runner = Runner(stack)
    runner.ensure()
    runner.start("worker")
    ended = wait_until("worker", lambda: "runs" if runner.program("worker").running else None, seconds=10)
    assert ended is None
    assert runner.program("worker").note == "ended with status 1"


def test_without_a_runner_nothing_runs(stack: Stack) -> None:
    assert not Runner(stack).alive()
    assert not any(Runner(stack).program(name).running for name in PROGRAMS)


def test_a_port_of_somebody_else_is_named(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", stack.api_port)), pytest.raises(DevstackError) as refused:
        Up(stack)()
    message = str(refused.value)
    assert f"port {stack.api_port} (api) is in use" in message
    assert settings.API_PORT in message
    if Path("/proc/net/tcp").exists():
        assert f"(pid {os.getpid()})" in message
    assert not Runner(stack).alive()
