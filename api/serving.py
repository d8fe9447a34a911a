"""What the server loads in each of its processes."""

from __future__ import annotations

import gc
from typing import Final

from fastapi import FastAPI

from api.app import create_app
from api.logs import configure_logging
from api.settings import ApiSettings

_GC_THRESHOLDS: Final = (20_000, 25, 100)


def application() -> FastAPI:
    """Build the application from the environment's settings."""
    settings = ApiSettings()
    configure_logging(settings.log_level)
    app = create_app(settings)
    settle()
    return app


def settle() -> None:
    """Take what stays for good out of garbage collection: each full run over it would hold requests up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
