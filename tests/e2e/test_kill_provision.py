"""A worker that is killed in the middle of a provision, at each of its steps: the next one ends it well.

All environments are held at once, each at its own moment, and lose their worker together.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e.kills import REACHED_SECONDS, kill_worker
from tests.e2e.shop import (
    assert_exactly_one_shop,
    assert_ledger_tells_a_success,
    psql,
    settled,
    shop,
    small,
)
from tests.helpers.kube_gate import Hold, Side
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(600)]
GATED = True

ENDED_SECONDS = 240.0


@dataclass(frozen=True)
class Moment:
    """Where a worker dies: at a request, by `METHOD path`; `{namespace}` stands for the environment's."""

    request: str
    side: Side
    body: str = ""
    """A text in the request's body; `{name}` stands for the environment's."""


MOMENTS = {
    "before the namespace": Moment(r"POST /api/v1/namespaces\?", "before", '"{name}-'),
    "after the namespace": Moment(r"POST /api/v1/namespaces\?", "after", '"{name}-'),
    "after its rights": Moment(r"PATCH .*/namespaces/{namespace}/rolebindings/perdure\?", "after"),
    "before the secrets": Moment(r"PATCH .*/namespaces/{namespace}/secrets/", "before"),
    "after the secrets": Moment(r"PATCH .*/namespaces/{namespace}/secrets/", "after"),
    "before the database": Moment(r"PATCH .*/namespaces/{namespace}/statefulsets/db\?", "before"),
    "after the database": Moment(r"PATCH .*/namespaces/{namespace}/statefulsets/db\?", "after"),
    # It has applied everything and is not told of any pod.
    "while the database starts": Moment(r"GET .*/namespaces/{namespace}/pods\?watch=true", "before"),
    "before the init script": Moment(r"GET .*/namespaces/{namespace}/pods/db-0/exec\?", "before"),
    "after the init script": Moment(r"GET .*/namespaces/{namespace}/pods/db-0/exec\?", "after"),
    "after the api": Moment(r"PATCH .*/namespaces/{namespace}/deployments/api\?", "after"),
    "while it looks for endpoints": Moment(r"GET .*/namespaces/{namespace}/endpointslices\?", "after"),
}
IN_THE_SCRIPT = "in the middle of the init script"
LATE = "with a write still under way"
AT_THE_END = "before the end is in the ledger"


class Killed:
    """The environments by the moment at which their worker was killed."""

    def __init__(self) -> None:
        self.handles: dict[str, Handle] = {}
        self.reached: dict[str, bool] = {}
        self.script_ended = False
        self.late: Hold | None = None


def _name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def _hold(stack: Stack, holds: ExitStack, moment: Moment, name: str) -> Hold:
    pattern = moment.request.replace("{namespace}", f"{name}-[0-9a-f]{{8}}")
    body = moment.body.replace("{name}", name)
    return holds.enter_context(stack.gate.hold(pattern, moment.side, body=body, every=True))


def _scripts(stack: Stack, namespace: str) -> str:
    """How many init scripts run; empty when the database does not answer."""
    query = (
        "select count(*) from pg_stat_activity "
        "where query like '%pg_sleep%' and state = 'active' and pid <> pg_backend_pid()"
    )
    return psql(stack, namespace, query, check=False)


def _eventually(look: Callable[[], bool], what: str) -> bool:
    """Wait, and leave it to the case's own test to fail."""
    try:
        return eventually(look, what, within=REACHED_SECONDS)
    except AssertionError:
        return False


@pytest.fixture(scope="module")
def killed(stack: Stack) -> Iterator[Killed]:
    """Hold an environment at each moment, kill the worker, let go, start it again."""
    killed = Killed()
    reached: dict[str, Callable[[], bool]] = {}
    with ExitStack() as late, ExitStack() as until_dead:
        holds: list[Hold] = []
        for case, moment in MOMENTS.items():
            name = _name()
            hold = _hold(stack, until_dead, moment, name)
            holds.append(hold)
            killed.handles[case], reached[case] = stack.create(shop(name)), hold.seen.is_set

        name = _name()
        killed.late = _hold(
            stack, late, Moment(r"PATCH .*/namespaces/{namespace}/deployments/api\?", "before"), name
        )
        killed.handles[LATE], reached[LATE] = stack.create(shop(name)), killed.late.seen.is_set

        name = _name()
        reached[AT_THE_END] = until_dead.enter_context(stack.state_refused(name, "succeeded"))
        killed.handles[AT_THE_END] = stack.create(shop(name))

        killed.handles[IN_THE_SCRIPT] = stack.create(shop(_name(), init_waits=True))
        in_the_script = killed.handles[IN_THE_SCRIPT].namespace
        reached[IN_THE_SCRIPT] = lambda: _scripts(stack, in_the_script) == "1"

        for case, look in reached.items():
            killed.reached[case] = _eventually(look, case)
        kill_worker(stack, holds)
        until_dead.close()
        # What is under way stays so; what the next worker sends passes.
        killed.late.every = False
        killed.script_ended = _eventually(
            lambda: _scripts(stack, in_the_script) == "0", "the script of the dead worker is over"
        )
        psql(stack, in_the_script, "create table go ()")
        stack.worker.start()
        yield killed


