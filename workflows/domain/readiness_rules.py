"""The single rules of failing fast: each looks at one container or one pod, with what was seen of it before.

A rule answers with a failure, with the seconds after which time alone may make it one, or with nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import JsonObject, children, instant, number, text
from workflows.domain.readiness_containers import Container, Exit, containers
from workflows.domain.readiness_view import (
    CLOCK_SLACK,
    Failed,
    ServiceView,
    condition,
    event_first,
    event_last,
    events_about,
    name_of,
    uid_of,
)

EXITS: Final = 3
"""Ends of one container that make a crash loop; `tolerate_restarts` is added to it."""
LIKE_EXITS: Final = 2
"""The same with one exit code, of a container that never was ready; `tolerate_restarts` is added, too."""
OOM_KILLS: Final = 2
PULLS_REFUSED: Final = 2
PULL_REFUSED_FOR: Final = timedelta(seconds=20)
"""The node tries again after 10 to 30 s, by the luck of its own clock: no need to wait for that."""
UNSCHEDULABLE_FOR: Final = timedelta(seconds=60)
VOLUME_MISSING_FOR: Final = timedelta(seconds=60)
CONFIG_TRIES: Final = 2
"""A busy node may not get at a Secret in time and says the same; its next try, some 12 s later, succeeds."""
CONFIG_MISSING_FOR: Final = timedelta(seconds=20)
"""The same for a node whose events do not arrive."""
CREATE_FAILING_FOR: Final = timedelta(seconds=20)
RAN_WELL_FOR: Final = 10.0
"""Seconds after which a run of a container without readiness probe counts as having been ready."""

PULL_REFUSED: Final = frozenset({"ErrImagePull", "ImagePullBackOff"})
IMAGE_HOPELESS: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
CONFIG_MISSING: Final = "CreateContainerConfigError"
CREATE_FAILING: Final = frozenset({"CreateContainerError", "RunContainerError"})
QUOTED: Final = 300
"""Characters of the cluster's own words in a message."""
_SIGKILL: Final = 128 + 9


@dataclass(slots=True)
class History:
    """What was seen of one container."""

    exits_before: int
    """Ends that had already happened when it was first seen."""
    exits: dict[int, Exit] = field(default_factory=dict)
    total: int = 0
    pulls_refused: int = 0
    pull_refused_since: datetime | None = None
    waiting: str = ""
    waiting_since: datetime | None = None
    was_ready: bool = False


def image_rule(view: ServiceView, container: Container, history: History) -> Failed | float | None:
    if container.waiting in IMAGE_HOPELESS:
        return image_unavailable(container)
    if container.waiting not in PULL_REFUSED:
        return None
    if max(history.pulls_refused, _refused_by_events(view, container)) >= PULLS_REFUSED:
        return image_unavailable(container)
    since = history.pull_refused_since or view.now
    remaining = (since + PULL_REFUSED_FOR - view.now).total_seconds()
    return image_unavailable(container) if remaining <= 0 else remaining


def image_unavailable(container: Container) -> Failed:
    image = text(container.spec, "image")
    detail = f": {container.waiting_message[:QUOTED]}" if container.waiting_message else "."
    return Failed(
        FailureKind.IMAGE_UNAVAILABLE,
        f"Image {image} of {container.title} cannot be pulled ({container.waiting}){detail}",
        container.pod_name,
        container.name,
    )


def _refused_by_events(view: ServiceView, container: Container) -> int:
    """Pulls that were refused, from the node's own count: known to a worker that came late, too.

    A `Pulling` is written when a pull begins, `Failed` and `BackOff` after it was refused.
    """
    mine = _container_events(view, container, "Pulling", "Failed", "BackOff")
    begun = [event for event in mine if text(event, "reason") == "Pulling"]
    refused = [event_last(event) or view.now for event in mine if text(event, "reason") != "Pulling"]
    if not begun or not refused:
        return 0
    count = sum(number(event, "series", "count") or number(event, "count") or 1 for event in begun)
    last_begun = max(event_last(event) or view.now for event in begun)
    return count if max(refused) >= last_begun else count - 1


