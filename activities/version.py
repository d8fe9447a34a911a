"""The version of this code: what the API reports, the control workers run as, and every worker says it is."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _version() -> str:
    try:
        return version("perdure")
    except PackageNotFoundError:
        return "0.1.0"


VERSION: Final = _version()
_WORKER: Final = re.compile(r"perdure-worker/(?P<version>[^@/]+)@(?P<place>.+)")


def worker_identity(host: str, process: int) -> str:
    """Return who a worker of this version is to Temporal, which lists it while it asks for work."""
    return f"perdure-worker/{VERSION}@{host}/{process}"


def worker_of(identity: str) -> tuple[str, str | None]:
    """Return where a worker runs, and its version; None: it does not say."""
    match = _WORKER.fullmatch(identity)
    return (identity, None) if match is None else (match["place"], match["version"])
