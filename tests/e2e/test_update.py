"""Updates of running environments: what changes is new, what does not is left alone, what fails goes back.

The cases run side by side, as environments of one stack.
"""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tests.e2e.lifecycle import (
    ENDED_SECONDS,
    VOLUME,
    Case,
    accepted,
    answers,
    ask,
    blueprint,
    broken,
    change,
    environment,
    is_ready,
    keeping,
    pods_now,
    pods_settle,
    put,
    serving,
    side_by_side,
    update,
    written,
)
from tests.e2e.shop import psql, shop
from tests.e2e.support import idle, moment, on_demand, states, uids
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

AT_ONCE = 4


def _running(stack: Stack, document: dict[str, Any]) -> Handle:
    made = stack.create(document)
    made.succeeded(ENDED_SECONDS)
    return made


def _token(value: str) -> list[dict[str, str]]:
    return [{"name": "token", "envKey": "TOKEN", "value": value}]


def _revisions(handle: Handle) -> list[int]:
    answer = handle.stack.client.get(f"/v1/environments/{handle.environment_id}/revisions")
    assert answer.status_code == 200, answer.text
    return [each["number"] for each in answer.json()["data"]]


def _effects(answer: Any) -> dict[str, str]:
    return {each["service"]: each["effect"] for each in answer.json()["data"]["changes"]}


def _assert_back(handle: Handle, operation: dict[str, Any], revision: int, kind: str = "crash_loop") -> None:
    """The operation was rolled back, its environment is what it was, and why is kept."""
    assert operation["state"] == "rolled_back", json.dumps(operation["failure"])
    assert operation["cleanup"]["complete"] is True
    assert operation["cleanup"]["left"] == []
    assert operation["failure"]["kind"] == kind
    now = environment(handle)
    assert (now["revision"], now["status"]) == (revision, "running")
    assert eventually(lambda: handle.status()["status"] == "running", "the status says so", within=30)


def only_what_changes_is_new(stack: Stack, name: str) -> None:
    """One of three is changed, then the two around it: the third stays, and is waited through."""
    first = blueprint(name, db=idle(), api=idle(dependsOn=["db"]), web=idle(dependsOn=["api"]))
    made = _running(stack, first)
    before = {service: pods_settle(made, service) for service in first["services"]}
    kept = uids(stack, made.namespace)

    one = blueprint(name, **first["services"] | {"api": idle(dependsOn=["db"], env={"LEVEL": "debug"})})
    count = written(made)
    planned = put(made, one, dry_run="true")
    assert planned.status_code == 200
    assert _effects(planned) == {"db": "unchanged", "api": "in_place", "web": "unchanged"}
    assert written(made) == count

    operation = update(made, one).succeeded(ENDED_SECONDS)
    assert states(operation) == {"namespace": "succeeded", "service/api": "succeeded"}
    now = {service: pods_settle(made, service) for service in first["services"]}
    assert (now["db"], now["web"]) == (before["db"], before["web"])
    assert now["api"].isdisjoint(before["api"])
    assert made.sh("deploy/api", "echo $LEVEL") == "debug"
    assert uids(stack, made.namespace) == kept

    count = written(made)
    again = put(made, one)
    assert (again.status_code, again.json()["data"]["noop"]) == (200, True)
    assert written(made) == count

    # `web` depends on `db` through `api` alone, which does not change.
    services = one["services"]
    services = services | {"db": idle(env={"N": "2"}), "web": idle(dependsOn=["api"], env={"N": "2"})}
    around = update(made, blueprint(name, **services))
    operation = around.succeeded(ENDED_SECONDS)
    assert set(states(operation)) == {"namespace", "service/db", "service/web"}
    db, web = around.step("service/db"), around.step("service/web")
    assert db["finishedAt"] <= web["startedAt"]
    assert pods_settle(made, "api") == now["api"]
    [of_db], [of_web] = (
        [pods_now(made, service)[uid] for uid in pods_settle(made, service)] for service in ("db", "web")
    )
    assert moment(of_web["metadata"]["creationTimestamp"]) >= moment(
        next(each for each in of_db["status"]["conditions"] if each["type"] == "Ready")["lastTransitionTime"]
    )
    assert _revisions(made) == [3, 2, 1]


