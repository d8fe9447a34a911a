"""DeleteEnvironment on a real Temporal server: order, what holds it up, what people see."""

import asyncio
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.temporal import TemporalStarter
from tests.helpers.fake_activities import FakeCluster, FakeLedger, fails
from tests.helpers.plans import delete_plan
from tests.helpers.waiting import eventually_async
from tests.workflows.conftest import bench
from workflows.contracts.delete import DELETE_ENVIRONMENT, FORCE_SIGNAL, DeleteNamespace
from workflows.contracts.operation import OperationResult
from workflows.domain.failures import Blocker, FailureKind
from workflows.domain.operations import OperationState, StepState

# Left out by `make test-fast`, which replays the recorded histories of these workflows instead.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

HELD = (Blocker(object="ConfigMap/keep", finalizers=("example.test/hold",)),)


async def _says(handle: WorkflowHandle[Any, Any], words: str) -> None:
    """Wait until the workflow's details say this."""

    async def look() -> bool:
        return words in str(await handle.query("__temporal_workflow_metadata"))

    await eventually_async(look, f"the details say {words!r}")


async def _cancels_of_activities(handle: WorkflowHandle[Any, Any]) -> int:
    """How often the workflow asked for an activity to be cancelled."""
    events = (await handle.fetch_history()).events
    return sum(event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED for event in events)


async def test_what_runs_is_ended_before_the_namespace_is_deleted(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(delete_plan()), FakeCluster()
    async with bench(temporal, ledger, cluster) as this:
        result = OperationResult.model_validate(await (await this.start(DELETE_ENVIRONMENT)).result())
    assert cluster.calls == ["cancel_running", "delete_namespace"]
    assert result.state is OperationState.SUCCEEDED


async def test_what_holds_the_namespace_is_in_the_ledger_until_it_is_gone(
    temporal: WorkflowEnvironment,
) -> None:
    ledger, cluster = FakeLedger(delete_plan()), FakeCluster(blockers=[HELD, ()])
    async with bench(temporal, ledger, cluster) as this:
        await (await this.start(DELETE_ENVIRONMENT)).result()
    blocked = [
        change.blocked_by
        for entry in ledger.entries
        for change in entry.changes
        if change.step == "delete_namespace"
    ]
    assert HELD in blocked
    assert cluster.calls.count("delete_namespace") == 3
    last = cluster.requests["delete_namespace"]
    assert isinstance(last, DeleteNamespace)
    assert last.known_blockers == ()


async def test_force_is_handed_to_the_cluster(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster()
    async with bench(temporal, FakeLedger(delete_plan(force=True)), cluster) as this:
        await (await this.start(DELETE_ENVIRONMENT)).result()
    request = cluster.requests["delete_namespace"]
    assert isinstance(request, DeleteNamespace)
    assert request.release_finalizers is True


async def test_force_interrupts_the_wait_for_a_namespace_that_is_held(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(delete_plan()), FakeCluster(held=HELD)
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        handle = await this.start(DELETE_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        assert await TemporalStarter(this.client).signal(handle.id, FORCE_SIGNAL, None)
        result = OperationResult.model_validate(await handle.result())
        history = await handle.fetch_history()
    assert result.state is OperationState.SUCCEEDED
    assert cluster.calls == ["cancel_running", *["delete_namespace"] * 3]
    last = cluster.requests["delete_namespace"]
    assert isinstance(last, DeleteNamespace)
    assert (last.release_finalizers, last.known_blockers) == (True, HELD)
    assert ledger.states("delete_namespace") == [StepState.RUNNING, StepState.RUNNING, StepState.SUCCEEDED]
    assert any(
        b"taking off foreign finalizers" in event.user_metadata.summary.data for event in history.events
    )


async def test_force_before_the_delete_has_begun_releases_from_the_first_call(
    temporal: WorkflowEnvironment,
) -> None:
    cluster = FakeCluster(held=HELD)
    async with bench(temporal, FakeLedger(delete_plan()), cluster) as this:
        await (await this.start(DELETE_ENVIRONMENT, signal=FORCE_SIGNAL)).result()
    assert cluster.calls == ["cancel_running", "delete_namespace"]


async def test_force_twice_interrupts_once(temporal: WorkflowEnvironment) -> None:
    stop = asyncio.Event()
    cluster = FakeCluster(held=HELD, stop=stop)
    async with bench(temporal, FakeLedger(delete_plan()), cluster) as this:
        handle = await this.start(DELETE_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(FORCE_SIGNAL)
        await asyncio.wait_for(cluster.stopping.wait(), 20)
        await handle.signal(FORCE_SIGNAL)
        stop.set()
        await handle.result()
        requests = await _cancels_of_activities(handle)
    assert cluster.calls == ["cancel_running", *["delete_namespace"] * 3]
    assert requests == 1


async def test_a_cancel_while_force_interrupts_is_a_cancel_and_stops_the_activity_once(
    temporal: WorkflowEnvironment,
) -> None:
    stop = asyncio.Event()
    ledger, cluster = FakeLedger(delete_plan()), FakeCluster(held=HELD, stop=stop)
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(DELETE_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(FORCE_SIGNAL)
        await asyncio.wait_for(cluster.stopping.wait(), 20)
        await handle.cancel()
        await _says(handle, "Cancelling")
        assert ledger.ended is None, "not before the activity has ended"
        stop.set()
        result = OperationResult.model_validate(await handle.result())
        requests = await _cancels_of_activities(handle)
    assert result.state is OperationState.CANCELLED
    assert ledger.states("delete_namespace")[-1] is StepState.CANCELLED
    assert cluster.calls.count("delete_namespace") == 2
    assert requests == 1


async def test_a_cancel_without_force_ends_the_wait(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(delete_plan()), FakeCluster(held=HELD)
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(DELETE_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.cancel()
        result = OperationResult.model_validate(await handle.result())
    assert result.state is OperationState.CANCELLED
    assert ledger.states("delete_namespace")[-1] is StepState.CANCELLED


async def test_a_namespace_that_is_not_ours_fails_the_delete(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(delete_plan())
    cluster = FakeCluster(failing={"delete_namespace": fails(FailureKind.CONFLICT, "not ours")})
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(DELETE_ENVIRONMENT)).result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.FAILED
    assert ledger.states("delete_namespace") == [StepState.RUNNING, StepState.FAILED]
