"""A real Temporal dev server in real time, one for each test module that imports the fixture."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest_asyncio
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from worker.devserver import executable, read
from workflows.contracts.search_attributes import ALL


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def temporal_server() -> AsyncIterator[WorkflowEnvironment]:
    """The server, as `temporal-dev.yaml` configures it."""
    async with temporal_running() as environment:
        yield environment


@asynccontextmanager
async def temporal_running(**dynamic_config: object) -> AsyncIterator[WorkflowEnvironment]:
    """Run a server with more dynamic configuration, dots written as double underscores."""
    config = read()
    wanted = {key.replace("__", "."): value for key, value in dynamic_config.items()}
    config = config.model_copy(update={"dynamic_config": {**config.dynamic_config, **wanted}})
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=executable(),
        dev_server_extra_args=config.dynamic_config_flags(),
        search_attributes=ALL,
        data_converter=pydantic_data_converter,
    ) as environment:
        yield environment


async def versions_of(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Return the build ids that completed a workflow's tasks, in order."""
    return [
        event.workflow_task_completed_event_attributes.deployment_version.build_id
        for event in (await handle.fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]
