"""`perdure snapshot` against the scripted API."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, stdout_json
from tests.cli.scripted_api import (
    ENVIRONMENT_ID,
    OPERATION_ID,
    Handler,
    LiveOperation,
    Reply,
    Request,
    ScriptedApi,
    data,
    environment,
    problem,
)

SNAPSHOT_ID = "snap_01K0000000000000000000SHOP"
TAKING = f"/v1/environments/{ENVIRONMENT_ID}/snapshots"
RESTORING = f"/v1/snapshots/{SNAPSHOT_ID}/restore"
ACCEPTED = {
    "id": OPERATION_ID,
    "kind": "snapshot",
    "state": "accepted",
    "environmentId": ENVIRONMENT_ID,
    "snapshotId": SNAPSHOT_ID,
}
LISTED = {
    "id": SNAPSHOT_ID,
    "name": "nightly",
    "state": "available",
    "environmentId": ENVIRONMENT_ID,
    "environmentName": "shop",
    "operationId": OPERATION_ID,
    "revision": 3,
    "consistency": "live-copy",
    "scope": "independent",
    "plainBytes": 52_428_800,
    "storedBytes": 12_897_485,
    "createdBy": "prn_1",
    "createdAt": "2026-11-22T10:00:00Z",
    "expiresAt": "2999-11-22T10:00:00Z",
}
FOUND = {
    **LISTED,
    "components": [
        {
            "service": "db",
            "store": "postgres",
            "engine": "exec-dump",
            "consistency": "application",
            "quiesced": False,
            "parts": 2,
            "plainBytes": 52_428_800,
            "storedBytes": 12_897_485,
        },
        {
            "service": "api",
            "engine": "manifest-only",
            "consistency": "config-only",
            "quiesced": False,
            "parts": 0,
            "plainBytes": 0,
            "storedBytes": 0,
        },
    ],
}


def listing(*environments: dict[str, Any]) -> Handler:
    """Answer as the API does: those that were deleted only when they are asked for."""

    def answer(request: Request) -> Reply:
        wanted = request.query.get("status")
        return data(
            [
                each
                for each in environments
                if (each["status"] == wanted if wanted else each["status"] != "deleted")
                and each["name"] == request.query.get("name", each["name"])
            ]
        )

    return answer


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ((), {}),
        (
            ("--name", "nightly", "--floor", "application", "--expires-in-days", "7"),
            {"name": "nightly", "consistencyFloor": "application", "expiresInDays": 7},
        ),
        (("--keep",), {"expiresInDays": None}),
    ],
)
def test_what_is_wanted_of_a_snapshot_is_sent(
    api: ScriptedApi, run: Run, options: tuple[str, ...], body: Any
) -> None:
    api.on("POST", TAKING, data(ACCEPTED, 202))
    result = run("snapshot", "create", ENVIRONMENT_ID, "--no-wait", *options)
    assert result.exit_code == 0, result.output
    [sent] = api.requests
    assert sent.body == body
    assert sent.headers["idempotency-key"]
    assert SNAPSHOT_ID in result.stdout
    assert "Watch it: perdure op watch" in result.stderr


def test_one_that_was_waited_for_is_shown(
    api: ScriptedApi, run: Run, live: Callable[..., LiveOperation]
) -> None:
    api.on("POST", TAKING, data(ACCEPTED, 202))
    api.on("GET", f"/v1/snapshots/{SNAPSHOT_ID}", data(FOUND))
    live((None, {"state": "succeeded"}), steps=("survey",), kind="snapshot")
    result = run("snapshot", "create", ENVIRONMENT_ID)
    assert result.exit_code == 0, result.output
    shown = [line.split() for line in result.stdout.splitlines()]
    assert shown[0] == ["Snapshot:", SNAPSHOT_ID]
    assert ["Stored:", "12.3", "MiB"] in shown
    assert ["db", "postgres", "exec-dump", "application", "50", "MiB", "12.3", "MiB"] in shown
    assert ["api", "manifest-only", "config-only"] in shown
    assert "Snapshot of" in result.stderr
    as_json = run("snapshot", "create", ENVIRONMENT_ID, "-o", "json")
    assert stdout_json(as_json)["state"] == "succeeded"


def test_one_that_failed_is_not_shown(api: ScriptedApi, run: Run, live: Callable[..., LiveOperation]) -> None:
    api.on("POST", TAKING, data(ACCEPTED, 202))
    live((None, {"state": "failed"}), steps=("survey",), kind="snapshot")
    result = run("snapshot", "create", ENVIRONMENT_ID)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert not api.sent("GET", f"/v1/snapshots/{SNAPSHOT_ID}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "shop", "--keep", "--expires-in-days", "1"),
        ("create", "shop", "--expires-in-days", "0"),
        ("create", "shop", "--floor", "best"),
        ("list", "--state", "gone"),
        ("verify", SNAPSHOT_ID, "--level", "3"),
        ("restore", SNAPSHOT_ID),
        ("restore", SNAPSHOT_ID, "--into", "copy", "--in-place", "shop"),
        ("restore", SNAPSHOT_ID, "--in-place", "shop", "--storage-class", "a=b"),
        ("restore", SNAPSHOT_ID, "--in-place", "shop", "--current-images"),
        ("restore", SNAPSHOT_ID, "--into", "copy", "--storage-class", "a"),
    ],
)
def test_wrong_usage_asks_the_api_nothing(api: ScriptedApi, run: Run, arguments: tuple[str, ...]) -> None:
    assert run("snapshot", *arguments).exit_code == 2
    assert api.requests == []


def test_snapshots_are_listed_over_all_pages(api: ScriptedApi, run: Run) -> None:
    failed = {**LISTED, "id": "snap_2", "state": "failed", "storedBytes": 0, "expiresAt": None}
    api.on("GET", "/v1/environments/snapshots", data([LISTED], nextCursor="more"), data([failed]))
    lines = run("snapshot", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", SNAPSHOT_ID, "snap_2"]
    assert "12.3 MiB" in lines[1]
    assert lines[2].endswith("never")
    assert "0 B" not in lines[2]
    assert api.requests[-1].query["cursor"] == "more"
    api.on("GET", TAKING, data([]))
    assert run("snapshot", "list", ENVIRONMENT_ID, "--state", "failed").stdout == "No snapshots.\n"
    assert api.requests[-1].query["state"] == "failed"


def test_snapshots_of_two_of_one_name_are_one_list(api: ScriptedApi, run: Run) -> None:
    gone = environment("deleted", id="env_01J0000000000000000000OLD0")
    api.on("GET", "/v1/environments", listing(environment()), listing(gone))
    api.on("GET", TAKING, data([{**LISTED, "id": "snap_2", "storedBytes": 5}]))
    others = [{**LISTED, "id": f"snap_{number}", "storedBytes": size} for number, size in ((3, 1), (1, 9))]
    api.on("GET", f"/v1/environments/{gone['id']}/snapshots", data(others))
    for options, expected in (
        ([], ["snap_3", "snap_2", "snap_1"]),
        (["--sort", "createdAt"], ["snap_1", "snap_2", "snap_3"]),
        (["--sort=-storedBytes", "--limit", "2"], ["snap_1", "snap_2"]),
    ):
        api.on("GET", "/v1/environments", listing(environment()), listing(gone))
        found = stdout_json(run("snapshot", "list", "shop", "-o", "json", *options))
        assert [each["id"] for each in found] == expected, options


def test_the_newest_of_an_environment_can_be_named_by_that(api: ScriptedApi, run: Run) -> None:
    api.on("GET", "/v1/environments", listing(environment()))
    api.on("GET", TAKING, data([LISTED], nextCursor="more"))
    api.on("GET", f"/v1/snapshots/{SNAPSHOT_ID}", data(FOUND))
    assert stdout_json(run("snapshot", "get", "latest:shop", "-o", "json"))["id"] == SNAPSHOT_ID
    [asked] = api.sent("GET", TAKING)
    assert asked.query == {"state": "available", "limit": "1"}
    api.on("GET", TAKING, data([]))
    none = run("snapshot", "get", "latest:shop")
    assert none.exit_code == 6
    assert "no snapshot of 'shop' that is available" in none.stderr
    assert run("snapshot", "get", "snap_none").exit_code == 6


def test_a_name_that_is_used_again_has_the_snapshots_of_the_environment_before(
    api: ScriptedApi, run: Run
) -> None:
    """Deleted by mistake, and made anew: that is what one has snapshots for."""
    before = "env_01JZZZ0000000000000000GONE"
    gone = {**environment(), "id": before, "status": "deleted"}
    older = {**LISTED, "id": "snap_01JZ000000000000000000SHOP", "environmentId": before}
    api.on("GET", "/v1/environments", listing(gone, environment()))
    api.on("GET", TAKING, data([]))
    api.on("GET", f"/v1/environments/{before}/snapshots", data([older]))
    api.on("GET", f"/v1/snapshots/{older['id']}", data({**FOUND, "id": older["id"]}))
    assert stdout_json(run("snapshot", "get", "latest:shop", "-o", "json"))["id"] == older["id"]
    [listed] = stdout_json(run("snapshot", "list", "shop", "-o", "json"))
    assert listed["id"] == older["id"]
    api.on("GET", TAKING, data([LISTED]))
    lines = run("snapshot", "list", "shop", "--state", "available").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", SNAPSHOT_ID, older["id"]]
    assert run("snapshot", "list", ENVIRONMENT_ID, "-o", "json").stdout.count("snap_") == 1
    # Deleted between the two questions: it is in both answers, and its snapshots are listed once.
    api.on("GET", "/v1/environments", data([environment()]), data([{**environment(), "status": "deleted"}]))
    assert [each["id"] for each in stdout_json(run("snapshot", "list", "shop", "-o", "json"))] == [
        SNAPSHOT_ID
    ]
    api.on("GET", "/v1/environments", listing())
    assert run("snapshot", "list", "shop").exit_code == 6


def test_a_manifest_is_printed_or_written(api: ScriptedApi, run: Run, tmp_path: Path) -> None:
    document = {"version": 1, "environment_name": "shop", "note": "ü"}
    api.on("GET", f"/v1/snapshots/{SNAPSHOT_ID}/manifest", data(document))
    assert stdout_json(run("snapshot", "manifest", SNAPSHOT_ID)) == document
    assert "environment_name: shop" in run("snapshot", "manifest", SNAPSHOT_ID, "-o", "yaml").stdout
    file = tmp_path / "manifest.json"
    written = run("snapshot", "manifest", SNAPSHOT_ID, "--file", str(file))
    assert (written.exit_code, written.stdout) == (0, "")
    assert json.loads(file.read_text("utf-8")) == document
    refused = run("snapshot", "manifest", SNAPSHOT_ID, "--file", str(tmp_path / "no" / "file"))
    assert refused.exit_code == 2


def test_a_restore_goes_into_a_new_environment(
    api: ScriptedApi, run: Run, live: Callable[..., LiveOperation]
) -> None:
    restoring = {**ACCEPTED, "kind": "restore"}
    api.on("POST", RESTORING, data(restoring, 202))
    live((None, {"state": "succeeded"}), steps=("namespace",), kind="restore")
    result = run(
        *("snapshot", "restore", SNAPSHOT_ID, "--into", "copy"),
        *("--storage-class", "slow=fast", "--current-images"),
    )
    assert result.exit_code == 0, result.output
    [sent] = api.sent("POST", RESTORING)
    assert sent.body == {"name": "copy", "storageClasses": {"slow": "fast"}, "currentImages": True}
    assert "Restore of copy succeeded." in result.stderr


def test_rules_for_masking_come_from_a_file(api: ScriptedApi, run: Run, tmp_path: Path) -> None:
    api.on("POST", RESTORING, data({**ACCEPTED, "kind": "restore"}, 202))
    base = ("snapshot", "restore", SNAPSHOT_ID, "--into", "copy", "--no-wait", "--masking")
    rules = tmp_path / "masking.yaml"
    rules.write_text("services:\n  db:\n    columns: [{table: users, column: notes, how: redact}]\n")
    assert run(*base, str(rules)).exit_code == 0
    assert run(*base, "-", stdin=rules.read_text()).exit_code == 0
    wanted = {"services": {"db": {"columns": [{"table": "users", "column": "notes", "how": "redact"}]}}}
    assert [each.body for each in api.sent("POST", RESTORING)] == [{"name": "copy", "masking": wanted}] * 2
    for wrong in ("[]", "{", "{}", "services: {}"):
        rules.write_text(wrong)
        # Without rules that can be read nothing is restored, least of all unmasked.
        assert run(*base, str(rules)).exit_code == 2
    assert run(*base, str(tmp_path / "none")).exit_code == 2
    assert len(api.sent("POST", RESTORING)) == 2


def test_a_restore_in_place_asks_a_terminal_first(
    api: ScriptedApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.on("GET", "/v1/environments", data([environment()]))
    api.on("POST", RESTORING, data({**ACCEPTED, "kind": "restore"}, 202))
    base = ("snapshot", "restore", SNAPSHOT_ID, "--in-place", "shop", "--no-wait")
    assert run(*base).exit_code == 0
    [sent] = api.sent("POST", RESTORING)
    assert sent.body == {"environmentId": ENVIRONMENT_ID}
    monkeypatch.setattr("cli.asking.on_terminal", lambda: True)
    refused = run(*base, stdin="n\n")
    assert refused.exit_code == 1
    assert f"Replace the data of environment shop by that of {SNAPSHOT_ID}?" in refused.stderr
    assert len(api.sent("POST", RESTORING)) == 1
    assert run(*base, stdin="y\n").exit_code == 0
    assert run(*base, "--yes", "--run-init").exit_code == 0
    assert len(api.sent("POST", RESTORING)) == 3
    assert api.requests[-1].body == {"environmentId": ENVIRONMENT_ID, "runInit": True}


def test_what_does_not_fit_is_told_with_all_its_faults(api: ScriptedApi, run: Run) -> None:
    errors = [
        {"path": "services.db", "message": "keeps mysql, and the snapshot has postgres of it"},
        {"path": "services.files", "message": "has no volume at /docs"},
    ]
    api.on("POST", RESTORING, problem(422, "validation_failed", "It cannot be restored so.", errors=errors))
    result = run("snapshot", "restore", SNAPSHOT_ID, "--in-place", ENVIRONMENT_ID)
    assert result.exit_code == 2
    assert "keeps mysql" in result.stderr
    assert "has no volume at /docs" in result.stderr


def test_a_snapshot_is_deleted(api: ScriptedApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/v1/snapshots/{SNAPSHOT_ID}"
    api.on("DELETE", path, data({**LISTED, "state": "deleting"}, 202))
    result = run("snapshot", "delete", SNAPSHOT_ID)
    assert result.exit_code == 0
    assert f"Snapshot {SNAPSHOT_ID} is deleting." in result.stderr
    assert stdout_json(run("snapshot", "delete", SNAPSHOT_ID, "-o", "json"))["state"] == "deleting"
    monkeypatch.setattr("cli.asking.on_terminal", lambda: True)
    assert run("snapshot", "delete", SNAPSHOT_ID, stdin="n\n").exit_code == 1
    assert len(api.sent("DELETE", path)) == 2
    api.on("DELETE", path, problem(409, "conflict", f"used by restore {OPERATION_ID}"))
    assert run("snapshot", "delete", SNAPSHOT_ID, "--yes").exit_code == 1


VERIFYING = f"/v1/snapshots/{SNAPSHOT_ID}/verify"
VERIFICATION = {
    "id": "ver_1",
    "snapshotId": SNAPSHOT_ID,
    "level": 1,
    "state": "running",
    "checks": [],
    "requestedBy": "prn_1",
    "createdAt": "2026-11-22T10:00:00Z",
}
GOOD = {"level": 0, "subject": "db/shop-0", "ok": True, "message": ""}
BAD = {"level": 1, "subject": "files/docs-0", "ok": False, "message": "frame 3 does not open"}


def over(state: str, *checks: Any) -> dict[str, Any]:
    """The verification at its end."""
    return {**VERIFICATION, "state": state, "checks": list(checks)}


@pytest.fixture
def verifying(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a verification run for one look, and then end so."""
    monkeypatch.setattr("cli.verifying.PERIOD_SECONDS", 0.01)

    def install(end: dict[str, Any]) -> None:
        api.on("POST", VERIFYING, data(VERIFICATION, 202))
        api.on("GET", f"/v1/snapshots/{SNAPSHOT_ID}/verifications/ver_1", data(VERIFICATION), data(end))

    return install


