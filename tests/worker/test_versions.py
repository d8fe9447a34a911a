"""Who is current, on a real Temporal server: nothing waits without a word, and runs go on under new code."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from tests.helpers.fake_activities import FakeCluster, FakeLedger
from tests.helpers.plans import provision_plan
from tests.helpers.temporal import temporal_running, temporal_server, versions_of
from tests.helpers.waiting import eventually_async, until
from tests.workflows.conftest import serving_cluster, serving_control
from worker import versions
from worker.versions import Deployment, ServerTooOld
from workflows.contracts.operation import OperationInput, OperationPlan, OperationResult
from workflows.contracts.provision import PROVISION_ENVIRONMENT
from workflows.domain.operations import OperationState

__all__ = ["temporal_server"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


@pytest.fixture
def queue() -> str:
    """A queue of this test's own; its deployment has the same name."""
    return uuid.uuid4().hex


@asynccontextmanager
async def watched(deployment: Deployment, *, promote: bool) -> AsyncIterator[None]:
    """Watch a deployment as the worker's process does, which must not end by itself."""
    watching = asyncio.create_task(deployment.watch(promote=promote))
    try:
        yield
        assert not watching.done()
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def start(client: Client, queue: str) -> WorkflowHandle[Any, Any]:
    """Start an operation."""
    return await client.start_workflow(
        PROVISION_ENVIRONMENT, OperationInput(operation_id="op_01"), id=f"provision/{queue}", task_queue=queue
    )


async def current(deployment: Deployment, build_id: str) -> None:
    """Return once workflows go to this version."""

    async def look() -> bool:
        return (await deployment.standing()).current == build_id

    await eventually_async(look, f"{build_id} is current")


async def polled(deployment: Deployment) -> None:
    """Return once a worker of this version asks for workflows."""

    async def look() -> bool:
        return deployment.version.build_id in (await deployment.standing()).served

    await eventually_async(look, "the worker polls")


async def set_by_hand(deployment: Deployment, build_id: str) -> None:
    """Do what `temporal worker deployment set-current-version --allow-no-pollers` does."""
    await deployment.client.workflow_service.set_worker_deployment_current_version(
        SetWorkerDeploymentCurrentVersionRequest(
            namespace=deployment.client.namespace,
            deployment_name=deployment.version.deployment_name,
            build_id=build_id,
            allow_no_pollers=True,
        )
    )


def said(logs: Sequence[Mapping[str, Any]], words: str) -> bool:
    """Whether this was logged."""
    return any(words in entry["event"] for entry in logs)


def nothing_to_do() -> FakeLedger:
    """Return a ledger whose operation was cancelled before it began: its workflow ends at once."""
    return FakeLedger(provision_plan({"api": {}}).model_copy(update={"proceed": False}))


def plan_on(cluster: str) -> OperationPlan:
    """Return the plan of a provision on the cluster of this name."""
    plan = provision_plan({"api": {}})
    return plan.model_copy(update={"context": plan.context.model_copy(update={"cluster": cluster})})


async def test_a_worker_becomes_current_and_takes_a_new_workflow(
    temporal_server: WorkflowEnvironment, queue: str
) -> None:
    client = temporal_server.client
    async with (
        serving_control(client, queue, nothing_to_do(), FakeCluster()) as deployment,
        watched(deployment, promote=True),
    ):
        handle = await start(client, queue)
        await asyncio.wait_for(handle.result(), 20)
    assert await versions_of(handle) == ["1"]


async def test_a_second_start_with_the_same_build_id_changes_nothing(
    temporal_server: WorkflowEnvironment, queue: str
) -> None:
    client = temporal_server.client
    async with serving_control(client, queue, nothing_to_do(), FakeCluster()) as deployment:
        await deployment.make_current()
        before = await deployment.routing()
    with capture_logs() as logs:
        async with serving_control(client, queue, nothing_to_do(), FakeCluster()) as again:
            await again.make_current()
            after = await again.routing()
            await asyncio.wait_for((await start(client, queue)).result(), 20)
    assert after == before
    assert not said(logs, "this version is current")


