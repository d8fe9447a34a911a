"""What each command asks the API, prints and exits with."""

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from cli.client import Backoff
from tests.cli.conftest import Run, stdout_json
from tests.cli.scripted_api import (
    API_KEY,
    ENVIRONMENT_ID,
    OPERATION_ID,
    Hangup,
    LiveOperation,
    Reply,
    ScriptedApi,
    data,
    environment,
    held_up,
    operation,
    problem,
)

FAULTS = [
    {"path": "services[0].prots", "message": "is not a known key", "suggestion": "did you mean `ports`?"},
    {"path": "services[1].image", "message": "is missing"},
]
ENVIRONMENT = f"/v1/environments/{ENVIRONMENT_ID}"


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "seconds", lambda self, attempt: 0.01)


class TestForms:
    def test_list_as_table(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/environments", data([environment()]))
        result = run("env", "list")
        header, row = result.stdout.splitlines()
        assert header.split() == ["NAME", "STATUS", "SERVICES", "REVISION", "AGE", "ID"]
        assert row.split()[:4] == ["shop", "running", "1", "1"]

    def test_json_and_yaml_are_the_answer_itself(self, api: ScriptedApi, run: Run) -> None:
        odd = environment(somethingNew={"from": "a newer API"}, description="grüße ✓")
        api.on("GET", "/v1/environments", data([odd]))
        assert stdout_json(run("env", "list", "-o", "json")) == [odd]
        assert yaml.safe_load(run("env", "list", "-o", "yaml").stdout) == [odd]

    def test_an_empty_list_is_still_json(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/environments", data([]))
        assert stdout_json(run("env", "list", "-o", "json")) == []
        assert "perdure env create" in run("env", "list").stdout

    def test_all_pages_are_read(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/environments", data([environment()], nextCursor="c2"), data([environment()]))
        assert len(stdout_json(run("env", "list", "-o", "json"))) == 2
        assert [request.query.get("cursor") for request in api.requests] == [None, "c2"]

    def test_control_characters_of_others_do_not_reach_the_terminal(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", ENVIRONMENT, data(environment(description="\x1b]0;owned\x07fine\x1b[2J")))
        assert "\x1b" not in run("env", "get", ENVIRONMENT_ID).stdout


class TestAddressing:
    def test_by_name(self, api: ScriptedApi, run: Run) -> None:
        old = environment("deleted", id="env_01J0000000000000000000OLD0")
        api.on("GET", "/v1/environments", data([old, environment(), environment(name="other", id="x")]))
        api.on("GET", ENVIRONMENT, data(environment()))
        assert run("env", "get", "shop").exit_code == 0

    def test_by_id_without_a_list(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", ENVIRONMENT, data(environment()))
        assert run("env", "get", ENVIRONMENT_ID).exit_code == 0
        assert len(api.requests) == 1

    @pytest.mark.parametrize("identifier", ["../environments", "..", ".", "a/b?x=1#y", "a b", "ä"])
    def test_what_is_typed_stays_in_its_place(self, api: ScriptedApi, run: Run, identifier: str) -> None:
        assert run("op", "get", identifier).exit_code == 6
        (request,) = api.requests
        assert request.path.startswith("/v1/operations/")
        assert request.path.count("/") == 3
        assert not request.query

    def test_unknown_names_and_ids_exit_6(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/environments", data([environment()]))
        by_name, by_id = run("env", "get", "shup"), run("op", "get", "op_unknown")
        assert (by_name.exit_code, by_id.exit_code) == (6, 6)
        assert "'shup'" in by_name.stderr


@pytest.mark.parametrize(
    ("method", "path", "arguments"),
    [
        ("PUT", "/v1/environments/by-name/shop", ("up", "-f", "FILE")),
        ("PUT", f"{ENVIRONMENT}/blueprint", ("update", ENVIRONMENT_ID, "-f", "FILE")),
        ("POST", f"{ENVIRONMENT}/rollback", ("rollback", ENVIRONMENT_ID, "3")),
    ],
)
def test_what_fails_is_kept_when_asked_for(
    api: ScriptedApi, run: Run, blueprint: Path, method: str, path: str, arguments: tuple[str, ...]
) -> None:
    api.on(
        method, path, data({"environmentId": ENVIRONMENT_ID, "noop": True, "refused": False, "changes": []})
    )
    command = ["env", *(str(blueprint) if each == "FILE" else each for each in arguments)]
    for options, said in (([], None), (["--keep-failed"], "keep")):
        assert run(*command, *options).exit_code == 0
        body = api.requests[-1].body
        assert isinstance(body, dict)
        assert body.get("onFailure") == said


@pytest.mark.parametrize(
    ("command", "path", "query"),
    [
        (
            "env revisions ENV --search fix --principal prn_1 --named --sort number --limit 3",
            f"{ENVIRONMENT}/revisions",
            {"q": "fix", "principal": "prn_1", "named": "true", "sort": "number", "limit": "3"},
        ),
        ("env revisions ENV --unnamed", f"{ENVIRONMENT}/revisions", {"named": "false"}),
        (
            "env checkpoints ENV --search v --sort name",
            f"{ENVIRONMENT}/checkpoints",
            {"q": "v", "sort": "name"},
        ),
        (
            "env shares ENV --state open --search demo --sort expiresAt",
            f"{ENVIRONMENT}/shares",
            {"state": "open", "q": "demo", "sort": "expiresAt"},
        ),
        (
            "env replays ENV --state failed --sort createdAt",
            f"{ENVIRONMENT}/replays",
            {"state": "failed", "sort": "createdAt"},
        ),
        (
            "snapshot list --scheduled --unverified --state failed --search x --sort=-storedBytes --limit 2",
            "/v1/environments/snapshots",
            {
                "scheduled": "true",
                "verified": "false",
                "state": "failed",
                "q": "x",
                "sort": "-storedBytes",
                "limit": "2",
            },
        ),
        (
            "snapshot verifications snap_1 --state failed --level 2 --sort createdAt",
            "/v1/snapshots/snap_1/verifications",
            {"state": "failed", "level": "2", "sort": "createdAt"},
        ),
        (
            "audit list --key key_1 --action secret.create --sort at",
            "/v1/audit",
            {"key": "key_1", "action": "secret.create", "sort": "at", "limit": "50"},
        ),
        (
            "api-key list --state revoked --role owner --principal prn_1 --search ci --sort name",
            "/v1/api-keys",
            {"state": "revoked", "role": "owner", "principal": "prn_1", "q": "ci", "sort": "name"},
        ),
        (
            "principal list --kind person --search ada --sort=-name",
            "/v1/principals",
            {"kind": "person", "q": "ada", "sort": "-name"},
        ),
        ("secret list --search tok --sort updatedAt", "/v1/secrets", {"q": "tok", "sort": "updatedAt"}),
        (
            "registry list --registry ghcr.io --search c --sort=-updatedAt",
            "/v1/registry-credentials",
            {"registry": "ghcr.io", "q": "c", "sort": "-updatedAt"},
        ),
    ],
)
def test_lists_are_asked_for_as_they_are_wanted(
    api: ScriptedApi, run: Run, command: str, path: str, query: dict[str, str]
) -> None:
    api.on("GET", path, data([]))
    result = run(*(ENVIRONMENT_ID if each == "ENV" else each for each in command.split()))
    assert result.exit_code == 0, result.stderr
    [asked] = api.sent("GET", path)
    assert asked.query == {"limit": "200", **query}


@pytest.mark.parametrize("command", ["env revisions ENV --since 2h", "audit list --since 2h --until 1h"])
def test_lists_of_a_time_are_asked_for_by_moments(api: ScriptedApi, run: Run, command: str) -> None:
    path = "/v1/audit" if "audit" in command else f"{ENVIRONMENT}/revisions"
    api.on("GET", path, data([]))
    assert run(*(ENVIRONMENT_ID if each == "ENV" else each for each in command.split())).exit_code == 0
    [asked] = api.sent("GET", path)
    moments = [
        datetime.fromisoformat(asked.query[each]) for each in ("since", "until") if each in asked.query
    ]
    assert moments == sorted(moments)
    assert len(moments) == command.count("--")


class TestStatus:
    STATUS = {
        **environment("deleting"),
        "terminal": False,
        "phase": "delete_namespace",
        "reason": "finalizer",
        "blockedBy": [{"object": "ConfigMap/held", "finalizers": ["example.com/hold"]}],
        "clusterReachable": False,
    }

    def test_says_reason_and_what_blocks(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", f"{ENVIRONMENT}/status", data(self.STATUS))
        out = run("env", "status", ENVIRONMENT_ID).stdout
        for expected in (
            "deleting (changing)",
            "finalizer",
            "ConfigMap/held (example.com/hold)",
            "last known",
        ):
            assert expected in out

    def test_watch_ends_when_it_settles(
        self, api: ScriptedApi, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cli.status.PERIOD_SECONDS", 0.01)
        changing = data({**environment("provisioning"), "terminal": False})
        api.on("GET", f"{ENVIRONMENT}/status", changing, changing, data({**environment(), "terminal": True}))
        result = run("env", "status", ENVIRONMENT_ID, "--watch", "-o", "json")
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) == 2

    @pytest.mark.parametrize(
        ("last", "code"),
        [
            (data({**environment("error"), "terminal": True}), 1),
            (problem(404, "not_found", "There is no such environment."), 0),
        ],
    )
    def test_watch_exits_by_how_it_settles(
        self, api: ScriptedApi, run: Run, monkeypatch: pytest.MonkeyPatch, last: Reply, code: int
    ) -> None:
        monkeypatch.setattr("cli.status.PERIOD_SECONDS", 0.01)
        api.on("GET", f"{ENVIRONMENT}/status", data({**environment("deleting"), "terminal": False}), last)
        assert run("env", "status", ENVIRONMENT_ID, "-w").exit_code == code

    def test_watch_has_a_limit(self, api: ScriptedApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cli.status.PERIOD_SECONDS", 0.01)
        api.on("GET", f"{ENVIRONMENT}/status", data({**environment("provisioning"), "terminal": False}))
        assert run("env", "status", ENVIRONMENT_ID, "-w", "--timeout", "0.1s").exit_code == 5


def test_logs_are_prefixed_by_service(api: ScriptedApi, run: Run) -> None:
    entry = {"pod": "p", "container": "c", "timestamp": "2026-11-22T10:00:00Z"}
    lines = [{**entry, "service": "api", "line": "GET /"}, {**entry, "service": "db", "line": "ready\x1b[0m"}]
    api.on("GET", f"{ENVIRONMENT}/logs", data(lines))
    assert run("env", "logs", ENVIRONMENT_ID).stdout == "api  GET /\ndb   ready\n"
    assert (
        run("env", "logs", ENVIRONMENT_ID, "-s", "api", "--tail", "5", "-p", "--since", "10m").exit_code == 0
    )
    query = api.requests[-1].query
    assert (query["service"], query["tail"], query["previous"]) == ("api", "5", "true")


def test_topology_shows_what_waits_for_what(api: ScriptedApi, run: Run) -> None:
    node = {"kind": "service", "image": "i", "replicas": 1, "ports": [80]}
    graph = {
        "nodes": [{**node, "name": "api"}, {**node, "name": "db", "store": "postgres"}],
        "edges": [{"source": "api", "target": "db", "condition": "ready"}],
        "external": [{"service": "api", "port": 80, "endpoint": "http://x/"}],
    }
    api.on("GET", f"{ENVIRONMENT}/topology", data(graph))
    out = [line.split() for line in run("env", "topology", ENVIRONMENT_ID).stdout.splitlines()]
    assert ["api", "db", "ready"] in out
    assert ["api", "80", "http://x/"] in out


class TestBlueprints:
    def test_a_bad_one_lists_all_faults_and_exits_2(
        self, api: ScriptedApi, run: Run, blueprint: Path
    ) -> None:
        api.on("POST", "/v1/environments", problem(422, "blueprint_invalid", "2 faults.", errors=FAULTS))
        result = run("env", "create", "-f", str(blueprint))
        assert result.exit_code == 2
        assert "services[0].prots: is not a known key" in result.stderr
        assert "did you mean `ports`?" in result.stderr
        assert "services[1].image: is missing" in result.stderr

    def test_validate(self, api: ScriptedApi, run: Run, blueprint: Path) -> None:
        warning = {"path": "services[0]", "message": "no memory limit", "code": "L003"}
        report = {"valid": False, "errors": FAULTS, "warnings": [warning]}
        api.on("POST", "/v1/environments/validate", data(report), data({**report, "errors": []}))
        bad = run("blueprint", "validate", "-f", str(blueprint))
        assert bad.exit_code == 2
        assert "[L003]" in bad.stdout
        assert "2 errors, 1 warnings" in bad.stdout
        good = run("blueprint", "validate", "-f", "-", "-o", "json", stdin="name: x")
        assert (good.exit_code, stdout_json(good)["errors"]) == (0, [])
        assert api.requests[-1].body == {"blueprint": "name: x"}

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
    def test_a_file_that_cannot_be_read_exits_2(
        self, run: Run, tmp_path: Path, content: bytes | None
    ) -> None:
        path = tmp_path / "bad.yaml"
        if content is not None:
            path.write_bytes(content)
        assert run("blueprint", "validate", "-f", str(path)).exit_code == 2

    def test_import_prints_the_blueprint_alone(self, api: ScriptedApi, run: Run, tmp_path: Path) -> None:
        (tmp_path / "compose.yaml").write_text("services: {}", encoding="utf-8")
        (tmp_path / "local.env").write_text("A=1", encoding="utf-8")
        found = {
            "blueprint": {"name": "shop"},
            "yaml": "name: shop\n",
            "unsupported": [
                {"path": "services.web.volumes[0]", "reason": "bind mounts stay on your machine"}
            ],
            "warnings": [],
        }
        api.on("POST", "/v1/environments/import", data(found))
        result = run(
            "blueprint", "import", "-f", str(tmp_path / "compose.yaml"), "--name", "shop",
            "--env-file", f"./app.env={tmp_path / 'local.env'}",
            "--image", "web=example/web:1", "--var", "TAG=2",
        )  # fmt: skip
        assert (result.exit_code, result.stdout) == (0, "name: shop\n")
        assert "services.web.volumes[0]: bind mounts" in result.stderr
        assert api.requests[0].body == {
            "compose": "services: {}",
            "name": "shop",
            "envFiles": {"./app.env": "A=1"},
            "images": {"web": "example/web:1"},
            "variables": {"TAG": "2"},
            "profiles": [],
            "create": False,
        }

    def test_import_with_create_waits_like_create(
        self, api: ScriptedApi, run: Run, live: Callable[..., LiveOperation], blueprint: Path
    ) -> None:
        live(operation("running"), operation("succeeded"))
        accepted = environment("provisioning", operation={"id": OPERATION_ID, "state": "accepted"})
        found = {"blueprint": {}, "yaml": "", "unsupported": [], "warnings": [], "environment": accepted}
        api.on("POST", "/v1/environments/import", data(found, 202))
        api.on("GET", ENVIRONMENT, data(environment()))
        result = run("blueprint", "import", "-f", str(blueprint), "--name", "shop", "--create", "-o", "json")
        assert (result.exit_code, stdout_json(result)["status"]) == (0, "running")

    def test_a_wrong_assignment_does_not_repeat_its_value(self, run: Run, blueprint: Path) -> None:
        result = run("blueprint", "import", "-f", str(blueprint), "--name", "x", "--var", "=hidden")
        assert result.exit_code == 2
        assert "hidden" not in result.output


class TestDelete:
    @pytest.mark.parametrize(("arguments", "query"), [((), {}), (("--force",), {"force": "true"})])
    def test_only_force_touches_finalizers(
        self, api: ScriptedApi, run: Run, arguments: tuple[str, ...], query: dict[str, str]
    ) -> None:
        api.on("DELETE", ENVIRONMENT, data({"id": OPERATION_ID, "state": "accepted"}, 202))
        assert run("env", "delete", ENVIRONMENT_ID, "--no-wait", *arguments).exit_code == 0
        assert api.requests[0].query == query

    def test_protected_exits_7(self, api: ScriptedApi, run: Run) -> None:
        api.on("DELETE", ENVIRONMENT, problem(403, "policy_denied", "shop is protected."))
        result = run("env", "delete", ENVIRONMENT_ID, "--yes")
        assert (result.exit_code, "shop is protected." in result.stderr) == (7, True)


class TestRegistry:
    CREDENTIAL = {"id": "r", "name": "corp", "registry": "registry.example.com", "username": "bot"}

    def test_the_password_comes_from_standard_input(self, api: ScriptedApi, run: Run) -> None:
        api.on("POST", "/v1/registry-credentials", data(self.CREDENTIAL, 201))
        arguments = ("registry", "add", "corp", "--registry", "registry.example.com", "-u", "bot")
        result = run(*arguments, "--password-stdin", stdin="pass word\n")
        assert result.exit_code == 0
        assert api.requests[0].body["password"] == "pass word"
        assert "pass word" not in result.output
        assert run(*arguments, "--password", "x").exit_code == 2
        assert run(*arguments, stdin="").exit_code == 2

    def test_list_and_remove(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/registry-credentials", data([self.CREDENTIAL]))
        assert "registry.example.com" in run("registry", "list").stdout
        api.on("DELETE", "/v1/registry-credentials/corp", Reply(204))
        assert run("registry", "remove", "corp").exit_code == 0


class TestShares:
    SHARE = {"id": "shr_1", "state": "open", "pin": True, "views": 3, "expiresAt": "2026-12-04T10:00:00Z"}

    def test_a_link_is_made_and_printed_once(self, api: ScriptedApi, run: Run) -> None:
        url = "http://api.test/v1/portal/env_1#pds_x.y.z"
        api.on("POST", f"{ENVIRONMENT}/share", data({**self.SHARE, "url": url}, 201))
        result = run(
            "env", "share", ENVIRONMENT_ID, "--pin", "--expires", "7d", "--images", stdin="4711-blue\n"
        )
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines()[0] == url
        assert "2026-12-04 10:00 UTC" in result.stdout
        assert api.requests[0].body == {"pin": "4711-blue", "expiresInSeconds": 604_800, "showImages": True}
        assert "4711-blue" not in result.output

    def test_a_pin_is_no_argument_and_not_empty(self, run: Run) -> None:
        assert run("env", "share", ENVIRONMENT_ID, "--pin", stdin="").exit_code == 2
        assert run("env", "share", ENVIRONMENT_ID, "--pin=4711").exit_code == 2

    def test_without_options_nothing_is_wished_for(self, api: ScriptedApi, run: Run) -> None:
        api.on("POST", f"{ENVIRONMENT}/share", data({**self.SHARE, "url": "http://x"}, 201))
        assert run("env", "share", ENVIRONMENT_ID).exit_code == 0
        assert api.requests[0].body == {}

    def test_list_and_revoke(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", f"{ENVIRONMENT}/shares", data([self.SHARE]), data([]))
        assert run("env", "shares", ENVIRONMENT_ID).stdout.splitlines()[1].split()[:2] == ["shr_1", "open"]
        assert "perdure env share" in run("env", "shares", ENVIRONMENT_ID).stdout
        api.on("DELETE", f"{ENVIRONMENT}/shares/shr_1", data({**self.SHARE, "state": "revoked"}))
        assert "revoked" in run("env", "unshare", ENVIRONMENT_ID, "shr_1").stderr


class TestOperations:
    def test_list_asks_for_one_environment(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/operations", data([{"id": OPERATION_ID, "kind": "provision", "state": "running"}]))
        result = run("op", "list", "-e", ENVIRONMENT_ID, "--limit", "3")
        assert OPERATION_ID in result.stdout
        assert api.requests[0].query == {"environmentId": ENVIRONMENT_ID, "limit": "3"}

    def test_list_is_narrowed_and_ordered(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/operations", data([]))
        since = datetime.now(UTC) - timedelta(hours=2)
        run("op", "list", "--kind", "update", "--state", "failed", "--since", "2h", "--sort", "createdAt")
        query = api.requests[0].query
        assert abs(datetime.fromisoformat(query.pop("since")) - since) < timedelta(minutes=1)
        assert query == {"kind": "update", "state": "failed", "sort": "createdAt", "limit": "50"}

    def test_get_shows_steps(self, run: Run, live: Callable[..., LiveOperation]) -> None:
        live(operation("running"))
        assert "service/api" in run("op", "get", OPERATION_ID).stdout

    def test_get_says_what_holds_a_step_up(self, run: Run, live: Callable[..., LiveOperation]) -> None:
        held = {"object": "ConfigMap/held", "finalizers": ["example.com/hold"]}
        live(operation("running"), held_up("namespace", held)).streamed = 2
        (line,) = (line for line in run("op", "get", OPERATION_ID).stdout.splitlines() if "namespace" in line)
        assert line.endswith("held up by ConfigMap/held (example.com/hold)")


class TestRepeats:
    def test_a_get_is_repeated(self, api: ScriptedApi, run: Run) -> None:
        busy = problem(503, "unavailable", "Busy.")
        limited = problem(429, "rate_limited", "Slower.")
        late = Reply(limited.status, limited.body, {**limited.headers, "Retry-After": "0.02"})
        api.on("GET", "/v1/environments", Hangup(), busy, late, data([]))
        assert run("env", "list").exit_code == 0
        assert len(api.requests) == 4

    def test_a_post_is_repeated_under_its_key(self, api: ScriptedApi, run: Run, blueprint: Path) -> None:
        api.on("POST", "/v1/environments", Hangup(), data(environment(), 202))
        assert run("env", "create", "-f", str(blueprint)).exit_code == 0
        keys = [request.headers["idempotency-key"] for request in api.requests]
        assert len(keys) == 2
        assert len(set(keys)) == 1

    def test_a_secret_that_was_lost_on_its_way_is_not_asked_for_again_and_again(
        self, api: ScriptedApi, run: Run
    ) -> None:
        used = problem(409, "idempotency_used", "The request was done; its answer held a secret.")
        api.on("POST", "/v1/api-keys", Hangup(), used)
        result = run("api-key", "create", "ci")
        assert (result.exit_code, len(api.requests)) == (1, 2)
        assert "was done" in result.stderr

    def test_a_post_that_failed_is_not(self, api: ScriptedApi, run: Run, blueprint: Path) -> None:
        api.on("POST", "/v1/environments", problem(503, "unavailable", "The database does not answer."))
        result = run("env", "create", "-f", str(blueprint))
        assert (result.exit_code, len(api.requests)) == (1, 1)
        assert "req_1" in result.stderr

    def test_a_delete_that_may_have_arrived_is_not(self, api: ScriptedApi, run: Run) -> None:
        api.on("DELETE", ENVIRONMENT, Hangup())
        assert run("env", "delete", ENVIRONMENT_ID, "--yes").exit_code == 1
        assert len(api.requests) == 1


class TestSettings:
    def test_only_what_is_named_is_sent(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", ENVIRONMENT, data(environment(labels={"team": "shop", "old": "x"})))
        api.on("PATCH", ENVIRONMENT, data(environment(description="demo")))
        words = (
            "--description",
            "demo",
            "--ttl",
            "8h",
            "--unmeasured",
            "--no-protect",
            "--label",
            "tier=web",
            "--label",
            "old-",
        )
        result = run("env", "set", ENVIRONMENT_ID, *words)
        assert result.exit_code == 0, result.stderr
        assert api.requests[-1].body == {
            "description": "demo",
            "ttlMinutes": 480,
            "autoShutdownUnmeasured": True,
            "protected": False,
            "labels": {"team": "shop", "tier": "web"},
        }

    def test_a_ttl_is_cleared(self, api: ScriptedApi, run: Run) -> None:
        api.on("PATCH", ENVIRONMENT, data(environment()))
        assert run("env", "set", ENVIRONMENT_ID, "--ttl", "none", "--auto-shutdown", "off").exit_code == 0
        assert api.requests[-1].body == {"ttlMinutes": None, "autoShutdownEnabled": False}

    @pytest.mark.parametrize(("words", "minutes"), [((), 60), (("--by", "4h"), 240)])
    def test_an_end_is_put_off(
        self, api: ScriptedApi, run: Run, words: tuple[str, ...], minutes: int
    ) -> None:
        api.on("POST", f"{ENVIRONMENT}/extend", data(environment()))
        result = run("env", "extend", ENVIRONMENT_ID, *words)
        assert result.exit_code == 0, result.stderr
        assert api.requests[-1].body == {"minutes": minutes}

    def test_faults_of_usage_ask_nothing(self, api: ScriptedApi, run: Run) -> None:
        assert run("env", "set", ENVIRONMENT_ID).exit_code == 2
        for between in ("0h", "20s", "90s"):
            for words in (("extend", "--by"), ("set", "--ttl"), ("set", "--auto-shutdown")):
                refused = run("env", words[0], ENVIRONMENT_ID, words[1], between)
                expected = f"{words[1]} is a whole number of minutes, at least one"
                assert (refused.exit_code, expected in refused.stderr) == (2, True), refused.stderr
        assert api.requests == []


class TestErrors:
    def test_an_api_that_is_away_is_one_sentence(self, run: Run) -> None:
        result = run("env", "list", PERDURE_URL="http://127.0.0.1:9")
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 2
        assert "cannot be reached" in result.stderr
        assert "make dev-up" in result.stderr

    def test_something_else_at_the_address(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/environments", Reply(raw=b"<html>hello"))
        result = run("env", "list")
        assert (result.exit_code, "is this URL a Perdure API?" in result.stderr) == (1, True)
        api.on("GET", "/v1/environments", Reply(404, raw=b"<html>", headers={"Content-Type": "text/html"}))
        assert run("env", "list").exit_code == 6

    @pytest.mark.parametrize(
        "answer", [data([{"id": 1}]), data({"a": 1}), data(None), Reply(body=[]), Reply(body=3)]
    )
    def test_an_answer_of_another_shape(self, api: ScriptedApi, run: Run, answer: Reply) -> None:
        api.on("GET", "/v1/environments", answer)
        assert run("env", "list").exit_code in {0, 1}
        api.on("GET", ENVIRONMENT, answer)
        result = run("env", "get", ENVIRONMENT_ID)
        assert (result.exit_code, "cannot be understood" in result.stderr) == (1, True)

    def test_a_wrong_key_says_where_it_came_from(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/environments", problem(401, "unauthenticated", "No valid API key."))
        result = run("-v", "env", "list")
        assert result.exit_code == 1
        assert "api_key: variable PERDURE_API_KEY" in result.stderr

    def test_verbose_shows_requests_without_credentials(self, api: ScriptedApi, run: Run) -> None:
        api.on("GET", "/v1/environments", data([]))
        result = run("-v", "--api-key", API_KEY, "--organization", "org_2", "env", "list")
        assert "GET /v1/environments 200" in result.stderr
        assert api.requests[0].headers["authorization"] == f"Bearer {API_KEY}"
        assert api.requests[0].headers["x-organization-id"] == "org_2"

    @pytest.mark.parametrize(
        "arguments",
        [
            ("env", "creat"),
            ("env", "create"),
            ("op", "watch", "x", "--timeout", "soon"),
            ("env", "list", "-o", "xml"),
        ],
    )
    def test_wrong_usage_exits_2(self, run: Run, arguments: tuple[str, ...]) -> None:
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")


def test_version_and_help(run: Run) -> None:
    assert run("--version").stdout.startswith("perdure ")
    assert "130 interrupted" in " ".join(run("--help").stdout.split())


def test_a_quick_start(process: tuple[list[str], dict[str, str]]) -> None:
    """Help loads none of the heavy modules: that, not a time on a busy machine, is what is checked."""
    code = (
        "import sys, cli.main; print([m for m in ('rich', 'yaml', 'httpx2', 'pydantic') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], env=process[1], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"
    began = time.monotonic()
    helped = subprocess.run(
        [*process[0], "--help"], env=process[1], capture_output=True, check=True, timeout=60
    )
    assert b"env" in helped.stdout
    assert time.monotonic() - began < 5
