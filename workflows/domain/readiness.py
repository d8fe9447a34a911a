"""Is a service there, not yet, or never? The rules of failing fast.

Only pods of the applied template count, and only what happened to them since it was applied. One snapshot
shows a state, not how often it came and went, so `FailFast` watches the snapshots of one wait go by. It keeps
no state that matters: a second worker that takes over in the middle begins to count anew, and what the node
itself counts (restarts, the last exit) is there for it too.
"""

from collections.abc import Iterator
from typing import Final

from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import JsonObject, at, number, text
from workflows.domain.readiness_containers import Container, Exit, containers, has_run, main_containers
from workflows.domain.readiness_creation import creation_fault
from workflows.domain.readiness_rules import (
    CONFIG_MISSING,
    CREATE_FAILING,
    IMAGE_HOPELESS,
    PULL_REFUSED,
    QUOTED,
    History,
    became_ready,
    configuration_rule,
    count_message,
    exits_rule,
    how_it_ended,
    image_rule,
    image_unavailable,
    mount_trouble,
    scheduling_rule,
    uncreatable,
    unmounted,
    unschedulable,
    unscheduled,
    volumes_rule,
)
from workflows.domain.readiness_view import (
    Failed,
    Ready,
    ServiceView,
    Until,
    Verdict,
    Waiting,
    WorkloadKind,
    condition,
    current_pods,
    desired,
    event_last,
    events_about,
    holds,
    name_of,
    superseded,
    taken_in,
    uid_of,
    unproven,
)

__all__ = [
    "FailFast",
    "Failed",
    "Ready",
    "ServiceView",
    "Until",
    "Verdict",
    "Waiting",
    "WorkloadKind",
    "at_deadline",
    "judge",
]

_SOON: Final = 0.05


