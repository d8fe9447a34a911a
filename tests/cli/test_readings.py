"""Readings, statistics, revisions and principals on the command line, against the scripted API."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from cli.client import Answer
from cli.errors import ApiUnreachable, Interrupted
from cli.output import OutputFormat
from cli.repeating import print_changes
from tests.cli.conftest import Run, stdout_json
from tests.cli.scripted_api import ENVIRONMENT_ID, ScriptedApi, data

HOME = f"/v1/environments/{ENVIRONMENT_ID}"
METRICS = {
    "available": True,
    "source": "metrics.k8s.io",
    "services": [
        {
            "service": "api",
            "cpuCores": 0.25,
            "memoryBytes": 157286400,
            "pods": [{"pod": "api-1", "cpuCores": 0.25, "memoryBytes": 157286400, "containers": []}],
        },
        {"service": "db", "cpuCores": None, "memoryBytes": None, "pods": [], "reason": "not measured yet"},
    ],
}


def table(text: str) -> list[list[str]]:
    """The cells of a table's rows; cells of more than one word are taken apart."""
    return [line.split() for line in text.splitlines()]


def test_metrics_are_shown_in_cores_and_binary_units(api: ScriptedApi, run: Run) -> None:
    api.on("GET", f"{HOME}/metrics", data(METRICS))
    shown = run("env", "metrics", ENVIRONMENT_ID)
    assert shown.exit_code == 0, shown.output
    assert table(shown.stdout)[1] == ["api", "1", "0.250", "150", "MiB"]
    assert table(shown.stdout)[2] == ["db", "0", "not", "measured", "yet"]
    assert table(run("env", "metrics", ENVIRONMENT_ID, "--pods").stdout)[1][:2] == ["api", "api-1"]
    assert stdout_json(run("env", "metrics", ENVIRONMENT_ID, "-o", "json")) == METRICS


def test_why_nothing_is_measured_is_said(api: ScriptedApi, run: Run) -> None:
    nothing = {"available": False, "reason": "no metrics-server", "services": []}
    api.on("GET", f"{HOME}/metrics", data(nothing))
    assert run("env", "metrics", ENVIRONMENT_ID).stdout == "Nothing is measured: no metrics-server.\n"


def test_pods_that_cannot_tell_are_named_below_and_have_no_zeros(api: ScriptedApi, run: Run) -> None:
    absent = {"pod": "api-2", "container": "extra", "reason": "no shell"}
    service = {"service": "db", "pods": [], "unmeasured": [absent], "reason": "api-2: no shell"}
    told = {**METRICS["services"][0], "unmeasured": [absent]}  # type: ignore[index]
    answer = {"available": True, "source": "cgroup", "services": [told]}
    nothing = {"available": False, "reason": "no container tells", "services": [service]}
    api.on("GET", f"{HOME}/metrics", data(answer), data(nothing))
    header, row, between, line, source = run("env", "metrics", ENVIRONMENT_ID).stdout.splitlines()
    assert (header.split()[0], row.split()[:3], between) == ("SERVICE", ["api", "1", "0.250"], "")
    assert line == "Not measured: api-2 (extra): no shell"
    assert "cgroups" in source
    assert run("env", "metrics", ENVIRONMENT_ID).stdout.splitlines() == [
        "Nothing is measured: no container tells.",
        "Not measured: api-2 (extra): no shell",
    ]


def test_stores_are_shown_with_their_size_and_growth(api: ScriptedApi, run: Run) -> None:
    grows = {"known": True, "bytesPerDay": 2 * 1024**2, "samples": 3}
    unknown = {"known": False, "samples": 1, "reason": "one sample only"}
    volumes = [
        {"claim": "data-db-0", "usedBytes": 512 * 1024**2, "capacityBytes": 2 * 1024**3, "growth": grows},
        {"claim": "data-db-1", "usedBytes": None, "requestedBytes": 1024**3, "growth": unknown},
    ]
    answer = {"stores": [{"service": "db", "store": "postgres", "volumes": volumes}], "measuredAt": "x"}
    api.on("GET", f"{HOME}/store-stats", data(answer), data({"stores": []}))
    lines = table(run("env", "stores", ENVIRONMENT_ID).stdout)
    assert lines[1] == [
        "db",
        "postgres",
        "data-db-0",
        *["512", "MiB", "2", "GiB", "25%", "2", "MiB", "a", "day"],
    ]
    assert lines[2] == ["db", "postgres", "data-db-1", *["1", "GiB", "one", "sample", "only"]]
    assert run("env", "stores", ENVIRONMENT_ID).stdout == "No service keeps data in a volume.\n"


def test_the_cost_is_shown_with_what_it_rests_on(api: ScriptedApi, run: Run) -> None:
    service = {"service": "api", "replicas": 2, "cpuCores": 0.5, "memoryBytes": 1024**3, "storageBytes": 0}
    amounts = {"perHour": "0.024000", "perMonth": "17.52"}
    assumed = ["a month has 730 hours"]
    answer = {"currency": "EUR", **amounts, "services": [{**service, **amounts}], "assumed": assumed}
    api.on("GET", f"{HOME}/cost", data(answer))
    shown = run("env", "cost", ENVIRONMENT_ID).stdout
    assert table(shown)[0][-2:] == ["EUR/HOUR", "EUR/MONTH"]
    assert table(shown)[1] == ["api", "2", "0.500", "1", "GiB", "0", "B", "0.024000", "17.52"]
    assert table(shown)[2] == ["all", "0.024000", "17.52"]
    assert shown.endswith("Assumed:\n- a month has 730 hours\n")


