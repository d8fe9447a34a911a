"""Into the services of a running environment: HTTP, raw TCP, commands; and what is measured of them."""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]
import httpx2
import pytest
import yaml
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.e2e.support import SHOP_API, UNTIL_TOLD, idle
from tests.helpers.stack import ROOT, Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

_TRICKSTER = r"""
import http.server, json, threading, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size); self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(length)
        path = self.path.partition("?")[0]
        if path == "/to":
            self.reply(302, b"", [("Location", self.headers["x-wanted"]), ("Set-Cookie", "a=b")])
        elif path == "/stream":
            self.send_response(200); self.send_header("transfer-encoding", "chunked"); self.end_headers()
            for number in range(3):
                piece = b"piece %d\n" % number
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece)); self.wfile.flush()
                if number < 2:
                    while not go(number): time.sleep(0.02)
            self.wfile.write(b"0\r\n\r\n")
        elif path == "/go":
            steps.add(int(self.path.partition("?")[2])); self.reply(200, b"")
        elif path == "/burn":
            threading.Thread(target=burn, daemon=True).start(); self.reply(200, b"")
        elif path == "/break":
            self.connection.shutdown(2); self.close_connection = True
        elif path == "/half":
            self.send_response(200); self.send_header("content-length", "1000"); self.end_headers()
            self.wfile.write(b"half"); self.wfile.flush()
            self.connection.shutdown(2); self.close_connection = True
        elif path == "/large":
            self.send_response(200); self.send_header("content-length", str(64 << 20)); self.end_headers()
            for _ in range(64): self.wfile.write(b"x" * (1 << 20))
        elif path == "/sleep":
            time.sleep(30); self.reply(200, b"")
        elif path == "/error":
            self.reply(503, b"of my own")
        else:
            said = {"method": self.command, "path": self.path, "body": body.decode()}
            self.reply(200, json.dumps({**said, "headers": dict(self.headers)}).encode())

    def reply(self, status, content, headers=()):
        self.send_response(status)
        for name, value in headers: self.send_header(name, value)
        self.send_header("content-length", str(len(content))); self.end_headers()
        if self.command != "HEAD": self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer
    def log_request(self, *_): pass

steps = set()
def go(number): return number in steps
def burn():
    while not go(9): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Handle:
    """The shop of the examples, a service that plays tricks, and one in which no shell is found."""
    document = yaml.safe_load((ROOT / "examples" / "shop.yaml").read_text())
    document["services"] += [
        {
            "name": "tricks",
            "image": SHOP_API,
            "command": ["python3", "-c", _TRICKSTER],
            "ports": [{"containerPort": 8080}, {"containerPort": 9999, "name": "nobody"}],
            "resources": {"cpu": "10m", "memory": "32Mi"},
            "probes": {"readiness": {"tcp": {"port": 8080}, "periodSeconds": 1}},
        },
        {
            "name": "mute",
            **idle(command=["/bin/sh", "-c", f"PATH=/bin; {UNTIL_TOLD}"], env={"PATH": "/nowhere"}),
        },
    ]
    made = stack.create(document)
    made.succeeded(180)
    return made


def _url(shop: Handle, service: str, path: str = "/") -> str:
    return f"/v1/environments/{shop.environment_id}/services/{service}/proxy{path}"


def _ask(shop: Handle, method: str, service: str, path: str, **more: Any) -> httpx2.Response:
    return shop.stack.client.request(method, _url(shop, service, path), **more)


def _socket_url(shop: Handle, rest: str) -> tuple[str, dict[str, str]]:
    base = urlsplit(str(shop.stack.client.base_url))
    url = f"ws://{base.netloc}/v1/environments/{shop.environment_id}/services/{rest}"
    return url, {"Authorization": shop.stack.client.headers["Authorization"]}


@contextlib.contextmanager
def _socket(shop: Handle, rest: str) -> Iterator[ClientConnection]:
    url, headers = _socket_url(shop, rest)
    with connect(url, additional_headers=headers, subprotocols=["perdure.v1"], proxy=None) as socket:  # type: ignore[list-item]
        yield socket


def _problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["x-perdure-answered-by"]) == (status, "perdure"), answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    return body


class TestProxy:
    def test_the_shop_sells_through_it(self, shop: Handle) -> None:
        answer = _ask(shop, "GET", "api", "/products")
        assert answer.status_code == 200
        assert answer.headers["x-perdure-answered-by"] == "application"
        assert answer.headers["content-security-policy"] == "sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        products = {each["name"]: each for each in answer.json()["products"]}
        order = _ask(
            shop, "POST", "api:http", "/orders", json={"product_id": products["cup"]["id"], "quantity": 2}
        )
        assert order.status_code == 201
        assert _ask(shop, "GET", "api:8080", f"/orders/{order.json()['id']}").status_code == 200

    def test_the_applications_own_errors_are_told_from_ours(self, shop: Handle) -> None:
        missing = _ask(shop, "GET", "api", "/nothing")
        assert (missing.status_code, missing.json()) == (404, {"error": "not found"})
        assert missing.headers["x-perdure-answered-by"] == "application"
        own = _ask(shop, "GET", "tricks", "/error")
        assert (own.status_code, own.text, own.headers["x-perdure-answered-by"]) == (
            *(503, "of my own"),
            "application",
        )
        _problem(_ask(shop, "GET", "tricks", "/break"), 502, "upstream_failed")
        refused = _problem(_ask(shop, "GET", "tricks:nobody", "/"), 502, "upstream_failed")
        assert "connection refused" in refused["detail"]
        assert "/run/" not in refused["detail"], "paths of the node"
        _problem(_ask(shop, "GET", "db", "/"), 502, "upstream_failed")
        assert (
            "declares: 8080, 9999"
            in _problem(_ask(shop, "GET", "tricks:22", "/"), 404, "not_found")["detail"]
        )
        _problem(_ask(shop, "GET", "kubernetes", "/"), 404, "not_found")
        _problem(_ask(shop, "GET", "worker", "/"), 404, "not_found")

    def test_an_answer_that_breaks_off_does_not_look_whole(self, shop: Handle) -> None:
        with pytest.raises(httpx2.RemoteProtocolError):
            _ask(shop, "GET", "tricks", "/half")

    def test_every_method_with_its_body_arrives_without_what_is_ours(self, shop: Handle) -> None:
        environment = shop.stack.client.get(f"/v1/environments/{shop.environment_id}").json()["data"]
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            told = _ask(
                shop,
                method,
                "tricks",
                "/a%2Fb/c?x=1&y=%20",
                content=None if method == "GET" else b"body of " + method.encode(),
                headers={
                    "Cookie": "session=1",
                    "X-Organization-ID": environment["organizationId"],
                    "Connection": "keep-alive, x-hop",
                    "X-Hop": "1",
                    "X-Forwarded-Host": "evil",
                    "X-Own": "kept",
                }
                if method != "GET"
                else {},
            ).json()
            assert (told["method"], told["path"]) == (method, "/a%2Fb/c?x=1&y=%20")
            assert told["body"] == ("" if method == "GET" else f"body of {method}")
            sent = {name.lower(): value for name, value in told["headers"].items()}
            assert sent["host"] == "tricks:8080"
            assert sent["x-forwarded-prefix"] == _url(shop, "tricks:8080", "")
            leaked = {"authorization", "cookie", "x-hop", "x-forwarded-host", "x-organization-id"}
            assert not leaked & set(sent)
            assert method == "GET" or sent["x-own"] == "kept"
        head = _ask(shop, "HEAD", "tricks", "/")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0

    def test_a_body_of_unknown_length_streams_in(self, shop: Handle) -> None:
        told = _ask(shop, "POST", "tricks", "/", content=iter([b"one ", b"two"])).json()
        assert told["body"] == "one two"

    def test_an_answer_streams_out_as_it_is_written(self, shop: Handle) -> None:
        client = shop.stack.client
        with client.stream("GET", _url(shop, "tricks", "/stream")) as answer:
            pieces = answer.iter_text()
            for number in range(3):
                assert next(pieces) == f"piece {number}\n", "it waits until it is told to go on"
                _ask(shop, "POST", "tricks", f"/go?{number}")
            assert list(pieces) == []

    def test_a_large_answer_does_not_stay_in_memory(self, shop: Handle) -> None:
        handle = shop.stack.api.handle
        assert handle is not None

        def resident() -> int:
            return int(Path(f"/proc/{handle.pid}/statm").read_text().split()[1]) * 4096

        _ask(shop, "GET", "tricks", "/")
        before, received = resident(), 0
        with shop.stack.client.stream("GET", _url(shop, "tricks", "/large")) as answer:
            for chunk in answer.iter_bytes():
                received += len(chunk)
                if received < len(chunk) * 2:
                    # Nobody reads on: what the application goes on writing has to wait in its own socket.
                    eventually(lambda: _ask(shop, "GET", "tricks", "/").is_success, "others are served")
        assert received == 64 << 20
        assert resident() - before < 24 << 20

    @pytest.mark.parametrize(
        ("wanted", "seen"),
        [
            ("/login?x=1", "/login?x=1"),
            ("next", "/next"),
            ("http://tricks:8080/there", "/there"),
            ("http://localhost:8080/there", "/there"),
            ("/v1/environments", "/v1/environments"),
            ("../../../../../environments", "/environments"),
            ("http://127.0.0.1.evil.test/", None),
            ("https://elsewhere.test/", None),
            ("//elsewhere.test/x", None),
            ("/\\elsewhere.test/x", None),
            ("/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/operations", None),
            ("javascript:alert(1)", None),
        ],
    )
    def test_redirects_stay_in_the_service(self, shop: Handle, wanted: str, seen: str | None) -> None:
        answer = _ask(shop, "GET", "tricks", "/to", headers={"X-Wanted": wanted}, follow_redirects=False)
        assert answer.status_code == 302
        assert "set-cookie" not in answer.headers
        if seen is None:
            assert "location" not in answer.headers
            assert answer.headers["x-perdure-location"] == wanted
        else:
            assert answer.headers["location"] == _url(shop, "tricks:8080", seen)

    @pytest.mark.parametrize(
        "path", ["/../x", "/%2e%2e/x", "/%252e%252e/x", "/a/..;/x", "/..%2f..%2fx", "/%5c..%5c"]
    )
    def test_paths_that_climb_are_refused(self, shop: Handle, path: str) -> None:
        # By hand: an honest client resolves the dots itself.
        base = urlsplit(str(shop.stack.client.base_url))
        token = shop.stack.client.headers["Authorization"]

        async def send() -> bytes:
            reader, writer = await asyncio.open_connection(base.hostname, base.port)
            head = ("Host: x", f"Authorization: {token}", "Connection: close", "", "")
            request = "\r\n".join((f"GET {_url(shop, 'tricks', path)} HTTP/1.1", *head))
            writer.write(request.encode())
            content = await reader.read()
            writer.close()
            return content

        answer = asyncio.run(send())
        assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
        assert b"x-perdure-answered-by: perdure" in answer

    def test_no_ready_pod_is_said_with_its_reason(self, shop: Handle) -> None:
        stack = shop.stack
        stack.kubectl("-n", shop.namespace, "scale", "deployment", "worker", "--replicas=0")
        stack.kubectl("-n", shop.namespace, "scale", "deployment", "tricks", "--replicas=0")
        try:
            body = eventually(
                lambda: (told := _ask(shop, "GET", "tricks", "/")).status_code == 503 and told, "it is gone"
            )
            assert "has no ready pod" in _problem(body, 503, "service_not_ready")["detail"]
        finally:
            stack.kubectl("-n", shop.namespace, "scale", "deployment", "worker", "--replicas=1")
            stack.kubectl("-n", shop.namespace, "scale", "deployment", "tricks", "--replicas=1")
            eventually(lambda: _ask(shop, "GET", "tricks", "/").is_success, "it is back", within=60)


class TestTunnel:
    def test_a_query_goes_through_to_postgres(self, shop: Handle) -> None:
        """`select 1` in the simple protocol, signed in by the password of the environment."""
        secret = json.loads(
            shop.stack.kubectl("-n", shop.namespace, "get", "secret", "secret-db-password", "-o", "json")
        )
        [encoded] = secret["data"].values()
        password = base64.b64decode(encoded).decode()

        async def query() -> list[tuple[str, int]]:
            url, headers = _socket_url(shop, "db/tunnel")

            async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                async with open_socket(url, additional_headers=headers, proxy=None) as socket:

                    async def inward() -> None:
                        while data := await reader.read(65_536):
                            await socket.send(data)

                    sending = asyncio.create_task(inward())
                    with contextlib.suppress(ConnectionClosed):
                        async for data in socket:
                            assert isinstance(data, bytes)
                            writer.write(data)
                    sending.cancel()
                    writer.close()

            server = await asyncio.start_server(carry, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            connection = await asyncpg.connect(
                host="127.0.0.1", port=port, user="postgres", password=password, database="shop", ssl=False
            )
            assert await connection.fetchval("select 1") == 1
            rows = await connection.fetch("select name, price_cents from products order by name")
            # More than any buffer on the way holds.
            assert len(await connection.fetchval("select repeat('x', 5000000)")) == 5_000_000
            assert await connection.fetchval("select length($1::text)", "y" * 3_000_000) == 3_000_000
            await connection.close()
            server.close()
            return [(row["name"], row["price_cents"]) for row in rows]

        assert {("cup", 890), ("kettle", 3900), ("teapot", 2450)} <= set(asyncio.run(query()))
        noted = shop.stack.rows("select data from audit_entries where action = 'service.tunnel'")
        assert {"service": "db", "port": 5432} in [json.loads(data) for (data,) in noted]

    def test_what_cannot_be_reached_is_refused(self, shop: Handle) -> None:
        for rest, status in (("db:22/tunnel", 404), ("nobody/tunnel", 404), ("worker/tunnel", 404)):
            with pytest.raises(InvalidStatus) as refused, _socket(shop, rest):
                pass
            assert refused.value.response.status_code == status
            assert json.loads(refused.value.response.body or b"")["code"] == "not_found"
        with _socket(shop, "tricks:9999/tunnel") as socket:
            assert json.loads(socket.recv(timeout=10))["problem"]["code"] == "upstream_failed"
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=10)
        assert socket.close_code == 4000

    def test_without_a_key_nothing_opens(self, shop: Handle) -> None:
        url, _ = _socket_url(shop, "db/tunnel")
        for headers in ({}, {"Authorization": "Bearer pdr_wrong"}):
            with (
                pytest.raises(InvalidStatus) as refused,
                connect(url, additional_headers=headers, proxy=None),
            ):
                pass
            assert refused.value.response.status_code == 401


def _run(
    shop: Handle, service: str, start: dict[str, Any], stdin: bytes | None = None
) -> tuple[Any, bytes, bytes]:
    """Run a command; return its last message, and what it wrote."""
    out, err = b"", b""
    with _socket(shop, f"{service}/exec") as socket:
        socket.send(json.dumps(start))
        if stdin is not None:
            for at in range(0, len(stdin), 65_536):
                socket.send(b"\x00" + stdin[at : at + 65_536])
            socket.send(json.dumps({"endInput": True}))
        while isinstance(message := socket.recv(timeout=30), bytes):
            if message[0] == 1:
                out += message[1:]
            else:
                assert message[0] == 2
                err += message[1:]
        return json.loads(message), out, err


class TestExec:
    def test_streams_and_exit_code(self, shop: Handle) -> None:
        command = ["sh", "-c", 'echo out "$1"; echo err >&2; exit 7', "x", "planted-argument"]
        assert _run(shop, "api", {"command": command}) == (
            {"exitCode": 7},
            b"out planted-argument\n",
            b"err\n",
        )
        noted = [
            json.loads(data)
            for (data,) in shop.stack.rows("select data from audit_entries where action = 'service.exec'")
        ]
        assert noted[-1]["command"] == "sh"
        assert "planted-argument" not in json.dumps(noted)
        assert "planted-argument" not in shop.stack.api.text()

    def test_input_is_binary_and_ends(self, shop: Handle) -> None:
        data = bytes(range(256)) * 1_000
        ended, out, _ = _run(shop, "api", {"command": ["cat"], "stdin": True}, data)
        assert (ended, out) == ({"exitCode": 0}, data)

    def test_a_terminal_is_one(self, shop: Handle) -> None:
        start = {
            "command": [
                "sh",
                "-c",
                "until stty size | grep -q 101; do sleep 0.1; done; test -t 1 && stty size",
            ],
            "tty": True,
            "width": 101,
            "height": 33,
        }
        ended, out, _ = _run(shop, "api", {**start, "stdin": True})
        assert (ended, out.split()) == ({"exitCode": 0}, [b"33", b"101"])

    def test_what_cannot_run_says_so(self, shop: Handle) -> None:
        ended, _, _ = _run(shop, "api", {"command": ["no-such-tool"]})
        assert ended.get("exitCode") == 127 or ended["problem"]["code"] == "hook_failed", ended
        for start, code in (
            ({"command": []}, "validation_failed"),
            ({"command": ["true"], "pod": "db-0"}, "not_found"),
            ({"command": ["true"], "more": 1}, "validation_failed"),
        ):
            ended, _, _ = _run(shop, "api", start)
            assert ended["problem"]["code"] == code

    def test_a_success_is_doubted_when_the_pod_goes(self, shop: Handle) -> None:
        with _socket(shop, "tricks/exec") as socket:
            socket.send(json.dumps({"command": ["sh", "-c", "echo here; sleep 300"]}))
            assert socket.recv(timeout=20) == b"\x01here\n"
            label = "app.kubernetes.io/name=tricks"
            shop.stack.kubectl(
                *(
                    "-n",
                    shop.namespace,
                    "delete",
                    "pod",
                    "-l",
                    label,
                    "--grace-period=0",
                    "--force",
                    "--wait=false",
                )
            )
            message = json.loads(socket.recv(timeout=60))
        assert message.get("exitCode") != 0, message
        eventually(lambda: _ask(shop, "GET", "tricks", "/").is_success, "it is back", within=60)


class TestMeasures:
    def test_endpoints_say_what_was_seen(self, shop: Handle) -> None:
        found = shop.stack.client.get(f"/v1/environments/{shop.environment_id}/endpoints").json()["data"]
        by_port = {(each["service"], each["port"]): each for each in found["endpoints"]}
        assert set(by_port) == {
            ("api", 8080),
            ("db", 5432),
            ("cache", 6379),
            ("tricks", 8080),
            ("tricks", 9999),
        }
        api = by_port["api", 8080]
        assert (api["exposed"], api["answers"], api["httpStatus"]) == (True, "true", 404)
        assert api["latencyMs"] > 0
        assert "url" not in api, "this cluster has no ingress class"
        assert shop.stack.client.get(api["proxy"] + "products").is_success
        assert api["internal"] == f"api.{shop.namespace}.svc.cluster.local:8080"
        db = by_port["db", 5432]
        assert (db["exposed"], db["answers"]) == (False, "unknown"), "nobody asked it"
        ready = shop.stack.client.get(f"/v1/environments/{shop.environment_id}/endpoints?check=ready").json()
        assert {each["answers"] for each in ready["data"]["endpoints"]} == {"unknown"}

    def test_metrics_are_real_or_absent(self, shop: Handle) -> None:
        def look() -> dict[str, Any]:
            shown = shop.stack.client.get(f"/v1/environments/{shop.environment_id}/metrics")
            found: dict[str, Any] = shown.json()["data"]
            assert found["available"] is True, found
            return {each["service"]: each for each in found["services"]}

        _ask(shop, "POST", "tricks", "/burn")
        try:
            services = eventually(
                # Half a second of a busy machine may pass without a turn of the burning service.
                lambda: (
                    (seen := look())["tricks"]["cpuCores"] > max(0.05, seen["cache"]["cpuCores"]) and seen
                ),
                "it is seen to use processor time",
                within=60,
            )
        finally:
            _ask(shop, "POST", "tricks", "/go?9")
        for name in ("api", "worker", "db", "cache", "tricks"):
            [pod] = services[name]["pods"]
            assert pod["pod"].startswith(f"{name}-")
            assert 100_000 < pod["memoryBytes"] == services[name]["memoryBytes"] < 512 << 20, services[name]
            assert pod["windowSeconds"] >= 0.5
        mute = services["mute"]
        assert "cpuCores" not in mute
        assert "memoryBytes" not in mute
        assert mute["unmeasured"][0]["container"] == "mute"
        assert "executable file not found" in mute["reason"], "it has no shell"

    def test_store_stats_measure_the_volume(self, shop: Handle) -> None:
        def look() -> dict[str, Any]:
            shown = shop.stack.client.get(f"/v1/environments/{shop.environment_id}/store-stats")
            stores = {each["service"]: each for each in shown.json()["data"]["stores"]}
            [volume] = stores["db"]["volumes"]
            return {**volume, "stores": sorted(stores)}

        volume = look()
        assert volume["claim"] == "data-db-0"
        assert volume["phase"] == "Bound"
        assert volume["capacityBytes"] == 1 << 30
        # A fresh PostgreSQL has some 40 MB.
        assert 20 << 20 < volume["usedBytes"] < 400 << 20, volume
        assert volume["growth"]["known"] is False
        assert volume["stores"] == ["cache", "db"]
        rows = shop.stack.rows("select claim, used_bytes from volume_samples")
        assert rows == [("data-db-0", volume["usedBytes"])]

    def test_cost_is_an_estimate_with_its_assumptions(self, shop: Handle) -> None:
        cost = shop.stack.client.get(f"/v1/environments/{shop.environment_id}/cost").json()["data"]
        assert cost["currency"] == "USD"
        assert float(cost["perMonth"]) == pytest.approx(float(cost["perHour"]) * 730, rel=1e-3)
        db = next(each for each in cost["services"] if each["service"] == "db")
        assert (db["cpuCores"], db["storageBytes"]) == (0.1, 1 << 30)

    def test_requests_are_activity(self, shop: Handle) -> None:
        """Noted in memory; the row has it when the process ends in good order."""
        _ask(shop, "GET", "tricks", "/")
        shop.stack.api.stop()
        [(at,)] = shop.stack.rows("select last_active_at from environments where id = ?", shop.environment_id)
        assert at is not None
        shop.stack.start_api()


class TestCommandLine:
    def _perdure(self, shop: Handle, *arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            env=_cli_environment(shop),
            capture_output=True,
            timeout=60,
            check=False,
            **more,
        )

    def test_exec_exits_as_the_command_does(self, shop: Handle) -> None:
        done = self._perdure(
            *(
                shop,
                "env",
                "exec",
                shop.environment_id,
                "api",
                "--",
                "sh",
                "-c",
                "echo out; echo err >&2; exit 9",
            )
        )
        assert (done.returncode, done.stdout, done.stderr) == (9, b"out\n", b"err\n")
        piped = self._perdure(
            shop, "env", "exec", "-i", "shop", "api", "--", "wc", "-c", input=b"x" * 200_000
        )
        assert (piped.returncode, piped.stdout.strip()) == (0, b"200000")
        for program, code, said in (
            ("no-such-program", 127, b"no-such-program: command not found in the container\n"),
            ("/no/such/program", 127, b"/no/such/program: command not found in the container\n"),
            ("/etc/passwd", 126, b"/etc/passwd: permission denied\n"),
        ):
            missing = self._perdure(shop, "env", "exec", "shop", "api", "--", program)
            assert (missing.returncode, missing.stdout, missing.stderr) == (code, b"", said)
        unknown = self._perdure(shop, "env", "exec", "shop", "nobody", "--", "true")
        assert unknown.returncode == 6
        assert b"no service 'nobody'" in unknown.stderr

    def test_port_forward_and_open_lead_to_the_service(self, shop: Handle) -> None:
        for arguments, path in (
            (["port-forward", "shop", "api", "0:http"], "/products"),
            (["open", "--no-browser", "shop", "api"], "/products"),
        ):
            running = subprocess.Popen(
                [sys.executable, "-m", "cli", "env", *arguments],
                env=_cli_environment(shop),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            assert running.stdout is not None
            try:
                lines = iter(running.stdout.readline, b"")
                found = next(m for line in lines if (m := re.search(rb"127\.0\.0\.1:(\d+)", line)))
                answer = httpx2.get(f"http://127.0.0.1:{found[1].decode()}{path}", trust_env=False)
                assert answer.json()["products"]
                running.send_signal(signal.SIGINT)
                assert running.wait(timeout=20) == 130
            finally:
                running.kill()
                running.wait()
                running.stdout.close()

    def test_a_port_that_is_not_declared_is_not_forwarded(self, shop: Handle) -> None:
        done = self._perdure(shop, "env", "port-forward", "shop", "db", "22")
        assert done.returncode == 6
        assert b"It declares: 5432" in done.stderr


def _cli_environment(shop: Handle) -> dict[str, str]:
    token = shop.stack.client.headers["Authorization"].removeprefix("Bearer ")
    url = str(shop.stack.client.base_url)
    return {**os.environ, "PERDURE_URL": url, "PERDURE_API_KEY": token, "PYTHONPATH": str(ROOT)}