def one_comes_and_one_goes(stack: Stack, name: str) -> None:
    """What goes leaves its volume alone; when it comes back, its data is there."""
    ports = [{"containerPort": 8080}]
    old = keeping(ports=ports, secrets=_token("planted"))
    made = _running(stack, blueprint(name, web=idle(), old=old))
    web = pods_settle(made, "web")
    made.sh("sts/old", "echo kept > /data/note")
    before = uids(stack, made.namespace)
    assert {"StatefulSet/old", "Service/old", "Service/old-headless"} <= before.keys()

    gone = update(made, blueprint(name, web=idle(), extra=serving(dependsOn=["web"])))
    operation = gone.succeeded(ENDED_SECONDS)
    steps = {step["name"]: step for step in operation["steps"]}
    assert set(steps) == {"namespace", "service/extra", "remove/old"}
    assert steps["service/extra"]["finishedAt"] <= steps["remove/old"]["startedAt"]
    after = uids(stack, made.namespace)
    assert {name for name in after if "old" in name} == {"PersistentVolumeClaim/data-old-0"}
    assert after["PersistentVolumeClaim/data-old-0"] == before["PersistentVolumeClaim/data-old-0"]
    assert pods_now(made, "old") == {}
    assert answers(made, "extra")
    assert pods_settle(made, "web") == web

    update(made, blueprint(name, web=idle(), old=old)).succeeded(ENDED_SECONDS)
    assert made.sh("sts/old", "cat /data/note") == "kept"
    assert "Deployment/extra" not in uids(stack, made.namespace)


def what_does_not_become_ready_goes_back(stack: Stack, name: str) -> None:
    """One was rolled already, one breaks, one is new: all three are as before, and the old pods answered."""
    api = serving(dependsOn=["web"], secrets=_token("first"))
    made = _running(stack, blueprint(name, web=serving(env={"N": "1"}), api=api))
    before = {service: pods_settle(made, service) for service in ("web", "api")}
    kept = uids(stack, made.namespace)

    rolled = blueprint(name, web=serving(env={"N": "1"}), api={**api, "secrets": _token("second")})
    update(made, rolled).succeeded(ENDED_SECONDS)
    now = pods_settle(made, "api")
    assert now.isdisjoint(before["api"]), "a new value starts new pods"
    assert pods_settle(made, "web") == before["web"]
    assert made.sh("deploy/api", "echo $TOKEN") == "second"

    bad = update(
        made,
        blueprint(
            name,
            web=serving(env={"N": "2"}),
            extra=serving(),
            api=broken({**api, "dependsOn": ["web", "extra"], "secrets": _token("third")}),
        ),
    )
    bad.step_reaches("service/api", "running", within=ENDED_SECONDS)
    assert environment(made)["revision"] == 3
    assert answers(made, "api"), "the old pod answers while the new one does not start"
    operation = bad.ended(ENDED_SECONDS)
    # At once: the end has waited for what was put back.
    ready = [pod for pod in pods_now(made, "web").values() if is_ready(pod)]
    assert [{"name": "N", "value": "1"}] in [pod["spec"]["containers"][0]["env"] for pod in ready]
    _assert_back(made, operation, 2)
    assert operation["failure"]["step"] == "service/api"
    assert "broken on purpose" in operation["failure"]["evidence"][0]["log"]
    assert pods_settle(made, "api") == now, "its old pod was never touched"
    assert answers(made, "api")
    pods_settle(made, "web")
    assert made.sh("deploy/web", "echo $N") == "1"
    eventually(lambda: uids(stack, made.namespace) == kept, "only what was there before is there")
    secret = json.loads(
        stack.kubectl("-n", made.namespace, "get", "secret", "secret-token", "-o", "jsonpath={.data}")
    )
    assert list(secret.values()) == ["c2Vjb25k"], "the second value"

    # History is kept, and the next one goes on from what runs.
    assert _revisions(made) == [3, 2, 1]
    good = update(made, blueprint(name, web=serving(env={"N": "4"}), api={**api, "secrets": _token("third")}))
    good.succeeded(ENDED_SECONDS)
    assert environment(made)["revision"] == 4
    assert made.sh("deploy/api", "echo $TOKEN") == "third"
    assert bad.operation()["failure"]["evidence"][0]["log"], "the evidence is there still"


