"""A worker that is killed in the middle of an update, stop, resume, scale, rollback or clone.

As with the provision, all environments are held at once and lose their worker together. And one that was
frozen while its updates were taken back.
"""

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.e2e.kills import REACHED_SECONDS, await_moments, kill_worker, start_anew
from tests.e2e.lifecycle import (
    answers,
    asked_for,
    blueprint,
    broken,
    change,
    clone,
    environment,
    keeping,
    pods_now,
    pods_settle,
    run_in,
    serving,
    update,
)
from tests.e2e.shop import assert_ledger_tells_a_success, dump, psql, settled, shop
from tests.e2e.support import CLEANED_UP, idle, uids
from tests.helpers.kube_gate import Hold, Side
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

# Some thirty environments at one moment: whoever counts seconds meanwhile counts ours too.
pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

ENDED_SECONDS = 240.0
REFUSED = (403, 409)
"""By the fence of a later operation, or by a precondition that no longer holds."""

Asked = Callable[[Handle], Handle]


def _name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def _token(value: str) -> list[dict[str, str]]:
    return [{"name": "token", "envKey": "TOKEN", "value": value}]


def _job(text: str) -> dict[str, Any]:
    return {"kind": "job", "image": idle()["image"], "command": ["sh", "-c", f"echo {text}"]}


_PAIR = {"web": serving(secrets=_token("first")), "gone": serving()}
_STORE = {"store": keeping()}
_CHAIN = {"web": serving(), "api": serving(dependsOn=["web"])}


@dataclass(frozen=True)
class Operation:
    """What is under way when the worker dies: from where, and what has to be there in the end.

    `shape`: the services before; `first`: an operation before it; `ask`: the operation itself. `pods`: by
    service, how many there are afterwards.
    """

    shape: dict[str, Any]
    ask: Asked
    pods: dict[str, int]
    first: Asked | None = None
    state: str = "succeeded"
    status: str = "running"
    check: Callable[[Handle, dict[str, str]], None] = lambda _handle, _before: None
    """Takes the handle and the UIDs of before."""


def _doc(handle: Handle, **services: dict[str, Any]) -> dict[str, Any]:
    return blueprint(environment(handle)["name"], **services)


def _ask_update(handle: Handle) -> Handle:
    web = serving(secrets=_token("second"), env={"WORD": "new"})
    return update(handle, _doc(handle, web=web, extra=serving(expose=True)))


def _ask_failing(handle: Handle) -> Handle:
    web = serving(env={"WORD": "new"})
    api = broken(serving(dependsOn=["web", "extra"]))
    return update(handle, _doc(handle, web=web, extra=serving(), api=api))


def _updated(handle: Handle, before: dict[str, str]) -> None:
    now = uids(handle.stack, handle.namespace)
    made = {"Deployment/extra", "Service/extra"}
    assert now.keys() == (before.keys() - {"Deployment/gone", "Service/gone"}) | made
    assert all(now[each] == before[each] for each in now if each not in made)
    assert run_in(handle, "deploy/web", "echo $WORD $TOKEN") == "new second"
    assert _templates(handle, "web") == 2
    assert environment(handle)["revision"] == 2


def _replaced(handle: Handle, before: dict[str, str]) -> None:
    now = uids(handle.stack, handle.namespace)
    assert now.keys() == before.keys()
    anew = {each for each in now if now[each] != before[each]}
    assert anew == {"StatefulSet/store", "PersistentVolumeClaim/data-store-0"}
    [claim] = handle.stack.objects(handle.namespace, "persistentvolumeclaims")
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"


def _run_again(handle: Handle, before: dict[str, str]) -> None:
    now = uids(handle.stack, handle.namespace)
    assert now.keys() == before.keys()
    assert now["Job/load"] != before["Job/load"]
    assert handle.stack.kubectl("-n", handle.namespace, "logs", "job/load").strip() == "two"
    [job] = handle.stack.objects(handle.namespace, "jobs")
    assert job["status"]["succeeded"] == 1


