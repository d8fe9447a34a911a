"""Seeds on the real cluster: once, however often they are asked for and whoever dies in between."""

import json
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.e2e.kills import REACHED_SECONDS, await_moments, kill_worker
from tests.e2e.lifecycle import accepted, ask, asked_for, change
from tests.e2e.shop import assert_ledger_tells_a_success, psql, shop
from tests.e2e.support import POSTGRES, states
from tests.helpers.kube_gate import Hold, Side
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(600)]
GATED = True

ENDED_SECONDS = 240.0
TOKEN = "planted-token-4711"
_PSQL = 'PGPASSWORD="$POSTGRES_PASSWORD" psql -h db -U postgres -X -v ON_ERROR_STOP=1'


def _name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def _store(name: str) -> dict[str, Any]:
    """A database with an empty table `seeded`, and a secret that seeds may use."""
    db = shop(name)["services"]["db"]
    db["init"] = {"type": "sql", "script": "create table seeded (who text);"}
    db["secrets"] = [*db["secrets"], {"name": "token", "envKey": "UNUSED", "value": TOKEN}]
    return {"name": name, "services": {"db": db}}


def _insert(who: str) -> dict[str, Any]:
    return {"type": "sql", "service": "db", "script": f"insert into seeded values ('{who}');"}


def _by_shell(who: str, after: str = "") -> dict[str, Any]:
    insert = f"{_PSQL} -c \"insert into seeded values ('{who}')\""
    return {"type": "shell", "service": "db", "script": f"set -e\n{insert}\n{after}"}


def _seed(handle: Handle, seed: dict[str, Any], **more: Any) -> Handle:
    """Ask for a seed of its own and return a handle on its operation."""
    return change(handle, "seed", **seed, **more)


def _publish(stack: Stack, package: dict[str, Any]) -> None:
    answer = stack.client.post("/v1/seeds/publish", json=package)
    assert answer.status_code == 201, answer.text


def _run(handle: Handle, package: str, **body: Any) -> Handle:
    """Ask for a run of a package and return a handle on its operation."""
    path = f"/v1/seeds/run/{package}/{handle.environment_id}"
    return accepted(handle, handle.stack.client.post(path, json=body))


def _outcome(handle: Handle) -> str:
    """What a seed came to; it has to have ended well."""
    operation = handle.succeeded(ENDED_SECONDS)
    assert states(operation) == {"namespace": "succeeded", "seed": "succeeded"}
    return str(handle.step("seed")["output"]["outcome"])


def _rows(handle: Handle, who: str) -> str:
    return psql(handle.stack, handle.namespace, f"select count(*) from seeded where who = '{who}'")


@pytest.fixture(scope="module")
def store(stack: Stack) -> Handle:
    """An environment that runs."""
    handle = stack.create(_store(_name()))
    handle.succeeded(ENDED_SECONDS)
    return handle


def test_a_package_runs_once_for_its_parameters_unless_it_is_forced(stack: Stack, store: Handle) -> None:
    _publish(
        stack,
        {
            "name": "visitor",
            "version": "1.0.0",
            "type": "sql",
            "service": "db",
            "script": "insert into seeded values (${{ who }});",
            "parameters": [{"name": "who", "required": True}],
        },
    )
    ada = {"who": "it's \\ $1 ${{ who }} ü"}
    query = "select count(*) from seeded where who like 'it''s%'"

    def rows() -> str:
        return psql(stack, store.namespace, query)

    first = _run(store, "visitor", parameters=ada)
    assert (_outcome(first), rows()) == ("applied", "1")
    output = first.step("seed")["output"]
    assert output["package"] == "visitor@1.0.0"
    assert output["digest"] == stack.client.get("/v1/seeds/visitor").json()["data"]["digest"]
    found = store.sh(
        "db-0",
        f"{_PSQL.replace('-h db', '-h 127.0.0.1')} -Atqc 'select who from seeded where who like $$it%$$'",
    )
    assert found == ada["who"]
    assert (_outcome(_run(store, "visitor", parameters=ada)), rows()) == ("already", "1")
    assert (_outcome(_run(store, "visitor", parameters=ada, force=True)), rows()) == ("applied", "2")
    assert (_outcome(_run(store, "visitor", parameters=ada)), rows()) == ("already", "2")
    assert _outcome(_run(store, "visitor", parameters={"who": "bob"})) == "applied"
    assert (_rows(store, "bob"), rows()) == ("1", "2")
    assert store.status()["phase"] == "running"


def test_forced_at_first_it_has_run_for_those_that_follow(store: Handle) -> None:
    assert _outcome(_seed(store, _insert("forced"), force=True)) == "applied"
    assert _outcome(_seed(store, _insert("forced"))) == "already"
    assert _outcome(_seed(store, _by_shell("forced-job"), force=True)) == "applied"
    assert _outcome(_seed(store, _by_shell("forced-job"))) == "already"
    assert (_rows(store, "forced"), _rows(store, "forced-job")) == ("1", "1")


