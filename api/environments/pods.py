"""What the pods of an environment say about its services, in the words of a status answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from clusters.objects import Manifest
from workflows.domain.blueprint import Blueprint, Service, ServiceKind
from workflows.domain.environment import Overrides
from workflows.domain.json_reading import children, mapping, number, text
from workflows.domain.manifests import desired_replicas, running_as
from workflows.domain.names import NAME
from workflows.domain.readiness_view import holds
from workflows.domain.snapshot import kept_in

_FAILING: Final = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "OOMKilled",
        "Error",
        "Evicted",
        "Unschedulable",
    }
)
_ENDED: Final = frozenset({"Failed", "Succeeded"})
_MESSAGE_LIMIT: Final = 500


class ServiceState(StrEnum):
    """Where a service stands, as one word."""

    READY = "ready"
    STARTING = "starting"
    FAILING = "failing"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class ServiceLive:
    """One service as its pods show it. `ready` of a job: pods that succeeded."""

    desired: int
    ready: int
    restarts: int
    image: str
    state: ServiceState
    reason: str | None = None
    message: str | None = None


def by_service(pods: Iterable[Manifest]) -> dict[str, list[Manifest]]:
    """Sort pods by the service that they belong to; others are left out."""
    found: dict[str, list[Manifest]] = defaultdict(list)
    for pod in pods:
        name = text(pod, "metadata", "labels", NAME)
        if name:
            found[name].append(pod)
    return found


def services_live(
    blueprint: Blueprint, overrides: Overrides, pods: Iterable[Manifest]
) -> dict[str, ServiceLive]:
    """Read every service of a Blueprint off its pods, by name."""
    sorted_pods = by_service(pods)
    return {
        service.name: _service(service, overrides, sorted_pods.get(service.name, []))
        for service in blueprint.services
    }


def kept_in_pods(blueprint: Blueprint, pods: Iterable[Manifest]) -> dict[str, frozenset[str]]:
    """Return what keeps the data of each service that has no volume, by service.

    Not a pod that has ended, as one that was evicted and is still listed, or that is about to.
    """
    sorted_pods = by_service(pods)
    running = [running_as(service) for service in blueprint.services]
    return {
        service.name: frozenset(
            kept_in(pod, service) for pod in sorted_pods.get(service.name, []) if not _ends(pod)
        )
        for service in running
        if not service.stateful
    }


def desired_pods(service: Service, overrides: Overrides) -> int:
    """How many pods there should be; of a job the one that succeeds, which a stop does not take back."""
    return 1 if service.kind is ServiceKind.JOB else desired_replicas(service, overrides)


def _service(service: Service, overrides: Overrides, pods: list[Manifest]) -> ServiceLive:
    is_job = service.kind is ServiceKind.JOB
    desired = desired_pods(service, overrides)
    current = [pod for pod in pods if not text(pod, "metadata", "deletionTimestamp")]
    ready = sum(_succeeded(pod) if is_job else holds(pod, "Ready") for pod in current)
    restarts = sum(number(status, "restartCount") or 0 for pod in current for status in _containers(pod))
    image = text(current[0], "spec", "containers", 0, "image") if current else running_as(service).image
    if ready >= desired:
        return ServiceLive(desired, ready, restarts, image, ServiceState.READY)
    reason, message = _trouble(pod for pod in current if not (_succeeded(pod) or holds(pod, "Ready")))
    if not current:
        state = ServiceState.ABSENT
    else:
        state = ServiceState.FAILING if reason in _FAILING else ServiceState.STARTING
    return ServiceLive(desired, ready, restarts, image, state, reason, message)


def has_ended(pod: Manifest) -> bool:
    """Whether a pod runs no more and uses nothing, though it is still listed."""
    return text(pod, "status", "phase") in _ENDED


def _ends(pod: Manifest) -> bool:
    return bool(text(pod, "metadata", "deletionTimestamp")) or has_ended(pod)


def _succeeded(pod: Manifest) -> bool:
    return text(pod, "status", "phase") == "Succeeded"


def _containers(pod: Manifest) -> list[Manifest]:
    return children(pod, "status", "containerStatuses")


def _trouble(pods: Iterable[Manifest]) -> tuple[str | None, str | None]:
    """The reason that tells most: a container's fault before a pod that only waits."""
    found = [trouble for pod in pods for trouble in _reasons(pod)]
    if not found:
        return "NoPods", None
    reason, message = next((each for each in found if each[0] in _FAILING), found[0])
    return reason, message[:_MESSAGE_LIMIT] or None


def _reasons(pod: Manifest) -> list[tuple[str, str]]:
    reasons = []
    for status in [*children(pod, "status", "initContainerStatuses"), *_containers(pod)]:
        reasons += _container_reasons(status)
    for condition in children(pod, "status", "conditions"):
        if text(condition, "type") == "PodScheduled" and text(condition, "status") == "False":
            reasons.append((text(condition, "reason") or "Unschedulable", text(condition, "message")))
    if text(pod, "status", "reason"):
        reasons.append((text(pod, "status", "reason"), text(pod, "status", "message")))
    return reasons or [("NotReady", "")]


def _container_reasons(status: Manifest) -> list[tuple[str, str]]:
    waiting, ended = mapping(status, "state", "waiting"), mapping(status, "state", "terminated")
    last = mapping(status, "lastState", "terminated")
    reasons = []
    if waiting:
        reason = text(waiting, "reason")
        # A back-off says only that it goes on; how the container ended before says why.
        if reason == "CrashLoopBackOff" and text(last, "reason") == "OOMKilled":
            reasons.append(("OOMKilled", "The container was killed at its memory limit."))
        reasons.append((reason or "Waiting", text(waiting, "message")))
    if code := number(ended, "exitCode"):
        reasons.append((text(ended, "reason") or "Error", f"exit code {code}"))
    return reasons
