"""DeleteEnvironment on a real Temporal server: order, what holds it up, what people see."""

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.fake_activities import FakeCluster, FakeLedger, delete_plan, fails
from tests.workflows.conftest import bench
from workflows.contracts.delete import DELETE_ENVIRONMENT, DeleteNamespace
from workflows.contracts.operation import OperationResult
from workflows.domain.failures import Blocker, FailureKind
from workflows.domain.operations import OperationState, StepState

pytestmark = pytest.mark.asyncio(loop_scope="session")

HELD = (Blocker(object="ConfigMap/keep", finalizers=("example.test/hold",)),)


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


async def test_a_namespace_that_is_not_ours_fails_the_delete(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(delete_plan())
    cluster = FakeCluster(failing={"delete_namespace": fails(FailureKind.CONFLICT, "not ours")})
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(DELETE_ENVIRONMENT)).result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.FAILED
    assert ledger.states("delete_namespace") == [StepState.RUNNING, StepState.FAILED]
