"""Files of `KEY=value` lines that a shell can source, readable by their owner only."""

import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path


def render(values: Mapping[str, str]) -> str:
    """Return the lines, each value quoted for a shell where it has to be."""
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())


def parse(text: str) -> dict[str, str]:
    """Read lines as `render` writes them; comments and words without `=` are passed over."""
    pairs = (word.partition("=") for word in shlex.split(text, comments=True))
    return {key: value for key, separator, value in pairs if separator}


def read(path: Path) -> dict[str, str]:
    """Read a file; one that does not exist is empty."""
    try:
        return parse(path.read_text())
    except FileNotFoundError:
        return {}


def over_environment(path: Path) -> dict[str, str]:
    """Return this process's environment with a file's values laid over it, for a program to start with."""
    return {**os.environ, **read(path)}


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600 from its first byte on, and all of it or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
