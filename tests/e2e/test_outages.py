"""What an operation needs goes away in its middle and comes back: API, Temporal, the Kubernetes API."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.lifecycle import blueprint, broken, serving, update
from tests.e2e.shop import assert_exactly_one_shop, assert_ledger_tells_a_success, shop, small
from tests.e2e.support import CLEANED_UP, uids
from tests.helpers.stack import ROOT, Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
GATED = True

ENDED_SECONDS = 180.0
RECONCILED_SECONDS = 60.0
AWAY_SECONDS = 20.0
"""Long enough for every request's own retries to be over, and for two heartbeat time-outs."""


def test_api_killed_between_commit_and_start(stack: Stack, name: str) -> None:
    """The reconciler makes the start that was lost, within a minute of everything being back."""
    stack.temporal.freeze()
    handle = stack.create(small(name))
    assert handle.operation()["state"] == "accepted"
    stack.api.kill()
    # What of the start may be in its socket dies with it.
    stack.temporal.kill()
    stack.start_temporal()
    assert not stack.workflow_exists(handle.operation_id)
    stack.start_api()
    eventually(
        lambda: handle.operation()["state"] != "accepted", "the lost start is made", within=RECONCILED_SECONDS
    )
    handle.succeeded(within=ENDED_SECONDS)
    assert_ledger_tells_a_success(stack, handle)


def test_temporal_killed_in_the_middle_of_a_provision(stack: Stack, name: str) -> None:
    """Its state is in its file: what the worker could not tell meanwhile it tells the new server."""
    with stack.gate.hold(rf"PATCH .*/namespaces/{name}-[0-9a-f]{{8}}/statefulsets/db\?", "after") as hold:
        handle = stack.create(shop(name))
        hold.wait_seen(120)
        stack.temporal.kill()
    stack.start_temporal()
    handle.succeeded(within=ENDED_SECONDS)
    assert_exactly_one_shop(stack, handle)
    assert_ledger_tells_a_success(stack, handle)


def test_worker_cut_off_from_the_cluster(stack: Stack) -> None:
    """Every connection breaks and none can be made for a while."""
    with _provisions_in_the_middle(stack) as (writing, waiting):
        before = len(stack.gate.requests(""))
        stack.gate.close()
        _stay_away(writing, waiting)
        assert stack.gate.requests("")[before:], "the worker has not asked once"
        stack.gate.open()
    _both_end_well(stack, writing, waiting)


def test_worker_cut_off_in_the_middle_of_an_undo(stack: Stack, name: str) -> None:
    """What could not be taken back for now is taken back once the cluster is there again."""
    made = stack.create(blueprint(name, web=serving()))
    made.succeeded(within=ENDED_SECONDS)
    before = uids(stack, made.namespace)
    extra, web = (rf"{verb} .*/namespaces/{made.namespace}/deployments/" for verb in ("DELETE", "PATCH"))
    with stack.gate.hold(f"{extra}extra", "before") as deleting:
        failing = blueprint(name, web=serving(env={"WORD": "new"}), extra=broken(serving(dependsOn=["web"])))
        handle = update(made, failing)
        deleting.wait_seen(120)
        written = len(stack.gate.requests(f"{web}web"))
        stack.gate.close()
        eventually(lambda: stack.gate.requests(f"{web}web")[written:], "the undo goes on to the next object")
    stack.gate.open()
    operation = handle.ended(within=ENDED_SECONDS)
    assert (operation["state"], operation["cleanup"]) == ("rolled_back", CLEANED_UP)
    eventually(lambda: uids(stack, made.namespace) == before, "only what was there before is there")


@pytest.mark.alone
def test_the_kubernetes_api_stands_still(stack: Stack) -> None:
    """Connections stay open and nothing is answered."""
    pid_file = ROOT / ".dev" / "cluster" / "run" / "kube-apiserver.pid"
    if not pid_file.exists():
        pytest.skip("this cluster's API server is not a process of this machine")
    server = int(pid_file.read_text())
    with _provisions_in_the_middle(stack) as (writing, waiting):
        os.kill(server, signal.SIGSTOP)
        try:
            _stay_away(writing, waiting)
        finally:
            os.kill(server, signal.SIGCONT)
    _both_end_well(stack, writing, waiting)


@contextmanager
def _provisions_in_the_middle(stack: Stack) -> Iterator[tuple[Handle, Handle]]:
    """Two provisions: one is about to write its service, the other waits for its database to start."""
    first, second = (f"t-{uuid.uuid4().hex[:8]}" for _ in range(2))
    write = rf"PATCH .*/namespaces/{first}-[0-9a-f]{{8}}/deployments/web\?"
    with (
        stack.gate.hold(write, "before") as writing,
        stack.gate.hold(rf"GET .*/namespaces/{second}-[0-9a-f]{{8}}/pods\?watch", "before") as waiting,
    ):
        handles = stack.create(small(first)), stack.create(shop(second))
        writing.wait_seen(120)
        waiting.wait_seen(120)
        writing.release.set()
        waiting.release.set()
        yield handles


def _stay_away(*handles: Handle) -> None:
    """Let the time pass; the operations go on trying."""
    back = time.monotonic() + AWAY_SECONDS
    eventually(lambda: time.monotonic() > back, "the outage is over", within=AWAY_SECONDS + 5)
    assert [handle.operation()["state"] for handle in handles] == ["running", "running"]


def _both_end_well(stack: Stack, writing: Handle, waiting: Handle) -> None:
    for handle in (writing, waiting):
        handle.succeeded(within=ENDED_SECONDS)
        assert_ledger_tells_a_success(stack, handle)
    assert_exactly_one_shop(stack, waiting)
