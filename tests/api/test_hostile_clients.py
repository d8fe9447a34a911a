"""A real server process under clients that are slow, rude or sent to stop: nothing lost, no 500."""

import base64
import itertools
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect

from activities.secrets import Opener, new_private_key
from api.middleware import BROKEN_OFF
from api.open_streams import STOPPING
from tests.api.support import shop_document
from tests.helpers.forking import Forked
from tests.helpers.ports import free_port
from tests.helpers.stack import ROOT, bootstrapped
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.slow
HEAD_SECONDS = 1.0
BODY_SECONDS = 1.5


@dataclass
class Server:
    """A server process, its owner's token, and a client with it."""

    process: Forked
    port: int
    token: str
    client: httpx2.Client
    log: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ended(self, method: str, path: str) -> list[int]:
        """With which status each request to an address has ended, by the server's log."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]
        return [
            line["status"]
            for line in lines
            if (line["event"], line.get("method"), line.get("path")) == ("request", method, path)
        ]

    def head(self, method: str, path: str, *more: str) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: api", f"Authorization: Bearer {self.token}", *more]
        return "\r\n".join((*lines, "", "")).encode()


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    port, private, seal_key = free_port(), new_private_key(), directory / "seal.key"
    seal_key.write_text(private)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PERDURE_")}
    environment = inherited | {
        "PERDURE_ENVIRONMENT": "dev",
        "PERDURE_DATABASE_URL": f"sqlite+aiosqlite:///{directory}/perdure.db",
        "PERDURE_OBJECT_STORE": str(directory / "objects"),
        "PERDURE_MASTER_KEYS": f"test:{base64.b64encode(os.urandom(32)).decode()}",
        "PERDURE_SEAL_PUBLIC_KEYS": json.dumps({"local": Opener(private).public_key}),
        "PERDURE_SEAL_PRIVATE_KEY_FILE": str(seal_key),
        "PERDURE_TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}",
        "PERDURE_PORT": str(port),
        "PERDURE_HEAD_SECONDS": str(HEAD_SECONDS),
        "PERDURE_BODY_SECONDS": str(BODY_SECONDS),
    }
    token = bootstrapped(environment)
    process = Forked(["api"], env=environment, cwd=ROOT, out=directory / "api.log")
    try:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:

            def answers() -> bool:
                try:
                    return client.get("/health/live").status_code == 200
                except httpx2.TransportError:
                    return False

            eventually(answers, "the API answers", within=60)
            yield Server(process, port, token, client, directory / "api.log")
    finally:
        process.kill()
    text = (directory / "api.log").read_text()
    assert "request_failed" not in text, text[-3000:]
    assert "Traceback" not in text, text[-3000:]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as running:
        yield running


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def refusal(answer: bytes) -> tuple[int, str]:
    """Status and code of an answer, which has to be a whole problem."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    problem = json.loads(body)
    assert "content-type: application/problem+json" in lines
    assert f"content-length: {len(body)}" in lines
    assert f"x-request-id: {problem['requestId']}".lower() in lines
    assert {"type", "title", "detail", "instance"} < problem.keys()
    assert answer.startswith(f"HTTP/1.1 {problem['status']} ".encode())
    return problem["status"], problem["code"]


def test_slow_heads_and_bodies_are_cut_off_and_hold_nobody_up(server: Server) -> None:
    slow = [server.connect() for _ in range(60)]
    body = server.head("POST", "/v1/environments", "Content-Type: application/json", "Content-Length: 1000")
    for place, connection in enumerate(slow):
        # A third says nothing, a third never ends its head, a third never ends its body.
        connection.sendall((b"", body[:40], body + b"{")[place % 3])
    for _ in range(20):
        began = time.monotonic()
        assert server.client.get("/v1/environments").status_code == 200
        assert time.monotonic() - began < HEAD_SECONDS, "it waited for the slow ones"
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(received, slow))
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert b"connection: close" in answer.lower()
        assert refusal(answer) == (408, "request_timeout")
    for connection in slow:
        connection.close()
    assert server.client.get("/v1/environments").json()["data"] == []


def test_a_trickle_does_not_extend_the_limit(server: Server) -> None:
    document = json.dumps({"blueprint": shop_document()}).encode()
    length = f"Content-Length: {len(document)}"
    head = server.head("POST", "/v1/environments", "Content-Type: application/json", length)
    never_ends = itertools.repeat(b"X-A: b\r\n")
    one_by_one = (document[place : place + 1] for place in range(len(document) - 1))
    for begin, pieces, seconds in (
        (b"GET /v1/environments HTTP/1.1\r\n", never_ends, HEAD_SECONDS),
        (head, one_by_one, BODY_SECONDS),
    ):
        answer, took = trickled(server, begin, pieces)
        assert refusal(answer) == (408, "request_timeout")
        assert seconds <= took < seconds + 5
    assert server.client.get("/v1/environments").json()["data"] == []


def trickled(server: Server, begin: bytes, pieces: Iterator[bytes]) -> tuple[bytes, float]:
    """Send a piece now and then until the other side closes; what it answered, and after how long."""
    began = time.monotonic()
    with closing(server.connect()) as connection:
        connection.sendall(begin)
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.1):
                try:
                    connection.sendall(next(pieces))
                except OSError:
                    return

        writer = threading.Thread(target=trickle)
        writer.start()
        try:
            answer = b""
            # What was sent meanwhile may break the connection, once the answer is there.
            with suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    answer += part
            return answer, time.monotonic() - began
        finally:
            stop.set()
            writer.join()


