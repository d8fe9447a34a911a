"""The control worker's process, all of it but the process: what it serves, and that workflows come to it."""

import asyncio
import base64
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities.secrets import Opener, new_private_key
from tests.helpers.databases import sqlite_template, sqlite_url
from tests.helpers.stack import Process
from tests.helpers.temporal import temporal_server, versions_of
from tests.helpers.waiting import until
from worker.main import serve
from worker.settings import WorkerSettings
from workflows.contracts.queues import CONTROL_QUEUE
from workflows.contracts.reconcile import RECONCILE_OPERATIONS, Reconciled

__all__ = ["sqlite_template", "sqlite_url", "temporal_server"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


def settings_of(server: WorkflowEnvironment, database_url: str) -> dict[str, str]:
    """Return the settings of a control worker, as its environment has them."""
    return {
        "PERDURE_ROLES": "control",
        "PERDURE_TEMPORAL_ADDRESS": server.client.service_client.config.target_host,
        "PERDURE_DATABASE_URL": database_url,
        "PERDURE_MASTER_KEYS": f"test:{base64.b64encode(os.urandom(32)).decode()}",
        "PERDURE_SEAL_PUBLIC_KEYS": json.dumps({"local": Opener(new_private_key()).public_key}),
        "PERDURE_GRACEFUL_SHUTDOWN_SECONDS": "0",
    }


async def reconciled(client: Client) -> list[str]:
    """Run a workflow that needs a control worker only; return the versions that its tasks ran on."""
    handle = await client.start_workflow(
        RECONCILE_OPERATIONS, id=uuid.uuid4().hex, task_queue=CONTROL_QUEUE, result_type=Reconciled
    )
    assert await asyncio.wait_for(handle.result(), 60) == Reconciled()
    return await versions_of(handle)


@asynccontextmanager
async def serving(settings: WorkerSettings) -> AsyncIterator[None]:
    """Serve while the body runs; end in good order."""
    stop = asyncio.Event()
    running = asyncio.create_task(serve(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)


async def test_workflows_come_to_the_version_that_was_started_last(
    temporal_server: WorkflowEnvironment, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings_of(temporal_server, sqlite_url).items():
        monkeypatch.setenv(name, value)
    for build_id in ("1", "2", "1"):
        async with serving(WorkerSettings(build_id=build_id)):
            assert set(await reconciled(temporal_server.client)) == {build_id}


async def test_a_worker_that_was_killed_before_it_was_current_does_not_hinder_its_next_start(
    temporal_server: WorkflowEnvironment, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings_of(temporal_server, sqlite_url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PERDURE_BUILD_ID", "killed")
    unpromoted = {**os.environ, "PERDURE_PROMOTE": "false"}
    worker = Process("worker", [sys.executable, "-m", "worker"], unpromoted, tmp_path / "worker.log")
    worker.start()
    try:
        await until(lambda: "version is current: workflows" in worker.text(), "it says so", within=60)
    finally:
        worker.kill()
    async with serving(WorkerSettings()):
        assert set(await reconciled(temporal_server.client)) == {"killed"}
