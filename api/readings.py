"""Readings that many ask for at once: one is under way for all of them, and its answer is kept a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Reading(Generic[Answer]):
    task: asyncio.Task[Answer]
    until: float

    @property
    def good(self) -> bool:
        """Whether it is not too old, and has not failed."""
        if self.until <= time.monotonic():
            return False
        return not self.task.done() or not (self.task.cancelled() or self.task.exception())


class Readings(Generic[Key, Answer]):
    """Readings by key. Each is good for `seconds` from its beginning; one that failed is not kept."""

    def __init__(self, seconds: float, most: int) -> None:
        """Keep `most` of them."""
        self._seconds = seconds
        self._most = most
        self._known: dict[Key, _Reading[Answer]] = {}

    async def get(self, key: Key, read: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """Return what was read, or what `read` gives now. Raises what the reading raises."""
        known = self._known.get(key)
        if known is None or not known.good:
            if len(self._known) >= self._most:
                self._known.clear()
            known = _Reading(asyncio.create_task(read()), time.monotonic() + self._seconds)
            self._known[key] = known
        # Shielded: whoever hangs up must not take the reading away from the others.
        return await asyncio.shield(known.task)

    def forget(self, key: Key) -> None:
        """Read anew at the next request."""
        self._known.pop(key, None)
