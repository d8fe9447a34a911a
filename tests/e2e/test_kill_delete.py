"""A worker that is killed in the middle of a delete, at each of its steps: the next one ends it well.

As with the provision, all environments are held at once and lose their worker together.
"""

import json
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.e2e.kills import REACHED_SECONDS, await_moments, kill_worker
from tests.e2e.shop import assert_ledger_tells_a_success, small
from tests.helpers.kube_gate import Hold, Side
from tests.helpers.stack import Handle, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(600)]
GATED = True

ENDED_SECONDS = 240.0
FINALIZER = "example.test/hold"


@dataclass(frozen=True)
class Moment:
    """Where a worker dies: at a request, by `METHOD path`; `{namespace}` is the environment's."""

    request: str
    side: Side


MOMENTS = {
    "before the fence": Moment(r"PATCH /api/v1/namespaces/{namespace}\?", "before"),
    "after the fence": Moment(r"PATCH /api/v1/namespaces/{namespace}\?", "after"),
    "before the contents": Moment(r"DELETE .*/namespaces/{namespace}/deployments/web", "before"),
    "after the contents": Moment(r"DELETE .*/namespaces/{namespace}/deployments/web", "after"),
    "before the namespace": Moment(r"DELETE /api/v1/namespaces/{namespace}$", "before"),
    "after the namespace": Moment(r"DELETE /api/v1/namespaces/{namespace}$", "after"),
}
CANCELLING = "while it ends what runs"
BLOCKED = "while a finalizer blocks"
AT_THE_END = "before the end is in the ledger"


@dataclass
class Killed:
    """The deletes by the moment at which their worker was killed."""

    deletions: dict[str, Handle] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)
    cancelled: Handle | None = None
    """The provision that one of the deletes ends."""


def _name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def _blocked(deletion: Handle) -> bool:
    """Whether the ledger says what holds the namespace."""
    return FINALIZER in str(deletion.step("delete_namespace").get("blockedBy"))


@pytest.fixture(scope="module")
def killed(stack: Stack) -> Killed:
    """Provision, hold each delete at its moment, kill the worker, let go, start it again."""
    killed = Killed()
    reached: dict[str, Callable[[], bool]] = {}
    made = {case: stack.create(small(_name())) for case in (*MOMENTS, BLOCKED)}
    at_the_end = _name()
    made[AT_THE_END] = stack.create(small(at_the_end))
    for handle in made.values():
        handle.succeeded(within=ENDED_SECONDS)
    where = ("-n", made[BLOCKED].namespace)
    stack.kubectl(*where, "create", "configmap", "held")
    _set_finalizers(stack, made[BLOCKED], [FINALIZER])

    with ExitStack() as until_dead:
        holds: list[Hold] = []
        for case, moment in MOMENTS.items():
            pattern = moment.request.replace("{namespace}", made[case].namespace)
            hold = until_dead.enter_context(stack.gate.hold(pattern, moment.side, every=True))
            holds.append(hold)
            reached[case] = hold.seen.is_set
        reached[AT_THE_END] = until_dead.enter_context(stack.state_refused(at_the_end, "succeeded"))
        reached[BLOCKED] = lambda: _blocked(killed.deletions[BLOCKED])
        for case, handle in made.items():
            killed.deletions[case] = handle.delete()

        # A provision that cannot end is what the delete waits for.
        name = _name()
        held = until_dead.enter_context(
            stack.gate.hold(f"PATCH .*/namespaces/{name}-[0-9a-f]{{8}}/deployments/web", "before", every=True)
        )
        holds.append(held)
        killed.cancelled = stack.create(small(name))
        held.wait_seen(REACHED_SECONDS)
        reached[CANCELLING] = until_dead.enter_context(stack.state_refused(name, "cancelled"))
        killed.deletions[CANCELLING] = killed.cancelled.delete()

        killed.reached = await_moments(reached)
        step = killed.deletions[CANCELLING].step("cancel_running")
        killed.reached[CANCELLING] &= step["state"] == "running"
        kill_worker(stack, holds)
    _set_finalizers(stack, made[BLOCKED], [])
    stack.worker.start()
    return killed


def _set_finalizers(stack: Stack, handle: Handle, finalizers: list[str]) -> None:
    patch = json.dumps({"metadata": {"finalizers": finalizers}})
    stack.kubectl("-n", handle.namespace, "patch", "configmap", "held", "--type=merge", "-p", patch)


@pytest.mark.parametrize("moment", [*MOMENTS, CANCELLING, BLOCKED, AT_THE_END])
def test_killed(stack: Stack, killed: Killed, moment: str) -> None:
    deletion = killed.deletions[moment]
    assert killed.reached[moment], f"the worker was never seen {moment}"
    deletion.succeeded(within=ENDED_SECONDS)
    assert not stack.namespace_exists(deletion.namespace)
    assert_ledger_tells_a_success(stack, deletion)
    assert deletion.status()["phase"] == "deleted"
    if moment == CANCELLING:
        assert killed.cancelled is not None
        assert killed.cancelled.ended()["state"] == "cancelled"
