"""Measured times and what is said of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

REST_SHARE: Final = 0.8
"""A machine idle for this share of a second is at rest: deleted pods are cleaned up behind the answer."""
REST_SECONDS: Final = 60.0
"""Longest wait for that."""


def seconds(work: Callable[[], Any]) -> float:
    """Return how long `work` takes, in seconds of wall time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def at_rest() -> None:
    """Return once the machine is idle, so that one measurement does not pay for what came before it."""
    deadline = time.monotonic() + REST_SECONDS
    before = _processor()
    while time.monotonic() < deadline:
        time.sleep(1)
        now = _processor()
        idle, total = now[0] - before[0], now[1] - before[1]
        if idle >= REST_SHARE * total:
            return
        before = now


def _processor() -> tuple[int, int]:
    """Return ticks of idleness and of all, of all cores since the machine started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0..1) of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]
