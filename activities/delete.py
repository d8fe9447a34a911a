"""DeleteEnvironment: ending what runs, and deleting a namespace without losing sight of what holds it."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities._step import alive, fail, reports_failures
from activities.db.engine import Database
from activities.db.repositories import operations
from activities.temporal import TemporalStarter
from clusters.errors import PreconditionFailed
from clusters.gateway import Cluster, Propagation
from clusters.lease import Lease
from clusters.objects import Manifest, ObjectRef, mapping, text
from workflows.contracts.delete import DeleteActivities, DeleteNamespace, NamespaceDeleted, RunningCancelled
from workflows.contracts.operation import CancelRequest, OperationInput
from workflows.domain.environment import ObjectIdentity
from workflows.domain.failures import Blocker, FailureKind, failure
from workflows.domain.manifests import namespace as namespace_manifest
from workflows.domain.names import ENVIRONMENT, INSTALLATION

CANCEL_GRACE_SECONDS: Final = 60.0
"""How long a running operation may take to end by itself before it is terminated."""

POLL_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 5.0
"""Finalizers that come off by themselves do so within this; what is still there is worth reporting."""


@dataclass(frozen=True, slots=True)
class ControlDelete(DeleteActivities):
    """The part of a delete that needs the database and Temporal."""

    database: Database
    client: Client

    @activity.defn(name="environment.cancel_running")
    @reports_failures
    async def cancel_running(self, operation: OperationInput) -> RunningCancelled:
        """See `DeleteActivities`. A second attempt finds the operation ended, or goes on waiting."""
        async with alive():
            async with self.database.reading() as session:
                running = await operations.live_beside(session, operation.operation_id)
            if running is None:
                return RunningCancelled()
            handle = self.client.get_workflow_handle(running.workflow_id)
            starter = TemporalStarter(self.client)
            told = await starter.cancel(
                running.workflow_id, CancelRequest(reason="the environment is deleted")
            )
            if not told:
                return RunningCancelled(operation_id=running.id)
            deadline = time.monotonic() + CANCEL_GRACE_SECONDS
            while time.monotonic() < deadline:
                if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
                    return RunningCancelled(operation_id=running.id)
                await asyncio.sleep(POLL_SECONDS)
            try:
                await handle.terminate(reason="did not end within 60 s; the environment is deleted")
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
            return RunningCancelled(operation_id=running.id, terminated=True)


@dataclass(frozen=True, slots=True)
class ClusterDelete(DeleteActivities):
    """The part of a delete that happens in the cluster."""

    cluster: Cluster

    @activity.defn(name="environment.delete_namespace")
    @reports_failures
    async def delete_namespace(self, request: DeleteNamespace) -> NamespaceDeleted:
        """See `DeleteActivities`. Safe to run twice: fence and delete are both by what is there."""
        async with alive() as life:
            return await remove_namespace(self.cluster, life.lease, request)


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
    uid = _check_ours(live, request)
    emptied = bool(text(live, "metadata", "deletionTimestamp"))
    if not emptied:
        # Raised first: whatever an older operation still has under way is refused from here on.
        await fenced.apply(namespace_manifest(context))
        await _delete_contents(fenced, context.namespace)
    started = time.monotonic()
    while time.monotonic() - started < request.wait_seconds:
        live = await cluster.get(ref)
        if live is None or text(live, "metadata", "uid") != uid:
            return NamespaceDeleted(gone=True)
        waited = time.monotonic() - started
        if not emptied or waited >= SETTLE_SECONDS:
            blocked_by = _held(await cluster.blockers(context.namespace))
            if not emptied and not any(_foreign(each) for each in blocked_by):
                await fenced.delete(ref, uid=uid, propagation=Propagation.BACKGROUND)
                emptied = True
            elif blocked_by and request.release_finalizers:
                await _release(fenced, request, blocked_by)
            elif waited >= SETTLE_SECONDS and blocked_by != request.known_blockers:
                return NamespaceDeleted(gone=False, blocked_by=blocked_by)
        await asyncio.sleep(POLL_SECONDS if waited > SETTLE_SECONDS else 0.2)
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


def _check_ours(live: Manifest, request: DeleteNamespace) -> str:
    """Return the namespace's UID; ends the activity with a conflict when it is not this environment's."""
    labels = mapping(live, "metadata", "labels")
    context = request.context
    ours = (
        labels.get(ENVIRONMENT) == context.environment_id
        and labels.get(INSTALLATION) == context.installation_id
    )
    if not ours:
        fail(
            failure(
                FailureKind.CONFLICT,
                f"Namespace {context.namespace} exists and is not this environment's: it lacks our labels. "
                "It was left as it is.",
            )
        )
    return text(live, "metadata", "uid")


def _held(blockers: tuple[Blocker, ...]) -> tuple[Blocker, ...]:
    """Leave out what is only on its way: a pod in its grace period goes by itself."""
    return tuple(sorted((each for each in blockers if each.finalizers), key=lambda each: each.object))


def _foreign(blocker: Blocker) -> bool:
    """Whether a finalizer is somebody's own; those of Kubernetes come off by themselves."""
    return not all(finalizer.startswith("kubernetes") for finalizer in blocker.finalizers)


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
