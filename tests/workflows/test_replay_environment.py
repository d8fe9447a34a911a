"""ReplayEnvironment on a real Temporal server: what is run again, how, and what its undo goes back to."""

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.contexts import CONTEXT
from tests.helpers.fake_activities import FakeCluster, FakeLedger, FakeSnapshotLedger, fails
from tests.helpers.plans import SNAPSHOT_ID, change_plan, loading_replay_plan, objects_of, provision_plan
from tests.workflows.conftest import bench
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationPlan, OperationResult
from workflows.contracts.provision import DeployService, Undo
from workflows.contracts.replay import REPLAY_ENVIRONMENT
from workflows.contracts.restore import Load
from workflows.domain.environment import ObjectName, Overrides
from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import at, text
from workflows.domain.manifests import Manifest
from workflows.domain.names import RESTART
from workflows.domain.operations import Earlier, OperationState, PlannedStep, StepKind, StepState
from workflows.domain.replay import Replay

# Left out by `make test-fast`, which replays the recorded histories of these workflows instead.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

SHOP: dict[str, dict[str, object]] = {
    "db": {},
    "api": {"dependsOn": ["db"]},
    "web": {"dependsOn": {"api": {"condition": "started"}}},
    "other": {},
}


def replay_plan(
    services: dict[str, dict[str, object]] = SHOP,
    *,
    changed: tuple[str, ...] = (),
    from_step: str | None = None,
) -> OperationPlan:
    """The plan of a replay in place of a provision; of `changed` the ledger has another hash."""
    plan = change_plan(services, before=Overrides(replicas={"other": 2}))
    earlier = {
        step.name: Earlier(
            input_hash="other" if step.service in changed else step.input_hash,
            uid=f"deployment-{step.service}",
        )
        for step in plan.steps
        if step.service is not None
    }
    replay = Replay(from_step=from_step, recorded=tuple(step.name for step in plan.steps))
    return plan.model_copy(
        update={"earlier": earlier, "replay": replay, "overrides": Overrides(replicas={"other": 2})}
    )


def there(services: dict[str, dict[str, object]] = SHOP, **changes: object) -> FakeCluster:
    """A cluster in which the services run."""
    return FakeCluster(existing=objects_of(services), **changes)  # type: ignore[arg-type]


def workload(request: object) -> Manifest:
    """The workload that was asked to be applied."""
    assert isinstance(request, DeployService)
    return request.manifests[-1]


def mark(manifest: Manifest) -> str:
    return text(at(manifest, "spec", "template"), "metadata", "annotations", RESTART)


async def run(temporal: WorkflowEnvironment, ledger: FakeLedger, cluster: FakeCluster) -> OperationResult:
    async with bench(temporal, ledger, cluster) as this:
        return OperationResult.model_validate(await (await this.start(REPLAY_ENVIRONMENT)).result())


def reasons(ledger: FakeLedger) -> dict[str, object]:
    """The last output's reason of each service's step."""
    return {
        change.step: change.output["reason"]
        for entry in ledger.entries
        for change in entry.changes
        if change.output is not None and "reason" in change.output
    }


