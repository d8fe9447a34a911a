"""How task queues stand and what is set up, asked of a real Temporal server."""

import uuid
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.temporal import SCHEDULES, QueueState, TemporalStarter, TemporalUnavailable, connect
from tests.helpers.fake_activities import FakeCluster, FakeLedger, provision_plan
from tests.helpers.temporal import temporal_server
from tests.helpers.waiting import eventually_async
from tests.workflows.conftest import serving_control
from worker.schedules import bring_about, declared
from workflows.contracts.operation import OperationInput
from workflows.contracts.provision import PROVISION_ENVIRONMENT
from workflows.contracts.sweep import SWEEP_SCHEDULE

__all__ = ["temporal_server"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


async def test_what_waits_and_who_works(temporal_server: WorkflowEnvironment) -> None:
    client, queue = temporal_server.client, uuid.uuid4().hex
    server = TemporalStarter(client)
    assert await server.queue(queue) == QueueState(queue, 0, 0)
    for number in range(3):
        await client.start_workflow(
            PROVISION_ENVIRONMENT,
            OperationInput(operation_id="op_01"),
            id=f"provision/{queue}/{number}",
            task_queue=queue,
        )

    async def waiting() -> bool:
        return (await server.queue(queue)).backlog == 3

    await eventually_async(waiting, "three workflows wait")
    ledger = FakeLedger(provision_plan({"api": {}}).model_copy(update={"proceed": False}))
    async with serving_control(client, queue, ledger, FakeCluster()) as deployment:
        await deployment.make_current()

        async def done() -> bool:
            return await server.queue(queue) == QueueState(queue, 1, 0)

        await eventually_async(done, "one worker has taken them")


async def test_what_is_set_up(temporal_server: WorkflowEnvironment) -> None:
    server = TemporalStarter(temporal_server.client)
    nothing = dict.fromkeys(SCHEDULES)
    found = await server.setup()
    assert (found.namespace_found, found.missing_attributes, found.schedules) == (True, (), nothing)
    assert found.version
    await bring_about(temporal_server.client, declared(timedelta(hours=1), timedelta(hours=1)))
    await temporal_server.client.get_schedule_handle(SWEEP_SCHEDULE).pause()
    assert (await server.setup()).schedules == {**dict.fromkeys(SCHEDULES, False), SWEEP_SCHEDULE: True}

    address = temporal_server.client.service_client.config.target_host
    elsewhere = TemporalStarter(await connect(address, "nowhere"))
    assert (await elsewhere.setup()).namespace_found is False
    away = TemporalStarter(await connect("127.0.0.1:9", "default"))
    with pytest.raises(TemporalUnavailable):
        await away.setup()