def test_a_verification_is_waited_for(api: ScriptedApi, run: Run, verifying: Callable[..., None]) -> None:
    verifying(over("passed", GOOD))
    result = run("snapshot", "verify", SNAPSHOT_ID, "--level", "0")
    assert result.exit_code == 0, result.output
    [sent] = api.sent("POST", VERIFYING)
    assert sent.body == {"level": 0}
    assert sent.headers["idempotency-key"]
    assert ["Looked", "at:", "1"] in [line.split() for line in result.stdout.splitlines()]
    assert "SUBJECT" not in result.stdout
    assert f"Snapshot {SNAPSHOT_ID} is what it says" in result.stderr
    assert len(api.sent("GET", f"/v1/snapshots/{SNAPSHOT_ID}/verifications/ver_1")) == 2


def test_what_is_not_as_it_should_be_is_shown(run: Run, verifying: Callable[..., None]) -> None:
    verifying(over("failed", GOOD, BAD))
    result = run("snapshot", "verify", SNAPSHOT_ID)
    assert result.exit_code == 1
    assert " ".join(result.stdout.split()).endswith("1 files/docs-0 frame 3 does not open")
    assert "db/shop-0" not in result.stdout
    assert f"Snapshot {SNAPSHOT_ID} is not what it says." in result.stderr


