"""Connects a worker to Temporal, waiting for a server that is not up yet."""

import asyncio
import os
import socket
from typing import Final

import structlog
from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from activities.temporal import connect as connect_client
from activities.version import worker_identity
from worker.settings import WorkerSettings

CONNECT_SECONDS: Final = 60.0
"""How long a worker waits at start for a Temporal server to answer."""

_log = structlog.get_logger()


def identity() -> str:
    """Return who this worker is, as the Temporal UI shows it."""
    return worker_identity(socket.gethostname(), os.getpid())


async def connect(settings: WorkerSettings) -> Client:
    """Return a connected client; raises what the last try raised after `CONNECT_SECONDS`."""
    if settings.metrics_address is not None:
        Runtime.set_default(
            Runtime(
                telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=settings.metrics_address))
            )
        )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CONNECT_SECONDS
    while True:
        try:
            return await connect_client(
                settings.temporal_address,
                settings.temporal_namespace,
                codec=settings.payload_codec,
                lazy=False,
                identity=identity(),
                tls=settings.temporal_tls,
                api_key=settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None,
            )
        except RuntimeError:
            if loop.time() > deadline:
                raise
            _log.warning("waiting for Temporal", address=settings.temporal_address)
            await asyncio.sleep(1)
