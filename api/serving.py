"""What the server loads in each of its processes."""

from __future__ import annotations

from fastapi import FastAPI

from api.app import create_app
from api.logs import configure_logging
from api.settings import ApiSettings


def application() -> FastAPI:
    """Build the application from the environment's settings."""
    settings = ApiSettings()
    configure_logging(settings.log_level)
    return create_app(settings)
