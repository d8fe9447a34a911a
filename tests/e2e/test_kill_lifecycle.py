"""A worker that is killed in the middle of an update, stop, resume, scale, restart, rollback or clone.

As with the provision, all environments are held at once and lose their worker together; then the API is
killed under what is asked of some of them next. And a worker that was frozen while its updates were taken
back.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.e2e.kill_cases import (
    CLONE,
    LOOK_AT_GONE,
    LOST_STARTS,
    MOMENTS,
    REMOVAL,
    WEB,
    Moment,
    ask_update,
    new_name,
    token,
)
from tests.e2e.kills import REACHED_SECONDS, await_moments, kill_worker, start_anew
from tests.e2e.lifecycle import (
    answers,
    asked_for,
    blueprint,
    clone,
    environment,
    pods_now,
    pods_settle,
    serving,
)
from tests.e2e.shop import assert_ledger_tells_a_success, dump, settled
from tests.e2e.support import CLEANED_UP, uids, uids_everywhere
from tests.helpers.kube_gate import Hold, Side
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

# Some sixty environments at one moment: whoever counts seconds meanwhile counts ours too.
pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(900)]
GATED = True

ENDED_SECONDS = 240.0
REFUSED = (403, 409)
"""By the fence of a later operation, or by a precondition that no longer holds."""


@dataclass
class Killed:
    """The operations by the moment at which their worker was killed."""

    handles: dict[str, Handle] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)
    before: dict[str, dict[str, str]] = field(default_factory=dict)
    """UIDs of the objects before the operation; of a clone, those of its origin."""


def _prepared(stack: Stack, moments: dict[str, Moment]) -> dict[str, Handle]:
    """The environments that are changed, each brought to where its change begins."""
    made = {
        case: stack.create(blueprint(new_name(), **each.operation.shape)) for case, each in moments.items()
    }
    under_way = [*made.values()]
    number = 0
    while under_way:
        for handle in under_way:
            handle.succeeded(within=ENDED_SECONDS)
        under_way = [
            each.operation.first[number](made[case])
            for case, each in moments.items()
            if number < len(each.operation.first)
        ]
        number += 1
    return made


@pytest.fixture(scope="module")
def killed(stack: Stack, request: pytest.FixtureRequest) -> Killed:
    """Bring all to where they are changed, hold each change at its moment, kill the worker, start another."""
    killed = Killed()
    wanted = {case: moment for case, moment in MOMENTS.items() if case in asked_for(request)}
    moments = {case: moment for case, moment in wanted.items() if moment.operation is not CLONE}
    origin = stack.create(blueprint(new_name(), **CLONE.shape))
    made = _prepared(stack, moments)
    origin.succeeded(within=ENDED_SECONDS)
    there_are = uids_everywhere(stack)
    killed.before = {case: there_are[made.get(case, origin).namespace] for case in wanted}
    start_anew(stack)

    reached: dict[str, Callable[[], bool]] = {}
    with ExitStack() as until_dead:
        holds: list[Hold] = []
        for case, moment in wanted.items():
            there = made.get(case)
            name = new_name() if there is None else environment(there)["name"]
            namespace = f"{name}-[0-9a-f]{{8}}" if there is None else there.namespace
            if moment.request:
                hold = until_dead.enter_context(
                    stack.gate.hold(
                        moment.request.replace("{namespace}", namespace),
                        moment.side,
                        body=moment.body.replace("{name}", name),
                        every=True,
                        passing=moment.passing,
                    )
                )
                holds.append(hold)
                reached[case] = hold.seen.is_set
            else:
                reached[case] = until_dead.enter_context(stack.state_refused(name, moment.state))
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
    operation.check(handle, killed.before[case])


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


@dataclass
class Lost:
    """The operations that were accepted by an API that died before it had their workflows started."""

    handles: dict[str, Handle] = field(default_factory=dict)
    before: dict[str, dict[str, str]] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    """Those of which Temporal knew all the same."""


@pytest.fixture(scope="module")
def lost(stack: Stack, killed: Killed, request: pytest.FixtureRequest) -> Lost:
    """Ask for all while Temporal does not answer, kill the API, let Temporal answer, start another API."""
    lost = Lost()
    wanted = [case for case in LOST_STARTS if case in asked_for(request)]
    for case in wanted:
        killed.handles[case].succeeded(within=ENDED_SECONDS)
    there_are = uids_everywhere(stack)
    lost.before = {case: there_are[killed.handles[case].namespace] for case in wanted}
    stack.temporal.freeze()
    lost.handles = {case: LOST_STARTS[case].ask(killed.handles[case]) for case in wanted}
    states = [handle.operation()["state"] for handle in lost.handles.values()]
    assert states == ["accepted"] * len(wanted)
    stack.api.kill()
    # What of the starts may be in its socket dies with it. The reconciler is the worker's.
    stack.temporal.kill()
    stack.worker.freeze()
    stack.start_temporal()
    lost.begun = [case for case, handle in lost.handles.items() if stack.workflow_exists(handle.operation_id)]
    stack.worker.thaw()
    stack.start_api()
    return lost


@pytest.mark.parametrize("case", LOST_STARTS)
def test_api_killed_between_commit_and_start(stack: Stack, lost: Lost, case: str) -> None:
    """The reconciler makes the start that was lost, once."""
    handle, expected = lost.handles[case], LOST_STARTS[case]
    assert case not in lost.begun
    handle.succeeded(within=ENDED_SECONDS)
    assert_ledger_tells_a_success(stack, handle)
    assert environment(handle)["status"] == expected.status
    for service, count in expected.pods.items():
        pods_settle(handle, service, count)
    expected.check(handle, lost.before[case])


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
    WRITING: (WEB, "before"),
    # It has sent a deletion, which is on its way.
    DELETING: (REMOVAL, "before"),
    # It has just been told of the object that it is about to delete.
    ABOUT_TO: (LOOK_AT_GONE, "after"),
}


@pytest.fixture(scope="module")
def frozen(stack: Stack) -> Iterator[Frozen]:
    """Freeze the worker in the middle of all, let another one take the updates back, thaw the first."""
    stack.worker.kill()
    stack.worker.argv = [sys.executable, "-m", "tests.helpers.patient_worker"]
    stack.worker.start()
    frozen = Frozen()
    pair = {"web": serving(secrets=token("first")), "gone": serving()}
    made = {case: stack.create(blueprint(new_name(), **pair)) for case in FROZEN_MOMENTS}
    for handle in made.values():
        handle.succeeded(within=ENDED_SECONDS)
    with ExitStack() as holds:
        for case, (request, side) in FROZEN_MOMENTS.items():
            pattern = request.replace("{namespace}", made[case].namespace)
            frozen.holds[case] = holds.enter_context(stack.gate.hold(pattern, side))
            frozen.handles[case] = ask_update(made[case])
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
        next_one = stack.create(blueprint(new_name(), web=serving()))
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