async def test_what_changed_gets_new_pods_with_what_depends_on_it(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(replay_plan(changed=("api",))), there()
    result = await run(temporal, ledger, cluster)
    assert result.state is OperationState.SUCCEEDED
    assert set(cluster.calls) == {"namespace", "api", "api:started", "web"}
    assert ledger.states("service/db") == [StepState.SKIPPED]
    assert ledger.states("service/other") == [StepState.SKIPPED]
    assert ledger.states("service/web") == [StepState.RUNNING, StepState.SUCCEEDED]
    assert reasons(ledger) == {
        "service/db": "unchanged and still there",
        "service/api": "what it is made from has changed",
        "service/web": "depends on service/api, which is run again",
        "service/other": "unchanged and still there",
    }
    for service in ("api", "web"):
        assert mark(workload(cluster.requests[service])) == CONTEXT.operation_id


async def test_marks_are_in_the_ledger_before_the_first_write(temporal: WorkflowEnvironment) -> None:
    """A service that did not begin has none: its pods would not bear it."""
    ledger = FakeLedger(replay_plan(from_step="service/db"))
    cluster = there(failing={"api:started": fails(FailureKind.CRASH_LOOP)})
    with pytest.raises(WorkflowFailureError):
        await run(temporal, ledger, cluster)
    marked = [entry.restarts for entry in ledger.entries if entry.restarts]
    assert marked == [{"db": CONTEXT.operation_id}, {"api": CONTEXT.operation_id}]
    running = next(
        place
        for place, entry in enumerate(ledger.entries)
        if any(c.step == "service/db" and c.state is StepState.SUCCEEDED for c in entry.changes)
    )
    assert ledger.entries.index(next(entry for entry in ledger.entries if entry.restarts)) < running
    assert "web" not in cluster.calls


async def test_nothing_to_run_again_touches_no_service(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(replay_plan()), there()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    assert cluster.calls == ["namespace"]
    assert not any(entry.restarts for entry in ledger.entries)


async def test_all_is_made_again_when_the_namespace_is_gone(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(replay_plan()), FakeCluster()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    assert set(cluster.calls) == {"namespace", "db", "api", "api:started", "web", "other"}
    assert reasons(ledger)["service/other"] == "what it made is not there any more"


async def test_a_new_environment_is_made_without_marks(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(provision_plan(SHOP)), FakeCluster()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    assert mark(workload(cluster.requests["db"])) == ""
    assert not any(entry.restarts for entry in ledger.entries)


async def test_a_job_is_run_again_as_another_one(temporal: WorkflowEnvironment) -> None:
    services: dict[str, dict[str, object]] = {"load": {"kind": "job"}, "web": {"dependsOn": {"load": {}}}}
    plan = replay_plan(services, from_step="service/load")
    earlier = {**plan.earlier, "service/load": Earlier(input_hash="", uid="job-load")}
    ledger = FakeLedger(plan.model_copy(update={"earlier": earlier}))
    cluster = there(services)
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    load, web = cluster.requests["load"], cluster.requests["web"]
    assert isinstance(load, DeployService)
    assert isinstance(web, DeployService)
    assert load.replacement is not None
    assert load.replacement.again is True
    # A Job's template cannot be changed: a mark would be refused.
    assert mark(workload(load)) == ""
    assert web.replacement is None
    assert mark(workload(web)) == CONTEXT.operation_id


async def test_a_cancel_with_cleanup_puts_back_what_ran(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(replay_plan(from_step="service/db")), there(hanging={"db"})
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(REPLAY_ENVIRONMENT)
        await cluster.reached.wait()
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=True))
        result = OperationResult.model_validate(await handle.result())
    assert result.state is OperationState.CANCELLED
    assert result.cleanup is not None
    assert result.cleanup.complete
    undo = cluster.requests["undo"]
    assert isinstance(undo, Undo)
    deployments = [each for each in undo.restore if each["kind"] == "Deployment"]
    assert [mark(each) for each in deployments] == [""] * 4


async def test_what_a_failed_update_left_is_removed_beside(temporal: WorkflowEnvironment) -> None:
    """A step of a service that is no part of the Blueprint."""
    plan = replay_plan(changed=("api",))
    assert plan.change is not None
    obsolete = {"old": (ObjectName(kind="Deployment", name="old"),)}
    remove = PlannedStep(
        name="remove/old", kind=StepKind.REMOVE_SERVICE, service="old", depends_on=("service/web",)
    )
    plan = plan.model_copy(
        update={
            "steps": (*plan.steps, remove),
            "change": plan.change.model_copy(update={"obsolete": obsolete}),
        }
    )
    ledger, cluster = FakeLedger(plan), there()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    assert cluster.calls[-1] == "remove old"


STORED: dict[str, dict[str, object]] = {
    **SHOP,
    "db": {"image": "registry.test/postgres:16", "init": {"type": "sql", "script": "create table t(id int)"}},
}


async def test_data_are_loaded_while_what_depends_on_them_is_stopped(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(loading_replay_plan(STORED, ["db"])), there(STORED)
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    before = ["namespace", "check db", "stop web", "stop api", "load db", "api:started"]
    assert cluster.calls[:6] == before
    assert set(cluster.calls[6:]) == {"api", "web"}
    load = cluster.requests["load db"]
    assert isinstance(load, Load)
    assert (load.snapshot_id, load.service.name) == (SNAPSHOT_ID, "db")
    assert reasons(ledger) == {
        "check/db": "before anything is replaced",
        "stop/web": "until the data that it depends on are loaded",
        "stop/api": "until the data that it depends on are loaded",
        "service/db": "unchanged and still there",
        "load/db": "its data are to be those of the snapshot",
        "service/api": "depends on load/db, which loads data",
        "service/web": "depends on service/api, which is run again",
        "service/other": "unchanged and still there",
    }
    # What was stopped comes back as new pods; what was loaded keeps its own.
    marked = {service for entry in ledger.entries for service in entry.restarts}
    assert marked == {"api", "web"}


async def test_a_new_environment_has_its_data_before_anything_depends_on_them(
    temporal: WorkflowEnvironment,
) -> None:
    ledger, cluster = FakeLedger(loading_replay_plan(STORED, ["db"], new=True)), FakeCluster()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    order = [name for name in cluster.calls if name in ("db", "load db", "api:started", "web")]
    assert order[:2] == ["db", "load db"]
    deployed = cluster.requests["db"]
    assert isinstance(deployed, DeployService)
    assert deployed.init is None
    assert not any(name.startswith("stop ") for name in cluster.calls)


@pytest.mark.parametrize("new", [True, False])
async def test_init_runs_over_the_data_when_that_is_asked_for(
    temporal: WorkflowEnvironment, new: bool
) -> None:
    ledger = FakeLedger(loading_replay_plan(STORED, ["db"], new=new, init=True))
    cluster = FakeCluster() if new else there(STORED)
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    order = [name for name in cluster.calls if name in ("db", "load db", "api:started", "web")]
    assert order[order.index("load db") :][:2] == ["load db", "db"]
    deployed = cluster.requests["db"]
    assert isinstance(deployed, DeployService)
    assert deployed.init is not None
    assert deployed.init.run == f"{deployed.init.key}/{deployed.context.operation_id}"


async def test_a_load_that_fails_starts_nothing_and_another_attempt_goes_on(
    temporal: WorkflowEnvironment,
) -> None:
    ledger = FakeLedger(loading_replay_plan(STORED, ["db"]))
    cluster = there(STORED, failing={"load db": fails(FailureKind.SNAPSHOT_CORRUPT)})
    with pytest.raises(WorkflowFailureError):
        await run(temporal, ledger, cluster)
    assert not {"api", "api:started", "web"} & set(cluster.calls)
    assert ledger.states("load/db")[-1] is StepState.FAILED
    # It owes the load and all behind it; the stops are repeated, which changes nothing.
    again = loading_replay_plan(STORED, ["db"], "service/db", "service/other", attempted=["load/db"])
    ledger, cluster = FakeLedger(again), there(STORED)
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    assert {"stop api", "load db", "api", "web"} <= set(cluster.calls)


@pytest.mark.parametrize("new", [True, False])
async def test_what_was_loaded_is_not_loaded_again(temporal: WorkflowEnvironment, new: bool) -> None:
    done = ("service/db", "load/db", "service/other")
    again = loading_replay_plan(STORED, ["db"], *done, attempted=["load/db"], new=new)
    ledger, cluster = FakeLedger(again), there(STORED)
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    assert set(cluster.calls) == {"namespace", "api", "api:started", "web"}
    assert ledger.states("load/db") == [StepState.SKIPPED]
    assert reasons(ledger)["load/db"] == "loaded by an attempt before this one"


@pytest.mark.parametrize("attempt", ["first", "second"])
async def test_a_cancel_with_cleanup_says_whose_data_are_replaced(
    temporal: WorkflowEnvironment, attempt: str
) -> None:
    """Also when it was the attempt before this one that loaded them."""
    plan = loading_replay_plan(STORED, ["db"])
    if attempt == "second":
        done = ("service/db", "load/db", "service/other")
        plan = loading_replay_plan(STORED, ["db"], *done, attempted=["load/db"])
    ledger, cluster = FakeLedger(plan), there(STORED, hanging={"api:started"})
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(REPLAY_ENVIRONMENT)
        await cluster.reached.wait()
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=True))
        result = OperationResult.model_validate(await handle.result())
    assert result.cleanup is not None
    assert not result.cleanup.complete
    assert result.cleanup.not_undone == ("load/db: its data may be replaced, in part or whole",)
    assert {"back to api", "back to web"} <= {name.partition(":")[0] for name in cluster.calls}


async def test_volumes_that_the_storage_keeps_are_there_before_their_service(
    temporal: WorkflowEnvironment,
) -> None:
    """And not made once more by another attempt, when they were filled."""
    kept = FakeSnapshotLedger(kept=frozenset({"db"}))
    plan = loading_replay_plan(STORED, ["db"], claimed=["db"], new=True)
    ledger, cluster = FakeLedger(plan, snapshots=kept), FakeCluster()
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    order = [name for name in cluster.calls if name in ("provide db", "db", "settle db", "api:started")]
    assert order == ["provide db", "db", "settle db", "api:started"]
    done = ("service/db", "load/db", "service/other")
    again = loading_replay_plan(STORED, ["db"], *done, attempted=["load/db"], claimed=["db"], new=True)
    ledger, cluster = FakeLedger(again, snapshots=kept), there(STORED)
    assert (await run(temporal, ledger, cluster)).state is OperationState.SUCCEEDED
    assert set(cluster.calls) == {"namespace", "api", "api:started", "web"}
    assert ledger.states("claim/db") == ledger.states("load/db") == [StepState.SKIPPED]
