"""Attempts at an activity without a server, for tests that call one directly."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from temporalio.testing import ActivityEnvironment


def handed_out(attempt: int = 1, *, ago: timedelta = timedelta()) -> ActivityEnvironment:
    """An attempt that Temporal handed out just now, or so long ago.

    Temporal's own begins in 1970: one that begins so late first waits seconds for news of its own time-out.
    """
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=attempt, started_time=datetime.now(UTC) - ago)
    return environment
