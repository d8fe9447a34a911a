"""A real HTTP server in a thread of the test process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from tests.helpers.waiting import eventually


@contextmanager
def serving(server: uvicorn.Server) -> Iterator[str]:
    """Run a server in a thread; yields its address."""
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive(), "the API serves")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
