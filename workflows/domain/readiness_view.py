"""What readiness is judged from, and the answers: a snapshot of live objects, and three verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import JsonObject, children, instant, mapping, number, text

CLOCK_SLACK: Final = timedelta(seconds=2)
"""The cluster's times are whole seconds of another clock: what is no older than this counts as after."""


class Until(StrEnum):
    """How far a service has to get. A Job is ready when it has completed."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"


class WorkloadKind(StrEnum):
    """What a service runs as."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    JOB = "Job"


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service as the cluster shows it at one moment. Objects are raw JSON of the API, read only.

    Give whole lists of the namespace or narrower ones: what belongs to the workload is picked out.
    `workload` is None while it is not seen yet. `generation` is what the apply answered (Jobs: 0). Without
    `events`, StatefulSets and Jobs whose pods are refused, and volumes that cannot be mounted, are noticed
    at the deadline only; without `claims`, an unbound claim looks like any unschedulable pod; without the
    `pods` of other services, a quota that those are about to leave looks used up.
    """

    kind: WorkloadKind
    workload: JsonObject | None
    now: datetime
    applied_at: datetime
    until: Until = Until.READY
    generation: int = 0
    tolerate_restarts: int = 0
    pods: Sequence[JsonObject] = ()
    replica_sets: Sequence[JsonObject] = ()
    quotas: Sequence[JsonObject] = ()
    limit_ranges: Sequence[JsonObject] = ()
    claims: Sequence[JsonObject] = ()
    events: Sequence[JsonObject] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not there yet. `recheck`: seconds after which time alone may change the verdict; None: only events."""

    message: str
    recheck: float | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """It got as far as was asked. `ready`: pods that count; `restarts`: of their containers, in all."""

    ready: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Failed:
    """It will not get there. `pod` and `container` are those at fault, for evidence, where there is one.

    `ran`: as `workflows.domain.failures.Failure` has it.
    """

    kind: FailureKind
    message: str
    pod: str | None = None
    container: str | None = None
    ran: bool = False


Verdict = Waiting | Ready | Failed


def condition(value: JsonObject, kind: str) -> JsonObject | None:
    """The status condition of this type, None without it."""
    return next((item for item in children(value, "status", "conditions") if item.get("type") == kind), None)


def holds(value: JsonObject, kind: str) -> bool:
    """Whether the status condition of this type is True."""
    found = condition(value, kind)
    return found is not None and found.get("status") == "True"


def owned_by(value: JsonObject, uid: str) -> bool:
    """Whether the object's owner references name this UID."""
    return any(text(owner, "uid") == uid for owner in children(value, "metadata", "ownerReferences"))


def name_of(value: JsonObject) -> str:
    """`metadata.name`."""
    return text(value, "metadata", "name")


def uid_of(value: JsonObject) -> str:
    """`metadata.uid`."""
    return text(value, "metadata", "uid")


def event_first(event: JsonObject) -> datetime | None:
    """When the event happened first."""
    return instant(event, "firstTimestamp") or instant(event, "eventTime") or event_last(event)


def event_last(event: JsonObject) -> datetime | None:
    """When the event happened last; old and new fields of the API alike."""
    return (
        instant(event, "series", "lastObservedTime")
        or instant(event, "lastTimestamp")
        or instant(event, "eventTime")
    )


def events_about(view: ServiceView, uid: str, *reasons: str) -> list[JsonObject]:
    """The events with one of these reasons about the object with this UID."""
    return [
        event
        for event in view.events
        if text(event, "reason") in reasons and text(event, "involvedObject", "uid") == uid
    ]


def desired(view: ServiceView) -> int:
    """How many pods the workload shall have."""
    if view.workload is None:
        return 0
    if view.kind is WorkloadKind.JOB:
        wanted = number(view.workload, "spec", "parallelism")
    else:
        wanted = number(view.workload, "spec", "replicas")
    return 1 if wanted is None else wanted


def taken_in(view: ServiceView) -> bool:
    """Whether the controller has seen what was applied. Jobs have no such mark; their template is fixed."""
    if view.workload is None:
        return False
    if view.kind is WorkloadKind.JOB:
        return True
    wanted = max(view.generation, number(view.workload, "metadata", "generation") or 0)
    return (number(view.workload, "status", "observedGeneration") or 0) >= wanted


def current_replica_set(view: ServiceView) -> JsonObject | None:
    """The Deployment's ReplicaSet of the applied template; None while the controller has not made it.

    It is the one with the Deployment's own revision: going back to an older template gives its old ReplicaSet
    the newest revision.
    """
    if view.workload is None:
        return None
    revision = mapping(view.workload, "metadata", "annotations").get("deployment.kubernetes.io/revision")
    for candidate in view.replica_sets:
        if owned_by(candidate, uid_of(view.workload)):
            own = mapping(candidate, "metadata", "annotations").get("deployment.kubernetes.io/revision")
            if own is not None and own == revision:
                return candidate
    return None


def superseded(view: ServiceView) -> int:
    """How many pods of earlier templates take requests still: they are there and not on their way out."""
    status = mapping(view.workload or {}, "status")
    if view.kind is WorkloadKind.JOB:
        return 0
    return max((number(status, "replicas") or 0) - (number(status, "updatedReplicas") or 0), 0)


def unproven(view: ServiceView) -> int:
    """How many pods have not been ready for the workload's `minReadySeconds`, by the cluster's clock."""
    if view.kind is WorkloadKind.JOB or not number(view.workload or {}, "spec", "minReadySeconds"):
        return 0
    return max(desired(view) - (number(view.workload or {}, "status", "availableReplicas") or 0), 0)


def current_pods(view: ServiceView) -> list[JsonObject]:
    """The workload's pods of the applied template, by name; those on their way out are left out."""
    workload = view.workload
    if workload is None or not taken_in(view):
        return []
    owner = uid_of(workload)
    revision: str | None = None
    if view.kind is WorkloadKind.DEPLOYMENT:
        replica_set = current_replica_set(view)
        if replica_set is None:
            return []
        owner = uid_of(replica_set)
    elif view.kind is WorkloadKind.STATEFUL_SET:
        revision = text(workload, "status", "updateRevision")
    return sorted(
        (
            pod
            for pod in view.pods
            if owned_by(pod, owner)
            and not text(pod, "metadata", "deletionTimestamp")
            and (
                revision is None
                or mapping(pod, "metadata", "labels").get("controller-revision-hash") == revision
            )
        ),
        key=name_of,
    )
