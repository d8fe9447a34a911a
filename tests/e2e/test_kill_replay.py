"""A worker that is killed in the middle of a replay, or of its undo: all ends as if nothing had been.

A few small environments at once, which lose their worker together, each at its own moment.
"""

import json
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.kills import await_moments, kill_worker, start_anew
from tests.e2e.lifecycle import (
    asked_for,
    blueprint,
    change,
    environment,
    pods_settle,
    serving,
    update,
)
from tests.e2e.replays import (
    ENDED_SECONDS,
    assert_told_once,
    done,
    elsewhere,
    preview,
    templates_of,
    told,
)
from tests.e2e.support import CLEANED_UP, idle, uids
from tests.helpers.kube_gate import Hold, Side
from tests.helpers.stack import Handle, Stack

# Some dozen environments at one moment: whoever counts seconds meanwhile counts ours too.
pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(600)]
GATED = True

SERVICES = ("other", "api", "web")
_FENCE = r"PATCH /api/v1/namespaces/{namespace}\?"
_API = r"PATCH .*/namespaces/{namespace}/deployments/api\?"
_OF_THE_UNDO = '"6"'
"""Provision: fence 1; the update 3; the replay 5, its undo 6."""


@dataclass(frozen=True)
class Moment:
    """Where the worker dies: at a request (`METHOD path`), without one when the end is about to be written.

    `body`: a text in the request's body. `undo`: the replay is cancelled with its clean-up before. `new`: it
    goes into a new environment, `{namespace}` is that one's.
    """

    request: str = ""
    side: Side = "after"
    body: str = ""
    undo: bool = False
    new: bool = False


MOMENTS = {
    "before the fence": Moment(_FENCE, "before"),
    "after the fence": Moment(_FENCE),
    "before the secrets": Moment(r"PATCH .*/namespaces/{namespace}/secrets/", "before"),
    "before a service": Moment(_API, "before"),
    "after a service": Moment(_API),
    "Job gone": Moment(r"DELETE .*/namespaces/{namespace}/jobs/load"),
    "Job made anew": Moment(r"PATCH .*/namespaces/{namespace}/jobs/load\?"),
    "while it looks for endpoints": Moment(r"GET .*/namespaces/{namespace}/endpointslices\?"),
    "before the end is in the ledger": Moment(),
    "undo, after a service": Moment(_API, "after", _OF_THE_UNDO, undo=True),
    "new, after the namespace": Moment(r"POST /api/v1/namespaces\?", body='"{name}-', new=True),
    "new, after a service": Moment(_API, new=True),
}


def _document(name: str, **api: Any) -> dict[str, Any]:
    """`load` and `web` after `api`, which has a secret; `other` beside them."""
    token = [{"name": "token", "envKey": "TOKEN", "value": "planted"}]
    return blueprint(
        name,
        other=idle(),
        api=idle(secrets=token, **api),
        load={
            "kind": "job",
            "image": idle()["image"],
            "command": ["sh", "-c", "echo loaded"],
            "dependsOn": ["api"],
        },
        web=serving(dependsOn=["api"], expose=True),
    )


@dataclass
class Killed:
    """The replays by the moment at which their worker was killed, and what was before."""

    handles: dict[str, Handle] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)
    pods: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    objects: dict[str, dict[str, str]] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def killed(stack: Stack, request: pytest.FixtureRequest) -> Killed:
    """Edit `api`, replay the provision, hold each replay at its moment, kill the worker, start another."""
    killed = Killed()
    wanted = {case: moment for case, moment in MOMENTS.items() if case in asked_for(request)}
    in_place = {case: moment for case, moment in wanted.items() if not moment.new}
    made = {case: stack.create(_document(f"t-{uuid.uuid4().hex[:8]}")) for case in (*in_place, "origin")}
    for handle in made.values():
        handle.succeeded(ENDED_SECONDS)
    edits = [
        update(handle, _document(environment(handle)["name"], env={"LEVEL": "debug"}))
        for case, handle in made.items()
        if case != "origin"
    ]
    for handle in edits:
        handle.succeeded(ENDED_SECONDS)
    for case in in_place:
        handle = made[case]
        killed.pods[case] = {service: pods_settle(handle, service) for service in SERVICES}
        killed.objects[case] = uids(stack, handle.namespace)
        killed.said[case] = told(preview(handle, operationId=handle.operation_id))
    start_anew(stack)
    reached: dict[str, Callable[[], bool]] = {}
    with ExitStack() as until_dead:
        holds: list[Hold] = []
        for case, moment in wanted.items():
            origin = made["origin"] if moment.new else made[case]
            name = f"t-{uuid.uuid4().hex[:8]}" if moment.new else environment(origin)["name"]
            namespace = f"{name}-[0-9a-f]{{8}}" if moment.new else origin.namespace
            if moment.request:
                hold = until_dead.enter_context(
                    stack.gate.hold(
                        moment.request.replace("{namespace}", namespace),
                        moment.side,
                        body=moment.body.replace("{name}", name),
                        every=True,
                    )
                )
                holds.append(hold)
                reached[case] = hold.seen.is_set
            else:
                reached[case] = until_dead.enter_context(stack.state_refused(name, "succeeded"))
            if moment.new:
                killed.handles[case] = elsewhere(origin, name)
                continue
            killed.handles[case] = change(origin, "replay", operationId=origin.operation_id)
            if moment.undo:
                killed.handles[case].step_reaches("service/api", "running")
                killed.handles[case].cancel(cleanup=True)
        killed.reached = await_moments(reached)
        kill_worker(stack, holds)
    stack.worker.start()
    return killed


@pytest.mark.parametrize("case", MOMENTS)
def test_killed(stack: Stack, killed: Killed, case: str) -> None:
    handle, moment = killed.handles[case], MOMENTS[case]
    assert killed.reached[case], f"the worker was never seen: {case}"
    operation = handle.ended(ENDED_SECONDS)
    if moment.undo:
        assert (operation["state"], operation["cleanup"]) == ("cancelled", CLEANED_UP)
        assert uids(stack, handle.namespace) == killed.objects[case]
        assert environment(handle)["status"] == "running"
        return
    assert operation["state"] == "succeeded", json.dumps(operation["failure"])
    assert_told_once(stack, operation)
    now = {service: pods_settle(handle, service) for service in SERVICES}
    [load] = stack.objects(handle.namespace, "jobs")
    assert load["status"]["succeeded"] == 1
    templates = {service: templates_of(handle, service) for service in SERVICES}
    if moment.new:
        assert {step["state"] for step in operation["steps"]} == {"succeeded"}
        assert set(templates.values()) == {1}
        return
    # What the dry run said, once: one new template each, and the Job once more.
    assert done(operation) == killed.said[case]
    before = killed.pods[case]
    assert now["other"] == before["other"]
    assert now["api"].isdisjoint(before["api"])
    assert now["web"].isdisjoint(before["web"])
    assert templates == {"other": 1, "api": 3, "web": 2}
    objects = uids(stack, handle.namespace)
    anew = {each for each in objects if objects[each] != killed.objects[case].get(each)}
    assert anew == {"Job/load"}
    assert objects.keys() == killed.objects[case].keys()
    if case == "Job made anew":
        # The second attempt leaves alone what the first one made.
        assert len(stack.gate.requests(f"DELETE .*/{handle.namespace}/jobs/load")) == 1
