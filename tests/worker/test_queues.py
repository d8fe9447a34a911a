"""How task queues stand, what is set up and what is started already, asked of a real Temporal server."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.temporal import (
    SCHEDULES,
    OperationStart,
    QueueState,
    TemporalStarter,
    TemporalUnavailable,
    VerificationStart,
    connect,
)
from tests.helpers.fake_activities import FakeCluster, FakeLedger
from tests.helpers.plans import provision_plan
from tests.helpers.temporal import temporal_server
from tests.helpers.waiting import eventually_async
from tests.workflows.conftest import serving_control
from worker.connect import identity
from worker.schedules import bring_about, declared
from workflows.contracts.operation import OperationInput
from workflows.contracts.provision import PROVISION_ENVIRONMENT
from workflows.contracts.queues import CONTROL_QUEUE
from workflows.contracts.sweep import SWEEP_SCHEDULE
from workflows.domain.operations import OperationKind

__all__ = ["temporal_server"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


async def test_what_waits_and_who_works(temporal_server: WorkflowEnvironment) -> None:
    client, queue = temporal_server.client, uuid.uuid4().hex
    server = TemporalStarter(client)
    assert await server.queue(queue) == QueueState(queue, (), 0)
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
            return await server.queue(queue) == QueueState(queue, (identity(),), 0)

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


async def test_what_is_started_already_is_not_started_again(temporal_server: WorkflowEnvironment) -> None:
    client = temporal_server.client
    server = TemporalStarter(client)
    operation = OperationStart(
        kind=OperationKind.PROVISION,
        workflow_id=f"provision/shop/{uuid.uuid4().hex}",
        operation_id="op_01",
        organization_id="org_1",
        environment_id="env_1",
        environment_name="shop",
    )
    verification = VerificationStart(uuid.uuid4().hex, "snap_1", "org_1", "env_1")
    provision, verify = (
        client.get_workflow_handle(started.workflow_id) for started in (operation, verification)
    )

    async def run_after_starts() -> tuple[str | None, str | None]:
        await asyncio.gather(
            *(server.start(operation) for _ in range(5)), *(server.verify(verification) for _ in range(5))
        )
        return (await provision.describe()).run_id, (await verify.describe()).run_id

    first = await run_after_starts()
    assert await run_after_starts() == first, "they run"
    await verify.terminate()
    ledger = FakeLedger(provision_plan({"api": {}}).model_copy(update={"proceed": False}))
    async with serving_control(client, CONTROL_QUEUE, ledger, FakeCluster()) as deployment:
        await deployment.make_current()
        await provision.result()
    assert await run_after_starts() == first, "one has come to its end, one was terminated"
