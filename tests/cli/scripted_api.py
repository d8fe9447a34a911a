"""A small real HTTP server that answers as a test says, and an operation that goes on while it is watched."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = Any
ENVIRONMENT_ID = "env_01K0000000000000000000SHOP"
OPERATION_ID = "op_01K0000000000000000000PROV"
API_KEY = "pdr_planted-key-that-nobody-may-see"


@dataclass(frozen=True)
class Request:
    """What the server was sent."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Json


@dataclass(frozen=True)
class Reply:
    """A whole answer. `body` None: no content."""

    status: int = 200
    body: Json = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None


@dataclass(frozen=True)
class Hangup:
    """Close the connection without an answer."""


@dataclass(frozen=True)
class Stream:
    """An SSE answer; its end is a cut in the middle, unless `clean`."""

    frames: Iterator[str]
    clean: bool = False


Answer = Reply | Hangup | Stream
Handler = Callable[[Request], Answer]


def data(value: Json, status: int = 200, **meta: Json) -> Reply:
    """A success in the API's envelope."""
    return Reply(status, {"data": value, "meta": {"requestId": "req_1", **meta}})


def problem(status: int, code: str, detail: str, **more: Json) -> Reply:
    """A problem document."""
    body = {"type": f"/problems/{code}", "title": code, "status": status, "detail": detail, "code": code}
    return Reply(status, {**body, "requestId": "req_1", **more}, {"Content-Type": "application/problem+json"})


