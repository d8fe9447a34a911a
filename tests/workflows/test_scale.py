"""ScaleService and RestartService on a real Temporal server: one service, and its way back."""

import asyncio

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.contexts import CONTEXT
from tests.helpers.fake_activities import FakeCluster, FakeLedger, fails
from tests.helpers.plans import change_plan, objects_of
from tests.workflows.conftest import bench
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationPlan, OperationResult
from workflows.contracts.provision import DeployService, Undo
from workflows.contracts.restart import RESTART_SERVICE
from workflows.contracts.scale import SCALE_SERVICE
from workflows.domain.environment import Overrides
from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import at, text
from workflows.domain.manifests import Manifest
from workflows.domain.operations import OnFailure, OperationState

# Left out by `make test-fast`, which replays the recorded histories of these workflows instead.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

SHOP: dict[str, dict[str, object]] = {"db": {}, "api": {"dependsOn": ["db"]}}
SCRIPTED: dict[str, dict[str, object]] = {
    "db": {},
    "api": {"dependsOn": ["db"], "init": {"type": "shell", "script": "migrate"}},
}


def scaled(services: dict[str, dict[str, object]] = SHOP) -> OperationPlan:
    """Return the plan of a scale of `api` from 2 to 5."""
    return change_plan(
        services,
        only="api",
        before=Overrides(replicas={"api": 2}),
        overrides=Overrides(replicas={"api": 5}),
        on_failure=OnFailure.ROLLBACK,
    )


def workload(request: object) -> Manifest:
    """Return the workload that was asked to be applied or put back."""
    assert isinstance(request, DeployService | Undo)
    return (request.restore if isinstance(request, Undo) else request.manifests)[-1]


async def test_a_scale_touches_its_service_alone(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster(existing=objects_of(SHOP))
    async with bench(temporal, FakeLedger(scaled()), cluster) as this:
        result = OperationResult.model_validate(await (await this.start(SCALE_SERVICE)).result())
    assert result.state is OperationState.SUCCEEDED
    assert cluster.calls == ["namespace", "api"]
    assert at(workload(cluster.requests["api"]), "spec", "replicas") == 5


async def test_sql_init_waits_until_there_is_a_pod_to_run_it_in(temporal: WorkflowEnvironment) -> None:
    services: dict[str, dict[str, object]] = {
        "api": {"image": "registry.test/postgres:16", "init": {"type": "sql", "script": "select 1"}}
    }
    for replicas in (0, 1):
        plan = change_plan(services, only="api", overrides=Overrides(replicas={"api": replicas}))
        cluster = FakeCluster(existing=objects_of(services))
        async with bench(temporal, FakeLedger(plan), cluster) as this:
            await (await this.start(SCALE_SERVICE)).result()
        request = cluster.requests["api"]
        assert isinstance(request, DeployService)
        assert (request.init is None) == (replicas == 0)


async def test_replicas_that_do_not_come_up_go_back(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster(existing=objects_of(SHOP), failing={"api": fails(FailureKind.UNSCHEDULABLE)})
    ledger = FakeLedger(scaled(SCRIPTED))
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(SCALE_SERVICE)).result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.ROLLED_BACK
    assert ledger.ended.cleanup is not None
    assert ledger.ended.cleanup.not_undone == (), "the script is the same as before"
    assert cluster.calls == ["namespace", "api", "undo", "back to api"]
    for name in ("undo", "back to api"):
        assert at(workload(cluster.requests[name]), "spec", "replicas") == 2
    undo = cluster.requests["undo"]
    assert isinstance(undo, Undo)
    assert {text(each, "metadata", "name") for each in undo.restore} == {"api"}


async def test_a_cancelled_restart_has_the_mark_before(temporal: WorkflowEnvironment) -> None:
    plan = change_plan(
        SHOP,
        only="api",
        before=Overrides(restarts={"api": "mark-one"}),
        overrides=Overrides(restarts={"api": "mark-two"}),
    )
    cluster = FakeCluster(existing=objects_of(SHOP), hanging={"api"})
    async with bench(temporal, FakeLedger(plan), cluster) as this:
        handle = await this.start(RESTART_SERVICE)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=True))
        result = OperationResult.model_validate(await handle.result())
    assert result.state is OperationState.CANCELLED
    assert "mark-two" in str(workload(cluster.requests["api"]))
    assert "mark-one" in str(workload(cluster.requests["back to api"]))
    back = cluster.requests["back to api"]
    assert isinstance(back, DeployService)
    assert (back.context.fence, back.context.revision) == (CONTEXT.fence + 1, CONTEXT.revision)


async def test_a_restart_that_fails_is_kept(temporal: WorkflowEnvironment) -> None:
    plan = change_plan(SHOP, only="api", overrides=Overrides(restarts={"api": "m"}))
    ledger = FakeLedger(plan)
    cluster = FakeCluster(existing=objects_of(SHOP), failing={"api": fails(FailureKind.CRASH_LOOP)})
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(RESTART_SERVICE)).result()
    assert ledger.ended is not None
    assert (ledger.ended.state, ledger.ended.cleanup) == (OperationState.FAILED, None)


async def test_one_service_is_not_made_in_a_namespace_that_was_gone(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(scaled()), FakeCluster()
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(SCALE_SERVICE)).result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.FAILED
    assert "api" not in cluster.calls
