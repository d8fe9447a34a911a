"""Three servers that hooks hold still, and a writer that obeys them: the same number into each, in rounds."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

from tests.e2e.snapshots import MARIA, PSQL, stores_of
from tests.helpers.stack import Handle

_QUIESCE: Final = (
    "echo quiesce $(date +%s%N) >> /tmp/times; touch /tmp/held; "
    "while [ -e /tmp/round ]; do sleep 0.02; done; echo quiesced $(date +%s%N) >> /tmp/times"
)
"""Returns once the round under way is over; none begins while one server is held."""
THAW: Final = "rm -f /tmp/held; echo thawed $(date +%s%N) >> /tmp/times"
"""The end of a hook that made `/tmp/held`, for `holds_of`."""

CLIENTS: Final = {
    "db-0": f'{PSQL}c "insert into rounds values ($n)"',
    "deploy/maria": f'{MARIA} -e "insert into shop.rounds values ($n)"',
    "deploy/cache": "redis-cli rpush rounds $n",
}
"""By pod: what writes a round's number."""

_LOOP: Final = """
while read -r what n; do
  case $what in
    begin)
      if [ ! -e /tmp/held ] && touch /tmp/round && [ ! -e /tmp/held ]; then echo free
      else rm -f /tmp/round; echo held; fi ;;
    write) {client} </dev/null >/dev/null || exit 1; rm /tmp/round; echo written ;;
    leave) rm -f /tmp/round; echo left ;;
  esac
done
"""
"""Who begins a round announces it, then looks for a hold; who holds does the reverse: one sees the other."""

_PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Held:
    """A time for which a pod was held, by its own clock, in nanoseconds."""

    began: int
    quiesced: int
    thawed: int

    @property
    def milliseconds(self) -> float:
        """From the beginning of quiesce to the end of thaw."""
        return (self.thawed - self.began) / 1e6


def holds_of(handle: Handle, pod: str) -> list[Held]:
    """Return when a pod was held, as its hooks wrote it down; each of them has to be over."""
    found: list[Held] = []
    times: dict[str, int] = {}
    for line in handle.sh(pod, "cat /tmp/times").splitlines():
        word, nanoseconds = line.split()
        if word == "thawed":
            # Thaw may run more than once: the first ends the hold.
            if times:
                began = times["quiesce"]
                found.append(Held(began, times.get("quiesced", began), int(nanoseconds)))
            times = {}
        else:
            assert word not in times, "held a second time before it was let go"
            times[word] = int(nanoseconds)
    assert not times, f"{pod} is held"
    return found


def in_rounds(name: str) -> dict[str, Any]:
    """A Blueprint of the servers that are written to in rounds."""
    services = stores_of(name)["services"]
    kept = {each: services[each] for each in ("db", "maria", "cache")}
    kept["db"]["init"]["script"] = "create table rounds (n int)"
    kept["maria"]["init"]["script"] = "create database shop; create table shop.rounds (n int)"
    for service in kept.values():
        service["snapshot"] = {"quiesce": _QUIESCE, "thaw": THAW}
    return {"name": name, "services": kept}


def rounds_of(handle: Handle, pod: str) -> tuple[int, int, int]:
    """Return the first number that a server has, the last one, and how many there are."""
    query = "select min(n), max(n), count(*) from"
    said = {
        "db-0": f"{PSQL}F ' ' -c '{query} rounds'",
        "deploy/maria": f"{MARIA} -e '{query} shop.rounds'",
        "deploy/cache": "redis-cli lindex rounds 0; redis-cli lindex rounds -1; redis-cli llen rounds",
    }
    first, last, count = handle.sh(pod, said[pod]).split()
    return int(first), int(last), int(count)


@dataclass
class Rounds:
    """The writer. It keeps a shell in each of the pods: a round does not wait for a `kubectl` to start."""

    shells: list[subprocess.Popen[str]]
    over: Event = field(default_factory=Event)
    refused: int = 0
    """How often a round did not begin, since a server was held."""
    _written: int = 0
    _running: Future[None] | None = None

    @property
    def written(self) -> int:
        """The last number that all have; fails when the writer has."""
        if self._running is not None and self._running.done():
            self._running.result()
        return self._written

    def start(self, pool: ThreadPoolExecutor) -> None:
        """Write from now on, until it is over."""
        self._running = pool.submit(self._run)

    def _run(self) -> None:
        while not self.over.is_set():
            if self._ask("begin") == {"free"}:
                assert self._ask(f"write {self._written + 1}") == {"written"}
                self._written += 1
            else:
                self._ask("leave")
                self.refused += 1
                self.over.wait(_PAUSE_SECONDS)

    def _ask(self, words: str) -> set[str]:
        for shell in self.shells:
            assert shell.stdin is not None
            shell.stdin.write(f"{words}\n")
            shell.stdin.flush()
        return {(shell.stdout.readline() if shell.stdout else "").strip() for shell in self.shells}


@contextmanager
def in_lockstep(handle: Handle) -> Iterator[Rounds]:
    """Write to the servers of `in_rounds` while the body runs."""
    with ExitStack() as cleanup:
        shells = [cleanup.enter_context(_shell(handle, pod)) for pod in CLIENTS]
        rounds = Rounds(shells)
        pool = cleanup.enter_context(ThreadPoolExecutor(1))
        cleanup.callback(rounds.over.set)
        rounds.start(pool)
        yield rounds


@contextmanager
def _shell(handle: Handle, pod: str) -> Iterator[subprocess.Popen[str]]:
    command = ["kubectl", "--kubeconfig", str(handle.stack.kubeconfig), "-n", handle.namespace]
    command += ["exec", "-i", pod, "--", "sh", "-c", _LOOP.format(client=CLIENTS[pod])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        try:
            yield shell
        finally:
            shell.kill()