def _run_again_once(handle: Handle, before: dict[str, str]) -> None:
    _run_again(handle, before)
    assert len(handle.stack.gate.requests(f"DELETE .*/{handle.namespace}/jobs/load")) == 1


def _one_row(handle: Handle, _before: dict[str, str]) -> None:
    assert psql(handle.stack, handle.namespace, "select count(*) from visits") == "1"


def _as_before(handle: Handle, before: dict[str, str]) -> None:
    eventually(lambda: uids(handle.stack, handle.namespace) == before, "only what was there before is there")
    assert environment(handle)["revision"] == 1


def _went_back(handle: Handle, before: dict[str, str]) -> None:
    _as_before(handle, before)
    operation = handle.operation()
    assert operation["cleanup"] == CLEANED_UP
    assert "broken on purpose" in operation["failure"]["evidence"][0]["log"]
    assert run_in(handle, "deploy/web", "echo [$WORD]") == "[]"
    assert answers(handle, "api")


def _scaled(handle: Handle, before: dict[str, str]) -> None:
    _as_before(handle, before)
    assert _templates(handle, "web") == 1


def _rolled_back_to_first(handle: Handle, before: dict[str, str]) -> None:
    now = uids(handle.stack, handle.namespace)
    assert {"Deployment/gone", "Service/gone"} <= now.keys()
    assert "Deployment/extra" not in now
    assert now["Deployment/web"] == before["Deployment/web"]
    assert run_in(handle, "deploy/web", "echo [$WORD] $TOKEN") == "[] first"
    # The template of the first revision is known again by its hash.
    assert _templates(handle, "web") == 2
    assert environment(handle)["revision"] == 3


def _templates(handle: Handle, deployment: str) -> int:
    """How many pod templates a Deployment has had: one ReplicaSet each."""
    sets = handle.stack.objects(handle.namespace, "replicasets", f"app.kubernetes.io/name={deployment}")
    return len(sets)


def _stop(handle: Handle) -> Handle:
    return change(handle, "stop")


UPDATE = Operation(_PAIR, _ask_update, {"web": 1, "extra": 1, "gone": 0}, check=_updated)
REPLACE = Operation(
    _STORE,
    lambda handle: update(
        handle,
        _doc(handle, store=keeping(volumes=[{**keeping()["volumes"][0], "size": "2Gi"}], allowReplace=True)),
    ),
    {"store": 1},
    check=_replaced,
)
JOB = Operation(
    {"load": _job("one")}, lambda handle: update(handle, _doc(handle, load=_job("two"))), {}, check=_run_again
)
JOB_MADE = replace(JOB, check=_run_again_once)
INIT = Operation(
    {"web": serving()},
    lambda handle: update(handle, _doc(handle, web=serving(), db=shop("any")["services"]["db"])),
    {"web": 1, "db": 1},
    check=_one_row,
)
UNDO = Operation(
    _CHAIN, _ask_failing, {"web": 1, "api": 1, "extra": 0}, state="rolled_back", check=_went_back
)
STOP = Operation(_CHAIN, _stop, {"web": 0, "api": 0}, status="stopped", check=_as_before)
RESUME = Operation(
    _CHAIN, lambda handle: change(handle, "resume"), {"web": 1, "api": 1}, first=_stop, check=_as_before
)
SCALE = Operation(
    {"web": serving()},
    lambda handle: change(handle, "scale", service="web", replicas=2),
    {"web": 2},
    check=_scaled,
)
ROLLBACK = Operation(
    _PAIR,
    lambda handle: change(handle, "rollback", revision=1),
    {"web": 1, "gone": 1, "extra": 0},
    first=_ask_update,
    check=_rolled_back_to_first,
)
CLONE = Operation({"web": serving()}, lambda handle: handle, {"web": 1})