def test_sql_that_fails_leaves_nothing_and_is_told(store: Handle) -> None:
    broken = {**_insert("failing"), "script": "insert into seeded values ('failing');\nselect 1 / 0;"}
    failed = _seed(store, broken)
    operation = failed.ended(ENDED_SECONDS)
    assert (operation["state"], operation["failure"]["kind"]) == ("failed", "hook_failed")
    assert "division by zero" in operation["failure"]["message"]
    assert _rows(store, "failing") == "0"
    # The environment is what it was: a seed changes data, not what runs.
    assert store.status()["phase"] == "running"
    again = failed.retry()
    assert again.ended(ENDED_SECONDS)["state"] == "failed"
    assert _outcome(_seed(store, _insert("failing"))) == "applied"


def test_a_secret_reaches_the_seed_and_nothing_else(stack: Stack, store: Handle) -> None:
    script = "insert into seeded values ('secret'), (${{ token }});"
    sql = {**_insert(""), "script": script, "secrets": {"token": "token"}}
    assert _outcome(_seed(store, sql)) == "applied"
    assert _rows(store, TOKEN) == "1"
    shell = _by_shell("$TOKEN")
    assert _outcome(_seed(store, {**shell, "secrets": {"TOKEN": "token"}})) == "applied"
    assert _rows(store, TOKEN) == "2"
    # Errors quote the statement at fault, and what its values were.
    for told in ("select nothing(${{ token }}, 'x');", "select cast(${{ token }} as int);"):
        failed = _seed(store, {**sql, "script": told})
        operation = failed.ended(ENDED_SECONDS)
        assert operation["state"] == "failed"
        assert "ERROR" in operation["failure"]["message"]
        assert TOKEN not in json.dumps(operation)
    kept = [
        *(each.read_bytes() for each in stack.directory.rglob("*") if each.is_file()),
        json.dumps(stack.objects(store.namespace, "jobs,pods")).encode(),
    ]
    assert all(TOKEN.encode() not in each for each in kept)


def test_jobs_run_once_and_say_how_they_failed(store: Handle) -> None:
    job = {
        "type": "job",
        "service": "db",
        "image": POSTGRES,
        "command": ["sh", "-c"],
        "args": [f"{_PSQL} -c \"insert into seeded values ('job')\""],
    }
    for seed, who in ((_by_shell("shell"), "shell"), (job, "job")):
        assert (_outcome(_seed(store, seed)), _rows(store, who)) == ("applied", "1")
        assert (_outcome(_seed(store, seed)), _rows(store, who)) == ("already", "1")
        assert (_outcome(_seed(store, seed, force=True)), _rows(store, who)) == ("applied", "2")
        assert (_outcome(_seed(store, seed)), _rows(store, who)) == ("already", "2")

    failing = _by_shell("half", "echo broken on purpose; exit 3")
    failed = _seed(store, failing)
    operation = failed.ended(ENDED_SECONDS)
    assert operation["failure"]["kind"] == "hook_failed"
    assert "broken on purpose" in operation["failure"]["evidence"][0]["log"]
    again = _seed(store, failing)
    told = again.ended(ENDED_SECONDS)["failure"]["message"]
    assert "failed when it was run before" in told
    assert _rows(store, "half") == "1"
    # Who retries wants it to run again.
    retried = again.retry()
    assert retried.ended(ENDED_SECONDS)["failure"]["kind"] == "hook_failed"
    assert _rows(store, "half") == "2"


def test_a_job_that_is_cancelled_stops(stack: Stack, store: Handle) -> None:
    seed = _by_shell("cancelled", "sleep 600")
    running = _seed(store, seed)
    eventually(lambda: _rows(store, "cancelled") == "1", "the Job has begun", within=REACHED_SECONDS)
    running.cancel(cleanup=True)
    operation = running.ended(ENDED_SECONDS)
    assert operation["state"] == "cancelled"
    assert operation["cleanup"] == {"complete": False, "left": [], "notUndone": ["seed: it may have run"]}

    def pods() -> list[str]:
        listed = stack.objects(store.namespace, "pods", "app.kubernetes.io/component=seed")
        return [each["metadata"]["name"] for each in listed if each["status"]["phase"] == "Running"]

    eventually(lambda: not pods(), "its pod is gone", within=60)
    told = _seed(store, seed).ended(ENDED_SECONDS)["failure"]["message"]
    assert "was stopped when it was run before" in told
    assert _rows(store, "cancelled") == "1"


def test_sql_without_a_pod_to_run_it_in_says_so(store: Handle) -> None:
    change(store, "scale", service="db", replicas=0).succeeded(ENDED_SECONDS)
    operation = _seed(store, _insert("nobody")).ended(ENDED_SECONDS)
    change(store, "scale", service="db", replicas=1).succeeded(ENDED_SECONDS)
    assert operation["failure"]["kind"] == "timeout"
    assert "No pod of db is ready" in operation["failure"]["message"]
    assert _rows(store, "nobody") == "0"


