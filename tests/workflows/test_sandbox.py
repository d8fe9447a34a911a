"""The sandbox holds: a workflow that drags in what it must not have stops the worker at its start."""

import importlib
import sys
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from worker.runner import sandbox
from workflows.registry import WORKFLOWS

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_our_workflows_are_accepted(temporal: WorkflowEnvironment) -> None:
    Worker(temporal.client, task_queue="q", workflows=WORKFLOWS, workflow_runner=sandbox())


async def test_a_workflow_that_imports_the_database_is_refused(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaky.py").write_text(
        "from temporalio import workflow\n"
        "import sqlmodel\n"
        "@workflow.defn\n"
        "class Leaky:\n"
        "    @workflow.run\n"
        "    async def run(self) -> None: ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    leaky = importlib.import_module("leaky")
    with pytest.raises(RuntimeError, match="Failed validating workflow Leaky"):
        Worker(temporal.client, task_queue="q", workflows=[leaky.Leaky], workflow_runner=sandbox())
    sys.modules.pop("leaky")
