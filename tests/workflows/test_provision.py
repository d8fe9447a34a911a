"""ProvisionEnvironment on a real Temporal server: order, failure, cancel, undo, retry, what people see."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.contexts import CONTEXT
from tests.helpers.fake_activities import FakeCluster, FakeLedger, fails
from tests.helpers.plans import provision_plan
from tests.helpers.waiting import until
from tests.workflows.conftest import bench
from workflows import _cluster
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationResult
from workflows.contracts.provision import PROVISION_ENVIRONMENT, DeployService, Undo
from workflows.contracts.search_attributes import FAILURE_KIND, PHASE
from workflows.domain.environment import ObjectIdentity
from workflows.domain.failures import FailureKind
from workflows.domain.operations import Cleanup, Earlier, OnFailure, OperationState, StepState

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAIN = {"db": {}, "api": {"dependsOn": ["db"]}, "web": {"dependsOn": ["api"]}}


async def test_services_start_in_dependency_order_and_the_ledger_tells_each_step(
    temporal: WorkflowEnvironment,
) -> None:
    ledger, cluster = FakeLedger(provision_plan(CHAIN)), FakeCluster()
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        result = OperationResult.model_validate(await handle.result())
    assert cluster.calls == ["namespace", "db", "api", "web"]
    assert result.state is OperationState.SUCCEEDED
    assert ledger.states("service/web") == [StepState.RUNNING, StepState.SUCCEEDED]
    assert ledger.recorded is not None
    assert ledger.recorded.namespace_existed is False


async def test_what_existed_is_in_the_ledger_before_the_first_service_is_written(
    temporal: WorkflowEnvironment,
) -> None:
    ledger = FakeLedger(provision_plan({"api": {}}), record_failures=3)
    cluster = FakeCluster(hanging={"api"})
    async with bench(temporal, ledger, cluster) as this:
        await this.start(PROVISION_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        assert ledger.recorded is not None


async def test_independent_services_run_side_by_side(temporal: WorkflowEnvironment) -> None:
    names = [f"s{number}" for number in range(8)]
    cluster = FakeCluster(hanging=set(names))
    async with bench(temporal, FakeLedger(provision_plan({name: {} for name in names})), cluster) as this:
        await this.start(PROVISION_ENVIRONMENT)
        await until(lambda: set(names) <= set(cluster.calls), "all services run at once")


async def test_a_dependant_of_a_started_service_does_not_wait_until_it_is_ready(
    temporal: WorkflowEnvironment,
) -> None:
    plan = provision_plan({"db": {}, "api": {"dependsOn": {"db": {"condition": "started"}}}})
    cluster = FakeCluster(hanging={"db"})
    async with bench(temporal, FakeLedger(plan), cluster) as this:
        await this.start(PROVISION_ENVIRONMENT)
        await until(lambda: "api" in cluster.calls, "the dependant runs")
    assert cluster.calls[:2] == ["namespace", "db:started"]


async def test_the_init_of_a_replaced_service_does_not_run_in_its_mock(temporal: WorkflowEnvironment) -> None:
    init = {"type": "shell", "script": "load-fixtures"}
    mock = {"mode": "replace", "image": "registry.test/mock:1"}
    plan = provision_plan({"real": {"init": init}, "mocked": {"init": init, "mock": mock}})
    cluster = FakeCluster()
    async with bench(temporal, FakeLedger(plan), cluster) as this:
        await (await this.start(PROVISION_ENVIRONMENT)).result()
    asked = {name: cluster.requests[name] for name in ("real", "mocked")}
    assert {
        name: request.init is not None
        for name, request in asked.items()
        if isinstance(request, DeployService)
    } == {"real": True, "mocked": False}


async def test_the_first_failure_ends_the_operation_and_stops_what_runs(
    temporal: WorkflowEnvironment,
) -> None:
    ledger = FakeLedger(provision_plan({"bad": {}, "slow": {}, "late": {"dependsOn": ["slow"]}}))
    cluster = FakeCluster(failing={"bad": fails(FailureKind.CRASH_LOOP)}, hanging={"slow"})
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        with pytest.raises(WorkflowFailureError) as raised:
            await handle.result()
        description = await handle.describe()
    assert isinstance(raised.value.cause, ApplicationError)
    assert raised.value.cause.type == FailureKind.CRASH_LOOP
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.FAILED
    assert ledger.ended.failure is not None
    assert ledger.ended.failure.step == "service/bad"
    assert ledger.states("service/slow") == [StepState.RUNNING, StepState.CANCELLED]
    assert "late" not in cluster.calls
    assert "undo" not in cluster.calls
    assert description.typed_search_attributes[PHASE] == "failed"
    assert description.typed_search_attributes[FAILURE_KIND] == "crash_loop"


async def test_on_failure_rollback_undoes_one_fence_higher(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(provision_plan({"bad": {}}, on_failure=OnFailure.ROLLBACK))
    cluster = FakeCluster(failing={"bad": fails(FailureKind.IMAGE_UNAVAILABLE)})
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.ROLLED_BACK
    undo = cluster.requests["undo"]
    assert isinstance(undo, Undo)
    assert undo.context.fence == CONTEXT.fence + 1


async def test_an_undo_that_leaves_something_is_not_called_rolled_back(
    temporal: WorkflowEnvironment,
) -> None:
    ledger = FakeLedger(provision_plan({"bad": {}}, on_failure=OnFailure.ROLLBACK))
    cluster = FakeCluster(failing={"bad": fails(FailureKind.TIMEOUT)}, left=("Service/bad: refused",))
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.FAILED
    assert ledger.ended.cleanup is not None
    assert ledger.ended.cleanup.left == ("Service/bad: refused",)


@pytest.mark.parametrize("cleanup", [True, False])
async def test_cancel_stops_what_runs_and_cleans_up_when_told(
    temporal: WorkflowEnvironment, cleanup: bool
) -> None:
    ledger, cluster = FakeLedger(provision_plan({"slow": {}})), FakeCluster(hanging={"slow"})
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=cleanup, reason="wrong branch"))
        result = OperationResult.model_validate(await handle.result())
    assert result.state is OperationState.CANCELLED
    assert result.failure is not None
    assert result.failure.message == "wrong branch"
    assert ledger.states("service/slow") == [StepState.RUNNING, StepState.CANCELLED]
    assert ("undo" in cluster.calls) is cleanup


async def test_a_cancel_from_the_temporal_ui_reaches_the_ledger(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(provision_plan({"slow": {}})), FakeCluster(hanging={"slow"})
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.cancel()
        await handle.result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.CANCELLED


async def test_a_cancel_that_was_asked_for_before_the_start_writes_nothing(
    temporal: WorkflowEnvironment,
) -> None:
    ledger = FakeLedger(provision_plan({"api": {}}).model_copy(update={"proceed": False}))
    cluster = FakeCluster()
    async with bench(temporal, ledger, cluster) as this:
        await (await this.start(PROVISION_ENVIRONMENT)).result()
    assert cluster.calls == []
    assert ledger.ended is None


@pytest.mark.parametrize(
    ("activity", "step", "calls"),
    [("begin", None, []), ("seal_secrets", "secrets", ["namespace"])],
)
async def test_what_no_key_opens_ends_the_operation_in_the_ledger(
    temporal: WorkflowEnvironment, activity: str, step: str | None, calls: list[str]
) -> None:
    secret = {"name": "db-password", "envKey": "PASSWORD", "value": "auto-generated"}
    ledger = FakeLedger(provision_plan({"db": {"secrets": [secret]}}), without_key_at=frozenset({activity}))
    cluster = FakeCluster()
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.FAILED
    assert ledger.ended.failure == fails(FailureKind.KEY_UNAVAILABLE).model_copy(update={"step": step})
    assert cluster.calls == calls


async def test_an_undo_without_the_key_says_what_is_left(temporal: WorkflowEnvironment) -> None:
    plan = provision_plan({"bad": {}}, on_failure=OnFailure.ROLLBACK)
    ledger = FakeLedger(plan, without_key_at=frozenset({"pre_image"}))
    cluster = FakeCluster(failing={"bad": fails(FailureKind.CRASH_LOOP)})
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.FAILED
    assert ledger.ended.cleanup == Cleanup(complete=False, left=("as scripted",))
    assert "undo" not in cluster.calls


async def test_a_retry_skips_what_is_unchanged_and_still_there(temporal: WorkflowEnvironment) -> None:
    plan = provision_plan(CHAIN)
    hashes = {step.name: f"hash-{step.name}" for step in plan.steps}
    plan = plan.model_copy(
        update={
            "steps": tuple(step.model_copy(update={"input_hash": hashes[step.name]}) for step in plan.steps),
            "earlier": {
                "service/db": Earlier(input_hash=hashes["service/db"], uid="db-uid"),
                "service/api": Earlier(input_hash="other", uid="api-uid"),
                "service/web": Earlier(input_hash=hashes["service/web"], uid="gone"),
            },
        }
    )
    there = tuple(
        ObjectIdentity(kind="Deployment", name=name, uid=f"{name}-uid") for name in ("db", "api", "web")
    )
    ledger, cluster = FakeLedger(plan), FakeCluster(existing=there)
    async with bench(temporal, ledger, cluster) as this:
        await (await this.start(PROVISION_ENVIRONMENT)).result()
    assert cluster.calls == ["namespace", "api", "web"]
    assert ledger.states("service/db") == [StepState.SKIPPED]
    assert ledger.recorded is not None
    assert ledger.recorded.namespace_existed is True


async def test_a_cluster_that_nobody_serves_is_said_to_be_unavailable(
    temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cluster, "SCHEDULE_TO_START", timedelta(seconds=1))
    ledger, cluster = FakeLedger(provision_plan({"api": {}})), FakeCluster()
    async with bench(temporal, ledger, cluster, serve_cluster=False) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert ledger.ended is not None
    assert ledger.ended.failure is not None
    assert ledger.ended.failure.kind is FailureKind.CLUSTER_UNAVAILABLE


async def test_the_same_story_without_any_cache(temporal: WorkflowEnvironment) -> None:
    """Every workflow task replays the history: a cheap proof of determinism."""
    ledger, cluster = FakeLedger(provision_plan(CHAIN)), FakeCluster()
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        result = OperationResult.model_validate(await (await this.start(PROVISION_ENVIRONMENT)).result())
    assert result.state is OperationState.SUCCEEDED


async def test_history_stays_small_for_fifty_services(temporal: WorkflowEnvironment) -> None:
    names = {f"s{number}": {"dependsOn": [f"s{number - 1}"]} if number % 5 else {} for number in range(50)}
    ledger, cluster = FakeLedger(provision_plan(names)), FakeCluster()
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        await handle.result()
        history = await handle.fetch_history()
    scheduled = [
        event for event in history.events if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
    assert len(scheduled) == 50 + 1  # the services and the namespace
    assert len(history.events) < 2_000


async def test_people_see_the_steps_in_the_current_details(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(provision_plan({"slow": {}})), FakeCluster(hanging={"slow"})
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(PROVISION_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        metadata = await handle.query("__temporal_workflow_metadata")
    assert "▶ `service/slow` running" in metadata.current_details
