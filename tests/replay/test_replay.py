"""Recorded histories still replay: a change of commands fails here, before it meets a running workflow."""

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from tests.replay.paths import PATHS, Path
from tests.replay.record import HISTORIES
from worker.runner import sandbox
from workflows.registry import WORKFLOWS


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
async def test_history_replays(path: Path) -> None:
    text = (HISTORIES / f"{path.name}.json").read_text()
    replayer = Replayer(
        workflows=WORKFLOWS, workflow_runner=sandbox(), data_converter=pydantic_data_converter
    )
    await replayer.replay_workflow(WorkflowHistory.from_json(path.name, text))


def test_every_recorded_history_belongs_to_a_path() -> None:
    assert {file.stem for file in HISTORIES.glob("*.json")} == {path.name for path in PATHS}
