"""Bringing a stack up and down: what is missing is started in order, what runs is left alone."""

import fcntl
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devstack import envfile, health, processes
from devstack.cluster import Cluster
from devstack.environment import settings_of, user_settings
from devstack.errors import DevstackError
from devstack.progress import done, say, wait_until
from devstack.runner import PROGRAMS, Runner
from devstack.settings import API_PORT, TEMPORAL_PORT, TEMPORAL_UI_PORT, Stack

_READY_SECONDS: Final = 90.0
_STATE_OF_THE_CLUSTER: Final = (
    "perdure.db",
    "perdure.db-wal",
    "perdure.db-shm",
    "temporal.db",
    "temporal.db-wal",
    "temporal.db-shm",
    "objects",
    "env",
    "stack.env",
    "api-key",
    "master-keys",
    "seal-key",
    "run",
)
"""What tells of environments on a cluster, and is without meaning once the cluster is gone."""


@dataclass(frozen=True, slots=True)
class Up:
    """Brings one stack up."""

    stack: Stack

    def __call__(self) -> None:
        """Start what is missing and wait until each part works. Raises DevstackError."""
        began = time.monotonic()
        with _alone(self.stack):
            self._check_ports()
            self._cluster()
            self._settings()
            self._runner.ensure()
            self._start("temporal")
            self._wait("temporal", lambda _pid: health.temporal(self.stack), self.stack.temporal_address)
            self._bootstrap()
            self._start("worker")
            self._start("api")
            self._wait(
                "worker",
                lambda pid: health.worker(self.stack, pid),
                "polls its queues, and is the current version",
            )
            self._wait("api", lambda _pid: health.api(self.stack), self.stack.api_url)
            self._user_env()
        say(f"The stack is up after {time.monotonic() - began:.1f} s.")

    @property
    def _runner(self) -> Runner:
        return Runner(self.stack)

    def _check_ports(self) -> None:
        """Refuse early, before anything is built, when somebody else has a port. Raises DevstackError."""
        needed = (
            ("temporal", self.stack.temporal_port, TEMPORAL_PORT),
            ("temporal", self.stack.temporal_ui_port, TEMPORAL_UI_PORT),
            ("api", self.stack.api_port, API_PORT),
        )
        faults = []
        for program, port, variable in needed:
            if self._runner.program(program).running or not processes.port_taken(port):
                continue
            holder = processes.listener(port) or "another process"
            faults.append(
                f"port {port} ({program}) is in use by {holder}: stop it, or choose another with {variable}"
            )
        if faults:
            raise DevstackError("\n".join(faults))

    def _cluster(self) -> None:
        began = time.monotonic()
        cluster = Cluster(self.stack)
        cluster.up()
        done("cluster", began, cluster.status() if cluster.shared else "")

    def _settings(self) -> None:
        """Write the processes' settings; programs that run under other ones are stopped, to start anew."""
        values = settings_of(self.stack)
        before = envfile.read(self.stack.stack_env)
        if before and before != values:
            changed = sorted(
                key for key in values.keys() | before.keys() if values.get(key) != before.get(key)
            )
            for name in reversed(PROGRAMS):
                if self._runner.program(name).running:
                    say(f"  {name:<10} is started anew, for {', '.join(changed)} changed")
                    self._runner.stop(name)
        envfile.write_private(self.stack.stack_env, envfile.render(values))

    def _bootstrap(self) -> None:
        """Migrate the database and make the development key; not needed while both of its users run."""
        if self.stack.api_key.exists() and all(
            self._runner.program(name).running for name in ("worker", "api")
        ):
            return
        began = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "worker.bootstrap", "--key-file", str(self.stack.api_key)],
            cwd=self.stack.repo,
            env=envfile.over_environment(self.stack.stack_env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            raise DevstackError(f"the database could not be set up:\n{ended.stdout.strip()}")
        done("database", began, "migrated")

    def _start(self, name: str) -> None:
        if not self._runner.program(name).running:
            self._runner.start(name)

    def _wait(self, name: str, missing: Callable[[int], str | None], note: str) -> None:
        """Wait until a program works. Raises DevstackError with the end of its log when it does not."""
        began = time.monotonic()

        def look() -> str | None:
            program = self._runner.program(name)
            if not program.running:
                raise DevstackError(f"{name} {program.note}; the end of its log:\n{self._runner.tail(name)}")
            return missing(program.pid)

        left = wait_until(name, look, seconds=_READY_SECONDS)
        if left is not None:
            raise DevstackError(
                f"{name} {left} after {_READY_SECONDS:.0f} s; see {self.stack.log / name}.log"
            )
        done(name, began, note)

    def _user_env(self) -> None:
        token = self.stack.api_key.read_text().strip()
        values = user_settings(self.stack, Cluster(self.stack), token)
        envfile.write_private(self.stack.user_env, envfile.render(values))


def down(stack: Stack, *, keep_cluster: bool = False) -> None:
    """Stop everything; a cluster that devcluster made goes too, and with it what the stack knew of it.

    What is down already is fine. Raises DevstackError.
    """
    cluster = Cluster(stack)
    if stack.state.exists():
        with _alone(stack):
            began = time.monotonic()
            Runner(stack).shut_down()
            done("processes", began, "stopped")
    if keep_cluster:
        return
    cluster.down()
    if cluster.given:
        say("The cluster is your own and stays, and with it the stack's state; `make dev-up` goes on.")
        return
    for name in _STATE_OF_THE_CLUSTER:
        _remove(stack.state / name)
    say("The cluster is gone, and with it the stack's database and keys. Logs are kept.")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def status(stack: Stack) -> bool:
    """Print what runs; return whether all of it does."""
    runner = Runner(stack)
    say(f"  {'cluster':<10} {Cluster(stack).status()}")
    programs = [runner.program(name) for name in PROGRAMS]
    for program in programs:
        say(f"  {program.name:<10} {'runs' if program.running else 'is down':<8} {program.note}")
    if stack.user_env.exists():
        describe(stack)
    return all(program.running for program in programs)


def describe(stack: Stack) -> None:
    """Print the URLs, where the key is, and what to type next."""
    cluster = "the cluster is yours and stays" if Cluster(stack).given else "the cluster too"
    shown = Path(*stack.state.parts[-1:]) if stack.state.parent == stack.repo else stack.state
    say(
        f"""
  API          {stack.api_url}/docs
  Temporal UI  {stack.temporal_ui_url}
  API key      {shown}/api-key (and in {shown}/env, with everything a shell needs)
  Logs         {shown}/log/

  set -a; . {shown}/env; set +a                      # perdure, kubectl and temporal then find this stack
  .venv/bin/perdure env create -f examples/hello.yaml   # its image is made by `make demo`
  make dev-down                                      # stops everything, {cluster}
"""
    )


@contextmanager
def _alone(stack: Stack) -> Iterator[None]:
    """Keep a second `up` or `down` of the same stack waiting until this one is through."""
    for folder in (stack.state, stack.run, stack.log):
        folder.mkdir(parents=True, exist_ok=True)
    stack.state.chmod(0o700)
    with (stack.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
