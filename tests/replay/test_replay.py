"""Recorded histories still replay: a change of commands fails here, before it meets a running workflow."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from tests.helpers.examples import some
from tests.replay.paths import PATHS, Path
from tests.replay.record import HISTORIES
from worker.runner import sandbox
from workflows.registry import WORKFLOWS


def _history(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(path.name, (HISTORIES / f"{path.name}.json").read_text())


async def _histories() -> AsyncIterator[WorkflowHistory]:
    for path in some(PATHS):
        yield _history(path)


@pytest.fixture(scope="module")
def failures() -> Mapping[str, Exception]:
    """What went wrong, by run id: one replayer for all, since preparing the sandbox takes longest."""
    replayer = Replayer(
        workflows=WORKFLOWS, workflow_runner=sandbox(), data_converter=pydantic_data_converter
    )
    results = asyncio.run(replayer.replay_workflows(_histories(), raise_on_replay_failure=False))
    return results.replay_failures


@pytest.mark.parametrize("path", some(PATHS), ids=lambda path: path.name)
def test_history_replays(path: Path, failures: Mapping[str, Exception]) -> None:
    assert failures.get(_history(path).run_id) is None


def test_every_recorded_history_belongs_to_a_path() -> None:
    assert {file.stem for file in HISTORIES.glob("*.json")} == {path.name for path in PATHS}