def configuration_rule(view: ServiceView, container: Container, history: History) -> Failed | float | None:
    limit = None
    if container.waiting == CONFIG_MISSING:
        if _tries_failed(view, container) >= CONFIG_TRIES:
            return uncreatable(container)
        limit = CONFIG_MISSING_FOR
    elif container.waiting in CREATE_FAILING:
        limit = CREATE_FAILING_FOR
    if limit is None or history.waiting_since is None:
        return None
    remaining = (history.waiting_since + limit - view.now).total_seconds()
    return uncreatable(container) if remaining <= 0 else remaining


def _tries_failed(view: ServiceView, container: Container) -> int:
    """How often the node has failed to create the container, by its own count.

    A container that was created and could not be started is told as `Failed`, too: those are taken off.
    """

    def told(reason: str) -> int:
        return sum(number(event, "count") or 1 for event in _container_events(view, container, reason))

    return told("Failed") - max(told("Created") - told("Started"), 0)


def _container_events(view: ServiceView, container: Container, *reasons: str) -> list[JsonObject]:
    """The events about one container since the template was applied."""
    return [
        event
        for event in events_about(view, uid_of(container.pod), *reasons)
        if text(event, "involvedObject", "fieldPath").endswith(f"{{{container.name}}}")
        and (event_last(event) or view.now) >= view.applied_at - CLOCK_SLACK
    ]


def uncreatable(container: Container) -> Failed:
    missing = container.waiting == CONFIG_MISSING
    detail = f": {container.waiting_message[:QUOTED]}" if container.waiting_message else "."
    return Failed(
        FailureKind.CONFIG_MISSING if missing else FailureKind.CRASH_LOOP,
        f"The {container.title} cannot be created ({container.waiting}){detail}",
        container.pod_name,
        container.name,
    )


def exits_rule(view: ServiceView, container: Container, history: History) -> Failed | None:
    counted = list(_counted(view, container, history))
    if not counted:
        return None
    last = counted[-1]
    killed = sum(end.out_of_memory for end in counted)
    if (
        killed >= (1 if container.finite and not _restartable(container) else OOM_KILLS)
        and last.out_of_memory
    ):
        return Failed(
            FailureKind.OUT_OF_MEMORY,
            count_message(container, len(counted), last),
            container.pod_name,
            container.name,
        )
    if container.finite and not _restartable(container):
        # The Job decides how many pods may fail.
        return None
    codes = [end.code for end in counted if end.code is not None]
    alike = max((codes.count(code) for code in set(codes)), default=0)
    never_ready = not history.was_ready if container.has_probe("readiness") else not _ran_well(counted)
    if len(counted) >= EXITS + view.tolerate_restarts or (
        never_ready and alike >= LIKE_EXITS + view.tolerate_restarts
    ):
        return Failed(
            FailureKind.CRASH_LOOP,
            count_message(container, len(counted), last),
            container.pod_name,
            container.name,
        )
    return None


def _restartable(container: Container) -> bool:
    return text(container.pod, "spec", "restartPolicy") != "Never"


def _counted(view: ServiceView, container: Container, history: History) -> Iterator[Exit]:
    """The ends since the template was applied, in order; for those no longer shown, one without a code."""
    created = instant(container.pod, "metadata", "creationTimestamp")
    since = view.applied_at - CLOCK_SLACK
    fresh = created is not None and created >= since
    for index in range(history.total):
        end = history.exits.get(index)
        witnessed = fresh or index >= history.exits_before
        if end is None:
            if witnessed:
                yield Exit(None, "", "", None, None)
        elif (witnessed or (end.finished_at is not None and end.finished_at >= since)) and not (
            container.finite and end.code == 0
        ):
            yield end


def _ran_well(ends: list[Exit]) -> bool:
    return any(end.seconds >= RAN_WELL_FOR for end in ends)


def count_message(container: Container, count: int, last: Exit) -> str:
    times = "once" if count == 1 else f"{count} times"
    return f"The {container.title} ended {times}; the last time it {how_it_ended(last)}."


