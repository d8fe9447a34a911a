"""Replays: what changed, is gone or was asked for is run again, with what depends on it, and nothing else.

By the pods' UIDs: what is run again has new ones. The cases run side by side, as environments of one stack.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tests.e2e.lifecycle import (
    Case,
    accepted,
    answers,
    ask,
    blueprint,
    broken,
    change,
    environment,
    keeping,
    pods_now,
    pods_settle,
    serving,
    side_by_side,
    update,
    written,
)
from tests.e2e.replays import ENDED_SECONDS, done, preview, ran, replay, told
from tests.e2e.support import CLEANED_UP, idle, let_become_ready, on_demand, states, uids
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

AT_ONCE = 3
UNCHANGED = ("skip", "unchanged and still there")


def _running(stack: Stack, document: dict[str, Any]) -> Handle:
    made = stack.create(document)
    made.succeeded(ENDED_SECONDS)
    return made


def _pods(handle: Handle, *services: str) -> dict[str, set[str]]:
    return {service: pods_settle(handle, service) for service in services}


def _new(before: dict[str, set[str]], now: dict[str, set[str]]) -> set[str]:
    """The services none of whose pods is one of before."""
    kept = {service for service in before if now[service] == before[service]}
    assert all(now[service].isdisjoint(before[service]) for service in before if service not in kept)
    return {*before} - kept


def _replays(handle: Handle) -> list[dict[str, Any]]:
    found = handle.stack.client.get(f"/v1/environments/{handle.environment_id}/replays")
    assert found.status_code == 200, found.text
    return list(found.json()["data"])


def _chain(name: str, **api: Any) -> dict[str, Any]:
    return blueprint(
        name,
        db=idle(),
        api=idle(dependsOn=["db"], **api),
        web=serving(dependsOn=["api"], expose=True),
        other=idle(),
    )


CHAIN = ("db", "api", "web", "other")


def what_was_edited_and_what_depends_on_it(stack: Stack, name: str) -> None:
    """After an edit of `api`, the provision once more: `api` and `web`, and neither `db` nor `other`."""
    made = _running(stack, _chain(name))
    # By the provision itself nothing has changed: all is skipped.
    before, kept = _pods(made, *CHAIN), uids(stack, made.namespace)
    _, operation = replay(made)
    assert done(operation) == dict.fromkeys(CHAIN, UNCHANGED)
    assert _pods(made, *CHAIN) == before

    update(made, _chain(name, env={"LEVEL": "debug"})).succeeded(ENDED_SECONDS)
    edited = _pods(made, *CHAIN)
    assert _new(before, edited) == {"api"}
    count = written(made)
    planned = preview(made, operationId=made.operation_id)
    assert written(made) == count
    assert told(planned) == {
        "db": UNCHANGED,
        "api": ("run", "what it is made from has changed"),
        "web": ("run", "depends on service/api, which is run again"),
        "other": UNCHANGED,
    }
    assert [each["reason"] for each in planned if each.get("service") in ("api", "web")] == [
        "changed",
        "depends",
    ]
    first, operation = replay(made, operationId=made.operation_id)
    assert operation["replayOf"] == made.operation_id
    assert states(operation)["service/db"] == "skipped"
    after = _pods(made, *CHAIN)
    assert _new(edited, after) == {"api", "web"}
    assert uids(stack, made.namespace) == kept
    assert made.sh("deploy/api", "echo $LEVEL") == "debug"
    assert answers(made, "web")
    now = environment(made)
    assert (now["status"], now["revision"]) == ("running", 2)

    # A replay of the replay has nothing to do: what it replays is what there is.
    second, operation = replay(made, operationId=first.operation_id)
    assert ran(operation) == set()
    assert operation["replayOf"] == first.operation_id
    assert _pods(made, *CHAIN) == after
    # And what comes after a replay does not roll what it has run: the marks stay.
    change(made, "scale", service="other", replicas=2).succeeded(ENDED_SECONDS)
    update(made, _chain(name, env={"LEVEL": "info"})).succeeded(ENDED_SECONDS)
    assert _new({"web": after["web"], "db": after["db"]}, _pods(made, "web", "db")) == set()
    listed = [each["id"] for each in _replays(made)]
    assert listed[:2] == [second.operation_id, first.operation_id]
    assert len(listed) == 3


def from_a_step_on(stack: Stack, name: str) -> None:
    made = _running(stack, _chain(name))
    before = _pods(made, *CHAIN)
    _, operation = replay(made, fromStep="service/api")
    assert done(operation)["api"] == ("run", "asked for")
    after = _pods(made, *CHAIN)
    assert _new(before, after) == {"api", "web"}

    unknown = ask(made, "replay", fromStep="service/nothing")
    assert unknown.status_code == 422
    [fault] = unknown.json()["errors"]
    assert fault["path"] == "fromStep"
    assert "service/db" in fault["suggestion"]

    # What is asked of the newest operation, an update of one service, is no step of others.
    update(made, _chain(name, env={"LEVEL": "debug"})).succeeded(ENDED_SECONDS)
    assert ask(made, "replay", fromStep="service/db").status_code == 422
    _, operation = replay(made)
    assert {step["name"] for step in operation["steps"]} == {"namespace", "service/api", "endpoints"}
    assert ran(operation) == set()
    before = _pods(made, *CHAIN)
    replay(made, operationId=made.operation_id, fromStep="namespace")
    assert _new(before, _pods(made, *CHAIN)) == {*CHAIN}


def what_somebody_deleted_is_made_again(stack: Stack, name: str) -> None:
    made = _running(stack, _chain(name))
    before, kept = _pods(made, *CHAIN), uids(stack, made.namespace)
    stack.kubectl("-n", made.namespace, "delete", "deployment", "other", "--wait=true")
    _, operation = replay(made)
    assert done(operation) == {
        **dict.fromkeys(CHAIN, UNCHANGED),
        "other": ("run", "what it made is not there any more"),
    }
    after = _pods(made, *CHAIN)
    assert _new(before, after) == {"other"}
    now = uids(stack, made.namespace)
    assert {each for each in now if now[each] != kept.get(each)} == {"Deployment/other"}
    # By the newest object that was made for it, nothing is missing any more.
    _, operation = replay(made, operationId=made.operation_id)
    assert ran(operation) == set()

    # What others depend on takes them along.
    stack.kubectl("-n", made.namespace, "delete", "deployment", "api", "--wait=true")
    _, operation = replay(made)
    assert ran(operation) == {"api", "web"}
    assert _new(after, _pods(made, *CHAIN)) == {"api", "web"}

    stack.kubectl("delete", "namespace", made.namespace, "--wait=true")
    _, operation = replay(made, operationId=made.operation_id)
    assert ran(operation) == {*CHAIN}
    _pods(made, *CHAIN)


def into_a_new_environment(stack: Stack, name: str) -> None:
    token = [{"name": "token", "envKey": "TOKEN", "value": "planted"}]
    made = _running(stack, blueprint(name, db=idle(secrets=token), web=serving(dependsOn=["db"])))
    change(made, "scale", service="web", replicas=2).succeeded(ENDED_SECONDS)
    before = {"db": pods_settle(made, "db"), "web": pods_settle(made, "web", 2)}
    other = f"{name}-2"
    count = written(made)
    said = preview(made, target="new", name=other)
    assert {each["reason"] for each in said} == {"new"}
    assert [each["step"] for each in said] == ["namespace", "secrets", "service/db", "service/web"]
    assert written(made) == count
    answer = ask(made, "replay", target="new", name=other)
    assert answer.status_code == 202, answer.text
    asked = answer.json()["data"]
    found = stack.client.get(f"/v1/environments/{asked['environmentId']}").json()["data"]
    new = Handle(stack, found["id"], found["namespace"], asked["id"])
    operation = new.succeeded(ENDED_SECONDS)
    assert (operation["kind"], operation["replayOf"]) == ("replay", made.operation_id)
    assert set(states(operation).values()) == {"succeeded"}
    pods_settle(new, "web", 2)
    assert new.sh("deploy/db", "echo $TOKEN") == "planted"
    assert environment(new)["status"] == "running"
    assert {"db": pods_settle(made, "db"), "web": pods_settle(made, "web", 2)} == before

    # Both know of it, and the new environment's own is replayed like a provision.
    assert [each["id"] for each in _replays(made)] == [new.operation_id]
    assert [each["id"] for each in _replays(new)] == [new.operation_id]
    there = pods_settle(new, "db")
    again, operation = replay(new, fromStep="service/web")
    assert operation["replayOf"] == new.operation_id
    assert ran(operation) == {"web"}
    assert pods_settle(new, "db") == there
    assert [each["id"] for each in _replays(made)] == [new.operation_id]
    assert [each["id"] for each in _replays(new)] == [again.operation_id, new.operation_id]

    taken = ask(made, "replay", target="new", name=other)
    assert (taken.status_code, taken.json()["existingId"]) == (409, new.environment_id)
    for body in ({"target": "new"}, {"name": "x"}, {"target": "new", "name": "y", "fromStep": "service/db"}):
        assert ask(made, "replay", **body).status_code == 422, body
    new.delete().succeeded(ENDED_SECONDS)
    # What was replayed elsewhere is there no more; the environment that it came from stays.
    assert environment(made)["status"] == "running"


def data_stays_and_a_job_runs_again(stack: Stack, name: str) -> None:
    job = {
        "kind": "job",
        "image": idle()["image"],
        "command": ["sh", "-c", "echo loaded"],
        "dependsOn": ["store"],
    }
    made = _running(stack, blueprint(name, store=keeping(), load=job, web=idle(dependsOn=["load"])))
    made.sh("sts/store", "echo kept > /data/note")
    before, kept = _pods(made, "store", "web"), uids(stack, made.namespace)
    _, operation = replay(made, fromStep="service/store")
    assert ran(operation) == {"store", "load", "web"}
    now = uids(stack, made.namespace)
    assert {each for each in now if now[each] != kept.get(each)} == {"Job/load"}
    assert _new(before, _pods(made, "store", "web")) == {"store", "web"}
    assert made.sh("sts/store", "cat /data/note") == "kept"
    [load] = stack.objects(made.namespace, "jobs")
    assert load["status"]["succeeded"] == 1
    _, operation = replay(made)
    assert ran(operation) == set()
    assert uids(stack, made.namespace)["Job/load"] == now["Job/load"]


def one_that_fails_is_gone_on_with(stack: Stack, name: str) -> None:
    """`api` does not become ready again until it is told: `db` is not run a second time."""
    document = blueprint(name, db=idle(), api=on_demand(dependsOn=["db"]), web=idle(dependsOn=["api"]))
    made = stack.create(document)
    let_become_ready(stack, made.namespace, "deploy/api")
    made.succeeded(ENDED_SECONDS)
    before = _pods(made, "db", "api", "web")
    started = change(made, "replay", fromStep="service/db")
    started.step_reaches("service/db", "succeeded", within=120)
    started.step_reaches("service/api", "running", within=120)
    busy = ask(made, "replay")
    assert (busy.status_code, busy.json()["operationId"]) == (409, started.operation_id)
    assert (
        stack.client.post(
            f"/v1/environments/{made.environment_id}/replay", json={}, params={"dry_run": "true"}
        ).status_code
        == 409
    )
    started.cancel(cleanup=False)
    ended = started.ended(ENDED_SECONDS)
    assert states(ended)["service/db"] == "succeeded"
    assert states(ended)["service/web"] == "cancelled"
    db = pods_settle(made, "db")
    assert db.isdisjoint(before["db"])

    again = started.retry()
    again.step_reaches("service/api", "running", within=120)

    def told_all() -> bool:
        for pod in pods_now(made, "api").values():
            made.sh(pod["metadata"]["name"], "touch /tmp/go", check=False)
        return str(again.operation()["state"]) == "succeeded"

    eventually(told_all, "the retry succeeds", within=ENDED_SECONDS)
    operation = again.operation()
    assert (operation["kind"], operation["retryOf"]) == ("replay", started.operation_id)
    assert (operation["replayOf"], operation["fromStep"]) == (made.operation_id, "service/db")
    assert done(operation)["db"] == UNCHANGED
    assert ran(operation) == {"api", "web"}
    assert pods_settle(made, "db") == db
    assert _pods(made, "web")["web"].isdisjoint(before["web"])


def a_cancel_with_cleanup_goes_back(stack: Stack, name: str) -> None:
    made = stack.create(blueprint(name, db=idle(), api=on_demand(dependsOn=["db"])))
    let_become_ready(stack, made.namespace, "deploy/api")
    made.succeeded(ENDED_SECONDS)
    kept = uids(stack, made.namespace)
    started = change(made, "replay", fromStep="service/db")
    started.step_reaches("service/api", "running", within=120)
    started.cancel(cleanup=True)
    ended = started.ended(ENDED_SECONDS)
    assert (ended["state"], ended["cleanup"]) == ("cancelled", CLEANED_UP)
    assert uids(stack, made.namespace) == kept
    pods_settle(made, "db")
    assert environment(made)["status"] == "running"
    for deployment in stack.objects(made.namespace, "deployments"):
        annotations = deployment["spec"]["template"]["metadata"].get("annotations", {})
        assert "perdure.dev/restart" not in annotations
    # What is replayed next is what stood before.
    assert preview(made) == preview(made, operationId=made.operation_id)


def a_delete_wins(stack: Stack, name: str) -> None:
    made = stack.create(blueprint(name, api=on_demand()))
    let_become_ready(stack, made.namespace, "deploy/api")
    made.succeeded(ENDED_SECONDS)
    started = change(made, "replay", fromStep="service/api")
    started.step_reaches("service/api", "running", within=120)
    made.delete().succeeded(ENDED_SECONDS)
    assert started.operation()["state"] == "cancelled"
    assert not stack.namespace_exists(made.namespace)
    assert ask(made, "replay").status_code == 410


def only_what_made_the_environment_is_replayed(stack: Stack, name: str) -> None:
    made = _running(stack, blueprint(name, api=idle(), web=idle()))
    stop = change(made, "stop")
    stop.succeeded(ENDED_SECONDS)
    stopped = ask(made, "replay")
    assert stopped.status_code == 409
    assert "is stopped: resume it first" in stopped.json()["detail"]
    resumed = change(made, "resume")
    resumed.succeeded(ENDED_SECONDS)
    scaled = change(made, "scale", service="api", replicas=2)
    scaled.succeeded(ENDED_SECONDS)
    for other in (stop, scaled):
        refused = ask(made, "replay", operationId=other.operation_id)
        assert (refused.status_code, refused.json()["type"].rsplit("/", 1)[1]) == (409, "conflict")
    assert ask(made, "replay", operationId="op_nothing").status_code == 404
    # The newest that made it what it is: the resume. A scale is an edit of the one service.
    pods_settle(made, "api", 2)
    web = pods_settle(made, "web")
    _, operation = replay(made)
    assert operation["replayOf"] == resumed.operation_id
    assert ran(operation) == {"api"}
    pods_settle(made, "api", 2)
    assert pods_settle(made, "web") == web
    # Once an update has failed and was kept, one that made some of the services mends nothing.
    first = update(made, blueprint(name, api=idle(), web=idle(env={"N": "1"})))
    assert set(states(first.succeeded(ENDED_SECONDS))) == {"namespace", "service/web"}
    second = _kept_update(made, blueprint(name, api=broken(idle()), web=idle(env={"N": "1"})))
    assert second.ended(ENDED_SECONDS)["state"] == "failed"
    refused = ask(made, "replay", operationId=first.operation_id)
    assert (refused.status_code, "retry or update it" in refused.json()["detail"]) == (409, True)
    # The one that failed is what is replayed, and owes its one service still.
    planned = told(preview(made))
    assert planned == {"api": ("run", "has not succeeded yet")}
    web = pods_settle(made, "web")
    ended = change(made, "replay", fromStep="service/api").ended(ENDED_SECONDS)
    assert (ended["state"], ended["failure"]["step"]) == ("failed", "service/api")
    assert pods_settle(made, "web") == web
    update(made, blueprint(name, api=idle(), web=idle(env={"N": "1"}))).succeeded(ENDED_SECONDS)
    assert environment(made)["status"] == "running"


def _kept_update(made: Handle, document: dict[str, Any]) -> Handle:
    """Ask for an update that stays as it is when it fails."""
    path = f"/v1/environments/{made.environment_id}/blueprint"
    body = {"blueprint": document, "onFailure": "keep"}
    return accepted(made, made.stack.client.put(path, json=body))


CASES: list[Case] = [
    what_was_edited_and_what_depends_on_it,
    what_somebody_deleted_is_made_again,
    from_a_step_on,
    into_a_new_environment,
    one_that_fails_is_gone_on_with,
    data_stays_and_a_job_runs_again,
    only_what_made_the_environment_is_replayed,
    a_cancel_with_cleanup_goes_back,
    a_delete_wins,
]


@pytest.fixture(scope="module")
def running(stack: Stack, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """The cases, under way."""
    with side_by_side(request, stack, CASES, at_once=AT_ONCE) as cases:
        yield cases


@pytest.mark.parametrize("case", [case.__name__ for case in CASES])
def test_replay(running: dict[str, Future[None]], case: str) -> None:
    running[case].result()
