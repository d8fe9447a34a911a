"""Waiting on conditions with a deadline: the only way that tests wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

_POLL_SECONDS = 0.05


def eventually(condition: Callable[[], Found | bool | None], what: str, *, within: float = 30.0) -> Found:
    """Return the first true answer of `condition`; fail with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found  # type: ignore[return-value]  # a true answer is a Found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(_POLL_SECONDS)


async def until(condition: Callable[[], bool], what: str, *, within: float = 20.0) -> None:
    """Return once `condition` holds; fail with `what` after `within` seconds. Leaves the event loop free."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        await asyncio.sleep(_POLL_SECONDS)


async def eventually_async(
    condition: Callable[[], Awaitable[Found | None]], what: str, *, within: float = 30.0
) -> Found:
    """Return the first true answer of `condition`; fail with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = await condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        await asyncio.sleep(_POLL_SECONDS)
