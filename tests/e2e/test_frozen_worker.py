"""A worker is frozen, its operations are cancelled and cleaned up by another one, and then it goes on.

Nothing that it had under way may change the cluster any more: what it has sent already is refused by the
fence, what it has not sent yet is held back by its lease, and a task that lay in its hands is not begun.
"""

import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.shop import assert_exactly_one_shop, assert_ledger_tells_a_success, dump, settled, shop, small
from tests.e2e.support import CLEANED_UP
from tests.helpers.kube_gate import Hold
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
GATED = True

REACHED_SECONDS = 120.0
ENDED_SECONDS = 240.0
FORBIDDEN = 403


class Frozen:
    """A worker that was frozen over three operations, thawed again, and seen at work since."""

    def __init__(self) -> None:
        self.handles: dict[str, Handle] = {}
        self.retries: dict[str, Handle] = {}
        self.holds: dict[str, Hold] = {}
        self.before: dict[str, dict[str, tuple[str, str]]] = {}
        self.writes: dict[str, list[str]] = {}
        """What it has asked the cluster for since, reading aside."""


CREATING, WRITING, WAITING = "creating", "writing", "waiting"
MOMENTS = {
    # It has just been told that there is no such namespace.
    CREATING: ("GET /api/v1/namespaces/{namespace}$", "after"),
    # It has sent the write of its service, which is on its way.
    WRITING: (r"PATCH .*/namespaces/{namespace}/deployments/web\?", "before"),
    # It has written its database and is about to hear of its pods; the init script comes next.
    WAITING: (r"GET .*/namespaces/{namespace}/pods\?watch=true", "before"),
}


@pytest.fixture(scope="module")
def frozen(stack: Stack) -> Iterator[Frozen]:
    """Freeze the worker in the middle of all three, let another one clean up and retry, thaw the first."""
    stack.worker.kill()
    stack.worker.argv = [sys.executable, "-m", "tests.helpers.patient_worker"]
    stack.worker.start()
    frozen = Frozen()
    with ExitStack() as holds:
        for case, (request, side) in MOMENTS.items():
            name = f"t-{uuid.uuid4().hex[:8]}"
            pattern = request.replace("{namespace}", f"{name}-[0-9a-f]{{8}}")
            frozen.holds[case] = holds.enter_context(
                stack.gate.hold(pattern, "after" if side == "after" else "before")
            )
            frozen.handles[case] = stack.create(shop(name) if case == WAITING else small(name))
        for hold in frozen.holds.values():
            hold.wait_seen(REACHED_SECONDS)
        stack.worker.freeze()
        second = stack.another_worker()
        for handle in frozen.handles.values():
            handle.cancel(cleanup=True)
        for handle in frozen.handles.values():
            operation = handle.ended(ENDED_SECONDS)
            assert (operation["state"], operation["cleanup"]) == ("cancelled", CLEANED_UP)
            assert not stack.namespace_exists(handle.namespace)
        for case in (WRITING, WAITING):
            frozen.retries[case] = frozen.handles[case].retry()
        for retry in frozen.retries.values():
            retry.succeeded(ENDED_SECONDS)
        for case, handle in frozen.handles.items():
            frozen.before[case] = settled(stack, handle.namespace)
        seen = len(stack.gate.requests(""))

        # What is held arrives while it is still frozen: it goes on with all of that before it hears from
        # Temporal that its operations are over.
        for hold in frozen.holds.values():
            hold.release.set()
        eventually(lambda: frozen.holds[WRITING].statuses, "the write in flight has arrived", within=60)
        stack.worker.thaw()
        second.kill()
        # Whoever does these next ones is the thawed worker. What it had under way is behind it then, and the
        # tasks that Temporal handed it while it stood still, which others have done since.
        next_one = stack.create(small(f"t-{uuid.uuid4().hex[:8]}"))
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


def test_it_creates_no_namespace_any_more(stack: Stack, frozen: Frozen) -> None:
    namespace = frozen.handles[CREATING].namespace
    assert frozen.before[CREATING] == {}
    assert not stack.namespace_exists(namespace)
    assert frozen.writes[CREATING] == []


def test_what_it_had_sent_is_refused_by_the_fence(stack: Stack, frozen: Frozen) -> None:
    assert frozen.holds[WRITING].statuses == [FORBIDDEN]
    assert frozen.writes[WRITING] == []
    retry = frozen.retries[WRITING]
    assert dump(stack, retry.namespace) == frozen.before[WRITING]
    assert retry.status()["phase"] == "running"
    assert_ledger_tells_a_success(stack, retry)


def test_it_does_not_go_on_with_what_it_waited_for(stack: Stack, frozen: Frozen) -> None:
    retry = frozen.retries[WAITING]
    assert dump(stack, retry.namespace) == frozen.before[WAITING]
    assert frozen.writes[WAITING] == []
    assert_exactly_one_shop(stack, retry)
    assert_ledger_tells_a_success(stack, retry)
