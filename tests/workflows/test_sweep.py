"""SweepEnvironments: page after page, then history, and what operators read of it."""

from temporalio.testing import WorkflowEnvironment

from tests.helpers.fake_activities import FakeCluster, FakeLedger
from tests.helpers.plans import delete_plan
from tests.workflows.conftest import bench
from workflows.contracts.sweep import SWEEP_ENVIRONMENTS, Swept


async def test_a_sweep_goes_over_all_pages_and_sums_up(temporal: WorkflowEnvironment) -> None:
    async with bench(temporal, FakeLedger(delete_plan()), FakeCluster()) as this:
        handle = await this.start(SWEEP_ENVIRONMENTS)
        done = Swept.model_validate(await handle.result())
        assert done == Swept(looked_at=3, warned=1, stopped=1, busy=1, forgotten=7)
        scheduled = [
            event.activity_task_scheduled_event_attributes.activity_type.name
            for event in (await handle.fetch_history()).events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
    assert scheduled == ["sweep.page", "sweep.page", "sweep.history"]


async def test_the_same_without_any_cache(temporal: WorkflowEnvironment) -> None:
    ledger, cluster = FakeLedger(delete_plan()), FakeCluster()
    async with bench(temporal, ledger, cluster, max_cached_workflows=0) as this:
        handle = await this.start(SWEEP_ENVIRONMENTS)
        assert Swept.model_validate(await handle.result()).stopped == 1
