"""The worst day: database and Temporal are lost, the cluster lives on, and there is an older backup."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.lifecycle import change, update
from tests.e2e.support import idle, let_become_ready, on_demand
from tests.helpers.forking import run
from tests.helpers.stack import ROOT, Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(600)]

ENDED_SECONDS = 180.0


def admin(stack: Stack, *arguments: str, code: int = 0) -> str:
    """Run `perdure admin` with the API's settings; return what it prints."""
    kubeconfig = {"PERDURE_CLUSTER_KUBECONFIG": str(stack.api.env["PERDURE_CLUSTER_KUBECONFIG"])}
    done = run(("admin", *arguments), env={**stack.environment, **kubeconfig}, cwd=ROOT, timeout=180)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def orphans(stack: Stack) -> dict[str, Any]:
    """The cluster compared with the database."""
    found: dict[str, Any] = json.loads(admin(stack, "orphans", "-o", "json"))
    return found


def fence(stack: Stack, namespace: str) -> int:
    """The number on a namespace."""
    live = json.loads(stack.kubectl("get", "namespace", namespace, "-o", "json"))
    return int(live["metadata"]["annotations"]["perdure.dev/fence"])


def lose_everything(stack: Stack) -> None:
    """Kill all processes and remove the files of both databases."""
    for process in (stack.worker, stack.api, stack.temporal):
        process.kill()
    lost = [path for path in stack.directory.iterdir() if ".db" in path.name]
    assert {path.name for path in lost} >= {"perdure.db", "temporal.db"}, lost
    for path in lost:
        path.unlink()


def scale(environment: Handle, replicas: int) -> None:
    """Scale the service `web`, which has to end well."""
    change(environment, "scale", service="web", replicas=replicas).succeeded(ENDED_SECONDS)


def with_volume() -> dict[str, Any]:
    """A service with data and a password of its own."""
    return idle(
        volumes=[{"name": "data", "mountPath": "/data", "type": "pvc", "size": "16Mi"}],
        secrets=[{"name": "password", "envKey": "PASSWORD", "value": "auto-generated"}],
    )


def password(stack: Stack, namespace: str) -> str:
    """The generated value as it stands in the cluster."""
    secret = json.loads(stack.kubectl("-n", namespace, "get", "secret", "secret-password", "-o", "json"))
    value: str = secret["data"]["value"]
    return value


def test_restore_drill(stack: Stack, name: str, tmp_path: Path) -> None:
    """One story, as its parts make the ground for one another."""
    living = stack.create({"name": f"{name}-living", "services": {"web": idle()}})
    deleted = stack.create({"name": f"{name}-deleted", "services": {"web": idle()}})
    flying = stack.create({"name": f"{name}-flying", "services": {"web": on_demand()}})
    for each in (living, deleted):
        each.succeeded()
    flying.step_reaches("service/web", "running")
    eventually(lambda: stack.objects(flying.namespace, "pods"), "its pod is there", within=60)
    stack.worker.kill()
    waiting = stack.create({"name": f"{name}-waiting", "services": {"web": idle()}})
    file = tmp_path / "perdure.backup"
    assert "To restore it you need those with the ids: test." in admin(stack, "backup", str(file))

    # What the backup does not know.
    stack.worker.start()
    waiting.succeeded(ENDED_SECONDS)
    for replicas in (2, 1, 2):
        scale(living, replicas)
    deleted.delete().succeeded()
    since = stack.create({"name": f"{name}-since", "services": {"web": idle()}})
    keeping = stack.create({"name": f"{name}-keeping", "services": {"web": with_volume()}})
    for each in (since, keeping):
        each.succeeded(ENDED_SECONDS)
    before = {each.namespace: fence(stack, each.namespace) for each in (living, waiting, keeping)}
    [(last_event,)] = stack.rows("select last_event from environments where id = ?", living.environment_id)
    secret = password(stack, keeping.namespace)

    lose_everything(stack)
    said = admin(stack, "restore", str(file))
    assert "1 operations had not begun" in said
    assert "of 1 that were under way" in said
    assert "is not empty" in admin(stack, "restore", str(file), code=1)
    stack.start_temporal()
    stack.start_api()
    found = orphans(stack)
    assert {each["namespace"] for each in found["orphans"]} == {since.namespace, keeping.namespace}
    assert [each["id"] for each in found["missing"]] == [deleted.environment_id]
    assert [each["id"] for each in found["changed"]] == [living.environment_id]
    stack.worker.start()

    what_was_under_way_ends_and_goes_on(stack, flying)
    # What had not begun is run, over what it left in a life that nobody remembers.
    waiting.succeeded(ENDED_SECONDS)
    assert fence(stack, waiting.namespace) > before[waiting.namespace]
    what_lives_can_be_changed_and_deleted(stack, living, before[living.namespace], last_event)
    status = deleted.status()
    assert (status["status"], status["reason"]) == ("degraded", "NamespaceMissing")
    deleted.delete().succeeded(ENDED_SECONDS)
    purge(stack, since, keeping)
    adopt(stack, keeping, tmp_path, secret, before[keeping.namespace])


