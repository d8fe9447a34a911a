"""What is being done and how long it took, for people who wait."""

import sys
import time
from collections.abc import Callable
from typing import Final

REPORT_EVERY_SECONDS: Final = 5.0
_LOOK_EVERY_SECONDS: Final = 0.1


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def done(what: str, began: float, note: str = "") -> None:
    """Print that a step is over, `began` being the `time.monotonic()` of its start."""
    say(f"  {what:<10} {note or 'ready':<58} {time.monotonic() - began:5.1f} s")


def wait_until(
    what: str, look: Callable[[], str | None], *, seconds: float, began: float | None = None
) -> str | None:
    """Look until `look` returns None; says every few seconds what it last returned.

    Returns None when it held, else what was missing still after `seconds`. What `look` raises ends the wait.
    """
    began = time.monotonic() if began is None else began
    deadline = time.monotonic() + seconds
    report = time.monotonic() + REPORT_EVERY_SECONDS
    while (missing := look()) is not None:
        now = time.monotonic()
        if now > deadline:
            return missing
        if now > report:
            say(f"  {what:<10} {missing} ({now - began:.0f} s so far)")
            report = now + REPORT_EVERY_SECONDS
        time.sleep(_LOOK_EVERY_SECONDS)
    return None