def how_it_ended(end: Exit) -> str:
    if end.out_of_memory:
        return f"was killed at its memory limit (exit code {end.code})"
    if end.code is None:
        return "ended"
    if end.reason not in ("", "Error", "Completed"):
        detail = f": {end.message[:QUOTED]}" if end.message else ""
        return f"exited with code {end.code} ({end.reason}){detail}"
    # A node that is busy does not see that the memory limit was the cause when it comes within a moment.
    killed = " (SIGKILL, mostly for its memory limit)" if end.code == _SIGKILL else ""
    return f"exited with code {end.code}{killed}"


def unscheduled(pod: JsonObject) -> JsonObject | None:
    found = condition(pod, "PodScheduled")
    if found is None or found.get("status") != "False" or text(found, "reason") != "Unschedulable":
        return None
    return found


def scheduling_rule(view: ServiceView, pod: JsonObject) -> Failed | float | None:
    found = unscheduled(pod)
    if found is None:
        return None
    since = max(instant(found, "lastTransitionTime") or view.applied_at, view.applied_at)
    remaining = (since + UNSCHEDULABLE_FOR - view.now).total_seconds()
    return unschedulable(view, pod) if remaining <= 0 else remaining


def unschedulable(view: ServiceView, pod: JsonObject) -> Failed:
    detail = text(unscheduled(pod) or {}, "message")[:QUOTED] or "no node takes it"
    claim = _unbound_claim(view, pod)
    if claim is not None:
        return Failed(
            FailureKind.VOLUME_UNAVAILABLE,
            f"Pod {name_of(pod)} waits for PersistentVolumeClaim {claim}, which is not bound: {detail}",
            name_of(pod),
        )
    return Failed(
        FailureKind.UNSCHEDULABLE, f"Pod {name_of(pod)} cannot be scheduled: {detail}", name_of(pod)
    )


def _unbound_claim(view: ServiceView, pod: JsonObject) -> str | None:
    """A claim of the pod that is at fault; one that only waits for the pod to get a node is not."""
    wanted = {
        text(volume, "persistentVolumeClaim", "claimName") for volume in children(pod, "spec", "volumes")
    }
    for claim in view.claims:
        if name_of(claim) in wanted and text(claim, "status", "phase") not in ("Bound", ""):
            uid = uid_of(claim)
            troubled = events_about(view, uid, "FailedBinding", "ProvisioningFailed")
            if troubled or not events_about(view, uid, "WaitForFirstConsumer", "WaitForPodScheduled"):
                return name_of(claim)
    return None


def mount_trouble(view: ServiceView, pod: JsonObject) -> list[JsonObject]:
    """The events of volumes that cannot be attached or mounted, while no container has been created."""
    creating = {"ContainerCreating", "PodInitializing", ""}
    if any(container.waiting not in creating or container.running for container in containers(pod)):
        return []
    return events_about(view, uid_of(pod), "FailedMount", "FailedAttachVolume")


def volumes_rule(view: ServiceView, pod: JsonObject) -> Failed | float | None:
    trouble = mount_trouble(view, pod)
    if not trouble:
        return None
    since = max(min(event_first(event) or view.now for event in trouble), view.applied_at)
    remaining = (since + VOLUME_MISSING_FOR - view.now).total_seconds()
    return unmounted(view, pod) if remaining <= 0 else remaining


def unmounted(view: ServiceView, pod: JsonObject) -> Failed:
    """Without a persistent volume it can only be a ConfigMap or Secret that is not there."""
    newest = max(mount_trouble(view, pod), key=lambda event: event_last(event) or view.now)
    volumes = children(pod, "spec", "volumes")
    persistent = any(
        not ({"configMap", "secret", "emptyDir", "projected"} & set(volume)) for volume in volumes
    )
    kind = FailureKind.VOLUME_UNAVAILABLE if persistent else FailureKind.CONFIG_MISSING
    detail = text(newest, "message")[:QUOTED]
    return Failed(kind, f"A volume of pod {name_of(pod)} cannot be mounted: {detail}", name_of(pod))


def became_ready(pod: JsonObject) -> bool:
    """Whether the pod is or was ready: its condition is set at the start and moves with a change only."""
    found = condition(pod, "Ready")
    if found is None:
        return False
    moved, started = instant(found, "lastTransitionTime"), instant(pod, "status", "startTime")
    if found.get("status") == "True":
        return True
    return moved is not None and started is not None and moved > started + CLOCK_SLACK