def test_what_temporal_still_knows_goes_on(stack: Stack, name: str, tmp_path: Path) -> None:
    """The database alone is lost: an operation that runs does not notice."""
    flying = stack.create({"name": name, "services": {"web": on_demand()}})
    flying.step_reaches("service/web", "running")
    file = tmp_path / "perdure.backup"
    admin(stack, "backup", str(file))
    for process in (stack.worker, stack.api):
        process.kill()
    for path in stack.directory.glob("perdure.db*"):
        path.unlink()
    admin(stack, "restore", str(file))
    stack.start_api()
    stack.worker.start()
    let_become_ready(stack, flying.namespace, "deploy/web")
    flying.succeeded(ENDED_SECONDS)
    assert flying.status()["status"] == "running"
    flying.delete().succeeded(ENDED_SECONDS)


def what_was_under_way_ends_and_goes_on(stack: Stack, flying: Handle) -> None:
    """It ends truthfully, and a retry takes up what is there."""
    ended = flying.ended(60)
    assert (ended["state"], ended["failure"]["kind"]) == ("failed", "internal")
    assert "restored from a backup that was taken while this operation ran" in ended["failure"]["message"]
    again = flying.retry()
    let_become_ready(stack, flying.namespace, "deploy/web")
    again.succeeded(ENDED_SECONDS)


def what_lives_can_be_changed_and_deleted(
    stack: Stack, living: Handle, fence_before: int, last_event: int
) -> None:
    """Its fence and its events go on above those that nobody remembers."""
    status = living.status()
    assert (status["status"], status["services"][0]["ready"]) == ("running", 2)
    document = {"name": status["name"], "services": {"web": idle(env={"NEW": "1"})}}
    update(living, document).succeeded(ENDED_SECONDS)
    scale(living, 3)
    assert fence(stack, living.namespace) > fence_before
    new = "select min(number) from events, installation where environment_id = ? and at > restored_at"
    [(first_event,)] = stack.rows(new, living.environment_id)
    assert first_event > last_event
    assert len(stack.objects(living.namespace, "pods", "app.kubernetes.io/name=web")) >= 3
    assert orphans(stack)["changed"] == []
    living.delete().succeeded(ENDED_SECONDS)
    assert not stack.namespace_exists(living.namespace)


def purge(stack: Stack, since: Handle, keeping: Handle) -> None:
    """One orphan goes, once everything that speaks against it has been answered."""
    refused = admin(stack, "purge", since.namespace, code=7)
    assert "not for 24 (--now)" in refused
    refused = admin(stack, "purge", keeping.namespace, "--now", code=7)
    assert "it has volumes: " in refused
    refused = admin(stack, "purge", since.namespace, "--now", "--yes", code=1)
    assert "2 of 4 namespaces look orphaned" in refused
    sentence = refused.split('--force "')[1].split('"')[0]
    assert sentence == "delete 1 of 4 namespaces of local"
    # Nobody is there to say yes.
    admin(stack, "purge", since.namespace, "--now", "--force", sentence, code=1)
    assert stack.namespace_exists(since.namespace)
    assert f"{since.namespace}: gone" in admin(
        stack, "purge", since.namespace, "--now", "--force", sentence, "--yes"
    )
    assert not stack.namespace_exists(since.namespace)
    assert stack.namespace_exists(keeping.namespace)
    entries = stack.client.get("/v1/audit?action=orphan.purge").json()["data"]
    assert [entry["subjectId"] for entry in entries] == [since.environment_id]


def adopt(stack: Stack, orphan: Handle, directory: Path, secret: str, fence_before: int) -> None:
    """The other one becomes an environment again, with its data and its password."""
    [claim] = stack.objects(orphan.namespace, "persistentvolumeclaims")
    [pod] = [each["metadata"]["uid"] for each in stack.objects(orphan.namespace, "pods")]
    file = directory / "blueprint.yaml"
    document = {"name": "other", "services": {"web": with_volume()}}
    file.write_text(yaml.safe_dump(document))
    assert "is the Blueprint of 'other'" in admin(stack, "adopt", orphan.namespace, "-f", str(file), code=2)
    [row] = orphans(stack)["orphans"]
    file.write_text(yaml.safe_dump({**document, "name": row["name"]}))
    said = admin(stack, "adopt", orphan.namespace, "-f", str(file))
    assert "is an environment again, at revision 1" in said
    operation = next(word for word in said.split() if word.startswith("op_"))
    Handle(stack, orphan.environment_id, orphan.namespace, operation).succeeded(ENDED_SECONDS)
    assert orphan.status()["status"] == "running"
    assert password(stack, orphan.namespace) == secret
    assert fence(stack, orphan.namespace) > fence_before
    assert [
        each["metadata"]["uid"] for each in stack.objects(orphan.namespace, "persistentvolumeclaims")
    ] == [claim["metadata"]["uid"]]
    assert [each["metadata"]["uid"] for each in stack.objects(orphan.namespace, "pods")] == [pod], (
        "nothing restarted"
    )
    scale(orphan, 0)
    assert orphans(stack)["orphans"] == []
    assert "Not an orphan" in admin(stack, "purge", orphan.namespace, "--now", code=1)
    orphan.delete().succeeded(ENDED_SECONDS)
