"""A worker that is killed at each step of a restore and of a verification: the data come as they were.

A few shops at once, which lose their worker together, each at its own moment.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.e2e.kills import await_moments, kill_worker
from tests.e2e.lifecycle import asked_for, environment
from tests.e2e.shop import assert_exactly_one_shop, assert_ledger_tells_a_success, psql, shop
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    ask_to_verify,
    new_name,
    restore,
    take,
    taken,
    verification,
    verification_ended,
)
from tests.helpers.kube_gate import Hold, Side
from tests.helpers.stack import Handle, Stack

# Some dozen environments at one moment: whoever counts seconds meanwhile counts ours too.
pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(600)]
GATED = True

_NAMESPACE = r"POST /api/v1/namespaces\?"
_DB = r"PATCH .*/namespaces/{namespace}/statefulsets/db\?"
_API = r"PATCH .*/namespaces/{namespace}/deployments/api\?"
_EXEC = r"GET .*/namespaces/{namespace}/pods/db-0/exec"
_FILL = "create table words as select n, 'ü' || n as word from generate_series(1, 5000) n"
_DIGEST = "select md5(string_agg(words::text, '|' order by n)) from words"


@dataclass(frozen=True)
class Moment:
    """Where the worker dies: at a request (`METHOD path`), or without one as the end is to be written."""

    request: str = ""
    side: Side = "before"


NEW = {
    "new, after the namespace": Moment(_NAMESPACE, "after"),
    "new, before the database": Moment(_DB),
    "new, after the database": Moment(_DB, "after"),
    "new, before its data": Moment(_EXEC),
    "new, before what depends on it": Moment(_API),
    "new, after what depends on it": Moment(_API, "after"),
    "new, before the end is in the ledger": Moment(),
}
IN_PLACE = {
    "in place, before the stop": Moment(_API),
    "in place, after the stop": Moment(_API, "after"),
    "in place, before its data": Moment(_EXEC),
    "in place, before the end is in the ledger": Moment(),
}
VERIFIED = {
    "verified, after the namespace": Moment(_NAMESPACE, "after"),
    "verified, before its data": Moment(_EXEC),
    "verified, before it is removed": Moment(r"DELETE /api/v1/namespaces/{namespace}"),
}


@dataclass
class Killed:
    """The restores and verifications by the moment at which their worker was killed."""

    handles: dict[str, Handle] = field(default_factory=dict)
    verifications: dict[str, str] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)
    digest: str = ""


def _verify(stack: Stack, snapshot: str) -> tuple[str, str]:
    """Ask for a restore that proves a snapshot; return its path and the name of its environment."""
    path = ask_to_verify(stack, snapshot, 2)
    return path, f"verify-{verification(stack, path)['id'][-12:].lower()}"


@pytest.fixture(scope="module")
def killed(stack: Stack, request: pytest.FixtureRequest) -> Killed:
    """Hold each restore at its moment, kill the worker under all of them, let go, start another."""
    killed = Killed()
    wanted = asked_for(request)
    made = {case: stack.create(shop(new_name())) for case in ("origin", *(IN_PLACE.keys() & set(wanted)))}
    for handle in made.values():
        handle.succeeded(ENDED_SECONDS)
        psql(stack, handle.namespace, _FILL)
    killed.digest = psql(stack, made["origin"].namespace, _DIGEST)
    takes = {case: take(handle) for case, handle in made.items()}
    for taking, _ in takes.values():
        taking.succeeded(ENDED_SECONDS)
    for case in IN_PLACE.keys() & made.keys():
        psql(stack, made[case].namespace, "update words set word = 'late'; create table late ()")
    proofs = {case: taken(made["origin"]) for case in VERIFIED.keys() & set(wanted)}
    reached: dict[str, Callable[[], bool]] = {}
    with ExitStack() as until_dead:
        holds: list[Hold] = []

        def watch(case: str, moment: Moment, name: str, namespace: str) -> None:
            if not moment.request:
                reached[case] = until_dead.enter_context(stack.state_refused(name, "succeeded"))
                return
            body = f'"{name}-' if moment.request == _NAMESPACE else ""
            pattern = moment.request.replace("{namespace}", namespace)
            hold = until_dead.enter_context(stack.gate.hold(pattern, moment.side, body=body, every=True))
            holds.append(hold)
            reached[case] = hold.seen.is_set

        def begin(case: str, moment: Moment) -> None:
            if case in NEW:
                name = new_name()
                watch(case, moment, name, f"{name}-[0-9a-f]{{8}}")
                killed.handles[case] = restore(stack, takes["origin"][1], name=name)
            elif case in IN_PLACE:
                handle = made[case]
                watch(case, moment, environment(handle)["name"], handle.namespace)
                killed.handles[case] = restore(stack, takes[case][1], environmentId=handle.environment_id)
            else:
                killed.verifications[case], name = _verify(stack, proofs[case])
                watch(case, moment, name, f"{name}-[0-9a-f]{{8}}")

        # One stream at a time: who is held with it in hand keeps others from theirs, and comes last.
        for streaming in (False, True):
            for case, moment in (NEW | IN_PLACE | VERIFIED).items():
                if case in wanted and (moment.request == _EXEC) is streaming:
                    begin(case, moment)
            killed.reached = await_moments(reached)
        kill_worker(stack, holds)
    stack.worker.start()
    return killed


@pytest.mark.parametrize("case", [*NEW, *IN_PLACE])
def test_killed(stack: Stack, killed: Killed, case: str) -> None:
    handle = killed.handles[case]
    assert killed.reached[case], f"the worker was never seen: {case}"
    operation = handle.succeeded(ENDED_SECONDS)
    assert_ledger_tells_a_success(stack, handle)
    assert psql(stack, handle.namespace, _DIGEST) == killed.digest
    assert psql(stack, handle.namespace, "select to_regclass('late') is null") == "t"
    steps = {step["name"]: step for step in operation["steps"]}
    assert steps["load/db"]["finishedAt"] <= steps["service/api"]["startedAt"]
    assert handle.status()["phase"] == "running"
    if case in NEW:
        # Its init script is part of the data: one row, not two.
        assert_exactly_one_shop(stack, handle)


@pytest.mark.parametrize("case", VERIFIED)
def test_killed_while_it_verifies(stack: Stack, killed: Killed, case: str) -> None:
    assert killed.reached[case], f"the worker was never seen: {case}"
    found = verification_ended(stack, killed.verifications[case])
    assert (found["state"], found["level"]) == ("passed", 2), found
    phases = stack.rows("select phase from environments where id = ?", found["environmentId"])
    assert phases == [("deleted",)]
    [(namespace,)] = stack.rows("select namespace from environments where id = ?", found["environmentId"])
    assert not stack.namespace_exists(namespace)