def test_what_it_has_to_say_of_a_good_one_is_shown(run: Run, verifying: Callable[..., None]) -> None:
    note = {**GOOD, "subject": "restore", "message": "files /docs: 1 written since (log)"}
    verifying(over("passed", GOOD, note))
    result = run("snapshot", "verify", SNAPSHOT_ID)
    assert result.exit_code == 0
    assert " ".join(result.stdout.split()).endswith("restore files /docs: 1 written since (log)")
    assert "db/shop-0" not in result.stdout


def test_one_that_was_aborted_says_nothing_about_the_snapshot(
    run: Run, verifying: Callable[..., None]
) -> None:
    verifying(over("aborted", {**BAD, "subject": "stored/db", "message": "the store is away"}))
    result = run("snapshot", "verify", SNAPSHOT_ID)
    assert result.exit_code == 1
    assert "the store is away" in result.stdout
    assert "It could not be told" in result.stderr
    assert "is not what it says" not in result.stderr


def test_the_end_can_be_read_by_a_machine(run: Run, verifying: Callable[..., None]) -> None:
    verifying(over("failed", BAD))
    result = run("snapshot", "verify", SNAPSHOT_ID, "-o", "json")
    assert (result.exit_code, stdout_json(result)["checks"]) == (1, [BAD])