@pytest.mark.parametrize("moment", [*MOMENTS, IN_THE_SCRIPT, AT_THE_END])
def test_killed(stack: Stack, killed: Killed, moment: str) -> None:
    handle = killed.handles[moment]
    assert killed.reached[moment], f"the worker was never seen {moment}"
    operation = handle.succeeded(within=ENDED_SECONDS)
    assert handle.status()["phase"] == "running"
    if moment == IN_THE_SCRIPT:
        assert killed.script_ended, "the script went on although nobody could hear of its end"
        psql(stack, handle.namespace, "drop table go")
        log = stack.kubectl("-n", handle.namespace, "logs", "db-0", "-c", "db")
        assert "ready to accept connections" in log
        assert "terminated by signal" not in log, "the database took the script's end for a crash of its own"
    assert_exactly_one_shop(stack, handle)
    assert_ledger_tells_a_success(stack, handle)
    # Also where the worker died after it had created the namespace: it did not exist before this operation.
    assert operation["steps"][0]["output"]["existed"] is False


def test_a_write_of_the_dead_that_arrives_late_changes_nothing(stack: Stack, killed: Killed) -> None:
    handle, late = killed.handles[LATE], killed.late
    assert killed.reached[LATE]
    assert late is not None
    handle.succeeded(within=ENDED_SECONDS)
    before = settled(stack, handle.namespace)
    late.release.set()
    # On a slow machine there are two: the worker had given up on the first and asked again before it died.
    eventually(lambda: len(late.statuses) == late.matched, "every late write has reached the cluster")
    assert late.statuses == [200] * late.matched
    assert settled(stack, handle.namespace) == before
    assert_exactly_one_shop(stack, handle)
    assert_ledger_tells_a_success(stack, handle)


def test_killed_while_it_waits_for_the_ledger(stack: Stack) -> None:
    """One operation is to begin, another has a step's end to note: neither gets to the database."""
    noting = _name()
    endpoints = MOMENTS["while it looks for endpoints"]
    with ExitStack() as holds:
        hold = _hold(stack, holds, endpoints, noting)
        step = stack.create(small(noting, expose=True))
        hold.wait_seen(ENDED_SECONDS)
        stack.worker.kill()
        hold.drop()
    begin = stack.create(small(_name()))
    with stack.database_locked():
        stack.worker.start()
        eventually(
            lambda: stack.taken_up(begin.operation_id, stack.worker),
            "the new worker has taken up the operation",
            within=ENDED_SECONDS,
        )
        stack.worker.kill()
    assert stack.rows("select state from operations where id = ?", begin.operation_id) == [("accepted",)]
    stack.worker.start()
    for handle in (begin, step):
        handle.succeeded(within=ENDED_SECONDS)
        assert_ledger_tells_a_success(stack, handle)


def test_killed_when_the_ledger_has_the_end_and_temporal_has_not(stack: Stack) -> None:
    """The end is committed, nobody was told: the next worker ends it once more, which changes nothing."""
    name = _name()
    with ExitStack() as holds:
        hold = _hold(stack, holds, MOMENTS["while it looks for endpoints"], name)
        handle = stack.create(small(name, expose=True))
        hold.wait_seen(ENDED_SECONDS)
        with stack.state_refused(name, "succeeded") as tried:
            hold.release.set()
            eventually(tried, "the worker wants to write the end", within=ENDED_SECONDS)
            stack.temporal.freeze()
        query = "select state from operations where id = ?"
        eventually(
            lambda: stack.rows(query, handle.operation_id) == [("succeeded",)],
            "the end is in the ledger",
            within=ENDED_SECONDS,
        )
        stack.worker.kill()
        stack.temporal.thaw()
    before = stack.rows("select number from events where operation_id = ?", handle.operation_id)
    stack.worker.start()
    eventually(
        lambda: stack.workflow_ended(handle.operation_id), "the workflow ends too", within=ENDED_SECONDS
    )
    assert stack.rows("select number from events where operation_id = ?", handle.operation_id) == before
    assert_ledger_tells_a_success(stack, handle)
