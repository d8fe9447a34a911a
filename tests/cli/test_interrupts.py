"""Work that ends when the user presses Ctrl-C."""

import asyncio
import signal
import sys
import threading

import pytest

from cli.interrupts import run_until_interrupted
from tests.helpers.waiting import eventually

_PATIENCE_SECONDS = 5.0


def test_an_interrupt_that_wakes_nothing_up_is_not_slept_through() -> None:
    """Another thread takes the signal, which interrupts no wait then: like one that comes just before it."""
    late, waiting = threading.Event(), threading.get_ident()

    def interrupt(loop: asyncio.AbstractEventLoop, over: threading.Event) -> None:
        eventually(lambda: sys._current_frames()[waiting].f_code.co_name == "select", "the loop waits")
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        if not over.wait(_PATIENCE_SECONDS):
            late.set()
            loop.call_soon_threadsafe(lambda: None)

    async def work() -> None:
        over = threading.Event()
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=interrupt, args=(loop, over))
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
            thread.join()

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted(work())
    assert not late.is_set()


def test_work_ends_by_itself_and_fails_as_it_fails() -> None:
    async def fails() -> None:
        raise ValueError("of its own")

    run_until_interrupted(asyncio.sleep(0))
    with pytest.raises(ValueError, match="of its own"):
        run_until_interrupted(fails())
