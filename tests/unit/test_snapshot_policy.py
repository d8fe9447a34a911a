"""When a policy is due again."""

from datetime import UTC, datetime, timedelta

import pytest

from workflows.domain.snapshot_policy import SnapshotPolicy, next_time
from workflows.domain.verification import VerifyLevel

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("minutes_later", "expected_minutes"),
    [
        (-5, 0),  # not due yet: it stays
        (0, 60),
        (1, 60),
        (59, 60),
        (60, 120),
        (60 * 24 * 3 + 7, 60 * (24 * 3 + 1)),  # what was missed is not made up for
    ],
)
def test_it_keeps_to_its_times(minutes_later: int, expected_minutes: int) -> None:
    now = NOON + timedelta(minutes=minutes_later)
    assert next_time(NOON, 60, now) == NOON + timedelta(minutes=expected_minutes)


def test_it_is_later_than_now_whatever_the_clock_says() -> None:
    for seconds in range(0, 100_000, 777):
        now = NOON + timedelta(seconds=seconds)
        found = next_time(NOON, 15, now)
        assert now < found <= now + timedelta(minutes=15)


def test_one_that_was_written_before_verifies_nothing_anew() -> None:
    before = {"everyMinutes": 60, "keepLast": 3, "expiresInDays": 30, "floor": None, "verifyLevel": 1}
    assert SnapshotPolicy.model_validate(before).verify_every_hours is None
    policy = SnapshotPolicy(every_minutes=60, verify_level=VerifyLevel.READABLE, verify_every_hours=24)
    written = policy.model_dump(mode="json")
    # The database looks for these names.
    assert (written["verifyLevel"], written["verifyEveryHours"]) == (1, 24)
    assert SnapshotPolicy.model_validate(written) == policy