def a_volume_is_not_lost_by_accident(stack: Stack, name: str) -> None:
    """Another size is refused; with `allowReplace` the volume is made anew, and an undo says that."""
    made = _running(stack, blueprint(name, store=keeping()))
    made.sh("sts/store", "echo kept > /data/note")
    kept, count = uids(stack, made.namespace), written(made)
    bigger = [{**VOLUME, "size": "2Gi"}]
    refused = put(made, blueprint(name, store=keeping(volumes=bigger)))
    assert refused.status_code == 422
    assert [error["path"] for error in refused.json()["errors"]] == ["services[0]"]
    assert (uids(stack, made.namespace), written(made)) == (kept, count)

    replacing = keeping(volumes=bigger, allowReplace=True)
    accepting = put(made, blueprint(name, store=replacing))
    [said] = accepting.json()["data"]["changes"]
    assert (said["effect"], said["lostVolumes"]) == ("replace", ["data"])
    accepted(made, accepting).succeeded(ENDED_SECONDS)
    now = uids(stack, made.namespace)
    for title in ("StatefulSet/store", "PersistentVolumeClaim/data-store-0"):
        assert now[title] != kept[title]
    [claim] = stack.objects(made.namespace, "persistentvolumeclaims")
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert made.sh("sts/store", "ls /data") == ""

    made.sh("sts/store", "echo other > /data/note")
    bad = update(made, blueprint(name, store=broken(keeping(allowReplace=True))))
    operation = bad.ended(ENDED_SECONDS)
    _assert_back(made, operation, 2)
    assert operation["cleanup"]["notUndone"] == ["service/store: volume data was made anew"]
    [claim] = stack.objects(made.namespace, "persistentvolumeclaims")
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    pods_settle(made, "store")


def a_job_that_changes_is_run_again(stack: Stack, name: str) -> None:
    """Each change makes another Job; one that fails leaves that of the revision before, run again."""

    def job(script: str) -> dict[str, Any]:
        return {"kind": "job", "image": idle()["image"], "command": ["sh", "-c", script], "env": {"A": "1"}}

    def said() -> str:
        return stack.kubectl("-n", made.namespace, "logs", "job/load").strip()

    made = _running(stack, blueprint(name, load=job("echo one"), web=idle(dependsOn=["load"])))
    web, first = pods_settle(made, "web"), uids(stack, made.namespace)["Job/load"]
    assert said() == "one"
    document = blueprint(name, load=job("echo two"), web=idle(dependsOn=["load"]))
    update(made, document).succeeded(ENDED_SECONDS)
    second = uids(stack, made.namespace)["Job/load"]
    assert second != first
    assert said() == "two"

    document = blueprint(name, load=job("echo three; exit 3"), web=idle(dependsOn=["load"]))
    operation = update(made, document).ended(ENDED_SECONDS)
    _assert_back(made, operation, 2)
    assert uids(stack, made.namespace)["Job/load"] != second
    assert said() == "two"
    assert pods_settle(made, "web") == web


def a_workload_becomes_another_kind(stack: Stack, name: str) -> None:
    """Deployment to StatefulSet and, when it may lose sight of its volume, back; a failure goes back, too."""
    plain, kept = serving(), serving(volumes=[VOLUME])
    made = _running(stack, blueprint(name, web=plain))
    before = uids(stack, made.namespace)

    operation = update(made, blueprint(name, web=broken(kept))).ended(ENDED_SECONDS)
    _assert_back(made, operation, 1)
    pods_settle(made, "web")
    left = uids(stack, made.namespace)
    assert left["Deployment/web"] == before["Deployment/web"]
    assert "StatefulSet/web" not in left

    update(made, blueprint(name, web=kept)).succeeded(ENDED_SECONDS)
    now = uids(stack, made.namespace)
    assert "StatefulSet/web" in now
    assert "Deployment/web" not in now
    assert now["Service/web"] == before["Service/web"]
    pods_settle(made, "web")
    assert answers(made, "web")

    assert put(made, blueprint(name, web=plain)).status_code == 422
    update(made, blueprint(name, web={**plain, "allowReplace": True})).succeeded(ENDED_SECONDS)
    last = uids(stack, made.namespace)
    assert "Deployment/web" in last
    assert not {"StatefulSet/web", "Service/web-headless"} & last.keys()
    assert last["PersistentVolumeClaim/data-web-0"] == now["PersistentVolumeClaim/data-web-0"]
    pods_settle(made, "web")
    assert answers(made, "web")


