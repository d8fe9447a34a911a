"""`env logs -f` and `env watch`: streams that are taken up again where they were cut."""

import json
from collections.abc import Iterator

from tests.cli.conftest import Run
from tests.cli.scripted_api import (
    ENVIRONMENT_ID,
    OPERATION_ID,
    LiveOperation,
    ScriptedApi,
    Stream,
    data,
    operation,
    problem,
    running,
    succeeded,
)

LOGS = f"/v1/environments/{ENVIRONMENT_ID}/logs/stream"
EVENTS = f"/v1/environments/{ENVIRONMENT_ID}/events"


def log_frames(*lines: tuple[str, int, str]) -> Iterator[str]:
    """Lines of pods (name, second, text) as the stream has them."""
    for pod, second, text in lines:
        at = f"2026-01-01T00:00:{second:02d}.000000000Z"
        entry = {"service": "api", "pod": pod, "container": "api", "timestamp": at, "line": text}
        yield f"id: {at}\nevent: log\ndata: {json.dumps({'type': 'log', **entry})}\n\n"


def test_followed_lines_come_once_over_a_cut(api: ScriptedApi, run: Run) -> None:
    first = Stream(log_frames(("a", 1, "one"), ("b", 3, "two")))
    second = Stream(log_frames(("a", 1, "one"), ("a", 2, "late"), ("b", 3, "two"), ("b", 4, "three")))
    api.on("GET", LOGS, first, second, problem(401, "unauthenticated", "The API key is revoked."))
    result = run("env", "logs", ENVIRONMENT_ID, "-f", "--tail", "5", "-s", "api")
    assert result.stdout.splitlines() == ["one", "two", "late", "three"]
    assert "revoked" in result.stderr
    assert result.exit_code != 0
    begun, resumed, _ = api.sent("GET", LOGS)
    assert begun.query == {"service": "api", "tail": "5"}
    assert resumed.query == {"service": "api"}, "what it began with is not read again"
    assert resumed.headers["last-event-id"] == "2026-01-01T00:00:03.000000000Z"


def test_following_excludes_the_run_before(run: Run) -> None:
    assert run("env", "logs", ENVIRONMENT_ID, "-f", "--previous").exit_code == 2


def test_watch_prints_lines_over_cuts_until_it_is_refused(api: ScriptedApi, run: Run) -> None:
    live = LiveOperation(
        api, [operation("running"), running("namespace"), succeeded("namespace")], cuts=(2, 3)
    )
    live.install()
    api.on("GET", "/v1/operations", data([live.document()]))
    gone = problem(404, "not_found", "The environment is gone.")
    api.on("GET", EVENTS, live.stream, live.stream, gone)
    result = run("env", "watch", ENVIRONMENT_ID)
    assert result.exit_code == 6
    steps = [line.split()[1:3] for line in result.stderr.splitlines() if "namespace" in line]
    assert steps == [["running", "namespace"], ["succeeded", "namespace"]]
    assert live.resumed_after == [None, "2"]
    assert OPERATION_ID in result.stderr


def test_watch_tells_what_was_forgotten_and_goes_on_after_it(api: ScriptedApi, run: Run) -> None:
    live = LiveOperation(api, [operation("running"), running("namespace")])
    live.install()
    live.streamed = 2
    api.on("GET", "/v1/operations", data([live.document()]))
    told = {"number": 9, "type": "gap", "environmentId": ENVIRONMENT_ID, "data": {"from": 4, "to": 9}}
    gap = f"id: 9\nevent: gap\ndata: {json.dumps(told)}\n\n"
    over = problem(404, "not_found", "The environment is gone.")
    api.on("GET", EVENTS, Stream(iter([gap])), over)
    result = run("env", "watch", ENVIRONMENT_ID)
    assert result.stderr.count("events 4 to 9 are forgotten") == 1
    assert "running    namespace" in result.stderr, "what they led to is read"
    assert [each.headers.get("last-event-id") for each in api.sent("GET", EVENTS)] == [None, "9"]
