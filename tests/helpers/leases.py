"""Files that whoever opens them waits for, as he would for a slow store."""

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opening_held(path: Path) -> Iterator[Callable[[], bool]]:
    """Let every process that opens a file of ours wait while the body runs, for 45 s at most.

    Yields a function that says whether one waits. Nobody may have it open.
    """
    held = os.open(path, os.O_RDWR)
    try:
        # The signal that tells of somebody would end us; this one is not minded.
        fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        # While the lease is being broken, it is what it will be.
        yield lambda: fcntl.fcntl(held, fcntl.F_GETLEASE) != fcntl.F_WRLCK
    finally:
        os.close(held)