def back_to_a_revision_and_to_a_checkpoint(stack: Stack, name: str) -> None:
    """Each is a new revision with the secrets that the old one had."""
    made = _running(stack, blueprint(name, web=idle(env={"N": "1"}, secrets=_token("first"))))
    update(made, blueprint(name, web=idle(env={"N": "2"}, secrets=_token("second")))).succeeded(ENDED_SECONDS)
    named = ask(made, "checkpoints", name="second")
    assert named.status_code == 201, named.text
    update(made, blueprint(name, web=idle(env={"N": "3"}), other=idle())).succeeded(ENDED_SECONDS)

    change(made, "rollback", revision=1).succeeded(ENDED_SECONDS)
    pods_settle(made, "web")
    assert made.sh("deploy/web", "echo $N $TOKEN") == "1 first"
    assert "Deployment/other" not in uids(stack, made.namespace)
    change(made, "rollback", checkpoint="second").succeeded(ENDED_SECONDS)
    pods_settle(made, "web")
    assert made.sh("deploy/web", "echo $N $TOKEN") == "2 second"
    assert _revisions(made) == [5, 4, 3, 2, 1]
    same = ask(made, "rollback", revision=2)
    assert (same.status_code, same.json()["data"]["noop"]) == (200, True)
    assert ask(made, "rollback", revision=9).status_code == 404


def of_two_updates_one_wins_and_a_delete_always(stack: Stack, name: str) -> None:
    """The second is told who holds the environment; the delete ends whoever that is."""
    made = _running(stack, blueprint(name, web=idle()))
    first = update(made, blueprint(name, web=on_demand(env={"N": "1"})))
    first.step_reaches("service/web", "running")
    second = put(made, blueprint(name, web=idle(env={"N": "2"})))
    assert second.status_code == 409
    assert second.json()["operationId"] == first.operation_id
    for action in ("stop", "rollback"):
        body = {"revision": 1} if action == "rollback" else {}
        assert ask(made, action, **body).status_code == 409
    deletion = made.delete()
    deletion.succeeded(ENDED_SECONDS)
    assert first.operation()["state"] == "cancelled"
    assert not stack.namespace_exists(made.namespace)
    assert made.status()["status"] == "deleted"


def an_init_script_runs_once(stack: Stack, name: str) -> None:
    """The one of a service that is added runs; a change of the service and a rollback do not run it again."""
    whole = shop(name)
    db = whole["services"]["db"]
    made = _running(stack, blueprint(name, web=idle()))
    update(made, blueprint(name, web=idle(), db=db)).succeeded(ENDED_SECONDS)
    assert psql(stack, made.namespace, "select count(*) from visits") == "1"
    other = blueprint(name, web=idle(env={"N": "2"}), db={**db, "env": {**db["env"], "N": "2"}})
    update(made, other).succeeded(ENDED_SECONDS)
    pods_settle(made, "db")
    assert psql(stack, made.namespace, "select count(*) from visits") == "1"
    change(made, "rollback", revision=2).succeeded(ENDED_SECONDS)
    pods_settle(made, "db")
    assert psql(stack, made.namespace, "select count(*) from visits") == "1"


CASES: list[Case] = [
    what_does_not_become_ready_goes_back,
    an_init_script_runs_once,
    a_volume_is_not_lost_by_accident,
    only_what_changes_is_new,
    a_job_that_changes_is_run_again,
    a_workload_becomes_another_kind,
    back_to_a_revision_and_to_a_checkpoint,
    one_comes_and_one_goes,
    of_two_updates_one_wins_and_a_delete_always,
]


@pytest.fixture(scope="module")
def running(stack: Stack, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """The cases, under way."""
    with side_by_side(request, stack, CASES, at_once=AT_ONCE) as cases:
        yield cases


@pytest.mark.parametrize("case", [case.__name__ for case in CASES])
def test_update(running: dict[str, Future[None]], case: str) -> None:
    running[case].result()
