"""Stopped environments keep what they have; scaling and restarts hold over whatever comes after.

The cases run side by side, as environments of one stack.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tests.e2e.lifecycle import (
    ENDED_SECONDS,
    Case,
    answers,
    ask,
    blueprint,
    change,
    environment,
    pods_now,
    pods_settle,
    put,
    serving,
    side_by_side,
    update,
    written,
)
from tests.e2e.shop import psql, shop
from tests.e2e.support import CLEANED_UP, idle, moment, states, uids, volumes_of
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

AT_ONCE = 4


def _running(stack: Stack, document: dict[str, Any]) -> Handle:
    made = stack.create(document)
    made.succeeded(ENDED_SECONDS)
    return made


def _stopped(made: Handle) -> Handle:
    stop = change(made, "stop")
    stop.succeeded(ENDED_SECONDS)
    return stop


def _steps(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in operation["steps"]}


def _all_pods(made: Handle) -> list[str]:
    return [each["metadata"]["name"] for each in made.stack.objects(made.namespace, "pods")]


def data_is_there_after_resume(stack: Stack, name: str) -> None:
    """A row that was written before the stop; nothing runs meanwhile, the volume stays, the order holds."""
    made = _running(stack, shop(name))
    psql(stack, made.namespace, "insert into visits values (7)")
    before, volumes = uids(stack, made.namespace), volumes_of(stack, made.namespace)

    stop = _steps(_stopped(made).operation())
    assert set(stop) == {"namespace", "stop/api", "stop/db"}
    assert stop["stop/api"]["finishedAt"] <= stop["stop/db"]["startedAt"], "dependants go first"
    assert _all_pods(made) == []
    assert uids(stack, made.namespace) == before
    assert volumes_of(stack, made.namespace) == volumes
    status = made.status()
    assert (status["status"], status["terminal"]) == ("stopped", True)

    count = written(made)
    again = ask(made, "stop")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert ask(made, "scale", service="api", replicas=2).status_code == 409
    assert ask(made, "restart", service="api").status_code == 409
    assert written(made) == count

    resume = _steps(change(made, "resume").succeeded(ENDED_SECONDS))
    assert resume["service/db"]["finishedAt"] <= resume["service/api"]["startedAt"]
    assert psql(stack, made.namespace, "select string_agg(id::text, ' ' order by id) from visits") == "1 7"
    assert uids(stack, made.namespace) == before
    [db], [api] = (pods_now(made, service).values() for service in ("db", "api"))
    ready = next(each for each in db["status"]["conditions"] if each["type"] == "Ready")
    assert moment(ready["lastTransitionTime"]) <= moment(api["metadata"]["creationTimestamp"])
    eventually(lambda: made.status()["status"] == "running", "the status says so")
    assert ask(made, "resume").status_code == 409


def scaling_holds(stack: Stack, name: str) -> None:
    """Over a stop, a resume and an update; back down, and to the Blueprint's number by no update."""
    made = _running(stack, blueprint(name, web=serving(), other=idle()))
    other = pods_settle(made, "other")
    [first] = pods_settle(made, "web")
    operation = change(made, "scale", service="web", replicas=3).succeeded(ENDED_SECONDS)
    assert states(operation) == {"namespace": "succeeded", "service/web": "succeeded"}
    assert first in pods_settle(made, "web", 3), "scaling starts no new pod in place of one that runs"
    assert pods_settle(made, "other") == other
    _stopped(made)
    assert _all_pods(made) == []
    change(made, "resume").succeeded(ENDED_SECONDS)
    resumed = pods_settle(made, "web", 3)
    update(made, blueprint(name, web=serving(env={"N": "2"}), other=idle())).succeeded(ENDED_SECONDS)
    assert pods_settle(made, "web", 3).isdisjoint(resumed)
    change(made, "scale", service="web", replicas=1).succeeded(ENDED_SECONDS)
    pods_settle(made, "web", 1)
    change(made, "scale", service="web", replicas=0).succeeded(ENDED_SECONDS)
    pods_settle(made, "web", 0)
    update(made, blueprint(name, web=serving(env={"N": "3"}), other=idle())).succeeded(ENDED_SECONDS)
    assert pods_now(made, "web") == {}
    change(made, "scale", service="web", replicas=1).succeeded(ENDED_SECONDS)
    pods_settle(made, "web", 1)
    assert answers(made, "web")


