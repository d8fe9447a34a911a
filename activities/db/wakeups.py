"""Waking up when events are committed: Postgres notifies, everything else waits for the next poll."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activities.db.engine import Database
from activities.db.repositories.events import CHANNEL


class Wakeups:
    """What a reader of the event log waits on between two looks."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def notice(self) -> None:
        """Wake whoever waits, or the next one to wait."""
        self._news.set()

    async def wait(self, seconds: float) -> bool:
        """Return when something was committed since the last wait (True), or after `seconds` (False).

        Not every change is notified: never on SQLite, nor once the connection broke. Look each time.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True


@asynccontextmanager
async def event_wakeups(database: Database) -> AsyncIterator[Wakeups]:
    """Listen for committed events for as long as the body runs; on Postgres this takes one connection."""
    wakeups = Wakeups()
    async with database.listening(CHANNEL, wakeups.notice):
        yield wakeups
