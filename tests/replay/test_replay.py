"""Recorded histories still replay: a change of commands fails here, before it meets a running workflow."""

from collections.abc import AsyncIterator

from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from tests.helpers.examples import some
from tests.replay.paths import PATHS
from tests.replay.record import HISTORIES
from worker.runner import sandbox
from workflows.registry import WORKFLOWS


async def _histories() -> AsyncIterator[WorkflowHistory]:
    for path in some(PATHS):
        yield WorkflowHistory.from_json(path.name, (HISTORIES / f"{path.name}.json").read_text())


async def test_histories_replay() -> None:
    """By one replayer for all, since preparing the sandbox takes longest."""
    replayer = Replayer(
        workflows=WORKFLOWS, workflow_runner=sandbox(), data_converter=pydantic_data_converter
    )
    async with replayer.workflow_replay_iterator(_histories()) as results:
        replayed = [each async for each in results]
    failed = [(each.history.workflow_id, each.replay_failure) for each in replayed if each.replay_failure]
    assert failed == []
    assert len(replayed) == len(some(PATHS))


def test_every_recorded_history_belongs_to_a_path() -> None:
    assert {file.stem for file in HISTORIES.glob("*.json")} == {path.name for path in PATHS}
