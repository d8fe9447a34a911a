"""UpdateEnvironment on a real Temporal server: order, removal, the way back, cancel, retry, the details."""

import asyncio
from collections.abc import Mapping

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.contexts import CONTEXT
from tests.helpers.fake_activities import FakeCluster, FakeLedger, fails
from tests.helpers.plans import objects_of, update_plan
from tests.helpers.waiting import until
from tests.workflows.conftest import Bench, bench
from workflows.contracts.operation import (
    CANCEL_SIGNAL,
    CancelRequest,
    OperationPlan,
    OperationResult,
)
from workflows.contracts.provision import ApplySecrets, DeployService, Undo
from workflows.contracts.update import UPDATE_ENVIRONMENT, RemoveService
from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import text
from workflows.domain.names import FENCE, REVISION
from workflows.domain.operations import Earlier, EnvironmentPhase, OnFailure, OperationState, StepState

# Left out by `make test-fast`, which replays the recorded histories of these workflows instead.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

Services = Mapping[str, Mapping[str, object]]
CHANGED = {"env": {"A": "1"}}
PASSWORD = {"name": "db-password", "envKey": "P", "value": "auto-generated"}
BEFORE: Services = {
    "db": {"secrets": [PASSWORD]},
    "api": {"dependsOn": ["db"], "secrets": [PASSWORD]},
    "web": {"dependsOn": ["api"]},
    "old": {"dependsOn": ["db"]},
}
AFTER: Services = {
    "db": {**BEFORE["db"], **CHANGED},
    "api": BEFORE["api"],
    "web": {**BEFORE["web"], **CHANGED},
    "new": {"dependsOn": ["api"]},
}
DATA = {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}


def world(
    before: Services = BEFORE,
    after: Services = AFTER,
    *,
    phase: EnvironmentPhase = EnvironmentPhase.RUNNING,
    on_failure: OnFailure = OnFailure.ROLLBACK,
    cluster: FakeCluster | None = None,
) -> tuple[FakeLedger, FakeCluster]:
    """Return what an update from one to the other meets."""
    there = cluster or FakeCluster()
    there.existing = objects_of(before)
    plan: OperationPlan = update_plan(before, after, phase=phase, on_failure=on_failure)
    return FakeLedger(plan, before=before), there


async def ended(this: Bench) -> OperationResult:
    """Run the update to its end, however that is, and return what the ledger has."""
    handle = await this.start(UPDATE_ENVIRONMENT)
    try:
        await handle.result()
    except WorkflowFailureError:
        assert this.ledger.ended is not None
    assert this.ledger.ended is not None
    return this.ledger.ended


async def cancelled(this: Bench, *, cleanup: bool) -> OperationResult:
    """Cancel once something hangs, and return the end."""
    handle = await this.start(UPDATE_ENVIRONMENT)
    await asyncio.wait_for(this.cluster.reached.wait(), 20)
    await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=cleanup, reason="wrong branch"))
    return OperationResult.model_validate(await handle.result())


