"""Free ports for servers that a test starts as processes of their own."""

import os
import random
import socket
from typing import Final

_LANES: Final = 16
_LANE: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _LANES
_PORTS: Final = range(20_000 + _LANE, 30_000, _LANES)
"""This process's own, so that tests beside each other don't take one another's.

All are below what the system gives to outgoing connections, and below a cluster's node ports. A port that
the system gave out (bind to port 0) is one of those it gives to outgoing connections too: any client may
hold it by the time that the server binds it, even the one that waits for this server.
"""
_given: set[int] = set()


def free_port() -> int:
    """Return a port of loopback that nothing listens on at this moment, never one twice."""
    # Not the shared generator: Hypothesis sets its seed.
    for port in random.SystemRandom().sample(_PORTS, k=100):
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError("no free port among a hundred")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