def test_bodies_that_break_off_leave_nothing(server: Server) -> None:
    document = json.dumps({"blueprint": shop_document()}).encode()
    cuts = (0, 1, len(document) // 2, len(document) - 1)
    for cut in cuts:
        with closing(server.connect()) as connection:
            length = f"Content-Length: {len(document)}"
            head = server.head("POST", "/v1/environments", "Content-Type: application/json", length)
            connection.sendall(head + document[:cut])
    eventually(lambda: len(server.ended("POST", "/v1/environments")) == len(cuts), "all of them have ended")
    assert set(server.ended("POST", "/v1/environments")) == {BROKEN_OFF}
    for what in ("environments", "operations"):
        assert server.client.get(f"/v1/{what}").json()["data"] == []


def test_absurd_heads(server: Server) -> None:
    for raw, statuses in (
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        (b"GET / HTTP/9.9\r\n\r\n", {400}),
        (server.head("GET", "/v1/environments", "X-A: " + "a" * 300_000), {200, 431}),
        (
            server.head("GET", "/v1/environments", *(f"X-{n}: y" for n in range(2_000)), "Connection: close"),
            {200, 431},
        ),
        (server.head("GET", "/v1/environments", "Content-Length: 1, 2", "Connection: close"), {400}),
        (server.head("GET", "/v1/environments", "Content-Length: -1"), {400}),
        (
            server.head("GET", "/v1/environments", "Transfer-Encoding: odd", "Connection: close"),
            {200, 400, 501},
        ),
        (server.head("GET", "/v1/environments?cursor=%ff%00", "Connection: close"), {422}),
        (server.head("GET", "/v1/environments", "If-None-Match: " + '"' * 5000, "Connection: close"), {200}),
        (server.head("BREW", "/v1/environments"), {400}),
        (server.head("PROPFIND", "/v1/environments", "Connection: close"), {405}),
        (server.head("GET", "/v1/environments", "Idempotency-Key: \xe9", "Connection: close"), {200}),
    ):
        with closing(server.connect()) as connection:
            try:
                connection.sendall(raw)
                answer = received(connection)
            except (ConnectionResetError, BrokenPipeError):
                continue  # refused while it was still sending
            assert answer, raw[:80]
            status = int(re.match(rb"HTTP/1.1 (\d+)", answer).group(1))  # type: ignore[union-attr]
            assert status in statuses, (raw[:80], answer[:200])
            if status >= 400:
                assert refusal(answer)[0] == status
    assert server.client.get("/v1/environments").status_code == 200


def test_twins_under_one_key_make_one_environment(server: Server) -> None:
    def ask(number: int) -> httpx2.Response:
        return server.client.post(
            "/v1/environments",
            json={"blueprint": shop_document(f"shop-{number % 2}")},
            headers={"Idempotency-Key": f"k-{number % 2}"},
        )

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(24)))
    for answer in answers:
        assert answer.status_code == 202, answer.text
    assert len({answer.json()["data"]["id"] for answer in answers}) == 2
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == len(answers) - 2
    assert len(server.client.get("/v1/environments").json()["data"]) == 2
    assert len(server.client.get("/v1/operations").json()["data"]) == 2
    again = ask(0)
    assert again.headers["idempotency-replayed"] == "true"


def close_of(follower: ClientConnection) -> Close | None:
    """What a WebSocket is closed with."""
    try:
        while True:
            follower.recv(20)
    except ConnectionClosed as closed:
        return closed.rcvd


def test_told_to_stop_it_finishes_what_runs_and_ends_streams_in_words(server: Server) -> None:
    made = server.client.post("/v1/environments", json={"blueprint": shop_document()}).json()["data"]
    document = json.dumps({"blueprint": shop_document("late")}).encode()
    progress = f"ws://127.0.0.1:{server.port}/v1/environments/{made['id']}/progress"
    key = {"Authorization": f"Bearer {server.token}"}
    with (
        closing(server.connect()) as stream,
        closing(server.connect()) as upload,
        connect(progress, additional_headers=key) as follower,
    ):
        assert json.loads(follower.recv(20))["type"] == "snapshot"
        stream.sendall(server.head("GET", f"/v1/environments/{made['id']}/events"))
        begun = stream.recv(65536)
        while b"event: operation" not in begun:
            begun += stream.recv(65536)
        length = f"Content-Length: {len(document)}"
        upload.sendall(server.head("POST", "/v1/environments", "Content-Type: application/json", length))
        upload.sendall(document[:10])
        waiting = threading.Thread(target=lambda: answers.append(server.client.post(*late, json=body)))
        answers: list[httpx2.Response] = []
        late = ("/v1/environments?wait=30",)
        body = {"blueprint": shop_document("waiting")}
        waiting.start()
        eventually(
            lambda: (
                len(
                    httpx2.get(
                        f"{server.client.base_url}/v1/environments", headers=server.client.headers
                    ).json()["data"]
                )
                == 2
            ),
            "the waiting request has been accepted",
        )
        server.process.terminate()
        ended = received(stream)
        assert b": the server is stopping; reconnect" in ended
        assert ended.endswith(b"0\r\n\r\n"), "the stream ends whole"
        assert close_of(follower) == Close(STOPPING.code, STOPPING.reason)
        upload.sendall(document[10:])
        answered = received(upload)
        waiting.join(20)
    assert answered.startswith(b"HTTP/1.1 202 "), answered
    assert [answer.status_code for answer in answers] == [202]
    # uvicorn raises the signal again once it is done.
    assert server.process.wait(20) in (0, -signal.SIGTERM)
