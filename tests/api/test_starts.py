"""Workflow starts beside the requests: never waited for, never lost silently."""

import asyncio
from dataclasses import dataclass, field

import pytest

from activities.temporal import OperationStart
from api.metrics import Metrics
from api.starts import (
    AT_ONCE,
    CROWD,
    MOST_WAITING,
    START_SECONDS,
    WorkflowStarts,
)
from tests.api.support import Api, Recorder, create
from tests.helpers.waiting import until
from workflows.domain.operations import OperationKind


def start(number: int) -> OperationStart:
    """A start that is told from others by its number."""
    return OperationStart(OperationKind.PROVISION, f"w{number}", f"op_{number}", "org_1", "env_1", "shop")


@dataclass
class SlowRecorder(Recorder):
    """Takes a start only when it is let; notes how many were under way at once."""

    let: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0
    most: int = 0

    async def start(self, operation: OperationStart) -> None:
        """Wait, then note."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.let.wait()
        self.under_way -= 1
        await Recorder.start(self, operation)


def nobody() -> int:
    """No request writes."""
    return 0


def deferred(metrics: Metrics) -> float:
    """How many starts were left to the reconciler."""
    found = metrics.registry.get_sample_value("perdure_workflow_starts_deferred_total")
    assert found is not None
    return found


@pytest.mark.usefixtures("tenant")
async def test_an_answer_does_not_wait_for_temporal(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowRecorder()
    monkeypatch.setattr(api.recorder, "start", slow.start)
    created = await asyncio.wait_for(create(api), START_SECONDS)
    assert slow.started == []
    slow.let.set()
    await api.started()
    assert [each.operation_id for each in slow.started] == [created["operation"]["id"]]


async def test_a_few_are_started_at_a_time_and_all_of_them_in_the_end() -> None:
    slow, metrics = SlowRecorder(), Metrics()
    starts = WorkflowStarts(slow, metrics, nobody)
    async with starts.running():
        for number in range(20):
            starts.put(start(number))
        await until(lambda: slow.under_way == AT_ONCE, "as many as may are under way")
        slow.let.set()
        await starts.idle()
    assert slow.most == AT_ONCE
    assert sorted(each.operation_id for each in slow.started) == sorted(f"op_{n}" for n in range(20))
    assert deferred(metrics) == 0


async def test_a_process_that_stops_still_starts_what_waits() -> None:
    recorder = Recorder()
    starts = WorkflowStarts(recorder, Metrics(), nobody)
    async with starts.running():
        starts.put(start(1))
    assert [each.operation_id for each in recorder.started] == ["op_1"]


async def test_a_fault_in_one_start_does_not_hold_up_the_others() -> None:
    class Faulty(Recorder):
        async def start(self, operation: OperationStart) -> None:
            if operation.operation_id != "op_9":
                raise KeyError(operation.operation_id)
            await super().start(operation)

    recorder, metrics = Faulty(), Metrics()
    starts = WorkflowStarts(recorder, metrics, nobody)
    async with starts.running():
        for number in range(10):
            starts.put(start(number))
        await starts.idle()
    assert [each.operation_id for each in recorder.started] == ["op_9"]
    assert deferred(metrics) == 9


async def test_more_than_can_wait_is_left_to_the_reconciler() -> None:
    metrics = Metrics()
    starts = WorkflowStarts(Recorder(), metrics, nobody)
    for number in range(MOST_WAITING + 3):
        starts.put(start(number))
    assert deferred(metrics) == 3
    async with starts.running():
        await starts.idle()
    assert deferred(metrics) == 3


@pytest.mark.usefixtures("tenant")
async def test_starts_step_back_while_a_crowd_writes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.starts.STEP_BACK_SECONDS", 3600)
    names = [f"crowd-{number}" for number in range(2 * CROWD)]
    async with api.database.transaction():
        crowd = [asyncio.create_task(create(api, name)) for name in names]
        await until(lambda: api.database.writers == 1 + len(names), "all wait for their turn")
    # The last ones have nobody behind them; those before find a crowd at each look.
    started_under: list[int] = []

    async def noted(operation: OperationStart) -> None:
        started_under.append(api.database.writers)
        await Recorder.start(api.recorder, operation)

    monkeypatch.setattr(api.recorder, "start", noted)
    await asyncio.gather(*crowd)
    await api.started()
    assert len(api.recorder.started) == len(names)
    assert max(started_under) < CROWD
    assert api.database.writers == 0


async def test_a_crowd_that_stays_does_not_hold_a_start_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.starts.STEP_BACK_SECONDS", 0)
    recorder = Recorder()
    starts = WorkflowStarts(recorder, Metrics(), lambda: CROWD)
    async with starts.running():
        starts.put(start(1))
        await starts.idle()
    assert [each.operation_id for each in recorder.started] == ["op_1"]
