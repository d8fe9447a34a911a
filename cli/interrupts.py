"""Asynchronous work that ends when the user presses Ctrl-C."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def run_until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end. An interrupt cancels it, and raises KeyboardInterrupt once it has ended.

    `asyncio.run` has a handler for that, too, and can sleep through it: one that comes just before the loop
    waits for its next event is seen with that event. A handler of the loop's own wakes it.
    """
    if not asyncio.run(_is_completed(work)):
        raise KeyboardInterrupt


async def _is_completed(work: Coroutine[Any, Any, None]) -> bool:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    try:
        loop.add_signal_handler(signal.SIGINT, task.cancel)
    except NotImplementedError:  # Windows has its own way, which does not sleep
        await task
        return True
    try:
        await task
    except asyncio.CancelledError:
        return False
    return True