def test_refused_while_it_is_stopped(store: Handle) -> None:
    change(store, "stop").succeeded(ENDED_SECONDS)
    answer = ask(store, "seed", **_insert("asleep"))
    assert answer.status_code == 409, answer.text
    change(store, "resume").succeeded(ENDED_SECONDS)
    assert _rows(store, "asleep") == "0"


_UNTIL_GO = """
do $$ begin
  while not exists (select from pg_class where relname = 'go') loop perform pg_sleep(0.1); end loop;
end $$;
"""
_SQL = _insert("killed")
_SLOW_SQL = {**_SQL, "script": _SQL["script"] + _UNTIL_GO}
_JOB = _by_shell("killed")
_SLOW_JOB = _by_shell("killed", f"until {_PSQL} -c 'select from go'; do sleep 0.2; done")


@dataclass(frozen=True)
class Moment:
    """Where a worker dies: at a request, by `METHOD path`; without one when the end is to be written."""

    seed: dict[str, Any]
    request: str = ""
    side: Side = "after"


MOMENTS = {
    "sql, after the fence": Moment(_SQL, r"PATCH /api/v1/namespaces/{namespace}\?"),
    "sql, before the script": Moment(_SQL, r"GET .*/namespaces/{namespace}/pods/db-0/exec\?", "before"),
    "sql, after the script": Moment(_SQL, r"GET .*/namespaces/{namespace}/pods/db-0/exec\?"),
    "sql, before the end is in the ledger": Moment(_SQL),
    "job, before the Job": Moment(_JOB, r"POST .*/namespaces/{namespace}/jobs\?", "before"),
    "job, after the Job": Moment(_JOB, r"POST .*/namespaces/{namespace}/jobs\?"),
    "job, before the end is in the ledger": Moment(_JOB),
}
IN_THE_SCRIPT = "sql, in the middle of the script"
IN_THE_JOB = "job, in the middle of it"
_WAITING = {IN_THE_SCRIPT: _SLOW_SQL, IN_THE_JOB: _SLOW_JOB}
"""Seeds that stand still after their row, until there is a table `go`."""


@dataclass
class Killed:
    """The seeds by the moment at which their worker was killed."""

    handles: dict[str, Handle] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)


def _scripts(handle: Handle) -> str:
    """How many scripts run; empty when the database does not answer."""
    query = (
        "select count(*) from pg_stat_activity "
        "where query like '%pg_sleep%' and state = 'active' and pid <> pg_backend_pid()"
    )
    return psql(handle.stack, handle.namespace, query, check=False)


def _stands_still(handle: Handle, case: str) -> bool:
    """Whether a seed that waits has got that far."""
    return _scripts(handle) == "1" if case == IN_THE_SCRIPT else _rows(handle, "killed") == "1"


@pytest.fixture(scope="module")
def killed(stack: Stack, request: pytest.FixtureRequest) -> Killed:
    """Hold a seed at each moment, kill the worker under all of them, let go, start it again."""
    killed = Killed()
    wanted = asked_for(request)
    made = {case: stack.create(_store(_name())) for case in (*MOMENTS, *_WAITING) if case in wanted}
    for handle in made.values():
        handle.succeeded(ENDED_SECONDS)
    reached: dict[str, Callable[[], bool]] = {}
    with ExitStack() as until_dead:
        holds: list[Hold] = []
        for case, handle in made.items():
            if case in _WAITING:
                killed.handles[case] = _seed(handle, _WAITING[case])
                reached[case] = partial(_stands_still, handle, case)
                continue
            moment = MOMENTS[case]
            if moment.request:
                pattern = moment.request.replace("{namespace}", handle.namespace)
                holds.append(until_dead.enter_context(stack.gate.hold(pattern, moment.side, every=True)))
                reached[case] = holds[-1].seen.is_set
            else:
                [(name,)] = stack.rows("select name from environments where id = ?", handle.environment_id)
                reached[case] = until_dead.enter_context(stack.state_refused(name, "succeeded"))
            killed.handles[case] = _seed(handle, moment.seed)
        killed.reached = await_moments(reached)
        kill_worker(stack, holds)
    if IN_THE_SCRIPT in made:
        cut = made[IN_THE_SCRIPT]
        eventually(lambda: _scripts(cut) == "0", "the script of the dead worker is over", within=60)
    for case in _WAITING.keys() & made.keys():
        psql(stack, made[case].namespace, "create table go ()")
    stack.worker.start()
    return killed


@pytest.mark.parametrize("case", [*MOMENTS, *_WAITING])
def test_killed(stack: Stack, killed: Killed, case: str) -> None:
    handle = killed.handles[case]
    assert killed.reached[case], f"the worker was never seen: {case}"
    # It was this operation that has done it, also where a second attempt found it done.
    assert _outcome(handle) == "applied"
    assert _rows(handle, "killed") == "1"
    assert_ledger_tells_a_success(stack, handle)
    seed = _WAITING[case] if case in _WAITING else MOMENTS[case].seed
    assert _outcome(_seed(handle, seed)) == "already"
    assert _rows(handle, "killed") == "1"
