"""What is under way when a worker or an API is killed: the operations, the moments, and what has to hold."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.e2e.lifecycle import (
    answers,
    blueprint,
    broken,
    change,
    clone,
    environment,
    keeping,
    serving,
    update,
)
from tests.e2e.shop import psql, shop
from tests.e2e.support import CLEANED_UP, idle, uids
from tests.helpers.kube_gate import Side
from tests.helpers.stack import Handle
from tests.helpers.waiting import eventually

Asked = Callable[[Handle], Handle]
"""Asks for an operation on an environment and returns a handle on it."""
Check = Callable[[Handle, dict[str, str]], None]
"""Takes the handle on what has ended, and the UIDs of before it."""


def new_name() -> str:
    """A name for an environment that no other test uses."""
    return f"t-{uuid.uuid4().hex[:8]}"


def token(value: str) -> list[dict[str, str]]:
    """A service's secret of this value."""
    return [{"name": "token", "envKey": "TOKEN", "value": value}]


def _web(**more: Any) -> dict[str, Any]:
    return serving(secrets=token("first"), **more)


def _absent(**more: Any) -> dict[str, Any]:
    """A service without pods: its objects are what counts."""
    return serving(replicas=0, **more)


def _job(text: str) -> dict[str, Any]:
    return {"kind": "job", "image": idle()["image"], "command": ["sh", "-c", f"echo {text}"]}


@dataclass(frozen=True)
class Operation:
    """What is under way when the worker dies: from where, and what has to be there in the end.

    `shape`: the services before; `first`: operations before it; `ask`: the operation itself. `pods`: by
    service, how many there are afterwards.
    """

    shape: dict[str, Any]
    ask: Asked
    pods: dict[str, int]
    check: Check
    first: tuple[Asked, ...] = ()
    state: str = "succeeded"
    status: str = "running"


def _doc(handle: Handle, **services: dict[str, Any]) -> dict[str, Any]:
    return blueprint(environment(handle)["name"], **services)


def ask_update(handle: Handle) -> Handle:
    """Ask for an update of `web`, its secret too, with `extra` as a new service; all others go."""
    web = serving(secrets=token("second"), env={"WORD": "new"}, expose=True)
    return update(handle, _doc(handle, web=web, extra=_absent()))


def _ask_failing(handle: Handle) -> Handle:
    web = serving(secrets=token("second"), env={"WORD": "new"})
    api = broken(serving(dependsOn=["web", "extra"]))
    return update(handle, _doc(handle, web=web, extra=_absent(), api=api))


def _ask_larger(handle: Handle) -> Handle:
    store = keeping(volumes=[{**keeping()["volumes"][0], "size": "2Gi"}], allowReplace=True)
    return update(handle, _doc(handle, store=store))


def _ask_database(handle: Handle) -> Handle:
    return update(handle, _doc(handle, web=_absent(), db=shop("any")["services"]["db"]))


def _stop(handle: Handle) -> Handle:
    return change(handle, "stop")


def _write_and_stop(handle: Handle) -> Handle:
    handle.sh("sts/store", "echo kept > /data/word")
    return _stop(handle)


def _resume(handle: Handle) -> Handle:
    return change(handle, "resume")


def _rollback(handle: Handle) -> Handle:
    return change(handle, "rollback", revision=1)


def _restart(handle: Handle) -> Handle:
    return change(handle, "restart", service="web")


def _clone(handle: Handle) -> Handle:
    return clone(handle, new_name())


def _scaled(service: str, replicas: int) -> Asked:
    return lambda handle: change(handle, "scale", service=service, replicas=replicas)


def _templates(handle: Handle, deployment: str) -> int:
    """How many pod templates a Deployment has had: one ReplicaSet each."""
    sets = handle.stack.objects(handle.namespace, "replicasets", f"app.kubernetes.io/name={deployment}")
    return len(sets)


def _updated(handle: Handle, before: dict[str, str]) -> None:
    now = uids(handle.stack, handle.namespace)
    made = {"Deployment/extra", "Service/extra"}
    assert now.keys() == (before.keys() - {"Deployment/gone", "Service/gone"}) | made
    assert all(now[each] == before[each] for each in now if each not in made)
    assert handle.sh("deploy/web", "echo $WORD $TOKEN") == "new second"
    assert answers(handle, "web")
    assert _templates(handle, "web") == 2
    assert environment(handle)["revision"] == 2


