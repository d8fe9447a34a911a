"""Stepping back for the API, which answers people, where both run on one machine."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

NICE: Final = 5
"""How far: about a third of the API's share, while both want all of a processor."""
_AUTOGROUP: Final = Path("/proc/self/autogroup")


def step_back() -> None:
    """Let other processes go first.

    Where Linux shares processors out by session (autogroups: the default, outside of control groups),
    niceness counts only within one: a process that has a session of its own has to make that step back.
    """
    os.nice(NICE)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # no Linux, no autogroups, or a sandbox that does not allow it
            _AUTOGROUP.write_text(f"{NICE}\n")