async def test_what_changes_runs_in_order_and_what_goes_goes_last(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = world()
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    assert result.state is OperationState.SUCCEEDED
    calls = cluster.calls
    assert set(calls) == {"namespace", "secrets", "db", "web", "new", "remove old"}
    assert calls.index("db") < calls.index("web"), "over the api, which does not change"
    assert calls[-1] == "remove old"
    assert ledger.states("remove/old") == [StepState.RUNNING, StepState.SUCCEEDED]
    removal = cluster.requests["remove old"]
    assert isinstance(removal, RemoveService)
    assert removal.leaves
    assert [each.kind for each in removal.objects] == ["Deployment"]
    assert ledger.recorded is not None
    assert ledger.recorded.revision == CONTEXT.revision - 1


async def test_what_stays_and_loses_objects_is_not_said_to_leave(temporal: WorkflowEnvironment) -> None:
    files = {"name": "conf", "mountPath": "/etc/x", "type": "files", "files": {"a": "1"}}
    ledger, cluster = world({"api": {"volumes": [files]}}, {"api": {}})
    async with bench(temporal, ledger, cluster) as this:
        await ended(this)
    removal = cluster.requests["remove api"]
    assert isinstance(removal, RemoveService)
    assert not removal.leaves
    assert [each.kind for each in removal.objects] == ["ConfigMap"]


async def test_a_dependant_of_what_is_only_started_does_not_wait_for_an_unchanged_one(
    temporal: WorkflowEnvironment,
) -> None:
    before: Services = {"db": {}, "api": {"dependsOn": {"db": {"condition": "started"}}}}
    ledger, cluster = world(before, {"db": {}, "api": {**before["api"], **CHANGED}})
    async with bench(temporal, ledger, cluster) as this:
        assert (await ended(this)).state is OperationState.SUCCEEDED
    assert cluster.calls == ["namespace", "api"]


async def test_a_failure_goes_back_secrets_first_then_objects_then_waits(
    temporal: WorkflowEnvironment,
) -> None:
    cluster = FakeCluster(failing={"web": fails(FailureKind.CRASH_LOOP)})
    ledger, cluster = world(cluster=cluster)
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    assert result.state is OperationState.ROLLED_BACK
    assert result.failure is not None
    assert (result.failure.kind, result.failure.step) == (FailureKind.CRASH_LOOP, "service/web")
    assert result.cleanup is not None
    assert (result.cleanup.complete, result.cleanup.not_undone) == (True, ())
    back = cluster.calls[cluster.calls.index("back to secrets") :]
    assert back[:2] == ["back to secrets", "undo"]
    assert set(back[2:]) == {"back to db", "back to web", "back to old"}
    assert "remove old" not in cluster.calls
    assert ledger.sealed_for == [None, CONTEXT.revision - 1]
    secrets, undo, settle = (cluster.requests[name] for name in ("back to secrets", "undo", "back to web"))
    assert isinstance(secrets, ApplySecrets)
    assert isinstance(undo, Undo)
    assert isinstance(settle, DeployService)
    assert {secrets.context.fence, undo.context.fence, settle.context.fence} == {CONTEXT.fence + 1}
    assert {text(each, "metadata", "name") for each in undo.restore} == {"db", "web", "old"}
    for each in (*undo.restore, *settle.manifests):
        assert text(each, "metadata", "annotations", REVISION) == str(CONTEXT.revision - 1)
        assert text(each, "metadata", "annotations", FENCE) == str(CONTEXT.fence + 1)
    assert undo.pre_image is not None
    assert settle.init is None


@pytest.mark.parametrize(
    "phase", [EnvironmentPhase.ERROR, EnvironmentPhase.DEGRADED, EnvironmentPhase.STOPPED]
)
async def test_what_did_not_run_before_is_not_waited_for(
    temporal: WorkflowEnvironment, phase: EnvironmentPhase
) -> None:
    cluster = FakeCluster(failing={"web": fails(FailureKind.CRASH_LOOP)})
    ledger, cluster = world(phase=phase, cluster=cluster)
    async with bench(temporal, ledger, cluster) as this:
        assert (await ended(this)).state is OperationState.ROLLED_BACK
    assert cluster.calls[-1] == "undo"
    undo = cluster.requests["undo"]
    assert isinstance(undo, Undo)
    replicas = {
        spec["replicas"]
        for each in undo.restore
        if isinstance(spec := each["spec"], dict) and "replicas" in spec
    }
    assert replicas == ({0} if phase is EnvironmentPhase.STOPPED else {1})


async def test_what_does_not_come_back_is_named_and_the_operation_failed(
    temporal: WorkflowEnvironment,
) -> None:
    cluster = FakeCluster(
        failing={
            "web": fails(FailureKind.CRASH_LOOP),
            "back to db": fails(FailureKind.IMAGE_UNAVAILABLE, "gone from the registry"),
        }
    )
    ledger, cluster = world(cluster=cluster)
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    assert result.state is OperationState.FAILED
    assert result.cleanup is not None
    assert result.cleanup.left == ("service/db: gone from the registry",)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CRASH_LOOP, "the first failure is the reason"


@pytest.mark.parametrize("name", ["back to secrets", "undo"])
async def test_an_undo_that_cannot_go_on_says_so(temporal: WorkflowEnvironment, name: str) -> None:
    cluster = FakeCluster(
        failing={"web": fails(FailureKind.CRASH_LOOP), name: fails(FailureKind.FORBIDDEN, "no rights")}
    )
    ledger, cluster = world(cluster=cluster)
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    assert result.state is OperationState.FAILED
    assert result.cleanup is not None
    assert (result.cleanup.complete, result.cleanup.left) == (False, ("no rights",))


async def test_a_replaced_service_is_put_back_by_its_own_replacement(temporal: WorkflowEnvironment) -> None:
    before: Services = {"db": {"volumes": [DATA]}, "api": {}}
    bigger = {**DATA, "size": "2Gi"}
    after: Services = {
        "db": {"volumes": [bigger], "allowReplace": True},
        "api": {"dependsOn": ["db"], **CHANGED},
    }
    cluster = FakeCluster(failing={"api": fails(FailureKind.CRASH_LOOP)})
    ledger, cluster = world(before, after, phase=EnvironmentPhase.ERROR, cluster=cluster)
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    there, back, undo = (cluster.requests[name] for name in ("db", "back to db", "undo"))
    assert isinstance(there, DeployService)
    assert isinstance(back, DeployService)
    assert isinstance(undo, Undo)
    assert there.replacement is not None
    assert (there.replacement.volumes, there.replacement.revision) == (("data",), None)
    assert back.replacement is not None
    assert (back.replacement.volumes, back.replacement.revision) == (("data",), CONTEXT.revision)
    assert {text(each, "metadata", "name") for each in undo.restore} == {"api"}
    assert "back to api" not in cluster.calls, "it did not run before; what was deleted has to be made though"
    assert result.cleanup is not None
    assert result.cleanup.not_undone == ("service/db: volume data was made anew",)


async def test_scripts_that_may_have_run_are_told_and_those_that_did_not_are_not(
    temporal: WorkflowEnvironment,
) -> None:
    script = {"init": {"type": "shell", "script": "migrate"}}
    before: Services = {"ran": {}, "kept": script, "late": {}}
    after: Services = {
        "ran": script,
        "kept": {**script, **CHANGED},
        "late": {**script, "dependsOn": ["ran"]},
        "fresh": script,
    }
    cluster = FakeCluster(failing={"ran": fails(FailureKind.HOOK_FAILED)})
    ledger, cluster = world(before, after, cluster=cluster)
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    assert result.cleanup is not None
    assert result.cleanup.not_undone == ("service/ran: its init script may have run",)


async def test_without_rollback_what_is_there_stays(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster(failing={"web": fails(FailureKind.CRASH_LOOP)})
    ledger, cluster = world(on_failure=OnFailure.KEEP, cluster=cluster)
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    assert (result.state, result.cleanup) == (OperationState.FAILED, None)
    assert "undo" not in cluster.calls


@pytest.mark.parametrize("cleanup", [True, False])
@pytest.mark.parametrize("where", ["namespace", "secrets", "db", "remove old"])
async def test_a_cancel_at_each_kind_of_step(
    temporal: WorkflowEnvironment, where: str, *, cleanup: bool
) -> None:
    ledger, cluster = world(cluster=FakeCluster(hanging={where}))
    async with bench(temporal, ledger, cluster) as this:
        result = await cancelled(this, cleanup=cleanup)
    assert result.state is OperationState.CANCELLED
    assert result.failure is not None
    assert result.failure.message == "wrong branch"
    assert ("undo" in cluster.calls) == cleanup
    assert (result.cleanup is not None) == cleanup
    undo = cluster.requests.get("undo")
    if where == "namespace" and cleanup:
        assert isinstance(undo, Undo)
        assert (undo.pre_image, undo.restore) == (None, ()), "nothing was written"
    settled = {call for call in cluster.calls if call.startswith("back to ")}
    everything = {"back to secrets", "back to db", "back to web", "back to old"}
    assert settled == (everything if cleanup and where != "namespace" else set())


async def test_a_retry_skips_what_holds_and_replaces_the_rest(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = world()
    earlier = {"service/db": Earlier(input_hash="", uid="deployment-db")}
    ledger.plan = ledger.plan.model_copy(update={"earlier": earlier})
    async with bench(temporal, ledger, cluster) as this:
        assert (await ended(this)).state is OperationState.SUCCEEDED
    assert "db" not in cluster.calls
    assert ledger.states("service/db") == [StepState.SKIPPED]
    assert {"web", "new", "remove old"} <= set(cluster.calls)


async def test_a_script_of_the_first_attempt_is_told_by_the_undo_of_the_retry(
    temporal: WorkflowEnvironment,
) -> None:
    script = {"init": {"type": "shell", "script": "migrate"}}
    after: Services = {"db": script, "api": {"dependsOn": ["db"], **CHANGED}}
    cluster = FakeCluster(failing={"api": fails(FailureKind.CRASH_LOOP)})
    ledger, cluster = world({"db": {}, "api": {}}, after, cluster=cluster)
    earlier = {"service/db": Earlier(input_hash="", uid="deployment-db")}
    ledger.plan = ledger.plan.model_copy(update={"earlier": earlier})
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    assert result.cleanup is not None
    assert result.cleanup.not_undone == ("service/db: its init script may have run",)


async def test_a_namespace_that_was_gone_fails_the_update_and_is_not_said_to_be_back(
    temporal: WorkflowEnvironment,
) -> None:
    ledger, cluster = world()
    cluster.existing = ()
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    assert result.state is OperationState.FAILED
    assert result.failure is not None
    assert (result.failure.kind, result.failure.step) == (FailureKind.CONFLICT, "namespace")
    assert result.cleanup is not None
    assert not result.cleanup.complete
    assert "was gone" in result.cleanup.left[0]
    assert "db" not in cluster.calls


async def test_a_namespace_that_was_gone_is_made_anew_when_all_is(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = world({"db": {}, "api": {}}, {"db": CHANGED, "api": CHANGED})
    cluster.existing = ()
    async with bench(temporal, ledger, cluster) as this:
        assert (await ended(this)).state is OperationState.SUCCEEDED


async def test_a_secret_that_exists_no_more_fails_its_step(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = world(on_failure=OnFailure.KEEP)
    ledger.without_secrets = True
    async with bench(temporal, ledger, cluster) as this:
        result = await ended(this)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.step) == (FailureKind.CONFIG_MISSING, "secrets")
    assert "db-password" in result.failure.message


async def test_it_goes_back_without_a_cache_too(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster(failing={"web": fails(FailureKind.CRASH_LOOP)})
    ledger, cluster = world(cluster=cluster)
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        assert (await ended(this)).state is OperationState.ROLLED_BACK
    assert cluster.calls.count("undo") == 1
    assert cluster.calls.count("back to old") == 1


async def test_the_current_details_tell_where_it_stands(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = world(cluster=FakeCluster(hanging={"remove old"}))
    async with bench(temporal, ledger, cluster) as this:
        handle = await this.start(UPDATE_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await until(lambda: ledger.states("remove/old") == [StepState.RUNNING], "the removal is noted")
        details = await handle.query("__temporal_workflow_metadata")
        shown = str(details)
        await handle.signal(CANCEL_SIGNAL, CancelRequest())
        await handle.result()
    assert "`service/web` succeeded" in shown
    assert "`remove/old` running" in shown
