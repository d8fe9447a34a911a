"""RestoreEnvironment on a real Temporal server: data before what depends on it, and how it ends."""

import asyncio

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.fake_activities import FakeCluster, FakeLedger, fails
from tests.helpers.plans import SNAPSHOT_ID, objects_of, restore_plan
from tests.workflows.conftest import bench
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationPlan, OperationResult
from workflows.contracts.provision import DeployService
from workflows.contracts.restore import RESTORE_ENVIRONMENT, Load, SurveyMasking
from workflows.contracts.stop import StopService
from workflows.domain.errors import FieldError
from workflows.domain.failures import FailureKind
from workflows.domain.operations import OperationState, StepState

# Left out by `make test-fast`, which replays the recorded histories of this workflow instead.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

SHOP: dict[str, dict[str, object]] = {
    "db": {
        "image": "registry.test/postgres:16",
        "init": {"type": "sql", "script": "create table t(id int)"},
    },
    "api": {"dependsOn": ["db"]},
    "web": {"dependsOn": {"api": {"condition": "started"}}},
    "aside": {},
}


def planned(*, standing: bool) -> OperationPlan:
    return restore_plan(SHOP, ["db"], standing=standing)


async def run(temporal: WorkflowEnvironment, ledger: FakeLedger, cluster: FakeCluster) -> OperationResult:
    """Run a restore to its end, by a worker that keeps nothing in mind."""
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        return OperationResult.model_validate(await (await this.start(RESTORE_ENVIRONMENT)).result())


async def test_data_is_there_before_what_depends_on_it_starts(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(planned(standing=False)), FakeCluster()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    order = [name for name in cluster.calls if name in ("db", "load db", "api", "api:started", "web")]
    assert order[:2] == ["db", "load db"]
    assert {"web", "api"} <= {name.partition(":")[0] for name in order[2:]}
    load = cluster.requests["load db"]
    assert isinstance(load, Load)
    assert (load.snapshot_id, load.service.name) == (SNAPSHOT_ID, "db")
    assert set(load.stored.keys) == {part.prefix for part in load.stored.component.parts}
    # Its init ran before the snapshot was taken.
    deployed = cluster.requests["db"]
    assert isinstance(deployed, DeployService)
    assert deployed.init is None
    assert not any(name.startswith("stop ") for name in cluster.calls)


async def test_init_runs_over_the_data_when_that_is_asked_for(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(restore_plan(SHOP, ["db"], standing=False, init=True)), FakeCluster()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    order = [name for name in cluster.calls if name in ("db", "load db", "api", "api:started", "web")]
    assert order[:3] == ["db", "load db", "db"]
    assert "db" not in order[3:]
    # The last time that it was asked for: once more, once in this operation.
    deployed = cluster.requests["db"]
    assert isinstance(deployed, DeployService)
    assert deployed.init is not None
    assert deployed.init.sql == "create table t(id int)"
    assert deployed.init.run == f"{deployed.init.key}/{deployed.context.operation_id}"
    [output] = [
        change.output
        for entry in ledger.entries
        for change in entry.changes
        if (change.step, change.state) == ("load/db", StepState.SUCCEEDED)
    ]
    assert output is not None
    assert output["init"] is True


async def test_in_place_what_depends_on_the_data_is_stopped_first(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(planned(standing=True), before=SHOP)
    cluster = FakeCluster(existing=objects_of(SHOP))
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    order = [name for name in cluster.calls if name.startswith(("check ", "stop ", "load ")) or name == "db"]
    assert order == ["check db", "stop web", "stop api", "db", "load db"]
    stopped = cluster.requests["stop api"]
    assert isinstance(stopped, StopService)
    assert "stop aside" not in cluster.calls


async def test_in_place_nothing_is_stopped_or_replaced_for_what_cannot_be_read(
    temporal: WorkflowEnvironment,
) -> None:
    ledger = FakeLedger(planned(standing=True), before=SHOP)
    cluster = FakeCluster(
        existing=objects_of(SHOP), failing={"check db": fails(FailureKind.SNAPSHOT_CORRUPT)}
    )
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(RESTORE_ENVIRONMENT)).result()
    assert ledger.ended is not None
    assert ledger.ended.failure is not None
    assert ledger.ended.failure.step == "check/db"
    # Nor is what has nothing to do with it.
    assert set(cluster.calls) == {"namespace", "check db"}


@pytest.mark.parametrize("standing", [True, False])
async def test_a_load_that_fails_starts_nothing_on_half_of_the_data(
    temporal: WorkflowEnvironment, standing: bool
) -> None:
    ledger = FakeLedger(planned(standing=standing), before=SHOP)
    cluster = FakeCluster(
        existing=objects_of(SHOP) if standing else (),
        failing={"load db": fails(FailureKind.SNAPSHOT_CORRUPT)},
    )
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(RESTORE_ENVIRONMENT)).result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.FAILED
    assert ledger.ended.failure is not None
    assert ledger.ended.failure.kind is FailureKind.SNAPSHOT_CORRUPT
    assert ledger.states("load/db")[-1] is StepState.FAILED
    assert not {"api", "api:started", "web"} & set(cluster.calls)


@pytest.mark.parametrize("standing", [True, False])
async def test_a_cancel_with_cleanup_says_what_of_the_data_is_not_taken_back(
    temporal: WorkflowEnvironment, standing: bool
) -> None:
    ledger = FakeLedger(planned(standing=standing), before=SHOP)
    cluster = FakeCluster(existing=objects_of(SHOP) if standing else (), hanging={"load db"})
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        handle = await this.start(RESTORE_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=True))
        result = OperationResult.model_validate(await handle.result())
    assert "undo" in cluster.calls
    assert result.state is OperationState.CANCELLED
    assert result.cleanup is not None
    if standing:
        # What was stopped runs again.
        assert {"back to api", "back to web"} <= {name.partition(":")[0] for name in cluster.calls}
        assert not result.cleanup.complete
        assert result.cleanup.not_undone == ("load/db: its data may be replaced, in part or whole",)
    else:
        assert (result.cleanup.complete, result.cleanup.not_undone) == (True, ())


