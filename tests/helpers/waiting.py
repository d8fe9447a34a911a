"""Waiting on conditions with a deadline: the only way that tests wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

Found = TypeVar("Found")

_SHORTEST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_SHARE: Final = 0.1
"""Of what has been waited so far: no wait is lengthened by more."""


def _pause(began: float, looked: float) -> float:
    """How long to wait until the next look, in seconds: what takes long is looked at less often.

    A look keeps an API busy, ours or the cluster's, on the processors that the awaited needs. So whoever
    waits pauses no shorter than the look took, either. `began`: the waiting, `looked`: the last look.
    """
    now = time.monotonic()
    share = min((now - began) * _SHARE, _LONGEST_PAUSE_SECONDS)
    return max(share, _SHORTEST_PAUSE_SECONDS, now - looked)


def eventually(condition: Callable[[], Found | bool | None], what: str, *, within: float = 30.0) -> Found:
    """Return the first true answer of `condition`; fail with `what` after `within` seconds."""
    began = time.monotonic()
    looked = began
    while looked <= began + within:
        looked = time.monotonic()
        found = condition()
        if found:
            return found  # type: ignore[return-value]  # a true answer is a Found
        time.sleep(_pause(began, looked))
    raise AssertionError(f"not within {within:g} s: {what}")


async def until(condition: Callable[[], bool], what: str, *, within: float = 20.0) -> None:
    """Return once `condition` holds; fail with `what` after `within` seconds. Leaves the event loop free."""

    async def look() -> bool:
        return condition()

    await eventually_async(look, what, within=within)


async def eventually_async(
    condition: Callable[[], Awaitable[Found | None]], what: str, *, within: float = 30.0
) -> Found:
    """Return the first true answer of `condition`; fail with `what` after `within` seconds."""
    began = time.monotonic()
    looked = began
    while looked <= began + within:
        looked = time.monotonic()
        found = await condition()
        if found:
            return found
        await asyncio.sleep(_pause(began, looked))
    raise AssertionError(f"not within {within:g} s: {what}")
