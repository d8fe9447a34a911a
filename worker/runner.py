"""The workers of one process: which queues they serve, and how strictly workflows are boxed in."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

from workflows.contracts.queues import CONTROL_QUEUE, cluster_queue
from workflows.registry import WORKFLOWS

STICKY_TIMEOUT: Final = timedelta(seconds=3)
"""After a worker died with a workflow in its cache, another takes over this much later."""

HEARTBEAT_THROTTLE: Final = timedelta(seconds=2)
"""Heartbeats reach the server this often, so that a cancel reaches the activity within about two
seconds, and a worker with hundreds of waiting activities does not busy the server with beats."""


PASSED_THROUGH: Final = (
    "workflows.contracts",
    "workflows.domain",
    # What the workflow modules share: under this policy a module is either the workflow's own or named here.
    "workflows._aside",
    "workflows._cluster",
    "workflows._graph",
    "workflows._ledger",
    "workflows._loading",
    "workflows._operation",
    "workflows._options",
    "workflows._services",
    "workflows._storage",
)
"""Modules that workflows share with the process instead of importing them anew for each run."""


def sandbox() -> SandboxedWorkflowRunner:
    """Return the sandbox: what is named passes through, anything unplanned stops the worker at start."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(
        *PASSED_THROUGH
    ).with_import_notification_policy(
        SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
        | SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    )
    return SandboxedWorkflowRunner(restrictions=restrictions)


def control_worker(
    client: Client,
    activities: Sequence[Callable[..., Any]],
    *,
    version: WorkerDeploymentVersion,
    graceful_shutdown: timedelta,
    max_cached_workflows: int,
    task_queue: str = CONTROL_QUEUE,
    identity: str | None = None,
) -> Worker:
    """Serve workflows, and activities on Perdure's own state, once `version` is made current."""
    return Worker(
        client,
        task_queue=task_queue,
        workflows=WORKFLOWS,
        activities=activities,
        workflow_runner=sandbox(),
        # No default behaviour: a workflow that declares none is refused here.
        deployment_config=WorkerDeploymentConfig(version=version, use_worker_versioning=True),
        identity=identity,
        max_cached_workflows=max_cached_workflows,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=graceful_shutdown,
    )


def cluster_worker(
    client: Client,
    cluster: str,
    activities: Sequence[Callable[..., Any]],
    *,
    build_id: str,
    graceful_shutdown: timedelta,
    max_concurrent_activities: int,
    identity: str | None = None,
    heartbeat_throttle: timedelta = HEARTBEAT_THROTTLE,
) -> Worker:
    """Serve activities on one cluster. Waiting costs next to nothing, so many may wait at once.

    Unversioned: a queue without workflows, upgraded apart from the control workers. It is told its build all
    the same, or it would hash the code of every module in the process to make one up, 0.2 s at each start.
    """
    build = WorkerDeploymentVersion("perdure-cluster", build_id)
    return Worker(
        client,
        task_queue=cluster_queue(cluster),
        activities=activities,
        deployment_config=WorkerDeploymentConfig(version=build, use_worker_versioning=False),
        identity=identity,
        max_concurrent_activities=max_concurrent_activities,
        max_heartbeat_throttle_interval=heartbeat_throttle,
        default_heartbeat_throttle_interval=heartbeat_throttle,
        graceful_shutdown_timeout=graceful_shutdown,
    )
