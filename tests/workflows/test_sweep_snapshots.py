"""SweepSnapshots and FreeStorage on a real Temporal server: all it does, and a cluster that is away."""

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.helpers.fake_activities import FakeCluster, FakeLedger, FakeSnapshotSweep, fails
from tests.helpers.plans import delete_plan
from tests.workflows.conftest import bench
from workflows.contracts.snapshot import Discard
from workflows.contracts.sweep_snapshots import (
    FREE_STORAGE,
    SWEEP_SNAPSHOTS,
    SnapshotsSwept,
    Standing,
    StorageFreed,
)
from workflows.domain.failures import FailureKind

pytestmark = pytest.mark.asyncio(loop_scope="session")

DONE = SnapshotsSwept(taken=1, expired=2, started=1, removed=3, orphans=4)


async def _run(
    temporal: WorkflowEnvironment, what: str, sweep: FakeSnapshotSweep, cluster: FakeCluster
) -> tuple[object, list[str]]:
    ledger = FakeLedger(delete_plan(), snapshot_sweep=sweep)
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        handle = await this.start(what)
        done = await handle.result()
        asked = [
            event.activity_task_scheduled_event_attributes.activity_type.name
            for event in (await handle.fetch_history()).events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
    return done, asked


async def freed(
    temporal: WorkflowEnvironment, sweep: FakeSnapshotSweep, cluster: FakeCluster
) -> tuple[StorageFreed, list[str]]:
    """Have storages freed; return what was done, and the activities that were asked for, in order."""
    done, asked = await _run(temporal, FREE_STORAGE, sweep, cluster)
    return StorageFreed.model_validate(done), asked


async def test_a_sweep_does_each_thing_once_and_waits_for_no_cluster(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster()
    done, asked = await _run(temporal, SWEEP_SNAPSHOTS, FakeSnapshotSweep(kept=("snap_a",)), cluster)
    assert SnapshotsSwept.model_validate(done) == DONE
    assert asked == [
        "snapshots.take_due",
        "snapshots.expire",
        "snapshots.start_verifications",
        "snapshots.remove",
        "snapshots.remove_orphans",
    ]
    assert "discard" not in cluster.requests


async def test_what_a_cluster_keeps_is_removed_there(temporal: WorkflowEnvironment) -> None:
    sweep, cluster = FakeSnapshotSweep(kept=("snap_a", "snap_b")), FakeCluster()
    done, _ = await freed(temporal, sweep, cluster)
    assert (done, sweep.forgotten) == (StorageFreed(asked=2, freed=2), ["snap_a", "snap_b"])
    discard = cluster.requests["discard"]
    assert isinstance(discard, Discard)
    assert discard.snapshot_id == "snap_b"


async def test_what_a_cluster_refuses_is_told_and_the_next_asked_for(
    temporal: WorkflowEnvironment,
) -> None:
    sweep = FakeSnapshotSweep(kept=("snap_a", "snap_b"))
    cluster = FakeCluster(failing={"discard": fails(FailureKind.FORBIDDEN)})
    done, asked = await freed(temporal, sweep, cluster)
    # Not forgotten: it is asked for again, and what stands is told meanwhile.
    assert (done, sweep.forgotten) == (StorageFreed(asked=2), [])
    assert [each.snapshot_id for each in sweep.standing] == ["snap_a", "snap_b"]
    assert asked.count("snapshot.discard") == 2


async def test_a_cluster_that_is_away_is_asked_for_one_only(temporal: WorkflowEnvironment) -> None:
    sweep = FakeSnapshotSweep(kept=("snap_a", "snap_b"))
    cluster = FakeCluster(failing={"discard": fails(FailureKind.TIMEOUT)})
    done, asked = await freed(temporal, sweep, cluster)
    assert (done, sweep.forgotten) == (StorageFreed(asked=2), [])
    assert sweep.standing == [Standing(snapshot_id="snap_a", message="as scripted")]
    assert asked.count("snapshot.discard") == 1
