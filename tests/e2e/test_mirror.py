"""A mock beside a service that gets copies of its requests: the service answers, whatever the mock does."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lifecycle import ENDED_SECONDS, change, environment, is_ready, pods_now, update
from tests.e2e.support import SHOP_API, pods, uids
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

_ECHO = r"""
import http.server, json, os, signal, sys, threading, time

seen, slow, leaving = [], threading.Event(), threading.Event()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        if self.headers.get("upgrade") == "echo":
            self.send_response(101); self.send_header("connection", "upgrade")
            self.send_header("upgrade", "echo"); self.end_headers()
            self.wfile.write(self.rfile.readline()); self.close_connection = True
            return
        body = b""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size); self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/seen":
            return self.reply(seen)
        if self.path in ("/hang", "/go"):
            slow.set() if self.path == "/hang" else slow.clear()
            return self.reply(self.path)
        if self.path == "/pieces":
            self.send_response(200); self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked"); self.end_headers()
            for number in range(2):
                self.wfile.write(b"7\r\npiece %d\r\n" % number); self.wfile.flush()
                if number == 0: more.acquire(timeout=60)
            self.wfile.write(b"0\r\n\r\n")
            return
        if self.path == "/more":
            more.release()
            return self.reply("more")
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = {"who": sys.argv[1], "method": self.command, "path": self.path, "length": len(body),
                "headers": headers, "peer": self.client_address[0]}
        seen.append(told)
        while slow.is_set(): time.sleep(0.1)
        self.reply(told, 201 if sys.argv[1] == "real" else 500)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def reply(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("x-accel-redirect", "/elsewhere"); self.send_header("content-length", len(content))
        self.end_headers(); self.wfile.write(content)

    def log_message(self, *_): pass

more = threading.Semaphore(0)
server = http.server.ThreadingHTTPServer(("", 8080), Handler)
server.daemon_threads = True
server.request_queue_size = 128
# Answers on for a while, as a program does that waits until it gets no more requests: a busy node is slow to
# send them elsewhere.
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(12, os._exit, [0]).start())
server.serve_forever()
"""

_CLIENT = r"""
import http.client, json, sys, time
count, path, keep = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "keep"
connection = http.client.HTTPConnection("api", 8080, timeout=30)
answers, took = [], []
for _ in range(count):
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answers.append((answer.status, json.loads(answer.read())["who"]))
    took.append(time.perf_counter() - began)
    if not keep: connection.close()
