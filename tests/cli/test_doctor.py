"""`perdure doctor`: a finding for each thing that can be wrong between here and there."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.client import Backoff
from cli.main import version
from tests.cli.conftest import Run, stdout_json
from tests.cli.scripted_api import Reply, ScriptedApi, data, problem

CHECKS = "/v1/status/checks"
RIGHTS = {
    "name": "cluster/local/rights",
    "status": "fail",
    "message": "missing everywhere: delete namespaces",
    "remedy": "Apply deploy/cluster/20-rights.yaml.",
}


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "seconds", lambda self, attempt: 0.01)


@pytest.fixture
def well(api: ScriptedApi) -> ScriptedApi:
    """An API that is well."""
    api.on("GET", "/health/live", Reply(200, {"status": "up", "version": version(), "parts": {}}))
    api.on("GET", CHECKS, checks({"name": "database", "status": "ok", "message": "SQLite answers"}))
    return api


def checks(*found: dict[str, str], **more: Any) -> Reply:
    """An answer with these checks."""
    now = datetime.now(UTC).isoformat()
    return data({"version": "x", "role": "admin", "observedAt": now, "checks": list(found), **more})


def findings(result: Any) -> dict[str, str]:
    """Status by name."""
    return {each["name"]: each["status"] for each in stdout_json(result)["checks"]}


def test_all_well(well: ScriptedApi, run: Run) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "ok    key: good, role admin" in result.stdout
    assert result.stdout.splitlines()[-1] == "5 checks, 0 failed, 0 with a warning."
    found = stdout_json(run("doctor", "-o", "json"))
    assert found["ok"] is True
    assert [each["name"] for each in found["checks"]] == ["settings", "api", "key", "clock", "database"]


def test_a_failed_check_is_shown_with_its_remedy(well: ScriptedApi, run: Run) -> None:
    well.on("GET", CHECKS, checks(RIGHTS))
    result = run("doctor")
    assert result.exit_code == 1
    assert "fail  cluster/local/rights: missing everywhere: delete namespaces" in result.stdout
    assert f"      {RIGHTS['remedy']}" in result.stdout.splitlines()
    assert stdout_json(run("doctor", "-o", "json"))["ok"] is False


def test_a_warning_does_not_fail(well: ScriptedApi, run: Run) -> None:
    well.on("GET", CHECKS, checks({**RIGHTS, "status": "warn"}))
    assert run("doctor").exit_code == 0


def test_without_settings(run: Run) -> None:
    result = run("doctor", "-o", "json", PERDURE_URL=None, PERDURE_PROFILE="missing")
    assert (result.exit_code, findings(result)) == (1, {"settings": "fail"})


def test_without_an_api(run: Run) -> None:
    result = run("doctor", "-o", "json", PERDURE_URL="http://127.0.0.1:9")
    assert (result.exit_code, findings(result)) == (1, {"settings": "ok", "api": "fail"})


def test_an_api_of_another_version(well: ScriptedApi, run: Run) -> None:
    well.on("GET", "/health/live", Reply(200, {"status": "up", "version": "99.0", "parts": {}}))
    result = run("doctor", "-o", "json")
    assert (result.exit_code, findings(result)["api"]) == (0, "warn")


def test_a_wrong_key(well: ScriptedApi, run: Run) -> None:
    well.on("GET", CHECKS, problem(401, "unauthenticated", "The API key is unknown."))
    result = run("doctor", "-o", "json")
    assert (result.exit_code, findings(result)["key"]) == (1, "fail")


def test_a_key_of_a_low_role_sees_what_everybody_may_see(well: ScriptedApi, run: Run) -> None:
    well.on("GET", CHECKS, problem(403, "policy_denied", "This takes the role admin or higher."))
    parts = {"database": {"status": "up"}, "temporal": {"status": "down", "reason": "Temporal is away"}}
    well.on("GET", "/health/details", Reply(200, {"status": "degraded", "version": "x", "parts": parts}))
    result = run("doctor", "-o", "json")
    assert findings(result)["key"] == "warn"
    assert (findings(result)["database"], findings(result)["temporal"]) == ("ok", "fail")
    assert result.exit_code == 1


def test_an_older_api_without_checks(well: ScriptedApi, run: Run) -> None:
    well.on("GET", CHECKS, problem(404, "not_found", "There is nothing here."))
    well.on("GET", "/health/details", Reply(200, {"status": "up", "version": "x", "parts": {}}))
    result = run("doctor", "-o", "json")
    assert (result.exit_code, findings(result)["key"]) == (0, "warn")


def test_an_api_that_breaks(well: ScriptedApi, run: Run) -> None:
    well.on("GET", CHECKS, problem(500, "internal", "It broke."))
    well.on("GET", "/health/details", problem(500, "internal", "It broke."))
    result = run("doctor", "-o", "json")
    assert (result.exit_code, findings(result)["key"], findings(result)["health"]) == (1, "fail", "fail")


def test_a_clock_that_is_off(well: ScriptedApi, run: Run) -> None:
    late = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    well.on("GET", CHECKS, checks(observedAt=late))
    result = run("doctor", "-o", "json")
    assert (result.exit_code, findings(result)["clock"]) == (0, "warn")
