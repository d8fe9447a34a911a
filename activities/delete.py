"""DeleteEnvironment: ending what runs, and deleting a namespace without losing sight of what holds it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities._step import alive, fail, reports_failures
from activities.db.engine import Database
from activities.db.repositories import operations
from activities.temporal import TemporalStarter
from clusters.gateway import Cluster, Propagation
from clusters.lease import Lease
from clusters.objects import Manifest, ObjectRef
from workflows.contracts.delete import DeleteActivities, DeleteNamespace, NamespaceDeleted, RunningCancelled
from workflows.contracts.operation import CancelRequest, OperationInput
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

    A namespace that is gone already is success. One that is not ours is a conflict, and stays.
    """
    fenced = cluster.fenced(lease)
    context = request.context
    ref = ObjectRef("Namespace", context.namespace)
    live = await cluster.get(ref)
    if live is None:
        return NamespaceDeleted(gone=True)
    uid = _check_ours(live, request)
    if "deletionTimestamp" not in _metadata(live):
        # Raised first: whatever an older operation still has under way is refused from here on.
        await fenced.apply(namespace_manifest(context))
        await fenced.delete(ref, uid=uid, propagation=Propagation.BACKGROUND)
    started = time.monotonic()
    while time.monotonic() - started < request.wait_seconds:
        live = await cluster.get(ref)
        if live is None or _metadata(live).get("uid") != uid:
            return NamespaceDeleted(gone=True)
        if time.monotonic() - started >= SETTLE_SECONDS:
            blocked_by = _with_finalizers(await cluster.blockers(context.namespace))
            if request.release_finalizers and blocked_by:
                await _release(fenced, context.namespace, blocked_by)
            elif blocked_by != request.known_blockers:
                return NamespaceDeleted(gone=False, blocked_by=blocked_by)
        await asyncio.sleep(POLL_SECONDS if time.monotonic() - started > SETTLE_SECONDS else 0.2)
    return NamespaceDeleted(gone=False, blocked_by=request.known_blockers)


def _metadata(manifest: Manifest) -> dict[str, object]:
    metadata = manifest.get("metadata")
    return dict(metadata) if isinstance(metadata, dict) else {}


def _check_ours(live: Manifest, request: DeleteNamespace) -> str:
    metadata = _metadata(live)
    labels = metadata.get("labels")
    context = request.context
    ours = isinstance(labels, dict) and (
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
    return str(metadata["uid"])


def _with_finalizers(blockers: tuple[Blocker, ...]) -> tuple[Blocker, ...]:
    """Leave out what is only on its way: a pod in its grace period goes by itself."""
    return tuple(sorted((each for each in blockers if each.finalizers), key=lambda each: each.object))


async def _release(cluster: Cluster, namespace: str, blockers: tuple[Blocker, ...]) -> None:
    for blocker in blockers:
        kind, _, name = blocker.object.partition("/")
        if kind == "Namespace":
            continue
        ref = ObjectRef(kind, name, namespace)
        live = await cluster.get(ref)
        if live is not None:
            await cluster.release_finalizers(
                ref, uid=str(_metadata(live)["uid"]), finalizers=blocker.finalizers
            )
