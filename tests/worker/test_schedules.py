"""Schedules are brought about also by a server that cannot say at once how they are."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from temporalio.client import Client, ScheduleAlreadyRunningError
from temporalio.service import RPCError, RPCStatusCode

from worker.schedules import bring_about, declared

SCHEDULES = declared(timedelta(minutes=1), timedelta(minutes=1))


@dataclass
class BusyServer:
    """Has every schedule already, and refuses the first updates; stands for client and handle alike."""

    status: RPCStatusCode
    refusals: int
    asked: int = 0
    updated: list[str] = field(default_factory=list)
    at: str = ""

    async def create_schedule(self, *_: Any) -> None:
        raise ScheduleAlreadyRunningError

    def get_schedule_handle(self, schedule_id: str) -> "BusyServer":
        self.at = schedule_id
        return self

    async def update(self, _: Any) -> None:
        self.asked += 1
        if self.asked <= self.refusals:
            raise RPCError("Unable to query workflow", self.status, b"")
        self.updated.append(self.at)


async def test_what_cannot_be_told_yet_is_asked_again() -> None:
    server = BusyServer(RPCStatusCode.FAILED_PRECONDITION, refusals=3)
    await bring_about(cast(Client, server), SCHEDULES, pause_seconds=0)
    assert server.updated == [each.schedule_id for each in SCHEDULES]


@pytest.mark.parametrize(
    ("status", "refusals", "asked"),
    [(RPCStatusCode.FAILED_PRECONDITION, 1000, 30), (RPCStatusCode.PERMISSION_DENIED, 1, 1)],
)
async def test_what_stays_refused_ends_the_worker(status: RPCStatusCode, refusals: int, asked: int) -> None:
    server = BusyServer(status, refusals)
    with pytest.raises(RPCError):
        await bring_about(cast(Client, server), SCHEDULES, pause_seconds=0)
    assert (server.asked, server.updated) == (asked, [])
