"""`perdure seed` against the scripted API."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.scripted_api import ENVIRONMENT_ID, OPERATION_ID, LiveOperation, ScriptedApi, data

PACKAGE = {
    "name": "visitor",
    "version": "1.2.0",
    "type": "sql",
    "service": "db",
    "digest": "sha256:abc",
    "script": "insert into visits\nvalues (${{ who }});",
    "parameters": [
        {"name": "who", "type": "string", "required": True},
        {"name": "times", "type": "integer", "default": 1},
        {"name": "token", "secret": True},
    ],
}
ACCEPTED = {"id": OPERATION_ID, "kind": "seed", "state": "accepted"}


def ended(outcome: str) -> dict[str, Any]:
    step = {"name": "seed", "kind": "seed", "state": "succeeded", "output": {"outcome": outcome}}
    return {**ACCEPTED, "state": "succeeded", "steps": [step]}


def test_a_package_is_published_found_and_shown(api: ScriptedApi, run: Run, tmp_path: Path) -> None:
    api.on("POST", "/v1/seeds/publish", data(PACKAGE, 201))
    api.on("GET", "/v1/seeds/search", data([PACKAGE]))
    api.on("GET", "/v1/seeds/visitor", data(PACKAGE))
    api.on("GET", "/v1/seeds/visitor/versions", data([PACKAGE, {**PACKAGE, "version": "1.1.0"}]))
    file, script = tmp_path / "seed.yaml", tmp_path / "seed.sql"
    file.write_text("name: visitor\nversion: 1.2.0\ntype: sql\n")
    script.write_text("select 1;\n")
    made = run("seed", "publish", "-f", str(file), "--script", str(script))
    assert made.exit_code == 0, made.output
    assert api.requests[-1].body == {
        "name": "visitor",
        "version": "1.2.0",
        "type": "sql",
        "script": "select 1;\n",
    }
    assert "sha256:abc" in made.stdout
    assert run("seed", "search", "visit", "or").stdout.splitlines()[1].split()[:2] == ["visitor", "1.2.0"]
    assert api.requests[-1].query == {"q": "visit or"}
    shown = run("seed", "show", "visitor", "--version", "1.2.0").stdout
    assert "insert into visits" in shown
    assert "secret" in shown
    assert len(run("seed", "versions", "visitor").stdout.splitlines()) == 3
    file.write_text("[]")
    assert run("seed", "publish", "-f", str(file)).exit_code == 2


def test_a_package_goes_by_version_or_as_a_whole(api: ScriptedApi, run: Run) -> None:
    api.on("DELETE", "/v1/seeds/visitor", data([PACKAGE, {**PACKAGE, "version": "1.1.0"}]))
    whole = run("seed", "delete", "visitor")
    assert whole.exit_code == 0, whole.output
    assert "Deleted: visitor@1.2.0, visitor@1.1.0." in whole.stderr
    assert run("seed", "delete", "visitor", "--version", "1.2.0").exit_code == 0
    assert [each.query for each in api.sent("DELETE", "/v1/seeds/visitor")] == [{}, {"version": "1.2.0"}]


def test_a_request_is_shown_as_it_is_sent(api: ScriptedApi, run: Run) -> None:
    http = {"method": "POST", "path": "/visits", "headers": {}, "body": {"who": "ada"}, "text": None}
    api.on("GET", "/v1/seeds/visitor", data({**PACKAGE, "type": "http", "script": None, "http": http}))
    shown = run("seed", "show", "visitor").stdout
    assert '"path": "/visits"' in shown
    assert '"who": "ada"' in shown
    assert "headers" not in shown


@pytest.mark.parametrize(
    ("outcome", "said"), [("applied", "succeeded"), ("already", "nothing was done. --force runs it again")]
)
def test_a_run_says_what_it_came_to(
    api: ScriptedApi, run: Run, live: Callable[..., LiveOperation], outcome: str, said: str
) -> None:
    api.on("GET", "/v1/seeds/visitor", data(PACKAGE))
    api.on("POST", f"/v1/seeds/run/visitor/{ENVIRONMENT_ID}", data(ACCEPTED, 202))
    live((None, {"state": "succeeded"}), steps=("seed",), kind="seed", at_end=ended(outcome))
    result = run(
        *("seed", "run", "visitor", ENVIRONMENT_ID, "--set", "who=ada=b", "--set", "times=3"),
        *("--secret", "token=db-password"),
    )
    assert result.exit_code == 0, result.output
    assert said in result.stderr
    sent = next(each for each in api.requests if each.method == "POST")
    assert sent.body == {
        "version": "1.2.0",
        "parameters": {"who": "ada=b", "times": 3, "token": "db-password"},
        "force": False,
    }
    assert run("seed", "run", "visitor", ENVIRONMENT_ID, "--set", "=x").exit_code == 2


def test_a_seed_of_ones_own_is_sent_as_it_is(api: ScriptedApi, run: Run, tmp_path: Path) -> None:
    api.on("POST", f"/v1/environments/{ENVIRONMENT_ID}/seed", data(ACCEPTED, 202))
    script = tmp_path / "seed.sql"
    script.write_text("select 1;")
    base = ("seed", "once", ENVIRONMENT_ID, "db", "--no-wait")
    assert run(*base, "--sql", str(script), "--secret", "token=t", "--force").exit_code == 0
    assert api.requests[-1].body == {
        "service": "db",
        "type": "sql",
        "script": "select 1;",
        "secrets": {"token": "t"},
        "force": True,
    }
    assert run(*base, "--image", "example/load:1", "--", "load", "--all").exit_code == 0
    sent = api.requests[-1].body
    assert (sent["type"], sent["image"], sent["command"]) == ("job", "example/load:1", ["load", "--all"])
    request = tmp_path / "request.yaml"
    request.write_text("path: /visits\nbody: {who: ada}\n")
    assert run(*base, "--http", str(request), "--secret", "token=t").exit_code == 0
    sent = api.requests[-1].body
    assert (sent["type"], sent["http"]) == ("http", {"path": "/visits", "body": {"who": "ada"}})
    assert run(*base, "--http", str(request), "--", "x").exit_code == 2
    assert run(*base).exit_code == 2
    assert run(*base, "--sql", str(script), "--shell", str(script)).exit_code == 2
    assert run(*base, "--shell", str(script), "--", "x").exit_code == 2
