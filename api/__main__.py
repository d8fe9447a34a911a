"""`python -m api`: serve until told to stop; then requests are finished, and streams say that they end."""

from __future__ import annotations

import socket
import sys

import uvicorn
from pydantic import ValidationError
from uvicorn.supervisors import Multiprocess

from activities.keyring import KeyringInvalidError
from activities.secrets import SecretsError
from api.events import PING_SECONDS
from api.logs import configure_logging
from api.protocol import LARGEST_MESSAGE, LimitedHttpProtocol
from api.settings import ApiSettings
from api.state import AppState


class Server(uvicorn.Server):
    """uvicorn, which at its end closes our event streams first: it would wait for them, up to its limit."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: streams, then what is in flight, then the application."""
        state = self.lifespan.state.get("app")
        if isinstance(state, AppState):
            await state.streams.close()
            await state.tail.close()
        await super().shutdown(sockets)


def main() -> int:
    """Run the API; 2 when its settings are wrong."""
    try:
        settings = ApiSettings()
        settings.open_master_keys()
    except (ValidationError, KeyringInvalidError, SecretsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logging(settings.log_level)
    config = uvicorn.Config(
        "api.serving:application",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        # uvloop's TLS drops what its reader has not taken yet when the other side closes: of an answer
        # through a tunnel, or of a log, whoever takes it slowly would miss the end.
        loop="asyncio",
        http=LimitedHttpProtocol,
        ws="websockets-sansio",  # of the two the one that slows a sender down while nobody takes its frames
        ws_max_size=LARGEST_MESSAGE,
        ws_ping_interval=PING_SECONDS,
        # A pong waits behind what is not taken yet: who is slow for two minutes is not gone.
        ws_ping_timeout=120.0,
        # A compressor per connection would be most of its memory.
        ws_per_message_deflate=False,
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = Server(config)
    if settings.workers > 1:
        Multiprocess(config, sockets=[config.bind_socket()]).run()
        return 0
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
