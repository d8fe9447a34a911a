"""A program counts as up when it does its work, not when it merely runs."""

import asyncio
import os
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from devstack import health
from devstack.settings import Stack
from tests.helpers.fake_activities import FakeCluster, FakeLedger
from tests.helpers.plans import delete_plan
from tests.helpers.temporal import temporal_server
from tests.helpers.waiting import eventually_async
from tests.workflows.conftest import serving_cluster, serving_control
from workflows.contracts.queues import CONTROL_QUEUE

pytestmark = pytest.mark.slow

__all__ = ["temporal_server"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_worker_is_up_once_workflows_come_to_it(temporal_server: WorkflowEnvironment) -> None:
    client = temporal_server.client
    port = int(client.service_client.config.target_host.rpartition(":")[2])
    stack = Stack(Path.cwd(), Path.cwd(), temporal_port=port)

    async def look() -> str:
        return await asyncio.to_thread(health.worker, stack, os.getpid()) or "is up"

    async def lacks(words: str) -> None:
        async def compare() -> bool:
            return words in await look()

        await eventually_async(compare, words)

    assert CONTROL_QUEUE in await look()
    async with (
        serving_cluster(client, health.CLUSTER, FakeCluster()),
        serving_control(client, CONTROL_QUEUE, FakeLedger(delete_plan()), FakeCluster()) as deployment,
    ):
        await lacks("is not the current version")
        await deployment.make_current()
        await lacks("is up")
