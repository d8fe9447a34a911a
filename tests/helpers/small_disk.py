"""A file system that is truly full after a few MiB, or was and has room again."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Have a file system in memory of so much (`4m`) at a directory, which is made; root alone may."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "perdure-small", place], check=True)
    try:
        yield place
    finally:
        # What still has a file of it open keeps it until it ends; nobody finds it any more.
        subprocess.run(["umount", "--lazy", place], check=True)


def grow(place: Path, size: str) -> None:
    """Give it more room."""
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)
