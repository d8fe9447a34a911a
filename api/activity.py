"""When each environment was last used, kept in memory and written to its row now and then.

A request through the service proxy is a measured sign of activity. Writing a row for each would make the
database the slowest part of the proxy, so a row may lag by `FLUSH_SECONDS`, and what a killed process had not
written is lost: at most that much.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final

import structlog

from activities.db.engine import Database
from activities.db.repositories import activity
from activities.db.types import utc_now

FLUSH_SECONDS: Final = 30.0

_log = structlog.get_logger("perdure.api.activity")


class ActivityLog:
    """The last activity of the environments that were used since the last flush."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[tuple[str, str], datetime] = {}

    def note(self, organization_id: str, environment_id: str) -> None:
        """Note that an environment is being used now."""
        self._seen[organization_id, environment_id] = utc_now()

    async def flush(self) -> None:
        """Write what was noted. What could not be written is kept for the next time, and the error raised."""
        seen, self._seen = self._seen, {}
        by_organization: dict[str, dict[str, datetime]] = defaultdict(dict)
        for (organization_id, environment_id), at in seen.items():
            by_organization[organization_id][environment_id] = at
        try:
            async with self._database.transaction() as session:
                for organization_id, environments in by_organization.items():
                    # One statement for all of an organisation: they are at most one flush apart.
                    await activity.touch(session, organization_id, environments, max(environments.values()))
        except BaseException:
            self._seen = {**seen, **self._seen}
            raise

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Flush every `FLUSH_SECONDS`, and once more at the end."""
        task = asyncio.create_task(self._keep_flushing(), name="activity-flush")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._try_flush()

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._try_flush()

    async def _try_flush(self) -> None:
        if not self._seen:
            return
        try:
            await self.flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next flush tries again
            _log.warning("activity_not_written", error=type(error).__name__, environments=len(self._seen))
