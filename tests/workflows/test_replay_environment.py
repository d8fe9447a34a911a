"""ReplayEnvironment on a real Temporal server: what is run again, how, and what its undo goes back to."""

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.contexts import CONTEXT
from tests.helpers.fake_activities import (
    FakeCluster,
    FakeLedger,
    change_plan,
    fails,
    objects_of,
    provision_plan,
)
from tests.workflows.conftest import bench
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationPlan, OperationResult
from workflows.contracts.provision import DeployService, Undo
from workflows.contracts.replay import REPLAY_ENVIRONMENT
from workflows.domain.environment import Overrides
from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import at, text
from workflows.domain.manifests import Manifest
from workflows.domain.names import RESTART
from workflows.domain.operations import Earlier, OperationState, StepState
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
