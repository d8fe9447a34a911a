"""Seeds over HTTP on the real cluster: one row, when the application knows keys, whoever dies in between."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.e2e.kills import await_moments, kill_worker
from tests.e2e.lifecycle import change
from tests.e2e.shop import assert_ledger_tells_a_success
from tests.e2e.support import SHOP_API, states
from tests.e2e.test_seeds import ENDED_SECONDS, TOKEN, Moment, _name
from tests.helpers.kube_gate import Hold
from tests.helpers.stack import Handle, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
GATED = True

_APP = """
import http.server, json, os, threading

rows, keys, lock, go = [], {}, threading.Lock(), threading.Event()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/go": go.set()
        self.reply(200, rows)

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"null")
        path, key = self.path.partition("?")[0], self.headers["idempotency-key"]
        if path == "/refuse":
            return self.reply(422, {"refused": said, "with": self.headers.get("authorization")})
        if path == "/broken":
            rows.append(said)
            return self.reply(500, "broken on purpose")
        if path == "/cut":
            rows.append(said)
            self.close_connection = True
            return self.connection.shutdown(2)
        with lock:
            known = keys.get(key) if path != "/keyless" else None
            if known is None:
                keys[key] = "at work"
                rows.append({**said, "path": self.path, "token": self.headers.get("authorization")})
        if known is None:
            if said.get("waits"): go.wait()
            keys[key] = "done"
        self.reply(409 if known == "at work" else 201, known or "made")

    def reply(self, status, content):
        content = json.dumps(content).encode()
        try:
            self.send_response(status)
            self.send_header("content-length", str(len(content))); self.end_headers()
            self.wfile.write(content)
        except OSError:
            pass  # whoever asked is gone

    def log_request(self, *_): pass

http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def _app(name: str) -> dict[str, Any]:
    """An application that makes a row of each request, once for each key; `/keyless` does not look at it."""
    web = {
        "image": SHOP_API,
        "command": ["python3", "-c", _APP],
        "ports": [{"containerPort": 9999, "name": "nobody"}, {"containerPort": 8080, "name": "http"}],
        "expose": {"port": "http"},
        "secrets": [{"name": "token", "envKey": "UNUSED", "value": TOKEN}],
        "resources": {"cpu": "10m", "memory": "32Mi"},
        "probes": {"readiness": {"tcp": {"port": 8080}, "periodSeconds": 1}},
    }
    return {"name": name, "services": {"web": web}}


def _seed(handle: Handle, who: str, path: str = "/rows", *, force: bool = False, **http: Any) -> Handle:
    """Ask for a row and return a handle on the operation."""
    request = {"path": path, "body": {"who": who}, **http}
    return change(handle, "seed", type="http", service="web", http=request, force=force)


def _rows(handle: Handle, path: str = "/") -> list[dict[str, Any]]:
    url = f"/v1/environments/{handle.environment_id}/services/web/proxy{path}"
    answer = handle.stack.client.get(url)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def _count(handle: Handle, who: str) -> int:
    return sum(each["who"] == who for each in _rows(handle))


def _outcome(handle: Handle) -> str:
    operation = handle.succeeded(ENDED_SECONDS)
    assert states(operation) == {"namespace": "succeeded", "seed": "succeeded"}
    return str(handle.step("seed")["output"]["outcome"])


def _failure(handle: Handle) -> dict[str, Any]:
    operation = handle.ended(ENDED_SECONDS)
    assert operation["state"] == "failed"
    told: dict[str, Any] = operation["failure"]
    assert told["kind"] == "hook_failed"
    return told


@pytest.fixture(scope="module")
def web(stack: Stack) -> Handle:
    """An environment that runs."""
    handle = stack.create(_app(_name()))
    handle.succeeded(ENDED_SECONDS)
    return handle


def test_a_package_makes_one_row_for_its_parameters_unless_it_is_forced(stack: Stack, web: Handle) -> None:
    package = {
        "name": "visit",
        "version": "1.0.0",
        "type": "http",
        "service": "web",
        "http": {
            "path": "/rows?who=${{ who }}",
            "headers": {"Authorization": "Bearer ${{ token }}"},
            "body": {"who": "${{ who }}"},
            "expect": [201],
        },
        "parameters": [{"name": "who", "required": True}, {"name": "token", "secret": True}],
    }
    assert stack.client.post("/v1/seeds/publish", json=package).status_code == 201
    who = 'a&b="ü" ${{ who }}'

    def run(**body: Any) -> Handle:
        values = {"parameters": {"who": who, "token": "token"}, **body}
        answer = stack.client.post(f"/v1/seeds/run/visit/{web.environment_id}", json=values)
        assert answer.status_code == 202, answer.text
        return Handle(stack, web.environment_id, web.namespace, answer.json()["data"]["id"])

    first = run()
    assert (_outcome(first), _count(web, who)) == ("applied", 1)
    assert first.step("seed")["output"]["status"] == 201
    [row] = [each for each in _rows(web) if each["who"] == who]
    assert row["token"] == f"Bearer {TOKEN}"
    assert row["path"] == "/rows?who=a%26b%3D%22%C3%BC%22%20%24%7B%7B%20who%20%7D%7D"
    assert (_outcome(run()), _count(web, who)) == ("already", 1)
    assert (_outcome(run(force=True)), _count(web, who)) == ("applied", 2)
    assert (_outcome(run()), _count(web, who)) == ("already", 2)
    kept = [
        *(each.read_bytes() for each in stack.directory.rglob("*") if each.is_file()),
        json.dumps(stack.objects(web.namespace, "configmaps,pods")).encode(),
    ]
    assert all(TOKEN.encode() not in each for each in kept)
    assert web.status()["phase"] == "running"


