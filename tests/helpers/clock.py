"""A clock that jumps: what the product reads as the time of day, in this process.

Import the fixture `clock` into a `conftest.py`. All of our code reads the time by
`activities.db.types.utc_now`, which is looked up there; what measures durations goes by the monotonic clock
and does not jump, here as outside.
"""

from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from activities.db import types


class JumpingClock:
    """Stands in for `datetime` where the time is read. `ahead`: how far it is from the real one."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self, zone: tzinfo | None = None) -> datetime:
        """Return the time that everybody sees."""
        return datetime.now(zone) + self.ahead

    def jump(self, **parts: float) -> None:
        """Move it by a `timedelta` of these parts, back when they are negative."""
        self.ahead += timedelta(**parts)

    def read(self) -> datetime:
        """Return the time in UTC, as `utc_now` does."""
        return self.now(UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    """The clock of this test, at the real time until it jumps."""
    made = JumpingClock()
    monkeypatch.setattr(types, "datetime", made)
    return made
