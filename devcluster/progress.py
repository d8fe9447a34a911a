"""What is being done and how long it has taken, for people who wait."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TICK_SECONDS = 15.0


class Progress:
    """Prints one line when a step begins to take long and one when it ends, with seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line with the time since the start."""
        elapsed = time.monotonic() - self._start
        sys.stdout.write(f"[{elapsed:6.1f} s] {text}\n")
        sys.stdout.flush()

    @contextmanager
    def step(self, text: str, expect: str = "") -> Iterator[None]:
        """Run a step. ``expect`` says beforehand how long it may take; such steps report every 15 s."""
        began = time.monotonic()
        done = threading.Event()

        def tick() -> None:
            while not done.wait(TICK_SECONDS):
                self.say(
                    f"... {text}: {time.monotonic() - began:.0f} s so far{f' ({expect})' if expect else ''}"
                )

        ticker = threading.Thread(target=tick, daemon=True)
        if expect:
            self.say(f"{text} ({expect})")
        ticker.start()
        try:
            yield
        finally:
            done.set()
            ticker.join()
        self.say(f"{text}: {time.monotonic() - began:.1f} s")
