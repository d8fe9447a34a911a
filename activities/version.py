"""The version of this installation: what the API reports, and what the control workers run as."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _version() -> str:
    try:
        return version("perdure")
    except PackageNotFoundError:
        return "0.1.0"


VERSION: Final = _version()