async def test_a_cancelled_retry_says_what_the_attempt_before_it_has_replaced(
    temporal: WorkflowEnvironment,
) -> None:
    """Though it began no load itself."""
    plan = restore_plan(SHOP, ["db"], standing=True, touched=("load/db",))
    ledger, cluster = (
        FakeLedger(plan, before=SHOP),
        FakeCluster(existing=objects_of(SHOP), hanging={"check db"}),
    )
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        handle = await this.start(RESTORE_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=True))
        result = OperationResult.model_validate(await handle.result())
    assert "load db" not in cluster.calls
    assert result.cleanup is not None
    assert not result.cleanup.complete
    assert result.cleanup.not_undone == ("load/db: its data may be replaced, in part or whole",)


async def test_what_keeps_data_without_a_volume_is_noted(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(planned(standing=False))
    assert (
        await run(temporal, ledger, FakeCluster(kept_in=("pod-1/c-1",)))
    ).state is OperationState.SUCCEEDED
    outputs = [
        change.output
        for entry in ledger.entries
        for change in entry.changes
        if (change.step, change.state) == ("load/db", StepState.SUCCEEDED)
    ]
    assert outputs == [{"snapshot": SNAPSHOT_ID, "parts": 1, "plainBytes": 4096, "keptIn": "pod-1/c-1"}]


async def test_what_was_loaded_is_proved_before_anything_starts_on_it(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(restore_plan(SHOP, ["db"], standing=False, prove=True)), FakeCluster()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    order = [name for name in cluster.calls if name in ("load db", "prove db", "api", "api:started")]
    assert order[:2] == ["load db", "prove db"]


async def test_what_was_written_since_is_in_the_output_of_the_step(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(restore_plan(SHOP, ["db"], standing=False, prove=True))
    cluster = FakeCluster(written=("/docs: 1 written since (log)", "/more: 1 new since (x)"))
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    [output] = [
        change.output
        for entry in ledger.entries
        for change in entry.changes
        if change.step == "load/db" and change.output is not None
    ]
    assert output["proved"] == 1
    assert output["writtenSince"] == "/docs: 1 written since (log); /more: 1 new since (x)"


@pytest.mark.parametrize("told", [True, False])
async def test_what_differs_from_what_was_captured_fails_the_restore(
    temporal: WorkflowEnvironment, told: bool
) -> None:
    """What cannot be told fails it too, and says nothing against the snapshot."""
    ledger = FakeLedger(restore_plan(SHOP, ["db"], standing=False, prove=True))
    found = ("table t: 2 rows recorded, 1 found",)
    cluster = FakeCluster(differences=found) if told else FakeCluster(untold=found)
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(RESTORE_ENVIRONMENT)).result()
    assert ledger.ended is not None
    assert ledger.ended.failure is not None
    assert ledger.ended.failure.kind is (FailureKind.SNAPSHOT_CORRUPT if told else FailureKind.CONFLICT)
    assert "table t: 2 rows recorded, 1 found" in ledger.ended.failure.message
    assert not {"api", "api:started", "web"} & set(cluster.calls)


STORES: dict[str, dict[str, object]] = {**SHOP, "crm": {"image": "registry.test/postgres:16"}}
"""Two databases."""


def unfit(service: str, column: str) -> FieldError:
    """A fault of a rule."""
    path = ("services", service, "columns", 0)
    return FieldError(path=path, message=f"people has no column {column}")


@pytest.mark.parametrize("standing", [True, False])
async def test_rules_of_all_services_are_surveyed_before_one_of_them_is_replaced(
    temporal: WorkflowEnvironment, standing: bool
) -> None:
    plan = restore_plan(STORES, ["db", "crm"], standing=standing, masked=["db", "crm"])
    ledger = FakeLedger(plan, before=STORES)
    cluster = FakeCluster(
        existing=objects_of(STORES) if standing else (),
        unfit={"db": [unfit("db", "emial")], "crm": [unfit("crm", "nmae")]},
    )
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(RESTORE_ENVIRONMENT)).result()
    assert ledger.ended is not None
    failed = ledger.ended.failure
    assert failed is not None
    assert (failed.kind, failed.step) == (FailureKind.MASKING_INVALID, "masking")
    assert failed.message == (
        "The rules do not fit what the snapshot has: services.db.columns[0]: people has no column emial; "
        "services.crm.columns[0]: people has no column nmae."
    )
    # Nothing is stopped, replaced or made; a service that is about no data is not waited for.
    made = {"namespace", "survey db", "survey crm", "aside", *(() if standing else ("secrets",))}
    assert set(cluster.calls) <= made
    assert {"survey db", "survey crm"} <= set(cluster.calls)


async def test_a_load_goes_by_what_the_survey_has_measured(temporal: WorkflowEnvironment) -> None:
    plan = restore_plan(STORES, ["db", "crm"], standing=True, masked=["db"])
    ledger, cluster = FakeLedger(plan, before=STORES), FakeCluster(existing=objects_of(STORES))
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    # What is not masked is read to its end as ever; what is, once, by the survey.
    looks = [name for name in cluster.calls if name.startswith(("check ", "survey "))]
    assert sorted(looks) == ["check crm", "survey db"]
    surveyed, load, clear = (cluster.requests[name] for name in ("survey db", "load db", "load crm"))
    assert isinstance(surveyed, SurveyMasking)
    assert isinstance(load, Load)
    assert isinstance(clear, Load)
    assert (load.masked_sizes, clear.masked_sizes) == ((5000,), None)
    assert load.stored.masking_key == surveyed.stored.masking_key != ""


async def test_what_does_not_go_into_a_message_is_kept_in_evidence(temporal: WorkflowEnvironment) -> None:
    plan = restore_plan(STORES, ["db", "crm"], standing=True, masked=["db", "crm"])
    ledger = FakeLedger(plan, before=STORES)
    cluster = FakeCluster(
        existing=objects_of(STORES),
        unfit={"db": [unfit("db", f"c{n:03}") for n in range(40)], "crm": [unfit("crm", "nmae")]},
    )
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(RESTORE_ENVIRONMENT)).result()
    assert ledger.ended is not None
    failed = ledger.ended.failure
    assert failed is not None
    assert "services.crm.columns[0]: people has no column nmae; and " in failed.message
    assert failed.message.endswith(" more.")
    assert failed.evidence == ("evidence of db", "evidence of crm")


async def test_rules_of_an_operation_from_before_are_surveyed_by_each_load(
    temporal: WorkflowEnvironment,
) -> None:
    """Accepted by a version without that step: a restore that runs while Perdure is updated, or its retry."""
    plan = restore_plan(SHOP, ["db"], standing=False, masked=["db"])
    steps = restore_plan(SHOP, ["db"], standing=False).steps
    ledger, cluster = FakeLedger(plan.model_copy(update={"steps": steps})), FakeCluster()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    load = cluster.requests["load db"]
    assert isinstance(load, Load)
    assert load.masking is not None
    assert load.masked_sizes is None