def test_statistics(api: ScriptedApi, run: Run) -> None:
    kinds = {"provision": {"succeeded": 3, "rolled_back": 1}}
    durations = {"provision": {"count": 3, "medianSeconds": 4.5, "p95Seconds": 75.0}}
    operations = {"total": 4, "byState": {}, "byKind": kinds, "failureRate": 0.25, "durations": durations}
    workers = {"known": True, "queues": [{"name": "control", "workers": 2, "backlog": 0}]}
    answer = {
        "environments": {"total": 2, "byStatus": {"running": 2, "failed": 0}},
        "operations": operations,
        "workers": workers,
    }
    api.on("GET", "/v1/status/stats", data(answer), data({**answer, "workers": {"known": False}}))
    shown = run("stats").stdout
    assert "Environments:  2 (2 running)" in shown
    assert "25.0%" in shown
    assert ["provision", "4", *["3", "succeeded,", "1", "rolled", "back", "4.5s", "1m15s"]] in table(shown)
    assert ["control", "2", "0"] in table(shown)
    assert "Temporal does not answer" in run("stats").stdout


def test_a_revision_is_printed_as_a_document_in_yaml(api: ScriptedApi, run: Run) -> None:
    revision = {"number": 3, "message": "two\nlines", "blueprint": {"name": "shop", "services": {}}}
    api.on("GET", f"{HOME}/revisions/3", data(revision))
    shown = run("env", "revision", ENVIRONMENT_ID, "3").stdout
    assert [line[0] for line in shown.splitlines()] == ["#", "#", "n", "s"]
    assert shown.endswith("name: shop\nservices: {}\n")


def test_checkpoints_and_principals(api: ScriptedApi, run: Run) -> None:
    api.on("GET", f"{HOME}/checkpoints", data([{"name": "good", "revision": 2}]))
    assert table(run("env", "checkpoints", ENVIRONMENT_ID).stdout)[1] == ["good", "2"]
    robot = {"id": "prn_1", "kind": "service", "name": "robot"}
    api.on("GET", "/v1/principals", data([robot]))
    api.on("POST", "/v1/principals", data(robot, 201))
    assert table(run("principal", "list").stdout)[1] == ["prn_1", "service", "robot"]
    assert run("principal", "create", "robot").exit_code == 0
    assert api.requests[-1].body == {"name": "robot", "kind": "service"}


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (("principal", "list"), "/v1/principals"),
        (("api-key", "list"), "/v1/api-keys"),
        (("secret", "list"), "/v1/secrets"),
        (("registry", "list"), "/v1/registry-credentials"),
        (("template", "list"), "/v1/templates"),
        (("env", "checkpoints", ENVIRONMENT_ID), f"{HOME}/checkpoints"),
    ],
)
def test_every_page_is_read(api: ScriptedApi, run: Run, command: tuple[str, ...], path: str) -> None:
    api.on("GET", path, data([], nextCursor="more"), data([]))
    assert run(*command).exit_code == 0
    assert [request.query.get("cursor") for request in api.requests] == [None, "more"]


def test_the_trail_is_narrowed_and_a_key_may_be_unlimited(api: ScriptedApi, run: Run) -> None:
    api.on("GET", "/v1/audit", data([]))
    assert run("audit", "list", "--principal", "operator", "--since", "1h").exit_code == 0
    query = api.requests[-1].query
    assert datetime.fromisoformat(query.pop("since")) < datetime.now(UTC) - timedelta(minutes=59)
    assert query == {"principal": "operator", "limit": "50"}
    api.on("POST", "/v1/api-keys", data({"id": "key_1", "name": "ci", "role": "owner", "token": "t"}, 201))
    for given, asked in (((), {}), (("--unlimited",), {"unlimited": True})):
        assert run("api-key", "create", "ci", "--role", "owner", *given).exit_code == 0
        assert api.requests[-1].body == {"name": "ci", "role": "owner", **asked}


class TestWatching:
    def test_prints_each_change_once_and_goes_on_while_the_api_is_away(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answers = iter([1, 1, None, None, 2])

        def read() -> Answer[int]:
            value = next(answers, 0)
            if value is None:
                raise ApiUnreachable("away")
            if value == 0:
                raise KeyboardInterrupt
            return Answer(value, value)

        with pytest.raises(Interrupted):
            print_changes(read, lambda value: [str(value)], OutputFormat.JSON, sleep=lambda _: None)
        told = capsys.readouterr()
        assert [json.loads(line) for line in told.out.splitlines()] == [1, 2]
        assert told.err.count("trying again") == 1

    def test_an_api_that_never_answered_is_a_failure(self) -> None:
        def read() -> Answer[int]:
            raise ApiUnreachable("away")

        with pytest.raises(ApiUnreachable):
            print_changes(read, lambda _: [], OutputFormat.TABLE, sleep=lambda _: None)
