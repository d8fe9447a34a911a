"""StopEnvironment and ResumeEnvironment on a real Temporal server."""

import asyncio

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.contexts import CONTEXT
from tests.helpers.fake_activities import FakeCluster, FakeLedger, fails
from tests.helpers.plans import change_plan, objects_of, stop_plan
from tests.helpers.waiting import until
from tests.workflows.conftest import bench
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationResult
from workflows.contracts.provision import DeployService, Undo
from workflows.contracts.resume import RESUME_ENVIRONMENT
from workflows.contracts.stop import STOP_ENVIRONMENT, StopService
from workflows.contracts.update import RemoveService
from workflows.domain.environment import ObjectName
from workflows.domain.failures import FailureKind
from workflows.domain.operations import EnvironmentPhase, OperationState, StepState

# Left out by `make test-fast`, which replays the recorded histories of these workflows instead.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

CHAIN: dict[str, dict[str, object]] = {"db": {}, "api": {"dependsOn": ["db"]}, "web": {"dependsOn": ["api"]}}


def there(**changes: object) -> FakeCluster:
    """Return a cluster in which the services run."""
    return FakeCluster(existing=objects_of(CHAIN), **changes)  # type: ignore[arg-type]


def replicas(request: object) -> set[object]:
    """Return the numbers of replicas in what a cluster was asked to apply or put back."""
    assert isinstance(request, StopService | DeployService | Undo)
    rendered = request.restore if isinstance(request, Undo) else request.manifests
    return {
        spec["replicas"] for each in rendered if isinstance(spec := each["spec"], dict) and "replicas" in spec
    }


async def test_dependants_go_first(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(stop_plan(CHAIN)), there()
    async with bench(temporal, ledger, cluster) as this:
        result = OperationResult.model_validate(await (await this.start(STOP_ENVIRONMENT)).result())
    assert result.state is OperationState.SUCCEEDED
    assert cluster.calls == ["namespace", "stop web", "stop api", "stop db"]
    assert replicas(cluster.requests["stop api"]) == {0}
    assert ledger.states("stop/db") == [StepState.RUNNING, StepState.SUCCEEDED]


async def test_independent_services_stop_side_by_side(temporal: WorkflowEnvironment) -> None:
    services: dict[str, dict[str, object]] = {f"s{number}": {} for number in range(6)}
    cluster = FakeCluster(existing=objects_of(services), hanging={f"stop {name}" for name in services})
    async with bench(temporal, FakeLedger(stop_plan(services)), cluster) as this:
        await this.start(STOP_ENVIRONMENT)
        await until(lambda: len(cluster.calls) == len(services) + 1, "all are being stopped at once")


async def test_what_an_update_left_behind_goes_before_pods_are_waited_for(
    temporal: WorkflowEnvironment,
) -> None:
    old = ObjectName(kind="Deployment", name="old")
    cluster = there()
    async with bench(temporal, FakeLedger(stop_plan(CHAIN, {"old": (old,)})), cluster) as this:
        await (await this.start(STOP_ENVIRONMENT)).result()
    assert cluster.calls[:3] == ["namespace", "remove old", "stop web"]
    removal = cluster.requests["remove old"]
    assert isinstance(removal, RemoveService)
    assert (removal.objects, removal.leaves) == ((old,), True)


async def test_pods_that_do_not_end_fail_the_stop_and_nothing_is_undone(
    temporal: WorkflowEnvironment,
) -> None:
    ledger, cluster = FakeLedger(stop_plan(CHAIN)), there(failing={"stop api": fails(FailureKind.TIMEOUT)})
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(STOP_ENVIRONMENT)).result()
    assert ledger.ended is not None
    assert (ledger.ended.state, ledger.ended.cleanup) == (OperationState.FAILED, None)
    assert "stop db" not in cluster.calls, "it would lose what still uses it"


@pytest.mark.parametrize("cleanup", [True, False])
async def test_a_cancelled_stop_brings_all_back_only_when_asked(
    temporal: WorkflowEnvironment, *, cleanup: bool
) -> None:
    ledger, cluster = FakeLedger(stop_plan(CHAIN)), there(hanging={"stop api"})
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        handle = await this.start(STOP_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=cleanup))
        result = OperationResult.model_validate(await handle.result())
    assert result.state is OperationState.CANCELLED
    back = {call for call in cluster.calls if call.startswith("back to")}
    if not cleanup:
        assert not back
        assert "undo" not in cluster.calls
        return
    assert back == {"back to db", "back to api", "back to web"}
    assert replicas(cluster.requests["undo"]) == {1}
    assert replicas(cluster.requests["back to web"]) == {1}
    assert ledger.sealed_for == [], "the secrets are those of the same revision"
    assert result.cleanup is not None
    assert result.cleanup.complete


async def test_a_resume_brings_up_in_order(temporal: WorkflowEnvironment) -> None:
    plan = change_plan(CHAIN, phase=EnvironmentPhase.STOPPED)
    cluster = there()
    async with bench(temporal, FakeLedger(plan), cluster) as this:
        result = OperationResult.model_validate(await (await this.start(RESUME_ENVIRONMENT)).result())
    assert result.state is OperationState.SUCCEEDED
    assert cluster.calls == ["namespace", "db", "api", "web"]
    assert replicas(cluster.requests["web"]) == {1}


async def test_a_cancelled_resume_is_stopped_again(temporal: WorkflowEnvironment) -> None:
    plan = change_plan(CHAIN, phase=EnvironmentPhase.STOPPED)
    ledger, cluster = FakeLedger(plan), there(hanging={"api"})
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(RESUME_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=True))
        result = OperationResult.model_validate(await handle.result())
    assert result.state is OperationState.CANCELLED
    assert cluster.calls[-1] == "undo", "nothing has to become ready"
    undo = cluster.requests["undo"]
    assert replicas(undo) == {0}
    assert isinstance(undo, Undo)
    assert undo.context.fence == CONTEXT.fence + 1


async def test_a_resume_makes_all_anew_when_the_namespace_is_gone(temporal: WorkflowEnvironment) -> None:
    plan = change_plan(CHAIN, phase=EnvironmentPhase.STOPPED)
    cluster = FakeCluster()
    async with bench(temporal, FakeLedger(plan), cluster) as this:
        result = OperationResult.model_validate(await (await this.start(RESUME_ENVIRONMENT)).result())
    assert result.state is OperationState.SUCCEEDED
