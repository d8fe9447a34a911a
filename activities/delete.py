"""DeleteEnvironment: ending what runs, and deleting a namespace without losing sight of what holds it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus

from activities._namespace import remove_namespace
from activities._step import alive, reports_failures
from activities.db.engine import Database
from activities.db.repositories import operations
from activities.temporal import TemporalStarter, unless_unknown
from clusters.gateway import Cluster
from workflows.contracts.delete import DeleteActivities, DeleteNamespace, NamespaceDeleted, RunningCancelled
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationInput

CANCEL_GRACE_SECONDS: Final = 60.0
"""How long a running operation may take to end by itself before it is terminated."""

POLL_SECONDS: Final = 1.0


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
            told = await starter.signal(
                running.workflow_id, CANCEL_SIGNAL, CancelRequest(reason="the environment is deleted")
            )
            if not told:
                return RunningCancelled(operation_id=running.id)
            deadline = time.monotonic() + CANCEL_GRACE_SECONDS
            while time.monotonic() < deadline:
                if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
                    return RunningCancelled(operation_id=running.id)
                await asyncio.sleep(POLL_SECONDS)
            with unless_unknown():
                await handle.terminate(reason="did not end within 60 s; the environment is deleted")
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