def _removed(handle: Handle, before: dict[str, str]) -> None:
    gone = {"Deployment/gone", "Service/gone"}
    assert uids(handle.stack, handle.namespace) == {
        each: uid for each, uid in before.items() if each not in gone
    }
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


def _same_objects(handle: Handle, before: dict[str, str]) -> None:
    eventually(lambda: uids(handle.stack, handle.namespace) == before, "only what was there before is there")


def _as_before(handle: Handle, before: dict[str, str]) -> None:
    _same_objects(handle, before)
    assert environment(handle)["revision"] == 1


def _resumed(handle: Handle, before: dict[str, str]) -> None:
    _as_before(handle, before)
    assert handle.sh("deploy/web", "echo $TOKEN") == "first"
    assert answers(handle, "web")
    assert _templates(handle, "web") == 1


def _still_written(handle: Handle, before: dict[str, str]) -> None:
    _as_before(handle, before)
    assert handle.sh("sts/store", "cat /data/word") == "kept"


def _went_back(handle: Handle, before: dict[str, str]) -> None:
    _as_before(handle, before)
    operation = handle.operation()
    assert operation["cleanup"] == CLEANED_UP
    assert "broken on purpose" in operation["failure"]["evidence"][0]["log"]
    assert handle.sh("deploy/web", "echo [$WORD] $TOKEN") == "[] first"
    assert answers(handle, "api")


def _same_template(handle: Handle, before: dict[str, str]) -> None:
    _as_before(handle, before)
    assert _templates(handle, "web") == 1


def _new_pods(handle: Handle, before: dict[str, str]) -> None:
    _as_before(handle, before)
    assert _templates(handle, "web") == 2, "new pods, and only once"
    assert handle.sh("deploy/web", "echo $TOKEN") == "first"


def _rolled_back_to_first(handle: Handle, before: dict[str, str]) -> None:
    now = uids(handle.stack, handle.namespace)
    made = {"Deployment/gone", "Service/gone"}
    assert now.keys() == (before.keys() - {"Deployment/extra", "Service/extra"}) | made
    assert all(now[each] == before[each] for each in now if each not in made)
    assert handle.sh("deploy/web", "echo [$WORD] $TOKEN") == "[] first"
    # The template of the first revision is known again by its hash.
    assert _templates(handle, "web") == 2
    assert environment(handle)["revision"] == 3


def _copied(handle: Handle, origin: dict[str, str]) -> None:
    now = uids(handle.stack, handle.namespace)
    assert now.keys() == origin.keys()
    assert not set(now.values()) & set(origin.values())
    assert handle.sh("deploy/web", "echo $TOKEN") == "first"
    assert answers(handle, "web")
    assert _templates(handle, "web") == 1
    assert environment(handle)["revision"] == 1


_PAIR = {"web": _web(expose=True), "gone": _absent()}
_CHAIN = {"web": _web(), "api": serving(dependsOn=["web"])}
_ALONE = {"web": _web()}
_LAST_ABSENT = {"web": _web(expose=True), "api": _absent(dependsOn=["web"])}
_STORE = {"store": keeping()}

UPDATE = Operation(_PAIR, ask_update, {"web": 1, "extra": 0, "gone": 0}, _updated)
REMOVE = Operation(
    {"web": _absent(), "gone": serving()},
    lambda handle: update(handle, _doc(handle, web=_absent())),
    {"web": 0, "gone": 0},
    _removed,
)
REPLACE = Operation(_STORE, _ask_larger, {"store": 1}, _replaced)
JOB = Operation(
    {"load": _job("one")}, lambda handle: update(handle, _doc(handle, load=_job("two"))), {}, _run_again
)
JOB_MADE = replace(JOB, check=_run_again_once)
INIT = Operation({"web": _absent()}, _ask_database, {"web": 0, "db": 1}, _one_row)
UNDO = Operation(_CHAIN, _ask_failing, {"web": 1, "api": 1, "extra": 0}, _went_back, state="rolled_back")
STOP = Operation(_CHAIN, _stop, {"web": 0, "api": 0}, _as_before, status="stopped")
STOP_STORE = replace(STOP, shape=_STORE, pods={"store": 0})
RESUME = Operation(_LAST_ABSENT, _resume, {"web": 1, "api": 0}, _resumed, first=(_stop,))
RESUME_SCALED = replace(RESUME, pods={"web": 1, "api": 1}, first=(_scaled("api", 1), _stop))
RESUME_STORE = Operation(_STORE, _resume, {"store": 1}, _still_written, first=(_write_and_stop,))
SCALE = Operation(_ALONE, _scaled("web", 2), {"web": 2}, _same_template)
RESTART = Operation(_ALONE, _restart, {"web": 1}, _new_pods)
ROLLBACK = Operation(
    _PAIR, _rollback, {"web": 1, "gone": 0, "extra": 0}, _rolled_back_to_first, first=(ask_update,)
)
CLONE = Operation({"web": _web(expose=True)}, _clone, {"web": 1}, _copied)


