"""What cannot become ready is said at once, with kind, step and evidence; what only takes long is left alone.

The cases run side by side, as environments of one stack, and a table of the measured times is printed.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.support import POSTGRES, PRIVATE_IMAGE, REGISTRY, SHOP_API, idle, moment, on_demand, pods
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

# The slowest case is a pod that no node takes: it is waited for a minute.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
GATED = True

PLANTED = f"planted-{uuid.uuid4().hex}"
"""A secret of every environment here: what is kept as evidence must not hold it."""
AT_ONCE = 6
FAST_SECONDS = 30.0
UNSCHEDULABLE_SECONDS = 75.0
NOT_READY_TIMEOUT = 25
"""`readyTimeoutSeconds` of the service that is never ready."""

_TOKEN = [{"name": "token", "envKey": "TOKEN", "value": PLANTED}]
_PROBED = {"probes": {"readiness": {"http": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}}}
"""Without a probe, what runs for a moment counts as ready."""
_PORTS = [{"containerPort": 8080}]
_HALF_DONE = "create table kept (id int); insert into kept values (1); select 1 / 0;"


def _shop(**env: str) -> dict[str, Any]:
    """The demo's program, which says its secret when it starts, with its switches."""
    command = ["sh", "-c", 'echo "my token is $TOKEN"; exec python3 -m shop']
    return {"image": SHOP_API, "command": command, "ports": _PORTS, "env": env}


def _says(script: str) -> dict[str, Any]:
    """A shell that says its secret and then does what it is told; it is never ready."""
    return on_demand() | {"command": ["sh", "-c", f'echo "my token is $TOKEN"; {script}']}