def test_a_verification_goes_on_when_nobody_waits_any_longer(
    api: ScriptedApi, run: Run, verifying: Callable[..., None]
) -> None:
    verifying(VERIFICATION)
    late = run("snapshot", "verify", SNAPSHOT_ID, "--timeout", "0s")
    assert late.exit_code == 5
    assert "It goes on." in late.stderr
    assert f"perdure snapshot verifications {SNAPSHOT_ID}" in late.stderr
    before = len(api.requests)
    left = run("snapshot", "verify", SNAPSHOT_ID, "--no-wait")
    assert left.exit_code == 0
    assert api.requests[-1].body == {}
    assert len(api.requests) == before + 1
    assert f"perdure snapshot verifications {SNAPSHOT_ID}" in left.stderr


def test_verifications_are_listed(api: ScriptedApi, run: Run) -> None:
    path = f"/v1/snapshots/{SNAPSHOT_ID}/verifications"
    api.on("GET", path, data([over("failed", GOOD, BAD)], nextCursor="more"), data([over("passed", GOOD)]))
    lines = run("snapshot", "verifications", SNAPSHOT_ID).stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["STATE", "failed", "passed"]
    assert lines[1].endswith("files/docs-0: frame 3 does not open")
    api.on("GET", path, data([]))
    assert "No verifications." in run("snapshot", "verifications", SNAPSHOT_ID).stdout


