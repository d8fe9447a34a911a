"""Sweeps when a test waits for what they do.

Sweepers that look every few seconds by themselves took a fourteenth of the processors' time of all tests on
the cluster, mostly to find nothing.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from temporalio.client import Client

from tests.helpers.stack import Stack
from tests.helpers.waiting import Found, eventually
from workflows.contracts.reconcile import RECONCILE_SCHEDULE
from workflows.contracts.sweep import SWEEP_SCHEDULE
from workflows.contracts.sweep_snapshots import FREE_STORAGE_SCHEDULE, SNAPSHOT_SWEEP_SCHEDULE

_SCHEDULES: Final = (RECONCILE_SCHEDULE, SWEEP_SCHEDULE, SNAPSHOT_SWEEP_SCHEDULE, FREE_STORAGE_SCHEDULE)
_BETWEEN_SECONDS: Final = 5.0


def eventually_swept(
    stack: Stack, condition: Callable[[], Found | bool | None], what: str, *, within: float = 60.0
) -> Found:
    """Return the first true answer of `condition` as `eventually` does, with a sweep every few seconds.

    More than one: what a sweep begins may be left to the next.
    """
    due = 0.0

    def look() -> Found | bool | None:
        nonlocal due
        found = condition()
        if not found and time.monotonic() >= due:
            asyncio.run(_sweep(stack))
            due = time.monotonic() + _BETWEEN_SECONDS
        return found

    return eventually(look, what, within=within)


async def _sweep(stack: Stack) -> None:
    """Have the sweepers and the reconciler look now, and not at the next time of their schedules."""
    client = await Client.connect(stack.temporal_address)
    for schedule in _SCHEDULES:
        await client.get_schedule_handle(schedule).trigger()