def _database(script: str) -> dict[str, Any]:
    return {
        "image": POSTGRES,
        "ports": [{"containerPort": 5432}],
        "env": {"POSTGRES_HOST_AUTH_METHOD": "trust", "PGDATA": "/data/pg"},
        "volumes": [{"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}],
        "probes": {
            "readiness": {
                "exec": {"command": ["pg_isready", "-h", "127.0.0.1", "-U", "postgres"]},
                "periodSeconds": 1,
            }
        },
        "snapshot": {"store": "postgres"},
        "init": {"type": "sql", "script": script},
    }


@dataclass(frozen=True)
class Case:
    """One service, what has to become of it, and what the evidence has to hold (events or log lines)."""

    service: dict[str, Any]
    kind: str | None = None
    message: str = ""
    events: frozenset[str] = frozenset()
    log: str = ""
    limit: float = FAST_SECONDS
    hold: str = ""
    """Plural of the workload that is held back until `meanwhile` has been done."""
    meanwhile: Callable[[Stack, Handle, str], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a case ended. `seconds`: from the workload's creation (a whole second) to the end."""

    handle: Handle
    operation: dict[str, Any]
    service: str
    seconds: float


def _remove_key(stack: Stack, handle: Handle, service: str) -> None:
    patch = json.dumps([{"op": "remove", "path": "/data/value"}])
    stack.kubectl("-n", handle.namespace, "patch", "secret", "secret-token", "--type=json", "-p", patch)


def _limit_memory(stack: Stack, handle: Handle, service: str) -> None:
    """A quota by somebody else, counted before the service comes."""
    stack.kubectl("-n", handle.namespace, "create", "quota", "small", "--hard=requests.memory=48Mi")
    eventually(
        lambda: stack.objects(handle.namespace, "resourcequotas")[0].get("status", {}).get("hard"),
        "the quota is counted",
    )


_OVER_QUOTA = idle(resources={"memory": "64Mi"})
_PULL = frozenset({"Failed"})

CASES: dict[str, Case] = {
    "unschedulable": Case(
        idle(resources={"cpu": "1000"}),
        "unschedulable",
        "Insufficient cpu",
        frozenset({"FailedScheduling"}),
        limit=UNSCHEDULABLE_SECONDS,
    ),
    "image that does not exist": Case(
        {"image": f"{REGISTRY}/no-such-image:1"}, "image_unavailable", "no-such-image:1", _PULL
    ),
    "pull secret missing": Case({"image": PRIVATE_IMAGE}, "image_unavailable", PRIVATE_IMAGE, _PULL),
    "pull secret with a wrong login": Case(
        {"image": PRIVATE_IMAGE, "imagePullSecrets": ["wrong"]}, "image_unavailable", PRIVATE_IMAGE, _PULL
    ),
    "crash loop": Case(
        _says('echo "crashing on purpose" >&2; exit 7'),
        "crash_loop",
        "exited with code 7",
        log="crashing on purpose",
    ),
    "command that is not there": Case(
        idle() | {"command": ["/no/such/program"]}, "crash_loop", "/no/such/program", frozenset({"Failed"})
    ),
    "out of memory": Case(
        # One buffer far above the limit; not at once, for a node that is busy begins to look for that late.
        _says("sleep 1; exec dd if=/dev/zero of=/dev/null bs=512M count=1")
        | {"resources": {"limits": {"memory": "64Mi"}}},
        "out_of_memory",
        "memory limit",
        log="my token is [redacted]",
    ),
    "secret key missing": Case(
        idle(),
        "config_missing",
        "secret-token",
        frozenset({"Failed"}),
        hold="deployments",
        meanwhile=_remove_key,
    ),
    "quota exceeded by a Deployment": Case(
        _OVER_QUOTA,
        "quota_exceeded",
        "ResourceQuota small",
        frozenset({"FailedCreate"}),
        hold="deployments",
        meanwhile=_limit_memory,
    ),
    "quota exceeded by a StatefulSet": Case(
        _OVER_QUOTA | {"volumes": [{"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}]},
        "quota_exceeded",
        "ResourceQuota small",
        frozenset({"FailedCreate"}),
        hold="statefulsets",
        meanwhile=_limit_memory,
    ),
    "readiness that never comes": Case(
        _shop(NEVER_READY="1") | _PROBED | {"readyTimeoutSeconds": NOT_READY_TIMEOUT},
        "probe_failing",
        "readiness probe",
        frozenset({"Unhealthy"}),
        log="listening on port 8080",
        limit=NOT_READY_TIMEOUT + 10,
    ),
    "failing init in SQL": Case(
        _database(_HALF_DONE), "hook_failed", "division by zero", log="division by zero"
    ),
    "failing init in shell": Case(
        idle(init={"type": "shell", "script": 'echo "token $TOKEN, giving up"; exit 9'}),
        "hook_failed",
        "exited with code 9",
        log="token [redacted], giving up",
    ),
    "exits twice, then runs": Case(
        _shop(EXIT_TIMES="2")
        | _PROBED
        | {
            "volumes": [{"name": "state", "mountPath": "/state", "type": "emptyDir"}],
            "startup": {"tolerateRestarts": 2},
        },
    ),
    "slow, within its deadline": Case(
        _shop(READY_AFTER_SECONDS="15") | _PROBED | {"readyTimeoutSeconds": 60}
    ),
    "private image with its login": Case({"image": PRIVATE_IMAGE, "imagePullSecrets": ["right"]}),
}
FAILING = [name for name, case in CASES.items() if case.kind is not None]


@pytest.fixture(scope="module")
def outcomes(
    stack: Stack,
    registry: dict[str, Any],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Outcome]]:
    """Every case, run to its end."""
    for login, password in (("right", registry["password"]), ("wrong", "not-the-password")):
        answer = stack.client.post(
            "/v1/registry-credentials",
            json={
                "name": login,
                "registry": registry["private"],
                "username": registry["username"],
                "password": password,
            },
        )
        assert answer.status_code == 201, answer.text
    found = dict(_in_turns(stack))
    yield found
    rows = [
        {
            "case": name,
            "state": outcome.operation["state"],
            "kind": outcome.operation.get("failure", {}).get("kind"),
            "seconds": round(outcome.seconds, 1),
            "limit": CASES[name].limit,
        }
        for name, outcome in found.items()
    ]
    (tmp_path_factory.getbasetemp() / "failfast.json").write_text(json.dumps(rows, indent=1))
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")
    assert reporter is not None
    assert capture is not None
    with capture.global_and_fixture_disabled():
        reporter.write_line("")
        reporter.write_line(f"{'case':34} {'answer':20} {'from apply':>10} {'limit':>6}")
        for row in rows:
            answer = row["kind"] or row["state"]
            reporter.write_line(f"{row['case']:34} {answer:20} {row['seconds']:>8.1f} s {row['limit']:>6.0f}")


def _in_turns(stack: Stack) -> Iterator[tuple[str, Outcome]]:
    """Run all cases, so many at once that a small machine measures the product and not itself."""
    waiting = list(CASES)
    running: dict[str, tuple[Handle, str]] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name = waiting.pop(0)
            running[name] = _begin(stack, CASES[name])
        name = eventually(
            lambda: _first_ended(stack, running), f"one of {', '.join(running)} ends", within=240
        )
        handle, service = running.pop(name)
        yield name, _end(stack, CASES[name], handle, service)


def _first_ended(stack: Stack, running: dict[str, tuple[Handle, str]]) -> str | None:
    """One request for all of them: asking must not be what keeps the machine busy."""
    answer = stack.client.get("/v1/operations", params={"limit": 50, "state": ["succeeded", "failed"]})
    ended = {operation["id"] for operation in answer.json()["data"]}
    return next((name for name, (handle, _) in running.items() if handle.operation_id in ended), None)


def _begin(stack: Stack, case: Case) -> tuple[Handle, str]:
    # A name that no other case has: its first write can be held before its namespace is known.
    service = f"s-{uuid.uuid4().hex[:8]}"
    document = {"name": f"t-{service}", "services": {service: {"secrets": _TOKEN, **case.service}}}
    if case.meanwhile is None:
        return stack.create(document), service
    # Held for longer than a request may take, the worker asks again: that is held, too.
    with stack.gate.hold(rf"PATCH .*/{case.hold}/{service}\?", "before", every=True) as hold:
        handle = stack.create(document)
        hold.wait_seen(120)
        case.meanwhile(stack, handle, service)
    return handle, service


def _end(stack: Stack, case: Case, handle: Handle, service: str) -> Outcome:
    operation = handle.ended()
    kind = "statefulsets" if "pvc" in json.dumps(case.service) else "deployments"
    workload = next(
        each for each in stack.objects(handle.namespace, kind) if each["metadata"]["name"] == service
    )
    applied = moment(workload["metadata"]["creationTimestamp"])
    return Outcome(handle, operation, service, (moment(operation["finishedAt"]) - applied).total_seconds())


@pytest.mark.parametrize("name", FAILING)
def test_a_failure_has_kind_step_evidence_and_comes_soon(name: str, outcomes: dict[str, Outcome]) -> None:
    case, outcome = CASES[name], outcomes[name]
    operation, failure = outcome.operation, outcome.operation["failure"]
    assert operation["state"] == "failed"
    assert (failure["kind"], failure["step"]) == (case.kind, f"service/{outcome.service}")
    assert case.message in failure["message"]
    assert failure["help"]
    assert not failure["retryable"]
    step = outcome.handle.step(f"service/{outcome.service}")
    assert (step["state"], step["failure"]["kind"]) == ("failed", case.kind)
    [evidence] = failure["evidence"]
    reasons = {event["reason"] for event in evidence["events"]}
    assert case.events <= reasons, evidence
    assert case.log in evidence["log"] + evidence["previousLog"], evidence
    assert PLANTED not in json.dumps(operation)
    assert outcome.seconds < case.limit


@pytest.mark.parametrize("name", [name for name in CASES if name not in FAILING])
def test_what_only_takes_long_is_left_alone(name: str, outcomes: dict[str, Outcome]) -> None:
    operation = outcomes[name].operation
    assert operation["state"] == "succeeded", operation.get("failure")


def test_unschedulable_is_waited_for_a_minute(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["unschedulable"].seconds >= 60


def test_exits_that_were_tolerated_are_counted(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["exits twice, then runs"]
    step = outcome.handle.step(f"service/{outcome.service}")
    assert step["output"]["restarts"] == 2


def test_a_failed_init_keeps_nothing_in_the_database(stack: Stack, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["failing init in SQL"]
    [pod] = pods(stack, outcome.handle.namespace, outcome.service)
    query = "select coalesce(to_regclass('kept')::text, 'absent')"
    command = ("psql", "-h", "127.0.0.1", "-U", "postgres", "-At", "-c", query)
    assert stack.run_in(outcome.handle.namespace, pod["metadata"]["name"], *command) == "absent"


def test_the_status_of_a_failed_environment_says_why(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["crash loop"]
    status = outcome.handle.status()
    assert (status["status"], status["reason"], status["terminal"]) == ("error", "crash_loop", True)
    [service] = status["services"]
    assert service["state"] == "failing"
