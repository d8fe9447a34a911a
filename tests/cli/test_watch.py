"""Following operations: progress, resumed streams, time limits, Ctrl-C, and how failures are told."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cli.client import Backoff
from cli.follow import fold
from cli.models import Operation
from cli.text import plain
from tests.cli.conftest import ROOT, Run, stdout_json
from tests.cli.scripted_api import (
    ENVIRONMENT_ID,
    OPERATION_ID,
    Hangup,
    LiveOperation,
    Reply,
    Request,
    ScriptedApi,
    Stream,
    data,
    environment,
    failed,
    held_up,
    operation,
    problem,
    running,
    succeeded,
)

Live = Callable[..., LiveOperation]
Process = tuple[list[str], dict[str, str]]

HAPPY = (
    operation("running"),
    running("namespace"),
    succeeded("namespace"),
    running("service/db"),
    running("service/db", attempt=2),
    succeeded("service/db", attempt=2),
    running("service/api"),
    succeeded("service/api"),
    operation("succeeded", finishedAt="2026-11-22T10:00:09Z"),
)
FAILURE = {
    "kind": "crash_loop",
    "message": "The container exits with code 1.",
    "help": "The container keeps exiting.",
    "step": "service/api",
    "retryable": False,
    "blockedBy": [],
    "evidence": [
        {
            "pod": "api-7d",
            "container": "api",
            "collectedAt": "2026-11-22T10:00:03Z",
            "events": [
                {
                    "at": None,
                    "type": "Warning",
                    "reason": "BackOff",
                    "object": "Pod/api-7d",
                    "message": "Back-off restarting",
                    "count": 3,
                }
            ],
            "log": "",
            "previousLog": "starting\n\x1b[2Jno database [at all]\n",
        }
    ],
}


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "seconds", lambda self, attempt: 0.01)


def accept(api: ScriptedApi) -> None:
    api.on(
        "POST",
        "/v1/environments",
        data(environment("provisioning", operation={"id": OPERATION_ID, "state": "accepted"}), 202),
    )
    api.on("GET", f"/v1/environments/{ENVIRONMENT_ID}", data(environment()))
    api.on("GET", "/v1/environments", data([environment()]))


def test_create_waits_and_tells_each_change_once(
    api: ScriptedApi, run: Run, live: Live, blueprint: Path
) -> None:
    accept(api)
    live(*HAPPY)
    result = run("env", "create", "-f", str(blueprint))
    assert result.exit_code == 0
    told = [line.split(maxsplit=1)[1] for line in result.stderr.splitlines() if line[2:3] == ":"]
    assert told == [
        f"accepted   provision {OPERATION_ID}",
        f"running    provision {OPERATION_ID}",
        "running    namespace",
        "succeeded  namespace (2.0s)",
        "running    service/db",
        "running    service/db: attempt 2",
        "succeeded  service/db (2.0s): attempt 2",
        "running    service/api",
        "succeeded  service/api (2.0s)",
        f"succeeded  provision {OPERATION_ID} (9.0s)",
    ]
    assert "http://api-shop.perdure.localhost/" in result.stdout
    (request,) = api.sent("POST", "/v1/environments")
    assert request.body == {"blueprint": blueprint.read_text(encoding="utf-8")}
    assert request.headers["idempotency-key"]


def test_json_has_standard_output_for_itself(api: ScriptedApi, run: Run, live: Live, blueprint: Path) -> None:
    accept(api)
    live(*HAPPY)
    result = run("env", "create", "-f", str(blueprint), "-o", "json")
    assert result.exit_code == 0
    assert stdout_json(result) == environment()


def test_no_wait_returns_at_once(api: ScriptedApi, run: Run, blueprint: Path) -> None:
    accept(api)
    result = run(
        "env", "create", "-f", str(blueprint), "--no-wait", "--name", "shop-2", "--plan", "production"
    )
    assert result.exit_code == 0
    assert f"perdure op watch {OPERATION_ID}" in result.stderr
    assert [request.path for request in api.requests] == ["/v1/environments"]
    body = api.requests[0].body
    assert (body["name"], body["plan"]) == ("shop-2", "production")


def test_a_cut_stream_is_resumed_where_it_ended(run: Run, live: Live) -> None:
    script = live(*HAPPY, cuts=(3, 5))
    result = run("op", "watch", OPERATION_ID)
    assert result.exit_code == 0
    assert script.resumed_after == [None, "3", "5"]
    assert result.stderr.count("succeeded  namespace") == 1


def test_a_stream_that_only_pings_is_overtaken_by_reading(
    api: ScriptedApi, run: Run, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.follow.REREAD_SECONDS", 0.05)
    script = live(*HAPPY)
    script.streamed = 3
    api.on("GET", f"/v1/operations/{OPERATION_ID}/events", lambda _: Stream(silence(api)))

    def later(_: Request) -> Reply:
        script.streamed = min(script.streamed + 3, len(HAPPY))
        return data(script.document())

    api.on("GET", f"/v1/operations/{OPERATION_ID}", later)
    assert run("op", "watch", OPERATION_ID).exit_code == 0


def test_an_api_that_restarts_is_waited_for(api: ScriptedApi, run: Run, live: Live) -> None:
    script = live(*HAPPY, cuts=(4,))
    api.on(
        "GET",
        f"/v1/operations/{OPERATION_ID}/events",
        script.stream,
        Hangup(),
        problem(503, "unavailable", "The database does not answer."),
        script.stream,
    )
    assert run("op", "watch", OPERATION_ID).exit_code == 0
    assert script.resumed_after == [None, "4"]


def test_the_time_limit_ends_the_waiting_only(api: ScriptedApi, run: Run, live: Live) -> None:
    live(*HAPPY[:4])
    began = time.monotonic()
    result = run("op", "watch", OPERATION_ID, "--timeout", "0.3s")
    assert result.exit_code == 5
    assert time.monotonic() - began < 3
    assert f"perdure op watch {OPERATION_ID}" in result.stderr
    assert "goes on" in result.stderr
    assert {request.method for request in api.requests} == {"GET"}


def test_a_failure_is_told_with_evidence_and_what_to_do(
    api: ScriptedApi, run: Run, live: Live, blueprint: Path
) -> None:
    accept(api)
    live(
        operation("running"),
        running("service/api"),
        failed("service/api", {**FAILURE, "evidence": ["evidence/key.json"]}),
        operation("failed"),
        at_end={"failure": FAILURE, "finishedAt": "2026-11-22T10:00:09Z"},
    )
    result = run("env", "create", "-f", str(blueprint))
    assert result.exit_code == 1
    assert result.stdout == ""
    for expected in (
        "crash_loop in step service/api: The container exits with code 1.",
        "The container keeps exiting.",
        "BackOff: Back-off restarting (x3)",
        "Last log lines before the restart of api-7d/api",
        "    no database [at all]",
        "perdure env logs shop --service api",
        "perdure env retry shop",
    ):
        assert expected in result.stderr
    assert "\x1b" not in result.stderr


def test_a_refusal_by_policy_has_its_own_code(run: Run, live: Live) -> None:
    live(operation("failed"), at_end={"failure": {"kind": "policy_denied", "message": "Not on Fridays."}})
    result = run("op", "watch", OPERATION_ID)
    assert result.exit_code == 7
    assert "Not on Fridays." in result.stderr


def test_a_blocked_delete_names_object_and_finalizer(api: ScriptedApi, run: Run, live: Live) -> None:
    accept(api)
    blocked = {"object": "ConfigMap/held", "finalizers": ["example.com/hold"]}
    live(
        operation("failed"),
        kind="delete",
        at_end={"failure": {"kind": "timeout", "message": "Still there.", "blockedBy": [blocked]}},
    )
    api.on(
        "DELETE", f"/v1/environments/{ENVIRONMENT_ID}", data({"id": OPERATION_ID, "state": "accepted"}, 202)
    )
    result = run("env", "delete", "shop", "--yes")
    assert result.exit_code == 1
    assert "ConfigMap/held (example.com/hold)" in result.stderr
    assert "perdure env delete shop" in result.stderr


@pytest.mark.parametrize(
    ("kind", "says", "not_said"),
    [
        ("provision", ["env retry shop   once the cause is gone; done steps", "env delete shop"], []),
        ("snapshot", ["snapshot create shop   once the cause is gone"], ["env retry", "env delete"]),
        ("seed", ["env retry shop   once the cause is gone"], ["done steps", "env delete"]),
        ("restore", ["env retry shop   once the cause is gone; all data are loaded again"], ["env delete"]),
    ],
)
def test_what_to_do_next_goes_by_what_failed(
    run: Run, live: Live, kind: str, says: list[str], not_said: list[str]
) -> None:
    live(operation("failed"), kind=kind, at_end={"failure": {"kind": "timeout", "message": "Too late."}})
    told = run("op", "watch", OPERATION_ID).stderr
    assert [each for each in says if each not in told] == []
    assert [each for each in not_said if each in told] == []


@pytest.mark.parametrize("state", ["rolled_back", "cancelled"])
@pytest.mark.parametrize("kind", ["update", "scale", "restore"])
def test_what_was_taken_back_is_asked_for_again_and_not_retried(
    run: Run, live: Live, kind: str, state: str
) -> None:
    live(operation(state), kind=kind, at_end={"cleanup": {"complete": True}})
    told = run("op", "watch", OPERATION_ID).stderr
    assert f"shop is as it was: ask for the {kind} again" in told
    assert "env retry" not in told


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("restore", "perdure snapshot restore snap_1 --in-place shop --masking FILE   with rules that fit"),
        ("replay", "perdure replay shop --snapshot snap_1 --masking FILE   with rules that fit"),
    ],
)
def test_rules_that_do_not_fit_are_not_tried_again(run: Run, live: Live, kind: str, says: str) -> None:
    unfit = {"kind": "masking_invalid", "message": "They do not fit; and 1 more.", "step": "masking"}
    kept = {"pod": "", "container": "", "log": "services.db.columns[0]: one\nservices.db.columns[1]: two\n"}
    live(
        operation("failed"),
        kind=kind,
        at_end={"snapshotId": "snap_1", "failure": {**unfit, "evidence": [kept]}},
    )
    told = run("op", "watch", OPERATION_ID).stderr
    assert says in told
    assert "env retry" not in told
    assert "  In full:\n    services.db.columns[0]: one\n    services.db.columns[1]: two\n" in told


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("restore", "perdure snapshot restore snap_1 --in-place shop   with the options that it had"),
        ("replay", "perdure replay shop --snapshot snap_1   with the options that it had"),
    ],
)
def test_one_that_touched_nothing_is_asked_for_again(run: Run, live: Live, kind: str, says: str) -> None:
    unread = {"kind": "store_unavailable", "message": "The store is away.", "step": "check/db"}
    end = {"snapshotId": "snap_1", "failure": unread, "cleanup": {"complete": True}}
    live(operation("failed"), kind=kind, at_end=end)
    told = run("op", "watch", OPERATION_ID).stderr
    assert "It was refused before it touched anything: the environment is as it was." in told
    assert says in told
    assert "env retry" not in told


def test_what_holds_a_step_up_is_told_when_it_changes(run: Run, live: Live) -> None:
    held = {"object": "ConfigMap/held", "finalizers": ["example.com/hold"]}
    live(
        operation("running"),
        running("namespace"),
        held_up("namespace", held),
        held_up("namespace", held),
        held_up("namespace", held, {"object": "Pod/late", "finalizers": []}),
        held_up("namespace"),
        succeeded("namespace"),
        operation("succeeded"),
    )
    result = run("op", "watch", OPERATION_ID)
    told = [line.split(maxsplit=1)[1] for line in result.stderr.splitlines() if " namespace" in line]
    assert told == [
        "running    namespace",
        "running    namespace: held up by ConfigMap/held (example.com/hold)",
        "running    namespace: held up by ConfigMap/held (example.com/hold); Pod/late",
        "running    namespace",
        "succeeded  namespace (2.0s)",
    ]


def test_retry_waits_for_its_own_operation(api: ScriptedApi, run: Run, live: Live) -> None:
    accept(api)
    live(*HAPPY)
    api.on(
        "POST",
        f"/v1/environments/{ENVIRONMENT_ID}/retry",
        data({"id": OPERATION_ID, "state": "accepted"}, 202),
    )
    result = run("env", "retry", "shop", "-o", "yaml")
    assert result.exit_code == 0
    assert f"id: {OPERATION_ID}" in result.stdout
    assert "Provision" not in result.stdout


@pytest.mark.parametrize(
    ("state", "cleanup", "code"),
    [
        ("cancelled", None, 0),
        ("cancelled", {"complete": True, "left": []}, 0),
        ("cancelled", {"complete": False, "left": ["Secret/db"]}, 1),
        ("cancelled", {"complete": False, "left": [], "notUndone": ["load/db: Secret/db"]}, 1),
        ("succeeded", None, 1),
    ],
)
def test_cancel_ends_0_only_when_it_cancelled(
    api: ScriptedApi, run: Run, live: Live, state: str, cleanup: object, code: int
) -> None:
    live(operation(state), at_end={"cleanup": cleanup} if cleanup else {})
    path = f"/v1/operations/{OPERATION_ID}/cancel"
    api.on("POST", path, data({"id": OPERATION_ID, "state": "running"}, 202))
    result = run("op", "cancel", OPERATION_ID, "--cleanup")
    assert result.exit_code == code
    assert api.sent("POST", path)[0].body == {"cleanup": True}
    assert ("Secret/db" in result.stderr) == (code == 1 and cleanup is not None)


def test_ctrl_c_leaves_the_operation_alone(api: ScriptedApi, live: Live, process: Process) -> None:
    live(*HAPPY[:4])
    command, variables = process
    with subprocess.Popen(
        [*command, "op", "watch", OPERATION_ID],
        env=variables, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell's background job, as a test run may be, hands down that SIGINT is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - takes no lock
    ) as watching:  # fmt: skip
        assert watching.stderr is not None
        seen = ""
        while "service/db" not in seen:
            line = watching.stderr.readline()
            assert line, seen
            seen += line
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=20)
    assert (watching.returncode, out) == (130, "")
    assert f"Operation {OPERATION_ID} goes on." in err
    assert f"perdure op cancel {OPERATION_ID}" in err
    assert "Traceback" not in err
    assert {request.method for request in api.requests} == {"GET"}


def test_a_terminal_gets_a_live_list(live: Live, process: Process) -> None:
    live(*HAPPY)
    command, variables = process
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*command, "op", "watch", OPERATION_ID, "-o", "json"],
        env={**variables, "TERM": "xterm", "COLUMNS": "100"}, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs,
    ) as watching:  # fmt: skip
        os.close(theirs)
        shown = plain(read_terminal(ours))
        out, _ = watching.communicate(timeout=20)
    os.close(ours)
    assert watching.returncode == 0
    assert json.loads(out)["state"] == "succeeded"
    last = shown[shown.rindex("provision succeeded") :]
    assert "3/3 steps" in last
    assert last.count("✔") == 3
    assert "attempt 2" in last


def test_an_old_event_never_takes_a_step_back() -> None:
    now = Operation.model_validate(
        {"id": OPERATION_ID, "state": "running", "steps": [{"name": "a", "state": "succeeded", "attempt": 2}]}
    )
    old = {"operationId": OPERATION_ID, "data": {"step": "a", "state": "running", "attempt": 1}}
    folded = fold(now, json.dumps(old))
    assert folded is not None
    assert folded.steps == now.steps


@pytest.mark.parametrize(
    "text", ["", "[]", '{"data": {"step": "unknown", "state": "running"}}', '{"data": 1}']
)
def test_an_event_that_tells_nothing_asks_for_a_read(text: str) -> None:
    assert fold(Operation(id=OPERATION_ID, state="running"), text) is None


def silence(api: ScriptedApi) -> Iterator[str]:
    yield ": ping\n\n"
    api.closing.wait()


def read_terminal(descriptor: int) -> str:
    """Read what a process writes to its terminal until it closes it."""
    seen = b""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not select.select([descriptor], [], [], 0.5)[0]:
            continue
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not chunk:
            break
        seen += chunk
    return seen.decode()
