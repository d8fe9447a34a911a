"""A WebSocket of an application on the real cluster: through the proxy and back, with its codes."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.e2e.support import SHOP_API
from tests.helpers.stack import Handle, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

_ECHO = r"""
import base64, hashlib, json, socketserver, struct

class Echo(socketserver.StreamRequestHandler):
    def frame(self, opcode, data):
        size = len(data)
        head = bytes([0x80 | opcode])
        if size < 126: head += bytes([size])
        elif size < 65536: head += struct.pack("!BH", 126, size)
        else: head += struct.pack("!BQ", 127, size)
        self.wfile.write(head + data)

    def read(self):
        first, size = self.rfile.read(2)
        size &= 127
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(self.rfile.read(width), "big")
        mask, data = self.rfile.read(4), self.rfile.read(size)
        key = int.from_bytes(mask * (size // 4 + 1), "big") >> (8 * (4 - size % 4))
        return first & 15, (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")

    def handle(self):
        line = self.rfile.readline().decode().split()
        headers = {}
        while (one := self.rfile.readline().decode().strip()):
            name, _, value = one.partition(": ")
            headers[name.lower()] = value
        if not line or "sec-websocket-key" not in headers:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain")
            return
        if line[1] == "/denied":
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            return
        told = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(told.encode()).digest()).decode()
        answer = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        answer.append("Sec-WebSocket-Accept: " + accept)
        if "sec-websocket-protocol" in headers:
            answer.append("Sec-WebSocket-Protocol: " + headers["sec-websocket-protocol"])
        self.wfile.write(("\r\n".join(answer) + "\r\n\r\n").encode())
        self.frame(1, json.dumps({"path": line[1], "headers": headers}).encode())
        while True:
            opcode, data = self.read()
            if data == b"close me":
                data, opcode = struct.pack("!H", 4007) + b"as you wish", 8
            if data == b"break":
                return
            self.frame(opcode, data)
            if opcode == 8:
                return

socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", 8080), Echo).serve_forever()
"""


@pytest.fixture(scope="module")
def echo(stack: Stack) -> Handle:
    """An environment with a server that says what it is told."""
    service: dict[str, Any] = {
        "image": SHOP_API,
        "command": ["python3", "-c", _ECHO],
        "ports": [{"containerPort": 8080}],
        "resources": {"cpu": "10m", "memory": "32Mi"},
        "probes": {"readiness": {"http": {"path": "/", "port": 8080}, "periodSeconds": 1}},
    }
    handle = stack.create({"name": f"echo-{uuid.uuid4().hex[:8]}", "services": {"web": service}})
    handle.succeeded()
    return handle


@contextmanager
def opened(handle: Handle, path: str, *more: str) -> Iterator[ClientConnection]:
    """A WebSocket to the service, by a key among the subprotocols as a browser has it."""
    base = urlsplit(str(handle.stack.client.base_url))
    token = handle.stack.client.headers["Authorization"].removeprefix("Bearer ")
    url = f"ws://{base.netloc}/v1/environments/{handle.environment_id}/services/web/proxy{path}"
    offered = [Subprotocol(name) for name in ("perdure.v1", f"perdure.bearer.{token}", *more)]
    with connect(url, subprotocols=offered, proxy=None, open_timeout=30) as socket:
        yield socket


def ended(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Read to the end; code and reason."""
    with suppress(ConnectionClosed):
        while True:
            socket.recv(timeout=30)
    return socket.close_code, socket.close_reason


def test_an_application_is_talked_to_through_the_proxy(echo: Handle) -> None:
    with opened(echo, "/live?room=1", "chat") as socket:
        told = json.loads(socket.recv(timeout=30))
        assert (socket.subprotocol, told["path"]) == ("chat", "/live?room=1")
        assert told["headers"]["sec-websocket-protocol"] == "chat"
        assert told["headers"]["host"] == "web:8080"
        assert "authorization" not in told["headers"]
        for message in ("text ✓", b"\0binary", "x" * 1_000_000, b"y" * 300_000):
            socket.send(message)
            assert socket.recv(timeout=30) == message
        socket.send("close me")
        assert ended(socket) == (4007, "as you wish")


def test_how_it_ends_is_told_apart(echo: Handle) -> None:
    with opened(echo, "/") as socket:
        assert socket.subprotocol == "perdure.v1"
        socket.recv(timeout=30)
        socket.send("break")
        code, reason = ended(socket)
    assert (code, (reason or "").startswith("perdure: upstream_failed")) == (4502, True)
    with pytest.raises(InvalidStatus) as refused, opened(echo, "/denied"):
        pass
    assert (refused.value.response.status_code, refused.value.response.body) == (403, b"no")
    assert refused.value.response.headers["x-perdure-answered-by"] == "application"


def test_it_ends_with_the_environment(echo: Handle) -> None:
    """The last one: it deletes what the others use."""
    with opened(echo, "/") as socket:
        socket.recv(timeout=30)
        echo.delete()
        assert ended(socket)[0] == 4410