@dataclass(frozen=True)
class Moment:
    """Where a worker dies: at a request, by `METHOD path`; `{namespace}` is the environment's.

    Without a request: when the end is about to be written. `body`: a text in the request's body; `{name}`
    stands for the environment's name.
    """

    operation: Operation
    request: str = ""
    side: Side = "after"
    body: str = ""


_FENCE = r"PATCH /api/v1/namespaces/{namespace}\?"
_WEB = r"PATCH .*/namespaces/{namespace}/deployments/web\?"
_WATCH = r"GET .*/namespaces/{namespace}/pods\?watch=true"
_OF_THE_UNDO = '"4"'
"""Provision: fence 1, its undo 2; update 3, its undo 4."""

MOMENTS = {
    "update, after the fence": Moment(UPDATE, _FENCE),
    "update, before the secrets": Moment(UPDATE, r"PATCH .*/namespaces/{namespace}/secrets/", "before"),
    "update, after the secrets": Moment(UPDATE, r"PATCH .*/namespaces/{namespace}/secrets/"),
    "update, before a service": Moment(UPDATE, _WEB, "before"),
    "update, after a service": Moment(UPDATE, _WEB),
    "update, while a service starts": Moment(UPDATE, _WATCH, "before"),
    "update, while it looks for endpoints": Moment(UPDATE, r"GET .*/namespaces/{namespace}/endpointslices\?"),
    "update, before a removal": Moment(
        UPDATE, r"DELETE .*/namespaces/{namespace}/deployments/gone", "before"
    ),
    "update, after a removal": Moment(UPDATE, r"DELETE .*/namespaces/{namespace}/deployments/gone"),
    "update, before the end is in the ledger": Moment(UPDATE),
    "update, workload gone": Moment(REPLACE, r"DELETE .*/namespaces/{namespace}/statefulsets/store"),
    "update, volume gone": Moment(REPLACE, r"DELETE .*/namespaces/{namespace}/persistentvolumeclaims/data-"),
    "update, Job gone": Moment(JOB, r"DELETE .*/namespaces/{namespace}/jobs/load"),
    "update, Job made anew": Moment(JOB_MADE, r"PATCH .*/namespaces/{namespace}/jobs/load\?"),
    "update, after an init script": Moment(INIT, r"GET .*/namespaces/{namespace}/pods/db-0/exec\?"),
    "undo, after a deletion": Moment(UNDO, r"DELETE .*/namespaces/{namespace}/deployments/extra"),
    "undo, before a service": Moment(UNDO, _WEB, "before", _OF_THE_UNDO),
    "undo, after a service": Moment(UNDO, _WEB, "after", _OF_THE_UNDO),
    "undo, before the end is in the ledger": Moment(UNDO),
    "stop, after the fence": Moment(STOP, _FENCE),
    "stop, after a service": Moment(STOP, _WEB),
    "stop, while pods end": Moment(STOP, _WATCH, "before"),
    "resume, before a service": Moment(RESUME, _WEB, "before"),
    "resume, after a service": Moment(RESUME, _WEB),
    "scale, after the fence": Moment(SCALE, _FENCE),
    "scale, after the service": Moment(SCALE, _WEB),
    "rollback, after a service": Moment(ROLLBACK, _WEB),
    "rollback, after a removal": Moment(ROLLBACK, r"DELETE .*/namespaces/{namespace}/deployments/extra"),
    "clone, after the namespace": Moment(CLONE, r"POST /api/v1/namespaces\?", body='"{name}-'),
    "clone, after a service": Moment(CLONE, _WEB),
}


