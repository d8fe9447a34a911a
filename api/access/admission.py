"""How many proxied requests, tunnels and commands one process carries at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import ProblemError, RequestProblem


class Admission:
    """Counts them; each holds a connection to an API server and two or three tasks."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Let one in for as long as the context lasts. ProblemError 503 when there are too many."""
        if self._inside >= self._limit:
            raise ProblemError(
                RequestProblem.UNAVAILABLE,
                f"This process carries {self._limit} connections to services already.",
                headers={"Retry-After": "1"},
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