def scaling_beyond_the_quota_goes_back(stack: Stack, name: str) -> None:
    """A quota by somebody else, which the organisation's caps know nothing of."""
    made = _running(stack, blueprint(name, web=idle()))
    web, count = pods_settle(made, "web"), len(pods_now(made, "web"))
    stack.kubectl("-n", made.namespace, "create", "quota", "small", f"--hard=pods={count + 1}")
    eventually(
        lambda: stack.objects(made.namespace, "resourcequotas")[0].get("status", {}).get("hard"),
        "the quota is counted",
    )
    operation = change(made, "scale", service="web", replicas=5).ended(ENDED_SECONDS)
    assert (operation["state"], operation["failure"]["kind"]) == ("rolled_back", "quota_exceeded")
    assert "ResourceQuota small" in operation["failure"]["message"]
    assert operation["failure"]["evidence"]
    assert operation["cleanup"] == CLEANED_UP
    assert environment(made)["status"] == "running"
    assert pods_settle(made, "web") == web
    # The number went back, too: the next operation does not try it once more.
    change(made, "restart", service="web").succeeded(ENDED_SECONDS)
    pods_settle(made, "web", 1)


def a_stopped_one_is_started_by_an_update(stack: Stack, name: str) -> None:
    """Also by the Blueprint that it has, and also what the update does not change."""
    first = blueprint(name, db=idle(), web=idle(dependsOn=["db"]))
    made = _running(stack, first)
    _stopped(made)
    same = update(made, first)
    operation = same.succeeded(ENDED_SECONDS)
    assert set(states(operation)) == {"namespace", "service/db", "service/web"}
    assert same.step("service/db")["finishedAt"] <= same.step("service/web")["startedAt"]
    running = {service: pods_settle(made, service) for service in ("db", "web")}
    assert environment(made)["status"] == "running"
    assert (put(made, first).status_code, put(made, first).json()["data"]["noop"]) == (200, True)

    _stopped(made)
    changed = blueprint(name, db=idle(), web=idle(dependsOn=["db"], env={"N": "2"}), extra=idle())
    update(made, changed).succeeded(ENDED_SECONDS)
    for service in ("db", "web", "extra"):
        assert pods_settle(made, service).isdisjoint(running.get(service, set()))
    assert made.sh("deploy/web", "echo $N") == "2"

    # One that fails goes back to being stopped.
    _stopped(made)
    failing = {**idle(dependsOn=["db"]), "command": ["sh", "-c", "exit 3"]}
    operation = update(made, blueprint(name, db=idle(), web=failing, extra=idle())).ended(ENDED_SECONDS)
    assert (operation["state"], operation["cleanup"]) == ("rolled_back", CLEANED_UP)
    now = environment(made)
    assert (now["status"], now["revision"]) == ("stopped", 3)
    for service in ("db", "web", "extra"):
        pods_settle(made, service, 0)
    change(made, "resume").succeeded(ENDED_SECONDS)
    assert made.sh("deploy/web", "echo $N") == "2"


def a_protected_one_is_not_stopped(stack: Stack, name: str) -> None:
    """Until its Blueprint no longer says so."""
    made = _running(stack, {**blueprint(name, web=idle()), "protected": True})
    web, count = pods_settle(made, "web"), written(made)
    for refused in (ask(made, "stop"), stack.client.delete(f"/v1/environments/{made.environment_id}")):
        assert refused.status_code == 403, refused.text
        assert refused.json()["code"] == "policy_denied"
    assert written(made) == count
    assert pods_settle(made, "web") == web


def a_restart_gives_new_pods(stack: Stack, name: str) -> None:
    """To one service, of the same template otherwise; and a later update does not do it once more."""
    first = blueprint(name, web=serving(), other=idle())
    made = _running(stack, first)
    web, other = pods_settle(made, "web"), pods_settle(made, "other")
    kept = uids(stack, made.namespace)
    change(made, "restart", service="web").succeeded(ENDED_SECONDS)
    now = pods_settle(made, "web")
    assert now.isdisjoint(web)
    assert pods_settle(made, "other") == other
    assert uids(stack, made.namespace) == kept
    update(made, blueprint(name, web=serving(), other=idle(env={"N": "2"}))).succeeded(ENDED_SECONDS)
    assert pods_settle(made, "web") == now
    change(made, "restart", service="web").succeeded(ENDED_SECONDS)
    assert pods_settle(made, "web").isdisjoint(now)


CASES: list[Case] = [
    a_stopped_one_is_started_by_an_update,
    scaling_holds,
    data_is_there_after_resume,
    scaling_beyond_the_quota_goes_back,
    a_restart_gives_new_pods,
    a_protected_one_is_not_stopped,
]


@pytest.fixture(scope="module")
def running(stack: Stack, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """The cases, under way."""
    with side_by_side(request, stack, CASES, at_once=AT_ONCE) as cases:
        yield cases


@pytest.mark.parametrize("case", [case.__name__ for case in CASES])
def test_stop_resume(running: dict[str, Future[None]], case: str) -> None:
    running[case].result()