@dataclass(frozen=True)
class Moment:
    """Where a worker dies: at a request, by `METHOD path`; `{namespace}` is the environment's.

    Without a request: when the end is about to be written, or with `begin` the begin. `body`: a text in the
    request's body; `{name}` stands for the environment's name. `passing`: so many such requests pass before.
    """

    operation: Operation
    request: str = ""
    side: Side = "after"
    body: str = ""
    passing: int = 0
    begin: bool = False

    @property
    def state(self) -> str:
        """What the ledger is about to be told."""
        return "running" if self.begin else self.operation.state


_FENCE = r"PATCH /api/v1/namespaces/{namespace}\?"
_SECRET = r"PATCH .*/namespaces/{namespace}/secrets/"
WEB = r"PATCH .*/namespaces/{namespace}/deployments/web\?"
_WATCH = r"GET .*/namespaces/{namespace}/pods\?watch=true"
"""It has applied everything and is not told of any pod."""
_ENDPOINTS = r"GET .*/namespaces/{namespace}/endpointslices\?"
REMOVAL = r"DELETE .*/namespaces/{namespace}/deployments/gone"
LOOK_AT_GONE = r"GET .*/namespaces/{namespace}/deployments/gone$"
_OF_THE_UNDO = '"4"'
"""Provision: fence 1, its undo 2; update 3, its undo 4."""