class ScriptedApi:
    """The server. `on` sets the answers of a route in order; the last one stays."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._routes: dict[tuple[str, str], list[Answer | Handler]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler_class())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def on(self, method: str, path: str, *answers: Answer | Handler) -> None:
        self._routes[method, path] = list(answers)

    def sent(self, method: str, path: str) -> list[Request]:
        return [each for each in self.requests if (each.method, each.path) == (method, path)]

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            answers = self._routes.get((request.method, request.path))
            if not answers:
                return problem(404, "not_found", f"There is nothing at {request.path}.")
            chosen = answers.pop(0) if len(answers) > 1 else answers[0]
        return chosen(request) if callable(chosen) else chosen

    @contextmanager
    def running(self) -> Iterator["ScriptedApi"]:
        self._thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _handler_class(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                text = self.rfile.read(length)
                request = Request(
                    self.command,
                    parts.path,
                    dict(parse_qsl(parts.query)),
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(text) if text else None,
                )
                answer = api.answer(request)
                if isinstance(answer, Hangup):
                    self.close_connection = True
                elif isinstance(answer, Stream):
                    self._stream(answer)
                else:
                    self._reply(answer)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the base class's spelling

            def _reply(self, reply: Reply) -> None:
                content = b"" if reply.body is None else json.dumps(reply.body).encode()
                content = content if reply.raw is None else reply.raw
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _stream(self, stream: Stream) -> None:
                self.close_connection = True
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for frame in stream.frames:
                        content = frame.encode()
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
                        self.wfile.flush()
                    if stream.clean:
                        self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    return

            def log_message(self, *_: object) -> None:
                return

        return Handler


def environment(status: str = "running", **more: Json) -> dict[str, Json]:
    """An environment as the API writes it."""
    return {
        "id": ENVIRONMENT_ID,
        "name": "shop",
        "description": "",
        "organizationId": "org_1",
        "cluster": "local",
        "namespace": "shop-1",
        "status": status,
        "conditions": [],
        "revision": 1,
        "services": [
            {
                "name": "api",
                "kind": "service",
                "image": "example/api:1",
                "replicas": 2,
                "ready": 2,
                "restarts": 0,
                "endpoints": ["http://api-shop.perdure.localhost/"],
            }
        ],
        "protected": False,
        "labels": {},
        "createdAt": "2026-11-22T10:00:00Z",
        "updatedAt": "2026-11-22T10:00:00Z",
        **more,
    }


@dataclass
class LiveOperation:
    """An operation that gets on as its stream is read: what a read answers is what was streamed so far.

    `changes`: (step or None for the operation itself, fields). `cuts`: after these numbers the connection is
    cut. `paced`: the stream waits for a permit before each change. `waits`: what each step depends on. At the
    end of the changes the stream stays open and silent until the server stops.
    """

    api: ScriptedApi
    changes: list[tuple[str | None, dict[str, Json]]]
    steps: tuple[str, ...] = ("namespace", "service/db", "service/api")
    kind: str = "provision"
    cuts: tuple[int, ...] = ()
    at_end: dict[str, Json] = field(default_factory=dict)
    paced: threading.Semaphore | None = None
    waits: dict[str, list[str]] = field(default_factory=dict)
    streamed: int = 0
    resumed_after: list[str | None] = field(default_factory=list)
    _read: threading.Event = field(default_factory=threading.Event)

    def install(self) -> None:
        self.api.on("GET", f"/v1/operations/{OPERATION_ID}", self.read)
        self.api.on("GET", f"/v1/operations/{OPERATION_ID}/events", self.stream)

    def read(self, _: Request) -> Reply:
        reply = data(self.document())
        self._read.set()
        return reply

    def document(self) -> dict[str, Json]:
        state: dict[str, Json] = {"state": "accepted"}
        steps = {name: {"state": "pending", "attempt": 0} for name in self.steps}
        for step, fields in self.changes[: self.streamed]:
            (steps[step] if step else state).update(fields)
        over = state["state"] in {"succeeded", "failed", "cancelled", "rolled_back"}
        return {
            "id": OPERATION_ID,
            "kind": self.kind,
            "environmentId": ENVIRONMENT_ID,
            "environmentName": "shop",
            "requestedBy": "key_1",
            "createdAt": "2026-11-22T10:00:00Z",
            "startedAt": "2026-11-22T10:00:00Z",
            "workflowId": f"provision/shop/{OPERATION_ID}",
            "temporalUrl": "http://127.0.0.1:8233/w",
            "progress": {
                "done": sum(fields["state"] == "succeeded" for fields in steps.values()),
                "total": len(steps),
                "running": [name for name, fields in steps.items() if fields["state"] == "running"],
            },
            "steps": [
                {
                    "name": name,
                    "kind": name.partition("/")[0],
                    "service": name.partition("/")[2] or None,
                    "dependsOn": self.waits.get(name, []),
                    **fields,
                }
                for name, fields in steps.items()
            ],
            **state,
            **(self.at_end if over else {}),
        }

    def stream(self, request: Request) -> Answer:
        last = request.headers.get("last-event-id")
        self.resumed_after.append(last)
        return Stream(self._frames(int(last or 0)))

    def _frames(self, after: int) -> Iterator[str]:
        yield "retry: 1000\n\n"
        # Nothing happens before the watcher has seen the beginning: what it tells is the same each time.
        self._read.wait(10)
        for number, (step, fields) in enumerate(self.changes, start=1):
            if number <= after:
                continue
            if self.paced is not None:
                self.paced.acquire(timeout=60)
            self.streamed = max(self.streamed, number)
            event = {
                "number": number,
                "type": "step" if step else "operation",
                "environmentId": ENVIRONMENT_ID,
                "operationId": OPERATION_ID,
                "at": "2026-11-22T10:00:05Z",
                "data": {"operationId": OPERATION_ID, **({"step": step} if step else {}), **fields},
            }
            yield f"id: {number}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n"
            if number in self.cuts:
                return
        yield ": ping\n\n"
        self.api.closing.wait()


def running(step: str, attempt: int = 1) -> tuple[str, dict[str, Json]]:
    return step, {"state": "running", "attempt": attempt, "startedAt": "2026-11-22T10:00:01Z"}


def held_up(step: str, *blockers: Json) -> tuple[str, dict[str, Json]]:
    return step, {**running(step)[1], "blockedBy": list(blockers)}


def succeeded(step: str, attempt: int = 1) -> tuple[str, dict[str, Json]]:
    return step, {"state": "succeeded", "attempt": attempt, "finishedAt": "2026-11-22T10:00:03Z"}


def failed(step: str, failure: Json) -> tuple[str, dict[str, Json]]:
    return step, {"state": "failed", "attempt": 1, "finishedAt": "2026-11-22T10:00:03Z", "failure": failure}


def operation(state: str, **more: Json) -> tuple[None, dict[str, Json]]:
    return None, {"state": state, **more}