print(json.dumps({"answers": sorted(set(map(tuple, answers))), "count": len(answers), "longest": max(took),
                  "median": sorted(took)[len(took) // 2], "all": sum(took)}))
"""


def _program(who: str) -> dict[str, Any]:
    return {"image": SHOP_API, "command": ["python3", "-c", _ECHO, who]}


def _blueprint(name: str, mock: dict[str, Any] | None) -> dict[str, Any]:
    port = {"containerPort": 8080, "name": "http"}
    readiness = {"http": {"path": "/seen", "port": 8080}, "periodSeconds": 1}
    api = {**_program("real"), "ports": [port], "probes": {"readiness": {**readiness}}}
    return {
        "name": name,
        "services": {
            "api": {**api, **({"mock": mock} if mock else {})},
            "client": {"image": SHOP_API, "command": ["sleep", "3600"]},
        },
    }


MOCK = {"mode": "mirror", "image": SHOP_API}


@pytest.fixture(scope="module")
def made(stack: Stack) -> Handle:
    """A service whose mock does not start as it is: its environment runs all the same. Then it is mended."""
    handle = stack.create(_blueprint("mirrored", MOCK))
    handle.succeeded(ENDED_SECONDS)
    _mend_mock(handle)
    return handle


def _mend_mock(handle: Handle) -> None:
    """Have the mock answer 500 to all, and remember what it was asked."""
    container = {"name": "api-mock", "command": ["python3", "-c", _ECHO, "mock"]}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    where = ("-n", handle.namespace)
    handle.stack.kubectl(*where, "patch", "deployment", "api-mock", "-p", json.dumps(patch))
    handle.stack.kubectl(*where, "rollout", "status", "deployment", "api-mock", "--timeout=60s")
    eventually(lambda: _say(handle, "api-mock", "/seen", check=False), "the mock answers", within=30)


def _python(handle: Handle, program: str, *arguments: str, check: bool = True) -> str:
    command = ("python3", "-c", program, *arguments)
    return handle.stack.run_in(handle.namespace, "deploy/client", *command, check=check)


def _say(handle: Handle, host: str, path: str, *, check: bool = True) -> str:
    program = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
    return _python(handle, program, f"http://{host}:8080{path}", check=check)


def _ask_many(handle: Handle, count: int, path: str = "/many", *, keep: bool = True) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        _python(handle, _CLIENT, str(count), path, "keep" if keep else "anew")
    )
    assert answer["answers"] == [[201, "real"]]
    assert answer["count"] == count
    return answer


def _raw(handle: Handle, request: bytes, *, padding: int = 0, until: bytes = b"") -> str:
    """Send bytes and so many more to the service; return what comes, up to `until` or the end."""
    program = (
        "import socket, sys; s = socket.create_connection(('api', 8080), 20); "
        "s.sendall(bytes.fromhex(sys.argv[1]) + b'x' * int(sys.argv[3]))\n"
        "until = bytes.fromhex(sys.argv[2]); got = b''\n"
        "while not until or until not in got:\n"
        "    piece = s.recv(65536); got += piece\n"
        "    if not piece: break\n"
        "print(got.decode())"
    )
    return _python(handle, program, request.hex(), until.hex(), str(padding))


def _copies(handle: Handle, path: str) -> list[dict[str, Any]]:
    return [each for each in json.loads(_say(handle, "api-mock", "/seen")) if each["path"] == path]


def test_the_service_answers_and_the_mock_gets_a_copy_without_credentials(made: Handle) -> None:
    path = "/a%2Fb//c?x=1&y=%20z"
    answer = _raw(
        made,
        f"POST {path} HTTP/1.1\r\nHost: shop.test\r\nAuthorization: Bearer s3cret\r\nCookie: a=b\r\n"
        "X-Api-Key: s3cret\r\nx_odd: kept\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello".encode(),
    )
    assert answer.startswith("HTTP/1.1 201")
    assert "x-accel-redirect: /elsewhere" in answer.lower()
    real = json.loads(answer.partition("\r\n\r\n")[2])
    assert (real["who"], real["path"], real["length"]) == ("real", path, 5)
    assert real["headers"]["authorization"] == "Bearer s3cret"
    assert "x-perdure-mirror" not in real["headers"]
    [pod] = pods(made.stack, made.namespace, "api")
    assert real["peer"] == pod["status"]["podIP"]
    copies = eventually(lambda: _copies(made, path), "the mock has its copy", within=20)
    assert [(each["method"], each["length"]) for each in copies] == [("POST", 5)]
    headers = copies[0]["headers"]
    assert {"authorization", "cookie", "x-api-key"}.isdisjoint(headers)
    assert (headers["host"], headers["x_odd"], headers["x-perdure-mirror"]) == ("shop.test", "kept", "1")


def test_requests_through_the_api_are_copied_like_others(made: Handle) -> None:
    path = f"/v1/environments/{made.environment_id}/services/api/proxy/through?the=api"
    answer = made.stack.client.get(path)
    assert (answer.status_code, answer.json()["who"]) == (201, "real")
    eventually(lambda: _copies(made, "/through?the=api"), "the mock has its copy", within=20)


def test_what_is_not_copied_passes_as_it_comes(made: Handle) -> None:
    large = "POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\nConnection: close\r\n\r\n"
    assert '"length": 200000' in _raw(made, large.encode(), padding=200_000)
    chunked = "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert '"length": 3' in _raw(made, f"{chunked}3\r\nabc\r\n0\r\n\r\n".encode())
    upgrade = "GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nto and fro\n"
    assert _raw(made, upgrade.encode(), until=b"fro\n").endswith("to and fro")
    # What was sent after them has come: they would be there if they were copied.
    _ask_many(made, 1, "/last")
    eventually(lambda: _copies(made, "/last"), "the last copy has come", within=20)
    assert [_copies(made, path) for path in ("/large", "/chunked", "/up")] == [[], [], []]


def test_a_stream_of_events_passes_piece_by_piece(made: Handle) -> None:
    # The second piece is sent when the first has come through.
    begin = b"GET /pieces HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert _raw(made, begin, until=b"piece 0").endswith("piece 0")
    _say(made, "api", "/more")


def test_a_mock_that_hangs_or_is_gone_changes_nothing(made: Handle) -> None:
    """Each answer comes from the service; none waits for the mock, whose answer would take for ever."""
    usual = _ask_many(made, 100)
    _say(made, "api-mock", "/hang")
    hanging = _ask_many(made, 300, "/hanging")
    fresh = _ask_many(made, 100, keep=False)
    # More than what may be on its way at once is dropped.
    assert 0 < len(_copies(made, "/hanging")) < 300
    _say(made, "api-mock", "/go")
    where = ("-n", made.namespace)
    made.stack.kubectl(*where, "scale", "deployment/api-mock", "--replicas=0")
    eventually(lambda: not pods(made.stack, made.namespace, "api-mock"), "the mock is gone", within=60)
    gone = _ask_many(made, 300)
    made.stack.kubectl(*where, "delete", "service", "api-mock")
    nameless = _ask_many(made, 100)
    for answers in (usual, hanging, fresh, gone, nameless):
        # A copy is given up after seconds: one that was waited for would be more than all of these.
        assert answers["longest"] < 3
        assert answers["median"] < 0.5


def _masters(uid: str) -> list[int]:
    """The first processes of the proxies of a pod, where they are this machine's."""

    def text(process: Path, name: str) -> str:
        try:
            return (process / name).read_text(errors="replace")
        except OSError:
            return ""  # it has ended meanwhile

    return [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if text(process, "cmdline").startswith("nginx: master") and uid in text(process, "cgroup")
    ]


def test_the_proxy_comes_back_when_it_dies(made: Handle) -> None:
    [pod] = pods(made.stack, made.namespace, "api")
    name = pod["metadata"]["name"]

    def started() -> Any:
        found = made.stack.objects(made.namespace, "pods", "app.kubernetes.io/name=api")
        return found[0]["status"]["initContainerStatuses"][0]["restartCount"]

    written = made.sh(name, "touch /nowhere 2>&1 || id -u", container="perdure-mirror")
    assert written.endswith("65534")
    # As hard as can be: its sockets are left behind. Of a cluster elsewhere it can only be told to end.
    masters = _masters(pod["metadata"]["uid"])
    for process in masters:
        os.kill(process, signal.SIGKILL)
    if not masters:
        made.sh(name, "kill -TERM 1", container="perdure-mirror", check=False)
    eventually(lambda: started() == 1, "it was started again", within=60)
    eventually(lambda: _say(made, "api", "/seen", check=False), "the service answers", within=30)
    assert is_ready(next(iter(pods_now(made, "api").values())))


class _Traffic:
    """Requests one after the other, each on a connection of its own, until the block is left."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self.rounds = 0
        self.fault = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                _ask_many(self._handle, 50, keep=False)
                self.rounds += 1
        except Exception as error:  # noqa: BLE001 - told by the test
            self.fault = repr(error)

    def __enter__(self) -> "_Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _target(handle: Handle) -> Any:
    [service] = handle.stack.objects(handle.namespace, "services", "app.kubernetes.io/name=api")
    return service["spec"]["ports"][0]["targetPort"]


def test_it_lives_with_its_service(stack: Stack, name: str) -> None:
    """Added, scaled, stopped, resumed, restarted, taken away: the service answers all the time it runs.

    A service that does not become ready with its mirror goes back to what it was without.
    """
    handle = stack.create(_blueprint(name, None))
    handle.succeeded(ENDED_SECONDS)
    assert _target(handle) == 8080
    broken = _blueprint(name, MOCK)
    broken["services"]["api"]["command"] = ["sh", "-c", "exit 3"]
    with _Traffic(handle) as traffic:
        assert update(handle, broken).ended(ENDED_SECONDS)["state"] == "rolled_back"
        assert _target(handle) == 8080
        assert not [each for each in uids(stack, handle.namespace) if each.endswith("/api-mock")]
        update(handle, _blueprint(name, MOCK)).succeeded(ENDED_SECONDS)
        assert _target(handle) == 18080
        change(handle, "scale", service="api", replicas=2).succeeded(ENDED_SECONDS)
        assert [len(pods_now(handle, each)) for each in ("api", "api-mock")] == [2, 1]
    assert (traffic.fault, traffic.rounds > 0) == ("", True)

    change(handle, "stop").succeeded(ENDED_SECONDS)
    assert [pods(stack, handle.namespace, each) for each in ("api", "api-mock")] == [[], []]
    change(handle, "resume").succeeded(ENDED_SECONDS)
    assert [len(pods_now(handle, each)) for each in ("api", "api-mock")] == [2, 1]
    mock_before = set(pods_now(handle, "api-mock"))
    change(handle, "restart", service="api").succeeded(ENDED_SECONDS)
    assert mock_before.isdisjoint(pods_now(handle, "api-mock"))

    with _Traffic(handle) as traffic:
        update(handle, _blueprint(name, None)).succeeded(ENDED_SECONDS)
    assert (traffic.fault, traffic.rounds > 0) == ("", True)
    assert _target(handle) == 8080
    left = uids(stack, handle.namespace)
    assert [each for each in left if each.endswith("/api-mock")] == []
    assert environment(handle)["status"] == "running"
