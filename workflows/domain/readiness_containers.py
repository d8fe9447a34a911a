"""What the status of one container tells: whether it runs, why it waits, how its runs ended."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from workflows.domain.json_reading import JsonObject, at, children, instant, mapping, number, text
from workflows.domain.readiness_view import name_of, uid_of

_BETWEEN_RUNS: Final = frozenset({"", "CrashLoopBackOff"})
"""Why a container waits that is only to be started again; without a word, it does not wait."""


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of one run. `code` None: it is known that there was one, but not how it ended."""

    code: int | None
    reason: str
    message: str
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def seconds(self) -> float:
        """How long the run lasted; 0 when that is not known, or when it never began."""
        if self.started_at is None or self.finished_at is None:
            return 0.0
        # A process that could not be started (StartError) is shown as started in 1970.
        if self.started_at.timestamp() <= 0:
            return 0.0
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel killed it at its memory limit."""
        return self.reason == "OOMKilled"


@dataclass(frozen=True, slots=True)
class Container:
    """One container of one pod. `finite`: it is meant to end (init containers, containers of Jobs)."""

    pod: JsonObject
    spec: JsonObject
    status: JsonObject
    finite: bool

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all others for as long as its pod lives."""
        return uid_of(self.pod), self.name

    @property
    def pod_name(self) -> str:
        """Name of its pod."""
        return name_of(self.pod)

    @property
    def name(self) -> str:
        """Its name, unique in the pod."""
        return text(self.spec, "name")

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"container {self.name} of pod {self.pod_name}"

    @property
    def waiting(self) -> str:
        """Why it waits; empty when it does not."""
        return text(self.status, "state", "waiting", "reason")

    @property
    def waiting_message(self) -> str:
        """The node's explanation of `waiting`."""
        return text(self.status, "state", "waiting", "message")

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return bool(at(self.status, "state", "running") is not None)

    @property
    def ready(self) -> bool:
        """Whether it takes traffic."""
        return self.status.get("ready") is True

    @property
    def succeeded(self) -> bool:
        """Whether it ended as it should: only for those that are meant to end."""
        return self.finite and number(self.status, "state", "terminated", "exitCode") == 0

    @property
    def restarts(self) -> int:
        """How often the node started it again."""
        return number(self.status, "restartCount") or 0

    def has_probe(self, kind: str) -> bool:
        """Whether it has a `readiness`, `startup` or `liveness` probe."""
        return bool(mapping(self.spec, f"{kind}Probe"))

    def exits(self) -> tuple[int, dict[int, Exit]]:
        """How many runs have ended, and those ends that the status still shows, by number from 0.

        The status shows the last two at most. While a container waits to be started again, the node moves its
        end from `state` to `lastState` but raises `restartCount` only with the next start.
        """
        known: dict[int, Exit] = {}
        count = self.restarts
        state = mapping(self.status, "state")
        ended = mapping(state, "terminated")
        before = mapping(self.status, "lastState", "terminated")
        if ended:
            known[count] = _exit(ended)
            if before and count > 0:
                known[count - 1] = _exit(before)
            return count + 1, known
        if before and mapping(state, "waiting"):
            known[count] = _exit(before)
            return count + 1, known
        if before and count > 0:
            known[count - 1] = _exit(before)
        return count, known


def containers(pod: JsonObject) -> Iterator[Container]:
    """All containers of a pod in starting order: init containers and sidecars, then the main ones."""
    once = text(pod, "spec", "restartPolicy") in ("Never", "OnFailure")
    for field, initial in (("initContainers", True), ("containers", False)):
        statuses = {
            text(status, "name"): status
            for status in children(pod, "status", "initContainerStatuses" if initial else "containerStatuses")
        }
        for spec in children(pod, "spec", field):
            sidecar = initial and text(spec, "restartPolicy") == "Always"
            finite = not sidecar and (initial or once)
            yield Container(pod, spec, statuses.get(text(spec, "name"), {}), finite)


def main_containers(pod: JsonObject) -> list[Container]:
    """The containers without the init containers."""
    names = {text(spec, "name") for spec in children(pod, "spec", "containers")}
    return [container for container in containers(pod) if container.name in names]


def has_run(pod: JsonObject) -> bool:
    """Whether all of a pod that was its turn has run: nothing waits for a node, a volume or an image."""
    begun = [each for each in containers(pod) if each.waiting != "PodInitializing"]
    return bool(begun) and all(
        each.running or (each.waiting in _BETWEEN_RUNS and each.exits()[0] > 0) for each in begun
    )


def _exit(terminated: JsonObject) -> Exit:
    return Exit(
        code=number(terminated, "exitCode"),
        reason=text(terminated, "reason"),
        message=text(terminated, "message"),
        started_at=instant(terminated, "startedAt"),
        finished_at=instant(terminated, "finishedAt"),
    )
