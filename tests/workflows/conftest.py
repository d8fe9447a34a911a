"""A real Temporal dev server with virtual time, one for all workflow tests."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest_asyncio
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from tests.helpers.contexts import CONTEXT
from tests.helpers.fake_activities import FakeCluster, FakeLedger, FakeReconcile, FakeSweep
from tests.helpers.plans import VERIFICATION_ID
from worker.connect import identity
from worker.devserver import executable, read
from worker.runner import cluster_worker, control_worker
from worker.versions import Deployment
from workflows.contracts.operation import OperationInput
from workflows.contracts.reconcile import RECONCILE_OPERATIONS
from workflows.contracts.search_attributes import ALL
from workflows.contracts.sweep import SWEEP_ENVIRONMENTS
from workflows.contracts.sweep_snapshots import FREE_STORAGE, SWEEP_SNAPSHOTS
from workflows.contracts.verify import VERIFY_SNAPSHOT, VerificationInput
from workflows.domain.failures import WireModel


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    """The server, with the dynamic configuration of `temporal-dev.yaml`."""
    async with await WorkflowEnvironment.start_time_skipping_v2(
        dev_server_existing_path=executable(),
        # Each test's workers are a deployment of their own, and a server takes a hundred otherwise.
        dev_server_extra_args=[
            *read().dynamic_config_flags(),
            "--dynamic-config-value=matching.maxDeployments=10000",
        ],
        search_attributes=ALL,
        data_converter=pydantic_data_converter,
    ) as environment:
        yield environment


@dataclass
class Bench:
    """One test's workers, with fakes behind them, on queues of its own."""

    client: Client
    queue: str
    ledger: FakeLedger
    cluster: FakeCluster

    handles: list[WorkflowHandle[Any, Any]] = field(default_factory=list)

    async def start(self, workflow: str, *, signal: str | None = None) -> WorkflowHandle[Any, Any]:
        """Start a workflow, on its operation if it is one's; `signal` is there before anything of it runs."""
        handle = await self.client.start_workflow(
            workflow,
            args=_input(workflow),
            id=f"{workflow}/{self.queue}",
            task_queue=self.queue,
            execution_timeout=timedelta(days=400),
            start_signal=signal,
        )
        self.handles.append(handle)
        return handle

    async def terminate(self) -> None:
        """End what a test left running."""
        for handle in self.handles:
            if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                await handle.terminate(reason="the test is over")


def _input(workflow: str) -> list[WireModel]:
    if workflow in (RECONCILE_OPERATIONS, SWEEP_ENVIRONMENTS, SWEEP_SNAPSHOTS, FREE_STORAGE):
        return []
    if workflow == VERIFY_SNAPSHOT:
        return [VerificationInput(verification_id=VERIFICATION_ID)]
    return [OperationInput(operation_id=CONTEXT.operation_id)]


@asynccontextmanager
async def bench(
    environment: WorkflowEnvironment,
    ledger: FakeLedger,
    cluster: FakeCluster,
    *,
    max_cached_workflows: int = 100,
    serve_cluster: bool = True,
) -> AsyncIterator[Bench]:
    """Run workers for one test; the plan's cluster gets a name of its own, so its queue is too."""
    name = uuid.uuid4().hex
    plan = ledger.plan
    ledger.plan = plan.model_copy(update={"context": plan.context.model_copy(update={"cluster": name})})
    ledger.verification.cluster = ledger.snapshot_sweep.cluster = name
    async with AsyncExitStack() as stack:
        if serve_cluster:
            await stack.enter_async_context(serving_cluster(environment.client, name, cluster))
        deployment = await stack.enter_async_context(
            serving_control(
                environment.client, name, ledger, cluster, max_cached_workflows=max_cached_workflows
            )
        )
        await deployment.make_current()
        this = Bench(environment.client, name, ledger, cluster)
        yield this
        await this.terminate()


@asynccontextmanager
async def serving_control(
    client: Client,
    queue: str,
    ledger: FakeLedger,
    cluster: FakeCluster,
    *,
    build_id: str = "1",
    max_cached_workflows: int = 100,
) -> AsyncIterator[Deployment]:
    """Run a control worker as production does, in a deployment named like its queue; not made current yet."""
    version = WorkerDeploymentVersion(queue, build_id)
    async with control_worker(
        client,
        [
            ledger.begin,
            ledger.record,
            ledger.pre_image,
            ledger.seal_secrets,
            ledger.finish,
            ledger.snapshots.component_keys,
            ledger.snapshots.stream_keys,
            ledger.snapshots.describe,
            ledger.snapshots.expect_volumes,
            cluster.cancel_running,
            FakeReconcile().reconcile,
            FakeSweep().sweep_page,
            FakeSweep().forget_history,
            ledger.verification.begin,
            ledger.verification.beside,
            ledger.verification.loadable,
            ledger.verification.restore,
            ledger.verification.await_operation,
            ledger.verification.remove,
            ledger.verification.finish,
            ledger.snapshot_sweep.take_due,
            ledger.snapshot_sweep.expire,
            ledger.snapshot_sweep.start_verifications,
            ledger.snapshot_sweep.at_storage,
            ledger.snapshot_sweep.forget_volumes,
            ledger.snapshot_sweep.note_standing,
            ledger.snapshot_sweep.remove,
            ledger.snapshot_sweep.remove_orphans,
        ],
        version=version,
        graceful_shutdown=timedelta(0),
        max_cached_workflows=max_cached_workflows,
        task_queue=queue,
        identity=identity(),
    ):
        yield Deployment(client, version, queue)


def serving_cluster(client: Client, name: str, cluster: FakeCluster) -> Worker:
    """Return a cluster's worker, to be entered."""
    return cluster_worker(
        client,
        name,
        [
            cluster.prepare_namespace,
            cluster.apply_secrets,
            cluster.deploy_service,
            cluster.verify_endpoints,
            cluster.undo,
            cluster.stop_service,
            cluster.remove_service,
            cluster.run_sql,
            cluster.send_http,
            cluster.run_job,
            cluster.stop_job,
            cluster.survey,
            cluster.capture,
            cluster.capture_together,
            cluster.capture_volumes,
            cluster.publish,
            cluster.discard,
            cluster.load,
            cluster.prove,
            cluster.provide,
            cluster.settle,
            cluster.check,
            cluster.survey_masking,
            cluster.release,
            cluster.stored,
            cluster.readable,
            cluster.delete_namespace,
        ],
        build_id="1",
        graceful_shutdown=timedelta(0),
        max_concurrent_activities=100,
        identity=identity(),
        # A cancel comes back with a beat: in tests without the two seconds that spare the server.
        heartbeat_throttle=timedelta(milliseconds=100),
    )
