"""What snapshots by a storage are tried with: the controllers for them, and a driver of folders."""

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from devstack.errors import DevstackError
from devstack.progress import done, say

SOURCES: Final = Path(__file__).resolve().parent / "csi"
PROGRAMS: Final = ("driver", "snapshot-controller", "csi-snapshotter", "csi-provisioner")
_PINS: Final = ("go.mod", "go.sum", "driver/main.go")


def location() -> Path:
    """Return the folder where the programs of these sources are, or will be."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    pinned = b"".join((SOURCES / name).read_bytes() for name in _PINS)
    return caches / "perdure" / "devstack" / f"csi-{hashlib.sha256(pinned).hexdigest()[:16]}"


def built() -> bool:
    """Return whether they are there."""
    return all((location() / name).exists() for name in PROGRAMS)


def ensure() -> Path:
    """Return the folder of the programs; builds them first when they never were. Raises DevstackError."""
    folder = location()
    if built():
        return folder
    if shutil.which("go") is None:
        raise DevstackError("The Go toolchain is needed to build them (https://go.dev/dl, 1.26 or newer).")
    say("Building the controllers and the driver of volume snapshots (about 8 min on 2 cores, once)")
    began = time.monotonic()
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    # `tool` are the programs that go.mod names as such.
    command = ["go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", f"{unfinished}/"]
    made = subprocess.run(
        [*command, "tool", "./driver"],
        cwd=SOURCES,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        shutil.rmtree(unfinished)
        raise DevstackError(f"They cannot be built:\n{made.stderr[-2000:]}")
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.replace(folder)
    done("csi", began)
    return folder
