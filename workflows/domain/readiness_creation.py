"""Pods that the cluster will not create: over the quota, or forbidden; told apart by numbers, not by text."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final

from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import JsonObject, children, instant, mapping, text
from workflows.domain.quantity import QuantityError, parse_quantity
from workflows.domain.readiness_view import (
    CLOCK_SLACK,
    Failed,
    ServiceView,
    WorkloadKind,
    condition,
    current_replica_set,
    desired,
    event_first,
    event_last,
    events_about,
    name_of,
    uid_of,
)

REFUSED_FOR: Final = timedelta(seconds=20)
"""A refusal for another reason than quota may pass (a service account or a quota that is still new)."""
QUOTA_RECHECK: Final = 1.0
QUOTA_REFUSED_FOR: Final = timedelta(seconds=3)
"""A pod that has just gone is still counted until the cluster has counted again."""
LATE_AFTER_GRACE: Final = timedelta(seconds=10)
"""A pod that is being deleted counts until it is gone; whoever is later than its grace and this is stuck."""
_QUOTED_MESSAGE: Final = 300


def creation_fault(view: ServiceView, present: int) -> Failed | float | None:
    """Why pods are missing that the controller cannot create; seconds to wait, or None when nothing says so.

    `present`: pods of the applied template that exist.
    """
    if view.workload is None or present >= desired(view):
        return None
    refusal = _refusal(view)
    if refusal is None:
        return None
    since, message = refusal
    service = name_of(view.workload)
    over_quota = _over_quota(view, service, since)
    if over_quota is not None:
        return over_quota
    remaining = (since + REFUSED_FOR - view.now).total_seconds()
    if remaining > 0:
        return remaining
    quoted = f": {message[:_QUOTED_MESSAGE]}" if message else "."
    return Failed(FailureKind.FORBIDDEN, f"The cluster refuses to create pods of {service}{quoted}")


def _over_quota(view: ServiceView, service: str, since: datetime) -> Failed | float | None:
    """Which quota does not admit one more pod; seconds to wait while that may pass, None when there is room.

    One that has no status yet is waited for: the cluster refuses every pod until it has been counted once. So
    is one that pods are about to leave, those of the operation before for example.
    """
    for quota in view.quotas:
        if not set(mapping(quota, "spec", "hard")) <= set(mapping(quota, "status", "hard")):
            return QUOTA_RECHECK
    for quota in view.quotas:
        if mapping(quota, "spec").get("scopes") or mapping(quota, "spec", "scopeSelector"):
            continue
        if (shortage := _shortage(view, quota)) is None:
            continue
        settled = (since + QUOTA_REFUSED_FOR - view.now).total_seconds()
        if settled > 0 or _leaving(view):
            return max(settled, QUOTA_RECHECK)
        return Failed(
            FailureKind.QUOTA_EXCEEDED,
            f"ResourceQuota {name_of(quota)} does not admit a pod of {service}: {shortage}.",
        )
    return None


def _refusal(view: ServiceView) -> tuple[datetime, str] | None:
    """Since when creation fails, and the cluster's words.

    ReplicaSets say it in a condition that goes away with the first success; StatefulSets and Jobs in events
    only.
    """
    workload = view.workload
    if workload is None:
        return None
    if view.kind is WorkloadKind.DEPLOYMENT:
        replica_set = current_replica_set(view)
        if replica_set is None:
            return None
        failing = condition(replica_set, "ReplicaFailure")
        if failing is None or failing.get("status") != "True" or text(failing, "reason") != "FailedCreate":
            return None
        since = instant(failing, "lastTransitionTime") or view.applied_at
        return max(since, view.applied_at), text(failing, "message")
    recent = [
        event
        for event in events_about(view, uid_of(workload), "FailedCreate")
        if (event_last(event) or view.now) >= view.applied_at - CLOCK_SLACK
    ]
    if not recent:
        return None
    newest = max(recent, key=lambda event: event_last(event) or view.now)
    since = min(event_first(event) or view.now for event in recent)
    return max(since, view.applied_at), text(newest, "message")


def _leaving(view: ServiceView) -> bool:
    """Whether some pod of the namespace will be gone soon."""
    ends = (instant(pod, "metadata", "deletionTimestamp") for pod in view.pods)
    return any(end is not None and view.now < end + LATE_AFTER_GRACE for end in ends)


def _shortage(view: ServiceView, quota: JsonObject) -> str | None:
    """The first resource of which one more pod would take too much, in words."""
    asked = _asked(view)
    hard, used = mapping(quota, "status", "hard"), mapping(quota, "status", "used")
    for resource in sorted(hard):
        plain = f"requests.{resource}" if resource in ("cpu", "memory") else resource
        if plain not in asked:
            continue
        ask = asked[plain]
        if ask is None:
            return f"it limits {resource}, and a container names none"
        limit, taken = _amount(hard[resource]), _amount(used.get(resource, "0"))
        if limit is not None and taken is not None and taken + ask > limit:
            wanted = _written(resource, ask)
            return f"{resource} {wanted} asked for, {used.get(resource, 0)} of {hard[resource]} used"
    return None


def _asked(view: ServiceView) -> dict[str, Fraction | None]:
    """What one more pod counts for, by the quota's names; None where a container says nothing about it."""
    template = mapping(view.workload or {}, "spec", "template", "spec")
    asked: dict[str, Fraction | None] = {"pods": Fraction(1), "count/pods": Fraction(1)}
    for resource in ("cpu", "memory"):
        for field in ("requests", "limits"):
            total: Fraction | None = Fraction(0)
            for container in children(template, "containers"):
                amount = _container_amount(view, container, field, resource)
                total = None if amount is None or total is None else total + amount
            asked[f"{field}.{resource}"] = total
    storage = [
        _amount(mapping(claim, "spec", "resources", "requests").get("storage"))
        for claim in _missing_claims(view)
    ]
    if storage:
        asked["persistentvolumeclaims"] = asked["count/persistentvolumeclaims"] = Fraction(len(storage))
        asked["requests.storage"] = sum((size for size in storage if size is not None), Fraction(0))
    return asked


