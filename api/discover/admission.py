"""How many repositories one process fetches at once, and takes apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import ProblemError, RequestProblem


class Fetches:
    """Counts them; each takes processes, memory and disk."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0
        self.taking_apart = asyncio.Semaphore(1)
        """One at a time: for the largest it is seconds of work, beside which requests are answered."""

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Let one in for as long as the context lasts. ProblemError: too many, or none is wanted."""
        if self._limit == 0:
            raise ProblemError(
                RequestProblem.NOT_SUPPORTED,
                "This installation reads no repositories by URL: send the files.",
            )
        if self._running >= self._limit:
            raise ProblemError(
                RequestProblem.RATE_LIMITED,
                f"This process fetches {self._limit} repositories already.",
                headers={"Retry-After": "5"},
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
