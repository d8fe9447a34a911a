"""How far data are, read from the heartbeats that a real Temporal server keeps, encrypted ones too."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.payload_codec import PayloadKeys
from activities.temporal import TemporalStarter, TemporalUnavailable, connect
from tests.helpers.temporal import temporal_server
from tests.helpers.waiting import eventually_async
from workflows.domain.failures import WireModel
from workflows.domain.transfer import TransferKind, TransferProgress

__all__ = ["temporal_server"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
THROTTLE = timedelta(milliseconds=50)


@workflow.defn(name="MoveForTest")
class Move:
    """Has something moved."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(
            "move",
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=1.0),
        )


@dataclass
class Mover:
    """An activity that says what the test wants, attempt by attempt, and ends when it is told."""

    orders: asyncio.Queue[WireModel | str | Exception | None] = field(default_factory=asyncio.Queue)
    begun: int = 0

    @activity.defn(name="move")
    async def move(self) -> None:
        self.begun = activity.info().attempt
        while (order := await self.orders.get()) is not None:
            if isinstance(order, Exception):
                raise order
            activity.heartbeat(order)


def counted(done: int, attempt: int = 1) -> TransferProgress:
    """So many bytes in this attempt."""
    return TransferProgress(
        kind=TransferKind.CAPTURE, service="db", stream="db/shop", attempt=attempt, done_bytes=done
    )


@dataclass
class Running:
    """A workflow that moves something, and who may read how far it is."""

    mover: Mover
    workflow_id: str
    reader: TemporalStarter
    others: tuple[TemporalStarter, ...]
    """Who has not its payload keys."""

    async def shown(self, expected: TransferProgress | None) -> None:
        """Wait until that is what is read."""

        async def so() -> bool:
            readings = await self.reader.transfers(self.workflow_id)
            return [each.progress for each in readings] == ([] if expected is None else [expected])

        await eventually_async(so, f"{expected} is read")


@asynccontextmanager
async def moving(server: WorkflowEnvironment, codec: PayloadKeys | None) -> AsyncIterator[Running]:
    """Run the workflow; who reads has a connection of its own, as an API process has."""
    address, namespace = server.client.service_client.config.target_host, server.client.namespace
    client = await connect(address, namespace, codec=codec, lazy=False)
    other_key = PayloadKeys("other", {"other": os.urandom(32)})
    others = [None if codec is not None else other_key, other_key]
    mover, queue = Mover(), uuid.uuid4().hex
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[Move],
        activities=[mover.move],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_heartbeat_throttle_interval=THROTTLE,
        default_heartbeat_throttle_interval=THROTTLE,
    )
    async with worker:
        handle = await client.start_workflow("MoveForTest", id=f"snapshot/{queue}", task_queue=queue)
        yield Running(
            mover,
            handle.id,
            TemporalStarter(await connect(address, namespace, codec=codec)),
            tuple([TemporalStarter(await connect(address, namespace, codec=each)) for each in others]),
        )
        await mover.orders.put(None)
        await handle.result()


@pytest.mark.parametrize("encrypted", [False, True])
async def test_an_attempt_is_read_until_it_is_gone(
    temporal_server: WorkflowEnvironment, encrypted: bool
) -> None:
    codec = PayloadKeys("p1", {"p1": os.urandom(32)}) if encrypted else None
    async with moving(temporal_server, codec) as running:
        mover = running.mover
        await running.shown(None)
        await mover.orders.put("holding still")
        await mover.orders.put(counted(100))
        await running.shown(counted(100))
        await mover.orders.put(counted(2_000_000_000_000))
        await running.shown(counted(2_000_000_000_000))
        [reading] = await running.reader.transfers(running.workflow_id)
        assert abs(datetime.now(UTC) - reading.counted_at) < timedelta(minutes=1)
        if encrypted:
            for other in running.others:
                assert list(await other.transfers(running.workflow_id)) == []

        # The server keeps those words; the next attempt is not where they say.
        await mover.orders.put(ConnectionError("gone"))
        await running.shown(None)

        async def again() -> bool:
            return mover.begun == 2

        await eventually_async(again, "another attempt")
        assert list(await running.reader.transfers(running.workflow_id)) == []
        await mover.orders.put(counted(5, attempt=2))
        await running.shown(counted(5, attempt=2))
        await mover.orders.put("done with the data")
        await running.shown(None)


async def test_nobody_knows_of_what_is_not_there(temporal_server: WorkflowEnvironment) -> None:
    assert list(await TemporalStarter(temporal_server.client).transfers("snapshot/none")) == []
    with pytest.raises(TemporalUnavailable):
        await TemporalStarter(await connect("127.0.0.1:9", "default")).transfers("snapshot/none")