def test_a_refusal_is_told_without_secrets_and_is_no_bar_to_a_new_run(web: Handle) -> None:
    headers = {"Authorization": "Bearer ${{ token }}"}
    request = {"path": "/refuse", "headers": headers, "body": {"who": "refused"}}
    asked = change(web, "seed", type="http", service="web", http=request, secrets={"token": "token"})
    told = _failure(asked)
    assert "answered with status 422" in told["message"]
    assert "Bearer [redacted]" in told["message"]
    assert "Bearer [redacted]" in told["evidence"][0]["log"]
    again = change(web, "seed", type="http", service="web", http=request, secrets={"token": "token"})
    assert "answered with status 422" in _failure(again)["message"]


def test_what_may_have_been_done_is_not_done_again_by_itself(web: Handle) -> None:
    for path, who in (("/broken", "broken"), ("/cut", "cut")):
        first = _seed(web, who, path)
        assert "It may have been done." in _failure(first)["message"]
        refused = _seed(web, who, path)
        assert "was sent when it was run before" in _failure(refused)["message"]
        assert _count(web, who) == 1
        _failure(refused.retry())
        assert _count(web, who) == 2


def test_nothing_that_listens_is_nothing_that_was_done(web: Handle) -> None:
    told = _failure(_seed(web, "nobody", port="nobody"))
    assert "connection refused. Nothing of it has come to the service" in told["message"]
    assert "Nothing of it has come" in _failure(_seed(web, "nobody", port="nobody"))["message"]


_WRITTEN = r".*/namespaces/{namespace}/configmaps"
_KNOWS_KEYS = {"idempotent": True}
MOMENTS = {
    "before the way to the pod": Moment(
        _KNOWS_KEYS, r"GET .*/namespaces/{namespace}/pods/web-[^/]*/portforward\?", "before"
    ),
    "before it is written down": Moment(_KNOWS_KEYS, rf"POST {_WRITTEN}\?", "before"),
    "after it is written down": Moment(_KNOWS_KEYS, rf"POST {_WRITTEN}\?"),
    "after the answer": Moment(_KNOWS_KEYS, rf"PATCH {_WRITTEN}/web-seed-", "before"),
    "after the answer is written down": Moment(_KNOWS_KEYS, rf"PATCH {_WRITTEN}/web-seed-"),
    "before the end is in the ledger": Moment(_KNOWS_KEYS),
}
AT_WORK = "while the application is at work on it"
KEYLESS = "while an application without keys is at work on it"
WAITING: dict[str, dict[str, Any]] = {
    AT_WORK: {**_KNOWS_KEYS, "body": {"who": "killed", "waits": True}},
    KEYLESS: {"path": "/keyless", "body": {"who": "killed", "waits": True}},
}


@dataclass
class Killed:
    """The seeds by the moment at which their worker was killed."""

    handles: dict[str, Handle] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)


def _has_row(handle: Handle) -> bool:
    return _count(handle, "killed") == 1


@pytest.fixture(scope="module")
def killed(stack: Stack) -> Killed:
    """Hold a seed at each moment, kill the worker under all of them, let go, start it again."""
    killed = Killed()
    made = {case: stack.create(_app(_name())) for case in (*MOMENTS, *WAITING)}
    for handle in made.values():
        handle.succeeded(ENDED_SECONDS)
    reached: dict[str, Callable[[], bool]] = {}
    with ExitStack() as until_dead:
        holds: list[Hold] = []
        for case, handle in made.items():
            if case in WAITING:
                killed.handles[case] = _seed(handle, "killed", **WAITING[case])
                reached[case] = partial(_has_row, handle)
                continue
            moment = MOMENTS[case]
            if moment.request:
                pattern = moment.request.replace("{namespace}", handle.namespace)
                holds.append(until_dead.enter_context(stack.gate.hold(pattern, moment.side, every=True)))
                reached[case] = holds[-1].seen.is_set
            else:
                [(name,)] = stack.rows("select name from environments where id = ?", handle.environment_id)
                reached[case] = until_dead.enter_context(stack.state_refused(name, "succeeded"))
            killed.handles[case] = _seed(handle, "killed", **moment.seed)
        killed.reached = await_moments(reached)
        kill_worker(stack, holds)
    for case in WAITING:
        _rows(made[case], "/go")
    stack.worker.start()
    return killed


@pytest.mark.parametrize("case", [*MOMENTS, AT_WORK])
def test_killed(stack: Stack, killed: Killed, case: str) -> None:
    handle = killed.handles[case]
    assert killed.reached[case], f"the worker was never seen: {case}"
    assert _outcome(handle) == "applied"
    assert _count(handle, "killed") == 1
    assert_ledger_tells_a_success(stack, handle)
    asked = WAITING[case] if case in WAITING else MOMENTS[case].seed
    assert _outcome(_seed(handle, "killed", **asked)) == "already"
    assert _count(handle, "killed") == 1


def test_killed_while_an_application_without_keys_is_at_work(killed: Killed) -> None:
    handle = killed.handles[KEYLESS]
    assert killed.reached[KEYLESS], "the application never got it"
    assert "was cut off after it was sent. It may have been done." in _failure(handle)["message"]
    assert _count(handle, "killed") == 1
