"""The S3 server that tests run against: versitygw, found in the cache or built from its Go module."""

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from devstack.errors import DevstackError
from devstack.progress import done, say

SOURCES: Final = Path(__file__).resolve().parent / "s3"
_PROGRAM: Final = "github.com/versity/versitygw/cmd/versitygw"


def location() -> Path:
    """Where the program of the version in go.mod is, or will be."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    pinned = b"".join((SOURCES / name).read_bytes() for name in ("go.mod", "go.sum"))
    return caches / "perdure" / "devstack" / hashlib.sha256(pinned).hexdigest()[:16] / "versitygw"


def ensure() -> Path:
    """Return the program's path; builds it first when it was never built here. Raises DevstackError."""
    program = location()
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise DevstackError(
            "The Go toolchain is needed to build the S3 server (https://go.dev/dl, 1.25 or newer)."
        )
    say("Building the S3 server of the tests (about 3 min on 2 cores, once)")
    began = time.monotonic()
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_name(f"{program.name}.{os.getpid()}")
    command = [
        "go",
        "build",
        "-buildvcs=false",
        "-trimpath",
        "-ldflags",
        "-s -w",
        "-o",
        str(unfinished),
        _PROGRAM,
    ]
    built = subprocess.run(
        command,
        cwd=SOURCES,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        unfinished.unlink(missing_ok=True)
        raise DevstackError(f"The S3 server cannot be built:\n{built.stderr[-2000:]}")
    unfinished.replace(program)
    done("s3", began)
    return program
