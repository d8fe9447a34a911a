"""Taking single objects of an environment away: by UID, never one that a later operation has written."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from activities._step import fail
from clusters.errors import PreconditionFailed
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import Blocker, FailureKind, failure
from workflows.domain.json_reading import mapping, text
from workflows.domain.names import FENCE, belongs_to

POLL_SECONDS: Final = 0.5
_TRIES: Final = 10
"""An object's status may change between the look at it and its deletion, now and then."""


async def remove(cluster: Cluster, ref: ObjectRef, context: EnvironmentContext) -> None:
    """Ask for the deletion of an object of the environment and of all that it owns; gone already is fine.

    Ends the activity with `conflict` when the object is not this environment's, or when an operation after
    this one has written it: a worker that was cut off must not delete what was put back meanwhile.
    """
    for _ in range(_TRIES):
        live = await cluster.get(ref)
        if live is None or text(live, "metadata", "deletionTimestamp"):
            return
        _check_may_go(live, ref, context)
        try:
            await cluster.delete(
                ref,
                uid=text(live, "metadata", "uid"),
                resource_version=text(live, "metadata", "resourceVersion"),
                propagation=Propagation.FOREGROUND,
            )
        except PreconditionFailed:
            continue
        return
    fail(failure(FailureKind.CLUSTER_UNAVAILABLE, f"{ref.title} changes all the time; it was not deleted."))


async def await_gone(cluster: Cluster, refs: list[ObjectRef], deadline: datetime) -> None:
    """Return when none of the objects is there any more; a time-out names those left and what holds them."""
    while True:
        found = await asyncio.gather(*(cluster.get(ref) for ref in refs))
        left = [(ref, live) for ref, live in zip(refs, found, strict=True) if live is not None]
        if not left:
            return
        if datetime.now(UTC) >= deadline:
            blockers = tuple(_blocker(ref, live) for ref, live in left)
            titles = ", ".join(blocker.object for blocker in blockers)
            fail(
                failure(FailureKind.TIMEOUT, f"Not gone in time: {titles}.", blocked_by=blockers), final=True
            )
        await asyncio.sleep(POLL_SECONDS)


def _check_may_go(live: Manifest, ref: ObjectRef, context: EnvironmentContext) -> None:
    if not belongs_to(mapping(live, "metadata", "labels"), context.environment_id, context.installation_id):
        fail(failure(FailureKind.CONFLICT, f"{ref.title} is not this environment's; it stays."))
    fence = text(live, "metadata", "annotations", FENCE)
    if fence.isdecimal() and int(fence) > context.fence:
        fail(failure(FailureKind.CONFLICT, f"{ref.title} was written by a later operation; it stays."))


def _blocker(ref: ObjectRef, live: Manifest) -> Blocker:
    finalizers = live["metadata"].get("finalizers") if isinstance(live["metadata"], dict) else None
    return Blocker(
        object=f"{ref.kind}/{ref.name}",
        finalizers=tuple(str(each) for each in finalizers) if isinstance(finalizers, list) else (),
    )
