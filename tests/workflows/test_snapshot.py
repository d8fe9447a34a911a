"""SnapshotEnvironment on a real Temporal server: what it asks the cluster for, and how it ends."""

import asyncio

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.contexts import CONTEXT
from tests.helpers.fake_activities import FakeCluster, FakeLedger, fails
from tests.helpers.many import databases
from tests.helpers.plans import SNAPSHOT_ID, objects_of, snapshot_plan
from tests.workflows.conftest import bench
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationResult
from workflows.contracts.snapshot import (
    SNAPSHOT_ENVIRONMENT,
    Capture,
    CaptureTogether,
    Discard,
    Publish,
    Windows,
)
from workflows.domain.failures import FailureKind
from workflows.domain.operations import Cleanup, OperationState, StepState
from workflows.domain.snapshot import Consistency, Engine, Scope, Storage
from workflows.domain.snapshot_manifest import SnapshotManifest
from workflows.domain.snapshot_size import MOST_STREAMS, fitted

# Left out by `make test-fast`, which replays the recorded histories of this workflow instead.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

VOLUME = {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}
SHOP: dict[str, dict[str, object]] = {
    "db": {"image": "registry.test/postgres:16"},
    "files": {"volumes": [VOLUME]},
    "api": {"dependsOn": ["db"]},
}


async def failed(temporal: WorkflowEnvironment, ledger: FakeLedger, cluster: FakeCluster) -> FailureKind:
    """Run a snapshot that is to fail; return why it did."""
    async with bench(temporal, ledger, cluster) as this:
        with pytest.raises(WorkflowFailureError):
            await (await this.start(SNAPSHOT_ENVIRONMENT)).result()
    assert ledger.ended is not None
    assert ledger.ended.state is OperationState.FAILED
    assert ledger.ended.failure is not None
    assert ledger.snapshots.described == []
    return ledger.ended.failure.kind


async def test_data_is_streamed_one_service_after_the_other_and_described_last(
    temporal: WorkflowEnvironment,
) -> None:
    ledger, cluster = FakeLedger(snapshot_plan(SHOP)), FakeCluster(existing=objects_of(SHOP))
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        result = OperationResult.model_validate(await (await this.start(SNAPSHOT_ENVIRONMENT)).result())
    assert result.state is OperationState.SUCCEEDED
    assert cluster.calls[:2] == ["namespace", "survey"]
    assert sorted(cluster.calls[2:4]) == ["capture db", "capture files"]
    assert cluster.calls[4:] == ["publish"]
    capture = cluster.requests["capture db"]
    assert isinstance(capture, Capture)
    assert (capture.snapshot_id, capture.key.key) == (SNAPSHOT_ID, "key of db")
    [manifest] = ledger.snapshots.described
    publish = cluster.requests["publish"]
    assert isinstance(publish, Publish)
    assert publish.manifest == manifest
    assert (manifest.consistency, manifest.scope) == (Consistency.LIVE_COPY, Scope.INDEPENDENT)
    assert manifest.revision == CONTEXT.revision
    assert {each.service: each.engine for each in manifest.components} == {
        "db": Engine.EXEC_DUMP,
        "files": Engine.LIVE_COPY,
        "api": Engine.MANIFEST_ONLY,
    }
    assert set(manifest.images) == set(SHOP)