def test_a_snapshot_shows_how_far_it_was_proved(api: ScriptedApi, run: Run) -> None:
    proved = {**FOUND, "lastVerifiedAt": "2026-11-22T11:00:00Z", "verifiedLevel": 2}
    api.on("GET", f"/v1/snapshots/{SNAPSHOT_ID}", data(proved))
    assert "ago, at best to level 2" in run("snapshot", "get", SNAPSHOT_ID).stdout


def test_a_snapshot_shows_what_it_is_instead_of_and_what_stands(api: ScriptedApi, run: Run) -> None:
    component = {"service": "db", "store": "postgres", "engine": "exec-dump", "consistency": "application"}
    fallen = {**component, "insteadOf": "csi", "because": "The pool is full."}
    found = {**FOUND, "components": [fallen], "standing": "The storage has not removed x (held by y)."}
    api.on("GET", f"/v1/snapshots/{SNAPSHOT_ID}", data(found))
    shown = run("snapshot", "get", SNAPSHOT_ID).stdout
    assert "db: exec-dump instead of csi. The pool is full." in shown
    assert "The storage has not removed x (held by y)." in shown


POLICY = f"/v1/environments/{ENVIRONMENT_ID}/snapshot-policy"


def test_a_policy_says_when_what_it_keeps_is_verified_anew(api: ScriptedApi, run: Run) -> None:
    found = {"everyMinutes": 1440, "verifyLevel": 2, "verifyEveryHours": 168, "expiresInDays": 30}
    api.on("PUT", POLICY, data(found))
    wished = ("--every", "1d", "--verify", "2", "--verify-every", "7d")
    result = run("snapshot", "policy", ENVIRONMENT_ID, *wished)
    assert result.exit_code == 0, result.output
    [sent] = api.requests
    assert sent.body == {
        "everyMinutes": 1440,
        "keepLast": None,
        "consistencyFloor": None,
        "verifyLevel": 2,
        "verifyEveryHours": 168,
        "paused": False,
    }
    assert ["Verified", "anew:", "after", "7d"] in [line.split() for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--verify", "1", "--verify-every", "7d"), "A policy needs --every."),
        (("--every", "1d", "--verify-every", "7d"), "--verify-every needs --verify"),
        (("--every", "1d", "--verify", "1", "--verify-every", "90m"), "a whole number of hours"),
        (("--every", "15m30s"), "a whole number of minutes"),
        (("--remove", "--verify-every", "7d"), "A policy needs --every."),
    ],
)
def test_a_policy_that_says_too_little_is_not_sent(
    api: ScriptedApi, run: Run, options: tuple[str, ...], said: str
) -> None:
    result = run("snapshot", "policy", ENVIRONMENT_ID, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert api.requests == []
