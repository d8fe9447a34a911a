"""SweepEnvironments: what its activities are asked, and what they answer."""

from datetime import datetime
from typing import Final

from temporalio import activity

from workflows.domain.failures import WireModel

SWEEP_ENVIRONMENTS: Final = "SweepEnvironments"
SWEEP_SCHEDULE: Final = "sweep-environments"
"""Id of the schedule that starts it."""


class SweepPosition(WireModel):
    """After which environment to go on, in the order in which they are due."""

    at: datetime
    environment_id: str


class SweepPage(WireModel):
    """Look at the environments that are due, a page of them."""

    after: SweepPosition | None = None


class Swept(WireModel):
    """What a sweep did, in numbers of environments; `forgotten`: rows of old history."""

    looked_at: int = 0
    warned: int = 0
    stopped: int = 0
    deleted: int = 0
    busy: int = 0
    unreadable: int = 0
    """Of which this version cannot read the row or the Blueprint; the log says why."""
    forgotten: int = 0
    following: SweepPosition | None = None
    """Where the next page begins; None: this was the last."""

    def plus(self, other: "Swept") -> "Swept":
        """Return the sums, with the other's position."""
        return Swept(
            looked_at=self.looked_at + other.looked_at,
            warned=self.warned + other.warned,
            stopped=self.stopped + other.stopped,
            deleted=self.deleted + other.deleted,
            busy=self.busy + other.busy,
            unreadable=self.unreadable + other.unreadable,
            forgotten=self.forgotten + other.forgotten,
            following=other.following,
        )


class SweepActivities:
    """The sweeper as its workflow sees it; implemented in `activities.sweep` on the control queue."""

    @activity.defn(name="sweep.page")
    async def sweep_page(self, page: SweepPage) -> Swept:
        """Do what timers bring about for a page of environments: accept operations, as a request does."""
        raise NotImplementedError

    @activity.defn(name="sweep.history")
    async def forget_history(self) -> Swept:
        """Remove history that is older than the settings keep it."""
        raise NotImplementedError
