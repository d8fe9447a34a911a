"""When an environment is taken a snapshot of by itself, how many are kept, and how far they are proved."""

from datetime import datetime, timedelta
from typing import Final

from workflows.domain.failures import WireModel
from workflows.domain.snapshot import Consistency
from workflows.domain.verification import VerifyLevel

SHORTEST_MINUTES: Final = 15
LONGEST_MINUTES: Final = 90 * 24 * 60
LONGEST_VERIFY_HOURS: Final = 365 * 24
BUSY_AGAIN: Final = timedelta(minutes=1)
"""An environment that is busy when its time has come is asked again this much later."""


class SnapshotPolicy(WireModel):
    """A policy of one environment; it concerns the snapshots that it brought about, and no others."""

    every_minutes: int
    keep_last: int | None = None
    """Those beyond the newest so many go; None: as long as they live."""
    expires_in_days: int | None = 30
    """None: they do not expire."""
    floor: Consistency | None = None
    verify_level: VerifyLevel | None = None
    """To which each is verified once it is there; None: not at all."""
    verify_every_hours: int | None = None
    """Those that are kept are verified anew once their proof is that old; None: they are not."""
    paused: bool = False


def next_time(planned: datetime, every_minutes: int, now: datetime) -> datetime:
    """Return the first time after `now` that is a whole number of intervals after `planned`.

    What was missed while nobody looked is not made up for: ten snapshots of one minute say no more than one.
    """
    every = timedelta(minutes=every_minutes)
    passed = max((now - planned) // every, -1)
    return planned + every * (passed + 1) if now >= planned else planned