def _container_amount(view: ServiceView, container: JsonObject, field: str, resource: str) -> Fraction | None:
    """What a container asks for after the server's defaults: its limit, then the namespace's LimitRange."""
    resources = mapping(container, "resources")
    candidates = [mapping(resources, field).get(resource)]
    if field == "requests":
        candidates.append(mapping(resources, "limits").get(resource))
    for limits in view.limit_ranges:
        for item in children(limits, "spec", "limits"):
            if text(item, "type") == "Container":
                if field == "requests":
                    candidates.append(mapping(item, "defaultRequest").get(resource))
                candidates.append(mapping(item, "default").get(resource))
    return next((amount for amount in map(_amount, candidates) if amount is not None), None)


def _missing_claims(view: ServiceView) -> Iterator[JsonObject]:
    """Claim templates of which some pod of the StatefulSet has no claim yet."""
    workload = view.workload or {}
    existing = {name_of(claim) for claim in view.claims}
    for claim in children(workload, "spec", "volumeClaimTemplates"):
        wanted = {f"{name_of(claim)}-{name_of(workload)}-{number}" for number in range(desired(view))}
        if wanted - existing:
            yield claim


def _amount(value: object) -> Fraction | None:
    if isinstance(value, int):
        return Fraction(value)
    if not isinstance(value, str):
        return None
    try:
        return parse_quantity(value)
    except QuantityError:
        return None


def _written(resource: str, amount: Fraction) -> str:
    """An amount as people write it: thousandths of a CPU, binary multiples of bytes, or a plain number."""
    if resource.endswith("cpu"):
        return f"{float(amount * 1000):g}m"
    if resource.endswith(("memory", "storage")):
        for suffix, factor in (("Gi", 1024**3), ("Mi", 1024**2), ("Ki", 1024)):
            if amount >= factor:
                return f"{float(amount / factor):g}{suffix}"
    return f"{float(amount):g}"