class FailFast:
    """The judge of one wait for one service: hand it each snapshot in turn."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], History] = {}

    def observe(self, view: ServiceView) -> Verdict:
        """The verdict after this snapshot. `Failed` and `Ready` are final: stop asking."""
        pods = current_pods(view)
        for pod in pods:
            for container in containers(pod):
                self._note(view, container)
        if view.workload is None or not taken_in(view):
            return Waiting("the cluster has not taken in what was applied")
        ended = _job_end(view, pods)
        if ended is not None:
            return ended
        arrived = _arrived(view, pods)
        if arrived is not None:
            return arrived
        rechecks: list[float] = []
        for finding in self._findings(view, pods):
            if isinstance(finding, Failed):
                return finding
            rechecks.append(finding)
        message = _progress(view, pods)
        return Waiting(message, max(min(rechecks), _SOON) if rechecks else None)

    def _findings(self, view: ServiceView, pods: list[JsonObject]) -> Iterator[Failed | float]:
        for pod in pods:
            for container in containers(pod):
                history = self._seen[container.key]
                for rule in (image_rule, configuration_rule, exits_rule):
                    finding = rule(view, container, history)
                    if finding is not None:
                        yield finding
            for pod_rule in (scheduling_rule, volumes_rule):
                finding = pod_rule(view, pod)
                if finding is not None:
                    yield finding
        refused = creation_fault(view, len(pods))
        if refused is not None:
            yield refused

    def _note(self, view: ServiceView, container: Container) -> None:
        total, known = container.exits()
        history = self._seen.get(container.key)
        if history is None:
            history = self._seen[container.key] = History(exits_before=total)
        history.total = max(total, history.total)
        history.exits.update(known)
        history.was_ready = history.was_ready or container.ready or became_ready(container.pod)
        if container.waiting not in PULL_REFUSED:
            history.pull_refused_since = None
        elif history.pull_refused_since is None:
            history.pull_refused_since = view.now
        if container.waiting != history.waiting:
            # Between two pulls the node shows ImagePullBackOff: each change to ErrImagePull is one refusal.
            if container.waiting == "ErrImagePull" or (
                container.waiting == "ImagePullBackOff" and history.waiting != "ErrImagePull"
            ):
                history.pulls_refused += 1
            history.waiting, history.waiting_since = container.waiting, view.now


def judge(view: ServiceView) -> Verdict:
    """The verdict from one snapshot alone: what has to be seen twice is not found."""
    return FailFast().observe(view)


def at_deadline(view: ServiceView) -> Failed:
    """Why a service did not get there in time, as far as the last snapshot tells."""
    pods = current_pods(view)
    service = name_of(view.workload) if view.workload is not None else "the service"
    for pod in pods:
        for container in containers(pod):
            stuck = _stuck(container)
            if stuck is not None:
                return stuck
        if unscheduled(pod) is not None:
            return unschedulable(view, pod)
        if mount_trouble(view, pod):
            return unmounted(view, pod)
    if len(pods) < desired(view):
        refused = creation_fault(view, len(pods))
        if isinstance(refused, Failed):
            return refused
    for pod in pods:
        for container in containers(pod):
            failing = _probe_failing(view, container)
            if failing is not None:
                return failing
    return Failed(
        FailureKind.TIMEOUT,
        f"{service} was not {view.until} in time: {_progress(view, pods)}.",
        name_of(pods[0]) if pods else None,
        ran=bool(pods) and len(pods) >= desired(view) and all(has_run(pod) for pod in pods),
    )


def _job_end(view: ServiceView, pods: list[JsonObject]) -> Verdict | None:
    """How a Job ended; None while it has not, and for everything else."""
    workload = view.workload
    if view.kind is not WorkloadKind.JOB or workload is None:
        return None
    if at(workload, "spec", "suspend") is True:
        return Ready(0, 0)
    if holds(workload, "Complete") or holds(workload, "SuccessCriteriaMet"):
        return Ready(number(workload, "status", "succeeded") or 0, 0)
    failed = (
        condition(workload, "Failed") if holds(workload, "Failed") else condition(workload, "FailureTarget")
    )
    if failed is None or failed.get("status") != "True":
        return None
    for container, end in _latest_exits(pods):
        kind = FailureKind.OUT_OF_MEMORY if end.out_of_memory else FailureKind.CRASH_LOOP
        return Failed(kind, f"The {container.title} {how_it_ended(end)}.", container.pod_name, container.name)
    reason = text(failed, "reason") or "Failed"
    return Failed(FailureKind.CRASH_LOOP, f"Job {name_of(workload)} failed ({reason}).")


def _latest_exits(pods: list[JsonObject]) -> list[tuple[Container, Exit]]:
    """Failed ends of containers, the latest first."""
    ends = [
        (container, end)
        for pod in pods
        for container in containers(pod)
        for end in container.exits()[1].values()
        if end.code != 0
    ]
    return sorted(
        ends,
        key=lambda entry: entry[1].finished_at.timestamp() if entry[1].finished_at else 0.0,
        reverse=True,
    )


def _arrived(view: ServiceView, pods: list[JsonObject]) -> Ready | None:
    """None while too few pods got as far as was asked, or others answer in their place."""
    wanted = desired(view)
    if view.kind is WorkloadKind.JOB and view.until is not Until.STARTED:
        return None
    if view.until is Until.STARTED:
        there = [pod for pod in pods if _started(pod)]
    else:
        if superseded(view) or unproven(view):
            return None
        there = [pod for pod in pods if holds(pod, "Ready")]
    if len(there) < wanted:
        return None
    return Ready(len(there), sum(container.restarts for pod in there for container in containers(pod)))


def _started(pod: JsonObject) -> bool:
    own = main_containers(pod)
    return bool(own) and all(container.running or container.succeeded for container in own)


def _stuck(container: Container) -> Failed | None:
    """What a container is stuck in when the time is over, by its present state."""
    if container.waiting in PULL_REFUSED | IMAGE_HOPELESS:
        return image_unavailable(container)
    if container.waiting == CONFIG_MISSING or container.waiting in CREATE_FAILING:
        return uncreatable(container)
    total, known = container.exits()
    end = known.get(total - 1)
    if end is None or container.running or container.succeeded:
        return None
    kind = FailureKind.OUT_OF_MEMORY if end.out_of_memory else FailureKind.CRASH_LOOP
    return Failed(kind, count_message(container, total, end), container.pod_name, container.name)


def _probe_failing(view: ServiceView, container: Container) -> Failed | None:
    if not container.running or container.ready:
        return None
    starting = container.has_probe("startup") and container.status.get("started") is not True
    if not starting and not container.has_probe("readiness"):
        return None
    probe = "startup" if starting else "readiness"
    unhealthy = events_about(view, uid_of(container.pod), "Unhealthy")
    newest = max(unhealthy, key=lambda event: event_last(event) or view.now, default=None)
    detail = f": {text(newest, 'message')[:QUOTED]}" if newest is not None else "."
    return Failed(
        FailureKind.PROBE_FAILING,
        f"The {container.title} runs, but its {probe} probe did not pass in time{detail}",
        container.pod_name,
        container.name,
    )


def _progress(view: ServiceView, pods: list[JsonObject]) -> str:
    """How far it is, in a few words."""
    wanted = desired(view)
    if view.kind is WorkloadKind.JOB:
        done = number(view.workload or {}, "status", "succeeded") or 0
        head = f"{done} of {number(view.workload or {}, 'spec', 'completions') or 1} runs completed"
    else:
        there = sum(holds(pod, "Ready") for pod in pods)
        head = f"{there} of {wanted} pods ready"
        if there >= wanted and not superseded(view) and unproven(view):
            return f"{head}, {unproven(view)} not for long enough"
    for pod in pods:
        for container in containers(pod):
            if container.waiting:
                return f"{head}, {container.name}: {container.waiting}"
        if unscheduled(pod) is not None:
            return f"{head}, {name_of(pod)}: unschedulable"
    if len(pods) < wanted:
        return f"{head}, {len(pods)} created"
    if superseded(view):
        return f"{head}, {superseded(view)} of an earlier template left"
    return head