async def test_as_many_databases_as_there_may_be_go_through_history(temporal: WorkflowEnvironment) -> None:
    """Two servers; as an attempt answers, each fits for itself, and both together do not."""
    shop: dict[str, dict[str, object]] = {name: {"image": "registry.test/postgres:16"} for name in ("a", "b")}
    captured = {
        name: fitted([databases(name, MOST_STREAMS // 2, tables=20, name='{:"<63}')])[0] for name in shop
    }
    assert sum(len(each.model_dump_json()) for each in captured.values()) > 2 * 1024 * 1024
    ledger = FakeLedger(snapshot_plan(shop))
    cluster = FakeCluster(existing=objects_of(shop), captured=captured)
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        await (await this.start(SNAPSHOT_ENVIRONMENT)).result()
    [manifest] = ledger.snapshots.described
    assert [len(each.parts) for each in manifest.components] == [MOST_STREAMS // 2] * 2
    asked = [cluster.requests[f"capture {name}"] for name in shop]
    # Whoever is second is told of the first.
    assert sorted(each.besides for each in asked if isinstance(each, Capture)) == [0, MOST_STREAMS // 2]


async def test_keys_are_asked_for_what_is_streamed_only(temporal: WorkflowEnvironment) -> None:
    plain: dict[str, dict[str, object]] = {"api": {}}
    ledger, cluster = FakeLedger(snapshot_plan(plain)), FakeCluster(existing=objects_of(plain))
    async with bench(temporal, ledger, cluster) as this:
        await (await this.start(SNAPSHOT_ENVIRONMENT)).result()
    assert cluster.calls == ["namespace", "survey", "publish"]
    assert ledger.snapshots.asked == []
    [manifest] = ledger.snapshots.described
    assert manifest.consistency is Consistency.CONFIG_ONLY


async def test_below_the_floor_nothing_is_captured(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(snapshot_plan(SHOP, floor=Consistency.APPLICATION))
    cluster = FakeCluster(existing=objects_of(SHOP))
    assert await failed(temporal, ledger, cluster) is FailureKind.SNAPSHOT_BELOW_FLOOR
    assert cluster.calls == ["namespace", "survey", "discard"]
    assert ledger.snapshots.asked == []


@pytest.mark.parametrize("discards", [True, False])
async def test_what_was_stored_goes_when_one_service_fails(
    temporal: WorkflowEnvironment, discards: bool
) -> None:
    failing = {"capture files": fails(FailureKind.TRANSFER_FAILED)}
    if not discards:
        failing["discard"] = fails(FailureKind.TRANSFER_FAILED, "the store is gone")
    ledger = FakeLedger(snapshot_plan(SHOP))
    cluster = FakeCluster(existing=objects_of(SHOP), failing=failing)
    assert await failed(temporal, ledger, cluster) is FailureKind.TRANSFER_FAILED
    assert ledger.ended is not None
    assert ledger.ended.failure is not None
    # Why it failed is told, not that there is something left.
    assert ledger.ended.failure.message == "as scripted"
    assert "publish" not in cluster.calls
    discard = cluster.requests["discard"]
    assert isinstance(discard, Discard)
    assert discard.snapshot_id == SNAPSHOT_ID


async def test_what_cannot_be_published_goes(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(snapshot_plan(SHOP))
    failing = {"publish": fails(FailureKind.SNAPSHOT_CORRUPT)}
    cluster = FakeCluster(existing=objects_of(SHOP), failing=failing)
    assert await failed(temporal, ledger, cluster) is FailureKind.SNAPSHOT_CORRUPT
    assert cluster.calls[-1] == "discard"


@pytest.mark.parametrize("cleanup", [True, False])
async def test_a_cancel_in_a_capture_leaves_nothing(temporal: WorkflowEnvironment, cleanup: bool) -> None:
    ledger = FakeLedger(snapshot_plan(SHOP))
    cluster = FakeCluster(existing=objects_of(SHOP), hanging={"capture db"})
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        handle = await this.start(SNAPSHOT_ENVIRONMENT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=cleanup))
        result = OperationResult.model_validate(await handle.result())
    assert cluster.stopping.is_set()
    assert cluster.calls[-1] == "discard"
    assert result.state is OperationState.CANCELLED
    assert result.cleanup == (Cleanup(complete=True) if cleanup else None)
    assert ledger.snapshots.described == []
    assert ledger.states("capture/db")[-1] is StepState.CANCELLED


async def test_nothing_is_taken_of_a_namespace_that_was_gone(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster()
    assert await failed(temporal, FakeLedger(snapshot_plan(SHOP)), cluster) is FailureKind.CONFLICT
    assert cluster.calls[0] == "namespace"
    assert "survey" not in cluster.calls


async def test_a_store_that_nobody_can_dump_is_left_out_and_pulls_the_whole_down(
    temporal: WorkflowEnvironment,
) -> None:
    services: dict[str, dict[str, object]] = {**SHOP, "docs": {"image": "registry.test/mongo:7"}}
    ledger, cluster = FakeLedger(snapshot_plan(services)), FakeCluster(existing=objects_of(services))
    async with bench(temporal, ledger, cluster) as this:
        result = OperationResult.model_validate(
            await asyncio.wait_for((await this.start(SNAPSHOT_ENVIRONMENT)).result(), 20)
        )
    assert result.state is OperationState.SUCCEEDED
    assert "capture docs" not in cluster.calls
    [manifest] = ledger.snapshots.described
    assert manifest.consistency is Consistency.CONFIG_ONLY
    assert manifest.component("docs").engine is Engine.MANIFEST_ONLY
    assert ledger.states("capture/docs")[-1] is StepState.SUCCEEDED


HOOKED: dict[str, dict[str, object]] = {
    **SHOP,
    "api": {"dependsOn": ["db"], "snapshot": {"quiesce": ["hold"], "thaw": ["go"]}},
}


async def test_with_hooks_all_data_is_taken_by_one_call(temporal: WorkflowEnvironment) -> None:
    lost = Windows(longest_ms={1: 900})
    ledger = FakeLedger(snapshot_plan(HOOKED))
    cluster = FakeCluster(existing=objects_of(HOOKED), lost_windows=lost, windows_before=2)
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        result = OperationResult.model_validate(await (await this.start(SNAPSHOT_ENVIRONMENT)).result())
    assert result.state is OperationState.SUCCEEDED
    assert cluster.calls == ["namespace", "survey", "capture together", "publish"]
    together = cluster.requests["capture together"]
    assert isinstance(together, CaptureTogether)
    assert {each.service.name for each in together.captures} == {"db", "files"}
    assert {each.service.name: each.key.key for each in together.captures}["db"] == "key of db"
    assert [each.name for each in together.quiesced] == ["api"]
    [manifest] = ledger.snapshots.described
    assert manifest.component("db").quiesced
    for step in ("capture/db", "capture/files"):
        assert ledger.states(step)[-1] is StepState.SUCCEEDED
    outputs = [
        change.output
        for entry in ledger.entries
        for change in entry.changes
        if change.step.startswith("capture/") and change.state is StepState.SUCCEEDED
    ]
    # Of three windows one was measured before it was lost, and one was not.
    told = [(each["longestFrozenMs"], each["windowsNotMeasured"]) for each in outputs if each is not None]
    assert told == [(900, 1), (900, 1)]


CSI = Storage(drivers={None: "fast.csi"}, snapshots=frozenset({"fast.csi"}))
GROUPS = Storage(drivers=CSI.drivers, snapshots=CSI.snapshots, groups=CSI.snapshots)
VOLUMES: dict[str, dict[str, object]] = {
    "db": {"image": "registry.test/postgres:16", "volumes": [VOLUME]},
    "files": {"volumes": [VOLUME]},
    "api": {"dependsOn": ["db"]},
}
FULL = fails(FailureKind.VOLUME_UNAVAILABLE, "The pool is full.")


async def taken(
    temporal: WorkflowEnvironment,
    cluster: FakeCluster,
    services: dict[str, dict[str, object]],
    *,
    floor: Consistency | None = None,
    expected: bool = True,
) -> SnapshotManifest:
    """Take a snapshot that is to succeed; return its manifest.

    `expected`: the storage is written down to have something of it.
    """
    ledger = FakeLedger(snapshot_plan(services, floor=floor))
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        result = OperationResult.model_validate(await (await this.start(SNAPSHOT_ENVIRONMENT)).result())
    assert result.state is OperationState.SUCCEEDED
    assert ledger.snapshots.expected == [SNAPSHOT_ID] * expected
    [manifest] = ledger.snapshots.described
    return manifest


async def test_what_the_storage_cuts_is_expected_there_before(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster(existing=objects_of(VOLUMES), storage=CSI)
    manifest = await taken(temporal, cluster, VOLUMES)
    assert sorted(cluster.calls[2:4]) == ["cut db", "cut files"]
    assert {each.service: each.engine for each in manifest.components if each.volumes} == {
        "db": Engine.CSI,
        "files": Engine.CSI,
    }
    assert manifest.consistency is Consistency.CRASH_VOLUME


async def test_what_the_storage_cannot_do_is_taken_otherwise_and_said_so(
    temporal: WorkflowEnvironment,
) -> None:
    cluster = FakeCluster(existing=objects_of(VOLUMES), storage=CSI, failing={"cut db": FULL})
    manifest = await taken(temporal, cluster, VOLUMES)
    assert {"cut db", "capture db", "cut files"} <= set(cluster.calls)
    db = manifest.component("db")
    assert (db.engine, db.instead_of, db.because) == (Engine.EXEC_DUMP, Engine.CSI, "The pool is full.")
    assert len(db.parts) == 1
    files = manifest.component("files")
    assert (files.engine, files.instead_of) == (Engine.CSI, None)


async def test_a_group_that_cannot_be_cut_is_cut_singly_by_all(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster(
        existing=objects_of(VOLUMES), storage=GROUPS, failing={"cut db": FULL, "cut files": FULL}
    )
    manifest = await taken(temporal, cluster, VOLUMES)
    # Whoever came first learnt of the group, and of the single one each for itself.
    assert sorted(call for call in cluster.calls if call.startswith("cut")) in (
        ["cut db", "cut db", "cut files"],
        ["cut db", "cut files", "cut files"],
    )
    assert {each.service: each.engine for each in manifest.components if each.parts} == {
        "db": Engine.EXEC_DUMP,
        "files": Engine.LIVE_COPY,
    }
    assert manifest.component("files").instead_of is Engine.CSI_GROUP
    assert manifest.component("files").because == "The pool is full. The pool is full."


async def test_what_would_be_below_the_floor_is_not_tried_instead(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(snapshot_plan(VOLUMES, floor=Consistency.CRASH_VOLUME))
    cluster = FakeCluster(existing=objects_of(VOLUMES), storage=CSI, failing={"cut files": FULL})
    assert await failed(temporal, ledger, cluster) is FailureKind.SNAPSHOT_BELOW_FLOOR
    assert ledger.ended is not None
    assert ledger.ended.failure is not None
    assert ledger.ended.failure.message == (
        "The pool is full. Taking files by live-copy instead would be below crash-volume, "
        "which was asked for."
    )
    assert "capture files" not in cluster.calls
    assert cluster.calls[-1] == "discard"


async def test_an_engine_that_was_demanded_has_no_other(temporal: WorkflowEnvironment) -> None:
    demanded = {"db": {**VOLUMES["db"], "snapshot": {"engine": "csi"}}}
    ledger = FakeLedger(snapshot_plan(demanded))
    cluster = FakeCluster(existing=objects_of(demanded), storage=CSI, failing={"cut db": FULL})
    assert await failed(temporal, ledger, cluster) is FailureKind.VOLUME_UNAVAILABLE
    assert cluster.calls == ["namespace", "survey", "cut db", "discard"]


async def test_what_is_no_fault_of_the_storage_ends_it(temporal: WorkflowEnvironment) -> None:
    db = {"db": VOLUMES["db"]}
    ledger = FakeLedger(snapshot_plan(db))
    failing = {"cut db": fails(FailureKind.CONFLICT)}
    cluster = FakeCluster(existing=objects_of(db), storage=CSI, failing=failing)
    assert await failed(temporal, ledger, cluster) is FailureKind.CONFLICT
    assert cluster.calls == ["namespace", "survey", "cut db", "discard"]


async def test_a_floor_that_only_a_dump_reaches_has_one_taken(temporal: WorkflowEnvironment) -> None:
    db = {"db": VOLUMES["db"]}
    cluster = FakeCluster(existing=objects_of(db), storage=CSI)
    manifest = await taken(temporal, cluster, db, floor=Consistency.APPLICATION, expected=False)
    assert (manifest.consistency, manifest.component("db").instead_of) == (Consistency.APPLICATION, None)
    assert cluster.calls == ["namespace", "survey", "capture db", "publish"]


HELD_VOLUMES: dict[str, dict[str, object]] = {
    "db": {**VOLUMES["db"], "snapshot": {"quiesce": ["hold"], "thaw": ["go"]}},
    "cache": {"image": "registry.test/redis:7"},
}


async def test_with_hooks_the_storage_cuts_in_the_same_window(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster(existing=objects_of(HELD_VOLUMES), storage=CSI)
    manifest = await taken(temporal, cluster, HELD_VOLUMES, floor=Consistency.APPLICATION)
    assert cluster.calls == ["namespace", "survey", "capture together", "publish"]
    together = cluster.requests["capture together"]
    assert isinstance(together, CaptureTogether)
    assert [each.service.name for each in together.captures] == ["cache"]
    assert [each.service.name for each in together.volumes] == ["db"]
    assert manifest.component("db").quiesced


async def test_with_hooks_what_the_storage_cannot_do_is_taken_in_another_window(
    temporal: WorkflowEnvironment,
) -> None:
    cluster = FakeCluster(
        existing=objects_of(HELD_VOLUMES), storage=CSI, failing_once={"capture together": FULL}
    )
    manifest = await taken(temporal, cluster, HELD_VOLUMES)
    assert cluster.calls == ["namespace", "survey", "capture together", "capture together", "publish"]
    together = cluster.requests["capture together"]
    assert isinstance(together, CaptureTogether)
    assert {each.service.name for each in together.captures} == {"db", "cache"}
    assert together.volumes == ()
    assert manifest.component("db").instead_of is Engine.CSI
    assert manifest.component("cache").instead_of is None


async def test_with_hooks_one_failure_is_that_of_all(temporal: WorkflowEnvironment) -> None:
    ledger = FakeLedger(snapshot_plan(HOOKED))
    failing = {"capture together": fails(FailureKind.HOOK_FAILED)}
    cluster = FakeCluster(existing=objects_of(HOOKED), failing=failing)
    assert await failed(temporal, ledger, cluster) is FailureKind.HOOK_FAILED
    # It is not tried a second time by the step of the other service.
    assert cluster.calls == ["namespace", "survey", "capture together", "discard"]
    ends = {ledger.states(step)[-1] for step in ("capture/db", "capture/files")}
    assert StepState.SUCCEEDED not in ends
