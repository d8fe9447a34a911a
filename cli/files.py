"""Reading the files that a command names; faults are faults of usage."""

import sys
from pathlib import Path

from cli.errors import UsageFault


def read_text(path: Path) -> str:
    """Return a file's text, or standard input's for `-`. Raises UsageFault."""
    if str(path) == "-" and sys.stdin.isatty():
        raise UsageFault(
            "Standard input is a terminal.", hints=["Pipe the document in, or name a file with -f."]
        )
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UsageFault(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path} is not UTF-8 text: byte {error.start} cannot be read.") from error
