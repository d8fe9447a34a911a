"""Waiting on conditions with a deadline: the only way that tests wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

Found = TypeVar("Found")

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 0.2
_GROWTH: Final = 1.1


def _pauses() -> Iterator[float]:
    """How long to wait between looks, in seconds: what takes long is looked at less often.

    A look keeps an API busy, ours or the cluster's, on the processors that the awaited needs. So whoever
    waits pauses no shorter than the look took, either.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_SECONDS)


def eventually(condition: Callable[[], Found | bool | None], what: str, *, within: float = 30.0) -> Found:
    """Return the first true answer of `condition`; fail with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    for pause in _pauses():
        began = time.monotonic()
        found = condition()
        if found:
            return found  # type: ignore[return-value]  # a true answer is a Found
        if (now := time.monotonic()) > deadline:
            break
        time.sleep(max(pause, now - began))
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
    deadline = time.monotonic() + within
    for pause in _pauses():
        began = time.monotonic()
        found = await condition()
        if found:
            return found
        if (now := time.monotonic()) > deadline:
            break
        await asyncio.sleep(max(pause, now - began))
    raise AssertionError(f"not within {within:g} s: {what}")