@dataclass
class Killed:
    """The operations by the moment at which their worker was killed."""

    handles: dict[str, Handle] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)
    before: dict[str, dict[str, str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def killed(stack: Stack, request: pytest.FixtureRequest) -> Killed:
    """Bring all to where they are changed, hold each change at its moment, kill the worker, start another."""
    killed = Killed()
    wanted = {case: moment for case, moment in MOMENTS.items() if case in asked_for(request)}
    moments = {case: moment for case, moment in wanted.items() if moment.operation is not CLONE}
    made = {
        case: stack.create(blueprint(_name(), **moment.operation.shape)) for case, moment in moments.items()
    }
    origin = stack.create(blueprint(_name(), **CLONE.shape))
    for handle in (*made.values(), origin):
        handle.succeeded(within=ENDED_SECONDS)
    firsts = {
        case: moment.operation.first(made[case])
        for case, moment in moments.items()
        if moment.operation.first is not None
    }
    for handle in firsts.values():
        handle.succeeded(within=ENDED_SECONDS)
    killed.before = {case: uids(stack, handle.namespace) for case, handle in made.items()}
    start_anew(stack)

    reached: dict[str, Callable[[], bool]] = {}
    with ExitStack() as until_dead:
        holds: list[Hold] = []
        for case, moment in wanted.items():
            there = made.get(case)
            name = _name() if there is None else environment(there)["name"]
            namespace = f"{name}-[0-9a-f]{{8}}" if there is None else there.namespace
            if moment.request:
                pattern = moment.request.replace("{namespace}", namespace)
                body = moment.body.replace("{name}", name)
                hold = until_dead.enter_context(stack.gate.hold(pattern, moment.side, body=body, every=True))
                holds.append(hold)
                reached[case] = hold.seen.is_set
            else:
                reached[case] = until_dead.enter_context(stack.end_refused(name, moment.operation.state))
            killed.handles[case] = clone(origin, name) if there is None else moment.operation.ask(there)
        killed.reached = await_moments(reached)
        kill_worker(stack, holds)
    stack.worker.start()
    return killed


@pytest.mark.parametrize("case", MOMENTS)
def test_killed(stack: Stack, killed: Killed, case: str) -> None:
    handle, operation = killed.handles[case], MOMENTS[case].operation
    assert killed.reached[case], f"the worker was never seen: {case}"
    ended = handle.ended(within=ENDED_SECONDS)
    assert ended["state"] == operation.state, json.dumps([ended["failure"], ended["cleanup"]])
    if operation.state == "succeeded":
        assert_ledger_tells_a_success(stack, handle)
    else:
        _assert_ledger_tells_the_end(stack, handle, operation.state)
    assert environment(handle)["status"] == operation.status
    for service, count in operation.pods.items():
        pods_settle(handle, service, count)
    operation.check(handle, killed.before.get(case, {}))


def _assert_ledger_tells_the_end(stack: Stack, handle: Handle, state: str) -> None:
    """The operation went through its states once, and no step is left as if it ran."""
    told = [
        json.loads(data)["state"]
        for (data,) in stack.rows(
            "select data from events where operation_id = ? and type = 'operation' order by number",
            handle.operation_id,
        )
    ]
    assert told == ["accepted", "running", state]
    steps = {step["name"]: step["state"] for step in handle.operation()["steps"]}
    assert set(steps.values()) <= {"succeeded", "failed", "cancelled"}, steps


def test_api_killed_between_commit_and_start_of_an_update(stack: Stack) -> None:
    """The reconciler makes the start that was lost."""
    name = _name()
    made = stack.create(blueprint(name, web=serving()))
    made.succeeded(within=ENDED_SECONDS)
    stack.temporal.freeze()
    handle = update(made, blueprint(name, web=serving(env={"WORD": "new"})))
    assert handle.operation()["state"] == "accepted"
    stack.api.kill()
    # What of the start may be in its socket dies with it.
    stack.temporal.kill()
    stack.start_temporal()
    assert not stack.workflow_exists(handle.operation_id)
    stack.start_api()
    handle.succeeded(within=ENDED_SECONDS)
    assert_ledger_tells_a_success(stack, handle)
    pods_settle(handle, "web")
    assert run_in(handle, "deploy/web", "echo $WORD") == "new"


class Frozen:
    """A worker that was frozen over updates, thawed again, and seen at work since."""

    def __init__(self) -> None:
        self.handles: dict[str, Handle] = {}
        self.holds: dict[str, Hold] = {}
        self.before: dict[str, dict[str, tuple[str, str]]] = {}
        self.writes: dict[str, list[str]] = {}
        """What it has asked the cluster for since, reading aside."""


WRITING, DELETING, ABOUT_TO = "writing", "deleting", "about to delete"
FROZEN_MOMENTS: dict[str, tuple[str, Side]] = {
    # It has sent the write of a service, which is on its way.
    WRITING: (_WEB, "before"),
    # It has sent a deletion, which is on its way.
    DELETING: (r"DELETE .*/namespaces/{namespace}/deployments/gone", "before"),
    # It has just been told of the object that it is about to delete.
    ABOUT_TO: (r"GET .*/namespaces/{namespace}/deployments/gone$", "after"),
}


@pytest.fixture(scope="module")
def frozen(stack: Stack) -> Iterator[Frozen]:
    """Freeze the worker in the middle of all, let another one take the updates back, thaw the first."""
    stack.worker.kill()
    stack.worker.argv = [sys.executable, "-m", "tests.helpers.patient_worker"]
    stack.worker.start()
    frozen = Frozen()
    made = {case: stack.create(blueprint(_name(), **_PAIR)) for case in FROZEN_MOMENTS}
    for handle in made.values():
        handle.succeeded(within=ENDED_SECONDS)
    with ExitStack() as holds:
        for case, (request, side) in FROZEN_MOMENTS.items():
            pattern = request.replace("{namespace}", made[case].namespace)
            frozen.holds[case] = holds.enter_context(stack.gate.hold(pattern, side))
            frozen.handles[case] = _ask_update(made[case])
        for hold in frozen.holds.values():
            hold.wait_seen(REACHED_SECONDS)
        stack.worker.freeze()
        second = stack.another_worker()
        for handle in frozen.handles.values():
            handle.cancel(cleanup=True)
        for handle in frozen.handles.values():
            operation = handle.ended(ENDED_SECONDS)
            assert (operation["state"], operation["cleanup"]) == ("cancelled", CLEANED_UP)
            pods_settle(handle, "web")
        for case, handle in frozen.handles.items():
            frozen.before[case] = settled(stack, handle.namespace)
        seen = len(stack.gate.requests(""))

        for hold in frozen.holds.values():
            hold.release.set()
        in_flight = [frozen.holds[case] for case in (WRITING, DELETING)]
        eventually(lambda: all(hold.statuses for hold in in_flight), "what was in flight has arrived")
        stack.worker.thaw()
        second.kill()
        # Whoever does these is the thawed worker: what it had under way is behind it then.
        next_one = stack.create(blueprint(_name(), web=serving()))
        next_one.succeeded(ENDED_SECONDS)
        next_one.delete().succeeded(ENDED_SECONDS)
        since = stack.gate.requests("")[seen:]
        frozen.writes = {
            case: [
                line
                for line in since
                if handle.namespace in line and ("/exec?" in line or not line.startswith("GET "))
            ]
            for case, handle in frozen.handles.items()
        }
        yield frozen


@pytest.mark.parametrize("case", FROZEN_MOMENTS)
def test_a_frozen_worker_changes_nothing_after_the_update_was_taken_back(
    stack: Stack, frozen: Frozen, case: str
) -> None:
    handle = frozen.handles[case]
    if case != ABOUT_TO:
        [status] = frozen.holds[case].statuses
        assert status in REFUSED
    assert frozen.writes[case] == []
    assert dump(stack, handle.namespace) == frozen.before[case]
    now = environment(handle)
    assert (now["status"], now["revision"]) == ("running", 1)
    assert answers(handle, "web")
    assert answers(handle, "gone")
    assert set(uids(stack, handle.namespace)) & {"Deployment/extra", "Service/extra"} == set()
    assert len(pods_now(handle, "gone")) == 1