MOMENTS = {
    "update, before the begin is in the ledger": Moment(UPDATE, begin=True),
    "update, after the fence": Moment(UPDATE, _FENCE),
    "update, before the secrets": Moment(UPDATE, _SECRET, "before"),
    "update, after the secrets": Moment(UPDATE, _SECRET),
    "update, before a service": Moment(UPDATE, WEB, "before"),
    "update, after a service": Moment(UPDATE, WEB),
    "update, while a service starts": Moment(UPDATE, _WATCH, "before"),
    "update, while it looks for endpoints": Moment(UPDATE, _ENDPOINTS),
    "update, before a removal": Moment(REMOVE, REMOVAL, "before"),
    "update, after a removal": Moment(REMOVE, REMOVAL),
    # The first look is at what is to be removed, the next one at what is being removed.
    "update, while what it removes ends": Moment(REMOVE, LOOK_AT_GONE, passing=1),
    "update, before the end is in the ledger": Moment(UPDATE),
    "update, workload gone": Moment(REPLACE, r"DELETE .*/namespaces/{namespace}/statefulsets/store"),
    "update, volume gone": Moment(REPLACE, r"DELETE .*/namespaces/{namespace}/persistentvolumeclaims/data-"),
    "update, Job gone": Moment(JOB, r"DELETE .*/namespaces/{namespace}/jobs/load"),
    "update, Job made anew": Moment(JOB_MADE, r"PATCH .*/namespaces/{namespace}/jobs/load\?"),
    "update, after an init script": Moment(INIT, r"GET .*/namespaces/{namespace}/pods/db-0/exec\?"),
    "undo, after the secrets": Moment(UNDO, _SECRET, body=_OF_THE_UNDO),
    "undo, after a deletion": Moment(UNDO, r"DELETE .*/namespaces/{namespace}/deployments/extra"),
    "undo, before a service": Moment(UNDO, WEB, "before", _OF_THE_UNDO),
    "undo, after a service": Moment(UNDO, WEB, "after", _OF_THE_UNDO),
    # It is applied once more by the step that waits for it.
    "undo, while what it put back starts": Moment(UNDO, WEB, "after", _OF_THE_UNDO, passing=1),
    "undo, before the end is in the ledger": Moment(UNDO),
    "stop, before the begin is in the ledger": Moment(STOP, begin=True),
    "stop, after the fence": Moment(STOP, _FENCE),
    # The service that depends on it has stopped.
    "stop, before the next service": Moment(STOP, WEB, "before"),
    "stop, after a service": Moment(STOP, WEB),
    "stop, while pods end": Moment(STOP_STORE, _WATCH, "before"),
    "stop, before the end is in the ledger": Moment(STOP),
    "resume, before the begin is in the ledger": Moment(RESUME, begin=True),
    "resume, after the fence": Moment(RESUME, _FENCE),
    "resume, after the secrets": Moment(RESUME, _SECRET),
    "resume, before a service": Moment(RESUME, WEB, "before"),
    "resume, after a service": Moment(RESUME_SCALED, WEB),
    "resume, while a service starts": Moment(RESUME_STORE, _WATCH, "before"),
    "resume, while it looks for endpoints": Moment(RESUME, _ENDPOINTS),
    "resume, before the end is in the ledger": Moment(RESUME),
    "scale, before the begin is in the ledger": Moment(SCALE, begin=True),
    "scale, after the fence": Moment(SCALE, _FENCE),
    "scale, after the secrets": Moment(SCALE, _SECRET),
    "scale, after the service": Moment(SCALE, WEB),
    "scale, while pods start": Moment(SCALE, _WATCH, "before"),
    "scale, before the end is in the ledger": Moment(SCALE),
    "restart, before the begin is in the ledger": Moment(RESTART, begin=True),
    "restart, after the fence": Moment(RESTART, _FENCE),
    "restart, after the secrets": Moment(RESTART, _SECRET),
    "restart, after the service": Moment(RESTART, WEB),
    "restart, while pods start": Moment(RESTART, _WATCH, "before"),
    "restart, before the end is in the ledger": Moment(RESTART),
    "rollback, before the begin is in the ledger": Moment(ROLLBACK, begin=True),
    "rollback, after the fence": Moment(ROLLBACK, _FENCE),
    "rollback, after the secrets": Moment(ROLLBACK, _SECRET),
    "rollback, before a service": Moment(ROLLBACK, WEB, "before"),
    "rollback, after a service": Moment(ROLLBACK, WEB),
    "rollback, while a service starts": Moment(ROLLBACK, _WATCH, "before"),
    "rollback, while it looks for endpoints": Moment(ROLLBACK, _ENDPOINTS),
    "rollback, after a removal": Moment(ROLLBACK, r"DELETE .*/namespaces/{namespace}/deployments/extra"),
    "rollback, before the end is in the ledger": Moment(ROLLBACK),
    "clone, before the begin is in the ledger": Moment(CLONE, begin=True),
    "clone, after the namespace": Moment(CLONE, r"POST /api/v1/namespaces\?", body='"{name}-'),
    "clone, after its rights": Moment(CLONE, r"PATCH .*/namespaces/{namespace}/rolebindings/perdure\?"),
    "clone, after the secrets": Moment(CLONE, _SECRET),
    "clone, after a service": Moment(CLONE, WEB),
    "clone, while a service starts": Moment(CLONE, _WATCH, "before"),
    "clone, while it looks for endpoints": Moment(CLONE, _ENDPOINTS),
    "clone, before the end is in the ledger": Moment(CLONE),
}


@dataclass(frozen=True)
class LostStart:
    """An operation that was accepted and whose start was lost, and what has to be there in the end."""

    ask: Asked
    pods: dict[str, int]
    check: Check
    status: str = "running"


def _ask_new_word(handle: Handle) -> Handle:
    return update(handle, _doc(handle, web=_web(env={"WORD": "new"})))


def _new_word(handle: Handle, before: dict[str, str]) -> None:
    _same_objects(handle, before)
    assert handle.sh("deploy/web", "echo $WORD $TOKEN") == "new first"
    assert environment(handle)["revision"] == 2


def _restarted_after_update(handle: Handle, before: dict[str, str]) -> None:
    _same_objects(handle, before)
    assert _templates(handle, "web") == 3
    assert environment(handle)["revision"] == 2


LOST_STARTS = {
    # Its two replicas are of a scale, and stay.
    "scale, after the fence": LostStart(_ask_new_word, {"web": 2}, _new_word),
    "resume, after the fence": LostStart(_stop, {"web": 0, "api": 0}, _as_before, status="stopped"),
    "stop, after the fence": LostStart(_resume, {"web": 1, "api": 1}, _as_before),
    "restart, after the fence": LostStart(_scaled("web", 2), {"web": 2}, _as_before),
    "update, after the fence": LostStart(_restart, {"web": 1}, _restarted_after_update),
    "update, after the secrets": LostStart(_rollback, {"web": 1, "gone": 0}, _rolled_back_to_first),
    "clone, after the namespace": LostStart(_clone, {"web": 1}, _copied),
}
"""By the case whose environment it is asked for."""
