"""The sweeper on the control worker: a page of due environments, each in a transaction of its own."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio import activity

from activities._state import start_accepted
from activities._step import alive
from activities.db import sweeping
from activities.db.engine import Database
from activities.db.errors import NotFound
from activities.db.types import utc_now
from activities.temporal import WorkflowStarter
from workflows.contracts.sweep import SweepActivities, SweepPage, SweepPosition, Swept

BATCHES: Final = 50
"""Most batches of old history that one sweep removes; the next one goes on."""


@dataclass(frozen=True, slots=True)
class ControlSweep(SweepActivities):
    """Timers and retention over the database. An attempt that is repeated finds done what was done."""

    database: Database
    starter: WorkflowStarter
    keep_events: timedelta
    keep_operations: timedelta

    @activity.defn(name="sweep.page")
    async def sweep_page(self, page: SweepPage) -> Swept:
        """See `SweepActivities`. A start that gets lost is made by the reconciler."""
        async with alive():
            after = None if page.after is None else (page.after.at, page.after.environment_id)
            async with self.database.reading() as session:
                due = await sweeping.due_page(session, utc_now(), after)
            done: Counter[sweeping.Swept] = Counter()
            for environment_id in due.environment_ids:
                done[await self._look_at(environment_id)] += 1
        following = None
        if due.following is not None:
            following = SweepPosition(at=due.following[0], environment_id=due.following[1])
        return Swept(
            looked_at=len(due.environment_ids),
            warned=done[sweeping.Swept.WARNED],
            stopped=done[sweeping.Swept.STOPPED],
            deleted=done[sweeping.Swept.DELETED],
            busy=done[sweeping.Swept.BUSY],
            unreadable=done[sweeping.Swept.UNREADABLE],
            following=following,
        )

    @activity.defn(name="sweep.history")
    async def forget_history(self) -> Swept:
        """See `SweepActivities`. In small transactions, so that nothing waits for it for long."""
        forgotten = 0
        now = utc_now()
        async with alive():
            for _ in range(BATCHES):
                async with self.database.transaction() as session:
                    gone = await sweeping.forget_history(
                        session,
                        events_before=now - self.keep_events,
                        operations_before=now - self.keep_operations,
                    )
                forgotten += gone
                if not gone:
                    break
        return Swept(forgotten=forgotten)

    async def _look_at(self, environment_id: str) -> sweeping.Swept:
        try:
            async with self.database.transaction() as session:
                look = await sweeping.look_at(session, environment_id)
        except NotFound:
            return sweeping.Swept.NOTHING
        except ValueError:
            # What one row holds is nobody else's matter: it is looked at again, after the others.
            activity.logger.exception(
                "an environment's timers cannot be read", extra={"environment": environment_id}
            )
            return sweeping.Swept.UNREADABLE
        if look.accepted is not None:
            await start_accepted(self.starter, look.accepted)
        return look.swept