async def test_without_promotion_a_workflow_waits_and_the_log_says_so(
    temporal_server: WorkflowEnvironment, queue: str
) -> None:
    client = temporal_server.client
    with capture_logs() as logs:
        async with (
            serving_control(client, queue, nothing_to_do(), FakeCluster()) as old,
            watched(old, promote=False),
        ):
            handle = await start(client, queue)
            await until(lambda: said(logs, "no version is current"), "the log says so")
            await polled(old)
            assert await versions_of(handle) == []
    [warning] = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warning["command"].endswith(f"set-current-version --deployment-name {queue} --build-id 1")
    async with (
        serving_control(client, queue, nothing_to_do(), FakeCluster(), build_id="2") as new,
        watched(new, promote=True),
    ):
        await asyncio.wait_for(handle.result(), 20)
    assert await versions_of(handle) == ["2"]


async def test_a_run_that_began_under_old_code_goes_on_under_the_new(
    temporal_server: WorkflowEnvironment, queue: str
) -> None:
    client = temporal_server.client
    ledger, cluster = FakeLedger(plan_on(queue)), FakeCluster(hanging={"api"})
    async with serving_cluster(client, queue, cluster):
        async with serving_control(client, queue, ledger, cluster) as old:
            await old.make_current()
            handle = await start(client, queue)
            await asyncio.wait_for(cluster.reached.wait(), 20)
        cluster.hanging.clear()
        async with (
            serving_control(client, queue, ledger, cluster, build_id="2") as new,
            watched(new, promote=True),
        ):
            result = OperationResult.model_validate(await asyncio.wait_for(handle.result(), 30))
    assert result.state is OperationState.SUCCEEDED
    done = await versions_of(handle)
    assert (done[0], done[-1]) == ("1", "2")


async def test_a_current_version_that_is_served_is_left_alone(
    temporal_server: WorkflowEnvironment, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "LOOK_EVERY", timedelta(milliseconds=50))
    client = temporal_server.client
    with capture_logs() as logs:
        async with (
            serving_control(client, queue, nothing_to_do(), FakeCluster()) as old,
            watched(old, promote=True),
        ):
            await current(old, "1")
            async with serving_control(client, queue, nothing_to_do(), FakeCluster(), build_id="2") as new:
                await polled(new)
                await new.make_current()
                await until(lambda: said(logs, "another version is current"), "it is seen")
                await asyncio.wait_for((await start(client, queue)).result(), 20)
                assert (await new.standing()).current == "2"
    assert not said(logs, "nobody serves the current version")


async def test_a_current_version_that_nobody_serves_is_replaced(
    temporal_server: WorkflowEnvironment, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "LOOK_EVERY", timedelta(milliseconds=50))
    client = temporal_server.client
    async with (
        serving_control(client, queue, nothing_to_do(), FakeCluster()) as deployment,
        watched(deployment, promote=True),
    ):
        await current(deployment, "1")
        with capture_logs() as logs:
            await set_by_hand(deployment, "gone")
            await until(lambda: said(logs, "nobody serves the current version"), "it is noticed")
            await current(deployment, "1")
        await asyncio.wait_for((await start(client, queue)).result(), 20)


async def test_an_outage_and_a_quicker_worker_are_overcome(
    temporal_server: WorkflowEnvironment, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = temporal_server.client
    service = client.workflow_service
    really = service.set_worker_deployment_current_version
    answers: list[RPCStatusCode | None] = []

    async def troubled(request: SetWorkerDeploymentCurrentVersionRequest, **options: Any) -> object:
        try:
            if not answers:
                raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
            if len(answers) == 1:
                quicker = SetWorkerDeploymentCurrentVersionRequest()
                quicker.CopyFrom(request)
                quicker.build_id, quicker.allow_no_pollers = "quicker", True
                await really(quicker, **options)
            answer = await really(request, **options)
        except RPCError as error:
            answers.append(error.status)
            raise
        answers.append(None)
        return answer

    async with serving_control(client, queue, nothing_to_do(), FakeCluster(), build_id="2") as other:
        await other.make_current()
        async with serving_control(client, queue, nothing_to_do(), FakeCluster()) as deployment:
            monkeypatch.setattr(service, "set_worker_deployment_current_version", troubled)
            await asyncio.wait_for(deployment.make_current(), 20)
            assert (await deployment.standing()).current == "1"
    assert answers[:2] == [RPCStatusCode.UNAVAILABLE, RPCStatusCode.FAILED_PRECONDITION]


async def test_a_server_without_worker_deployments_is_refused_by_name(queue: str) -> None:
    async with temporal_running(system__enableDeploymentVersions=False) as server:
        deployment = Deployment(server.client, WorkerDeploymentVersion(queue, "1"), queue)
        with pytest.raises(ServerTooOld, match=rf"{versions.SERVER_NEEDED} or newer.*disabled"):
            await deployment.check_server()
