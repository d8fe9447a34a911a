"""`perdure replay` against the scripted API."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.scripted_api import (
    ENVIRONMENT_ID,
    OPERATION_ID,
    LiveOperation,
    ScriptedApi,
    data,
    environment,
)

ROUTE = f"/v1/environments/{ENVIRONMENT_ID}/replay"
SNAPSHOT = {
    "id": "snap_2",
    "name": "",
    "state": "available",
    "environmentId": ENVIRONMENT_ID,
    "environmentName": "shop",
    "operationId": "op_0",
    "plainBytes": 1,
    "storedBytes": 1,
    "createdBy": "prn_1",
    "createdAt": "2026-01-01T00:00:00Z",
}
ACCEPTED = {"id": OPERATION_ID, "kind": "replay", "state": "accepted"}
PREVIEW = {
    "environmentId": ENVIRONMENT_ID,
    "replayOf": "op_1",
    "target": "same",
    "steps": [
        {"step": "namespace", "kind": "namespace", "action": "run", "reason": "always", "message": "looks"},
        {
            "step": "service/db",
            "kind": "service",
            "action": "skip",
            "reason": "unchanged",
            "message": "unchanged and still there",
        },
        {
            "step": "service/api",
            "kind": "service",
            "action": "run",
            "reason": "forced",
            "message": "asked for",
        },
    ],
}


def test_a_dry_run_is_a_table_of_what_is_run_and_why(api: ScriptedApi, run: Run) -> None:
    api.on("POST", ROUTE, data(PREVIEW))
    result = run("replay", ENVIRONMENT_ID, "--from-step", "service/api", "--operation", "op_1", "--dry-run")
    assert result.exit_code == 0, result.output
    assert api.requests[-1].query == {"dry_run": "true"}
    assert api.requests[-1].body == {"operationId": "op_1", "fromStep": "service/api"}
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert lines[0][-1] == "op_1:"
    assert ["skip", "service/db", "unchanged and still there"] in lines
    assert ["run", "service/api", "asked for"] in lines


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ((), {}),
        (("--into", "shop-2"), {"target": "new", "name": "shop-2"}),
        (
            ("--into", "shop-2", "--snapshot", "snap_1"),
            {"target": "new", "name": "shop-2", "snapshotId": "snap_1"},
        ),
        (("--snapshot", "latest:shop"), {"snapshotId": "snap_2"}),
    ],
    ids=["in place", "new", "new, with data", "in place, with data"],
)
def test_it_is_followed_to_its_end(
    api: ScriptedApi,
    run: Run,
    live: Callable[..., LiveOperation],
    options: tuple[str, ...],
    body: dict[str, Any],
) -> None:
    api.on("POST", ROUTE, data(ACCEPTED, 202))
    api.on("GET", "/v1/environments", data([environment("shop")]))
    api.on("GET", f"/v1/environments/{ENVIRONMENT_ID}/snapshots", data([SNAPSHOT]))
    steps = [
        {"name": "namespace", "kind": "namespace", "state": "succeeded"},
        {"name": "service/db", "kind": "service", "state": "skipped"},
        {"name": "service/api", "kind": "service", "state": "succeeded"},
    ]
    live(
        (None, {"state": "succeeded"}),
        steps=("service/api",),
        kind="replay",
        at_end={**ACCEPTED, "state": "succeeded", "steps": steps},
    )
    result = run("replay", ENVIRONMENT_ID, *options)
    assert result.exit_code == 0, result.output
    [asked] = [each for each in api.requests if each.method == "POST"]
    assert asked.body == body
    assert asked.headers.get("idempotency-key") or asked.headers.get("Idempotency-Key")
    assert "succeeded: 1 of 2 services run again" in result.output
    if "--into" in options:
        assert "shop-2" in result.output


def test_data_are_masked_by_the_rules_of_a_file(api: ScriptedApi, run: Run, tmp_path: Path) -> None:
    api.on("POST", ROUTE, data(ACCEPTED, 202))
    rules = tmp_path / "masking.yaml"
    rules.write_text("services: {cache: {keys: [{keys: 'session:*', how: delete}]}}")
    base = ("replay", ENVIRONMENT_ID, "--no-wait", "--masking", str(rules))
    assert run(*base, "--snapshot", "snap_1").exit_code == 0
    wanted = {"services": {"cache": {"keys": [{"keys": "session:*", "how": "delete"}]}}}
    assert [each.body for each in api.sent("POST", ROUTE)] == [{"snapshotId": "snap_1", "masking": wanted}]
    assert run(*base).exit_code == 2
    rules.write_text("service: {}")
    assert run(*base, "--snapshot", "snap_1").exit_code == 2
    assert len(api.sent("POST", ROUTE)) == 1


def test_init_over_the_data_goes_with_a_snapshot(api: ScriptedApi, run: Run) -> None:
    api.on("POST", ROUTE, data(ACCEPTED, 202))
    base = ("replay", ENVIRONMENT_ID, "--no-wait", "--run-init")
    assert run(*base, "--snapshot", "snap_1").exit_code == 0
    assert [each.body for each in api.sent("POST", ROUTE)] == [{"snapshotId": "snap_1", "runInit": True}]
    assert run(*base).exit_code == 2
    assert len(api.sent("POST", ROUTE)) == 1


@pytest.mark.parametrize("dry_run", [True, False])
def test_data_that_go_with_their_pod_are_warned_of(api: ScriptedApi, run: Run, dry_run: bool) -> None:
    warnings = [{"path": "services.db", "message": "has no volume", "suggestion": "give it one"}]
    answer = {**PREVIEW, "warnings": warnings} if dry_run else {**ACCEPTED, "warnings": warnings}
    api.on("POST", ROUTE, data(answer, 200 if dry_run else 202))
    how = ("--dry-run",) if dry_run else ("--no-wait",)
    result = run("replay", ENVIRONMENT_ID, "--snapshot", "snap_1", *how)
    assert result.exit_code == 0, result.output
    said = (result.stdout if dry_run else result.stderr).splitlines()
    assert said[said.index("Warning: services.db: has no volume") + 1].strip() == "give it one"


def test_replays_are_listed(api: ScriptedApi, run: Run) -> None:
    found = {
        **ACCEPTED,
        "state": "succeeded",
        "environmentName": "shop-2",
        "replayOf": "op_1",
        "fromStep": "service/api",
        "snapshotId": "snap_1",
        "createdAt": "2026-01-01T00:00:00Z",
    }
    api.on("GET", f"/v1/environments/{ENVIRONMENT_ID}/replays", data([found]))
    result = run("env", "replays", ENVIRONMENT_ID)
    assert result.stdout.splitlines()[1].split()[:6] == [
        OPERATION_ID,
        "succeeded",
        "shop-2",
        "op_1",
        "service/api",
        "snap_1",
    ]


def test_data_are_replaced_in_place_only_when_somebody_at_a_terminal_says_so(
    api: ScriptedApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.on("POST", ROUTE, data(ACCEPTED, 202))
    base = ("replay", ENVIRONMENT_ID, "--snapshot", "snap_1", "--no-wait")
    monkeypatch.setattr("cli.asking.on_terminal", lambda: True)
    refused = run(*base, stdin="n\n")
    assert refused.exit_code == 1
    assert "Replace the data" in refused.output
    assert api.requests == []
    assert run(*base, stdin="y\n").exit_code == 0
    assert run(*base, "--yes").exit_code == 0
    # Nothing of anybody's is replaced by these.
    assert run(*base, "--into", "shop-2").exit_code == 0
    api.on("POST", ROUTE, data({**PREVIEW, "snapshotId": "snap_1"}))
    told = run(*base, "--dry-run")
    assert told.stdout.splitlines()[0] == "Replay of op_1, with the data of snap_1:"
    assert len(api.requests) == 4


def test_what_was_loaded_is_counted_at_the_end(
    api: ScriptedApi, run: Run, live: Callable[..., LiveOperation]
) -> None:
    api.on("POST", ROUTE, data(ACCEPTED, 202))
    steps = [
        {"name": "service/db", "kind": "service", "state": "skipped"},
        {"name": "load/db", "kind": "load", "state": "succeeded"},
        {"name": "service/api", "kind": "service", "state": "succeeded"},
    ]
    live(
        (None, {"state": "succeeded"}),
        steps=("load/db",),
        kind="replay",
        at_end={**ACCEPTED, "state": "succeeded", "steps": steps},
    )
    result = run("replay", ENVIRONMENT_ID, "--snapshot", "snap_1")
    assert "succeeded: 1 of 2 services run again, data of 1 loaded." in result.output


def test_rules_for_masking_go_with_a_snapshot(api: ScriptedApi, run: Run, tmp_path: Path) -> None:
    api.on("POST", ROUTE, data(ACCEPTED, 202))
    rules = tmp_path / "masking.yaml"
    rules.write_text("services:\n  db:\n    columns: [{table: users, column: notes, how: redact}]\n")
    base = ("replay", ENVIRONMENT_ID, "--into", "shop-2", "--no-wait", "--masking", str(rules))
    assert run(*base).exit_code == 2
    assert run(*base, "--snapshot", "snap_1").exit_code == 0
    [sent] = api.sent("POST", ROUTE)
    wanted = {"services": {"db": {"columns": [{"table": "users", "column": "notes", "how": "redact"}]}}}
    assert sent.body["masking"] == wanted
    rules.write_text("services: {}")
    assert run(*base, "--snapshot", "snap_1").exit_code == 2
    assert len(api.requests) == 1
