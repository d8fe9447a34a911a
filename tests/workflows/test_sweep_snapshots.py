"""SweepSnapshots on a real Temporal server: all it does, and a cluster that is away."""

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.helpers.fake_activities import FakeCluster, FakeLedger, FakeSnapshotSweep, delete_plan, fails
from tests.workflows.conftest import bench
from workflows.contracts.snapshot import Discard
from workflows.contracts.sweep_snapshots import SWEEP_SNAPSHOTS, SnapshotsSwept, Standing
from workflows.domain.failures import FailureKind

pytestmark = pytest.mark.asyncio(loop_scope="session")

DONE = SnapshotsSwept(taken=1, expired=2, started=1, removed=3, orphans=4)


async def swept(
    temporal: WorkflowEnvironment, sweep: FakeSnapshotSweep, cluster: FakeCluster
) -> tuple[SnapshotsSwept, list[str]]:
    """Run a sweep; return what it did, and the activities that it asked for, in order."""
    ledger = FakeLedger(delete_plan(), snapshot_sweep=sweep)
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        handle = await this.start(SWEEP_SNAPSHOTS)
        done = SnapshotsSwept.model_validate(await handle.result())
        asked = [
            event.activity_task_scheduled_event_attributes.activity_type.name
            for event in (await handle.fetch_history()).events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
    return done, asked


async def test_a_sweep_does_each_thing_once_and_sums_up(temporal: WorkflowEnvironment) -> None:
    done, asked = await swept(temporal, FakeSnapshotSweep(), FakeCluster())
    assert done == DONE
    assert asked == [
        "snapshots.at_storage",
        "snapshots.take_due",
        "snapshots.expire",
        "snapshots.start_verifications",
        "snapshots.remove",
        "snapshots.remove_orphans",
    ]


async def test_what_a_cluster_keeps_is_removed_there_first(temporal: WorkflowEnvironment) -> None:
    sweep, cluster = FakeSnapshotSweep(kept=("snap_a", "snap_b")), FakeCluster()
    done, asked = await swept(temporal, sweep, cluster)
    assert (done, sweep.forgotten) == (DONE, ["snap_a", "snap_b"])
    assert asked.index("snapshots.forget_volumes") < asked.index("snapshots.remove")
    discard = cluster.requests["discard"]
    assert isinstance(discard, Discard)
    assert discard.snapshot_id == "snap_b"


async def test_a_cluster_that_refuses_holds_nothing_else_up(temporal: WorkflowEnvironment) -> None:
    sweep = FakeSnapshotSweep(kept=("snap_a",))
    cluster = FakeCluster(failing={"discard": fails(FailureKind.FORBIDDEN)})
    done, asked = await swept(temporal, sweep, cluster)
    # Not forgotten: the next sweep asks again, and what stands is told meanwhile.
    assert (done, sweep.forgotten) == (DONE, [])
    assert sweep.standing == [Standing(snapshot_id="snap_a", message="as scripted")]
    assert asked[-1] == "snapshots.remove_orphans"
