"""SeedEnvironment on a real Temporal server: what it asks the cluster for, and how it ends."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.contexts import CONTEXT
from tests.helpers.fake_activities import FakeCluster, FakeLedger, fails
from tests.helpers.plans import objects_of, seed_plan
from tests.workflows.conftest import bench
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationPlan, OperationResult
from workflows.contracts.seed import SEED_ENVIRONMENT, SeedByHttp, SeedByJob, SeedBySql
from workflows.domain.blueprint_models import DataStore
from workflows.domain.environment import ObjectName
from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import text
from workflows.domain.operations import Cleanup, OperationState, StepState
from workflows.domain.seeds import SeedContent, SeedType
from workflows.domain.seeds_http import HttpRequest

# Left out by `make test-fast`, which replays the recorded histories of this workflow instead.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

SHOP: dict[str, dict[str, object]] = {"db": {"image": "registry.test/postgres:16"}, "api": {}}
SQL = SeedContent(type=SeedType.SQL, script="select 1")
SHELL = SeedContent(type=SeedType.SHELL, script="exit 0")


def planned(seed: SeedContent = SHELL, **changes: object) -> OperationPlan:
    return seed_plan(SHOP, seed, "db", **changes)


async def test_sql_runs_in_a_pod_of_its_service(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = (
        FakeLedger(planned(SQL, package="visitor@1.0.0")),
        FakeCluster(existing=objects_of(SHOP)),
    )
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        result = OperationResult.model_validate(await (await this.start(SEED_ENVIRONMENT)).result())
    assert result.state is OperationState.SUCCEEDED
    assert cluster.calls == ["namespace", "seed"]
    request = cluster.requests["seed"]
    assert isinstance(request, SeedBySql)
    assert request.store is DataStore.POSTGRES
    assert request.workload == ObjectName(kind="Deployment", name="db")
    [output] = [
        change.output
        for entry in ledger.entries
        for change in entry.changes
        if (change.step, change.state) == ("seed", StepState.SUCCEEDED)
    ]
    assert output == {"outcome": "applied", "digest": SQL.digest, "package": "visitor@1.0.0"}


async def test_a_request_goes_to_the_port_that_is_meant(temporal: WorkflowEnvironment) -> None:
    services: dict[str, dict[str, object]] = {
        "web": {"ports": [{"containerPort": 8080}, {"containerPort": 9090, "name": "admin"}]}
    }
    seed = SeedContent(type=SeedType.HTTP, http=HttpRequest(path="/visits", port="admin"))
    ledger, cluster = FakeLedger(seed_plan(services, seed, "web")), FakeCluster(existing=objects_of(services))
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        result = OperationResult.model_validate(await (await this.start(SEED_ENVIRONMENT)).result())
    assert result.state is OperationState.SUCCEEDED
    request = cluster.requests["seed"]
    assert isinstance(request, SeedByHttp)
    assert (request.port, request.workload) == (9090, ObjectName(kind="Deployment", name="web"))
    [output] = [
        change.output
        for entry in ledger.entries
        for change in entry.changes
        if (change.step, change.state) == ("seed", StepState.SUCCEEDED)
    ]
    assert output == {
        "outcome": "applied",
        "digest": seed.digest,
        "idempotencyKey": "6e0c8f0e-key",
        "status": 201,
    }


async def test_a_retry_of_a_forced_job_begins_with_that_of_the_first(temporal: WorkflowEnvironment) -> None:
    def names(request: object) -> tuple[str, str]:
        assert isinstance(request, SeedByJob)
        return text(request.job, "metadata", "name"), text(request.own, "metadata", "name")

    async def asked(**changes: Any) -> tuple[str, str]:
        cluster = FakeCluster(existing=objects_of(SHOP))
        async with bench(temporal, FakeLedger(planned(**changes)), cluster) as this:
            await (await this.start(SEED_ENVIRONMENT)).result()
        return names(cluster.requests["seed"])

    plain, forced = await asked(), await asked(force=True)
    assert plain[0] != plain[1] == forced[0] == forced[1]
    retried = await asked(force=True, first="op_first")
    assert retried[1] == forced[1]
    assert retried[0] not in (*plain, *forced)
    assert (await asked(first="op_first"))[0] == plain[0]


async def test_a_job_that_fails_or_is_cancelled_is_stopped(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(planned())
    cluster = FakeCluster(existing=objects_of(SHOP), failing={"seed": fails(FailureKind.UNSCHEDULABLE)})
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(SEED_ENVIRONMENT)).result()
    assert cluster.calls == ["namespace", "seed", "stop job"]
    assert ledger.ended is not None
    assert ledger.ended.failure is not None
    assert ledger.ended.failure.kind is FailureKind.UNSCHEDULABLE

    cluster = FakeCluster(existing=objects_of(SHOP), hanging={"seed"})
    async with bench(temporal, FakeLedger(planned()), cluster, max_cached_workflows=0) as this:
        handle = await this.start(SEED_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=True))
        result = OperationResult.model_validate(await handle.result())
    assert cluster.calls == ["namespace", "seed", "stop job"]
    assert result.state is OperationState.CANCELLED
    assert result.cleanup == Cleanup(complete=False, not_undone=("seed: it may have run",))


async def test_nothing_is_run_in_a_namespace_that_was_gone(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(planned()), FakeCluster()
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(SEED_ENVIRONMENT)).result()
    assert cluster.calls == ["namespace"]
    assert ledger.ended is not None
    assert ledger.ended.failure is not None
    assert ledger.ended.failure.kind is FailureKind.CONFLICT
    assert CONTEXT.namespace in ledger.ended.failure.message
