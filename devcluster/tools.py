"""Running system tools and waiting for conditions."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from devcluster.errors import DevclusterError, ToolError


def run(
    *argv: str | Path,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a tool and return what it printed; raises ToolError when it fails, with the end of its messages."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as e:
        raise DevclusterError(f"`{words[0]}` is not installed; run: python -m devcluster packages") from e
    except subprocess.TimeoutExpired as e:
        raise DevclusterError(f"`{' '.join(words)}` did not end within {timeout:.0f} s") from e
    if done.returncode != 0:
        raise ToolError(words, done.returncode, done.stderr or done.stdout)
    return done.stdout


def succeeds(*argv: str | Path, timeout: float = 10.0) -> bool:
    """Whether a tool exists and ends with status 0 in time."""
    try:
        run(*argv, timeout=timeout)
    except DevclusterError:
        return False
    return True


def wait_until(check: Callable[[], bool], seconds: float, what: str, hint: str = "") -> None:
    """Ask every 50 ms until the check holds; raises when it does not within the given time."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise DevclusterError(f"{what}: not within {seconds:.0f} s{f'; {hint}' if hint else ''}")
        time.sleep(0.05)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, never readable by others in between.

    A file that has the text already is left alone: some servers end when their configuration is written.
    """
    if path.exists() and path.stat().st_mode & 0o077 == 0 and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
