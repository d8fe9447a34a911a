"""The schedules that Perdure keeps, declared as data and brought about when a control worker starts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from workflows.contracts.queues import CONTROL_QUEUE
from workflows.contracts.reconcile import RECONCILE_OPERATIONS, RECONCILE_SCHEDULE
from workflows.contracts.sweep import SWEEP_ENVIRONMENTS, SWEEP_SCHEDULE
from workflows.contracts.sweep_snapshots import (
    FREE_STORAGE,
    FREE_STORAGE_SCHEDULE,
    SNAPSHOT_SWEEP_SCHEDULE,
    SWEEP_SNAPSHOTS,
)

_ATTEMPTS: Final = 30
_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Declared:
    """One schedule: what is started, how often, and the note that operators read in the Temporal UI."""

    schedule_id: str
    workflow: str
    every: timedelta
    note: str

    def schedule(self) -> Schedule:
        """Return it as Temporal takes it. Everything is given each time: an update replaces the whole."""
        return Schedule(
            action=ScheduleActionStartWorkflow(
                self.workflow,
                id=f"schedule/{self.schedule_id}",
                task_queue=CONTROL_QUEUE,
                static_summary=self.note,
            ),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=self.every)]),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=1)),
            state=ScheduleState(note=self.note),
        )


def declared(reconcile_every: timedelta, sweep_every: timedelta) -> Sequence[Declared]:
    """Return every schedule."""
    return (
        Declared(
            schedule_id=RECONCILE_SCHEDULE,
            workflow=RECONCILE_OPERATIONS,
            every=reconcile_every,
            note="Starts operations whose start was lost, delivers cancels, closes lost ones",
        ),
        Declared(
            schedule_id=SWEEP_SCHEDULE,
            workflow=SWEEP_ENVIRONMENTS,
            every=sweep_every,
            note="Warns of, stops and deletes environments whose time is over; forgets old history",
        ),
        Declared(
            schedule_id=SNAPSHOT_SWEEP_SCHEDULE,
            workflow=SWEEP_SNAPSHOTS,
            every=sweep_every,
            note="Takes and verifies snapshots as policies ask; deletes those whose time is over; removes "
            "what the object store has of no use; ends verifications that were lost",
        ),
        Declared(
            schedule_id=FREE_STORAGE_SCHEDULE,
            workflow=FREE_STORAGE,
            every=sweep_every,
            note="Has clusters remove what their storage keeps of snapshots of no use",
        ),
    )


async def bring_about(
    client: Client, schedules: Sequence[Declared], pause_seconds: float = _PAUSE_SECONDS
) -> None:
    """Create or update each schedule. One that an operator paused stays paused."""
    for each in schedules:
        wanted = each.schedule()
        try:
            await client.create_schedule(each.schedule_id, wanted)
        except ScheduleAlreadyRunningError:
            await _update(client, each.schedule_id, wanted, pause_seconds)


async def _update(client: Client, schedule_id: str, wanted: Schedule, pause_seconds: float) -> None:
    """Update a schedule, which Temporal asks how it is first.

    A server under load answers for a while that this cannot be told; a worker that ended of it would be
    missing for no reason.
    """

    def update(live: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state.paused = live.description.schedule.state.paused
        return ScheduleUpdate(schedule=wanted)

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await client.get_schedule_handle(schedule_id).update(update)
        except RPCError as error:
            if error.status is not RPCStatusCode.FAILED_PRECONDITION or attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(pause_seconds)
        else:
            return
