"""An environment's namespace: whose it is, and its deletion without losing sight of what holds it."""

import asyncio
import time
from contextlib import suppress
from typing import Final

from activities._step import fail
from clusters.errors import PreconditionFailed
from clusters.gateway import Cluster, Propagation
from clusters.lease import Lease
from clusters.objects import Manifest, ObjectRef
from workflows.contracts.delete import DeleteNamespace, NamespaceDeleted
from workflows.domain.environment import EnvironmentContext, ObjectIdentity
from workflows.domain.failures import Blocker, FailureKind, failure
from workflows.domain.json_reading import mapping, text
from workflows.domain.manifests import namespace as namespace_manifest
from workflows.domain.names import belongs_to

POLL_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 35.0
"""How long pods may take to end: the usual grace period of 30 s and some."""

SETTLE_SECONDS: Final = 5.0
"""Finalizers that come off by themselves do so within this; what is still there is worth reporting."""
LONGEST_SEARCH_PAUSE_SECONDS: Final = 5.0
"""What has held a namespace for long is searched for less often: a search lists each kind of the cluster."""


_GARBAGE_COLLECTION: Final = frozenset({"foregroundDeletion", "orphan"})


async def remove_namespace(cluster: Cluster, lease: Lease, request: DeleteNamespace) -> NamespaceDeleted:
    """Fence the namespace, delete it by UID, and wait until it is gone or its blockers are others than known.

    Its contents go first: with the namespace goes the RoleBinding that lets us look into it, and then nobody
    could say by name what holds it. A namespace that is gone already is success. One that is not ours is a
    conflict, and stays.
    """
    fenced = cluster.fenced(lease)
    context = request.context
    ref = ObjectRef("Namespace", context.namespace)
    live = await cluster.get(ref)
    if live is None:
        return NamespaceDeleted(gone=True)
    check_ours(live, context)
    uid = text(live, "metadata", "uid")
    emptied = bool(text(live, "metadata", "deletionTimestamp"))
    if not emptied:
        # Raised first: whatever an older operation still has under way is refused from here on.
        await fenced.apply(namespace_manifest(context))
        await _delete_contents(fenced, context.namespace)
    started = time.monotonic()
    search_at, drained = 0.0, False
    while time.monotonic() - started < request.wait_seconds:
        live = await cluster.get(ref)
        if live is None or text(live, "metadata", "uid") != uid:
            return NamespaceDeleted(gone=True)
        waited = time.monotonic() - started
        settled = waited >= SETTLE_SECONDS
        if not drained and (emptied or await _drained(cluster, context.namespace, waited)):
            search_at, drained = waited, True
        # The search reads each kind that the cluster serves: not while pods are just ending.
        if waited >= search_at and (settled or (not emptied and (drained or request.release_finalizers))):
            search_at = waited + min(waited / 2, LONGEST_SEARCH_PAUSE_SECONDS)
            blocked_by = _held(await cluster.blockers(context.namespace))
            if not emptied:
                blocked_by = tuple(each for each in blocked_by if _foreign(each))
            if blocked_by and request.release_finalizers:
                await _release(fenced, request, blocked_by)
            elif not blocked_by and not emptied and drained:
                await fenced.delete(ref, uid=uid, propagation=Propagation.BACKGROUND)
                emptied = True
            elif settled and blocked_by != request.known_blockers:
                return NamespaceDeleted(gone=False, blocked_by=blocked_by)
        await asyncio.sleep(POLL_SECONDS if settled else 0.2)
    return NamespaceDeleted(gone=False, blocked_by=request.known_blockers)


async def _delete_contents(cluster: Cluster, namespace: str) -> None:
    """Ask for the deletion of all that is in a namespace, save the RoleBindings that our rights come from."""

    async def delete(each: ObjectIdentity) -> None:
        with suppress(PreconditionFailed):  # replaced meanwhile: it goes with the namespace
            await cluster.delete(
                ObjectRef(each.kind, each.name, namespace), uid=each.uid, propagation=Propagation.BACKGROUND
            )

    found = await cluster.inventory(namespace)
    await asyncio.gather(*(delete(each) for each in found if each.kind != "RoleBinding"))


async def _drained(cluster: Cluster, namespace: str, waited: float) -> bool:
    """Whether all pods are gone, or have had their time.

    A namespace that is deleted while pods end waits for half their grace period before it looks again, which
    takes longer than the pods do.
    """
    return waited >= DRAIN_SECONDS or not (await cluster.list("Pod", namespace, limit=1)).items


def check_ours(live: Manifest, context: EnvironmentContext) -> None:
    """End the activity with a conflict unless the namespace bears this environment's labels."""
    if belongs_to(mapping(live, "metadata", "labels"), context.environment_id, context.installation_id):
        return
    fail(
        failure(
            FailureKind.CONFLICT,
            f"Namespace {context.namespace} exists and is not this environment's: it lacks our labels. "
            "It was left as it is.",
        )
    )


def _held(blockers: tuple[Blocker, ...]) -> tuple[Blocker, ...]:
    """Leave out what is only on its way: a pod in its grace period goes by itself."""
    return tuple(sorted((each for each in blockers if each.finalizers), key=lambda each: each.object))


def _foreign(blocker: Blocker) -> bool:
    """Whether a finalizer is somebody's own; those of Kubernetes come off by themselves."""
    return not all(
        finalizer.startswith("kubernetes") or finalizer in _GARBAGE_COLLECTION
        for finalizer in blocker.finalizers
    )


async def _release(cluster: Cluster, request: DeleteNamespace, blockers: tuple[Blocker, ...]) -> None:
    """Take the foreign finalizers off what we can name. The audit entry was written at acceptance."""
    for blocker in blockers:
        kind, _, name = blocker.object.partition("/")
        if not name or kind == "Namespace" or not _foreign(blocker):
            continue
        ref = ObjectRef(kind, name, request.context.namespace)
        live = await cluster.get(ref)
        if live is not None:
            await cluster.release_finalizers(
                ref,
                uid=text(live, "metadata", "uid"),
                finalizers=blocker.finalizers,
                fence=request.context.fence,
            )
