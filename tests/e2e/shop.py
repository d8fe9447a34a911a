"""The environment of the kill tests, and what has to hold of it whatever was killed."""

import json
from itertools import pairwise
from typing import Any

from tests.e2e.conftest import TINY
from tests.e2e.support import probed_by
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

POSTGRES = "10.111.0.1:5000/perdure/postgres:1"
SETTLE_SECONDS = 60.0

_INSERT = "create table visits (id int); insert into visits values (1);"
_UNTIL_GO = """
do $$ begin
  while not exists (select from pg_class where relname = 'go') loop perform pg_sleep(0.1); end loop;
end $$;
"""

EXPECTED = {
    "ConfigMap/kube-root-ca.crt",
    "LimitRange/environment",
    "NetworkPolicy/allow-dns",
    "NetworkPolicy/allow-environment",
    "NetworkPolicy/allow-public",
    "NetworkPolicy/default-deny",
    "RoleBinding/perdure",
    "ServiceAccount/default",
    "ServiceAccount/environment",
    "Secret/secret-db-password",
    "PersistentVolumeClaim/data-db-0",
    "Service/db",
    "Service/db-headless",
    "StatefulSet/db",
    "ControllerRevision/db-*",
    "Pod/db-0",
    "Service/api",
    "Deployment/api",
    "ReplicaSet/api-*",
    "Pod/api-*",
}
"""All that is in the namespace of a `shop`. `*` stands for what the cluster puts into a name."""

_NOISE = {"events", "events.events.k8s.io", "endpoints", "endpointslices.discovery.k8s.io"}
"""Kinds that the cluster keeps by itself, and not by name."""


def shop(name: str, *, init_waits: bool = False) -> dict[str, Any]:
    """A Blueprint: a database with a volume, a password and one row by init; an API that depends on it.

    With `init_waits`, the init script stands still after the row, until there is a table `go`.
    """
    password = {"name": "db-password", "value": "auto-generated"}
    return {
        "name": name,
        "services": {
            "db": {
                "image": POSTGRES,
                "ports": [{"containerPort": 5432}],
                "env": {"PGDATA": "/var/lib/postgresql/data/pgdata"},
                "secrets": [{**password, "envKey": "POSTGRES_PASSWORD"}],
                "volumes": [
                    {"name": "data", "mountPath": "/var/lib/postgresql/data", "type": "pvc", "size": "1Gi"}
                ],
                "resources": {"cpu": "20m", "memory": "64Mi", "limits": {"memory": "256Mi"}},
                "probes": probed_by("pg_isready", "-h", "127.0.0.1", "-U", "postgres"),
                "init": {"type": "sql", "script": _INSERT + (_UNTIL_GO if init_waits else "")},
            },
            "api": {
                "image": TINY,
                "ports": [{"containerPort": 8080}],
                "expose": True,
                "secrets": [{**password, "envKey": "DB_PASSWORD"}],
                "resources": {"cpu": "10m", "memory": "16Mi"},
                "dependsOn": ["db"],
            },
        },
    }


def small(name: str, **more: Any) -> dict[str, Any]:
    """A Blueprint of one service that is ready at once. `more`: further fields of that service."""
    service = {"image": TINY, "ports": [{"containerPort": 8080}], "resources": {"cpu": "10m"}, **more}
    return {"name": name, "services": {"web": service}}


def psql(stack: Stack, namespace: str, query: str, *, check: bool = True, workload: str = "db-0") -> str:
    """Run one statement in the environment's database and return its answer."""
    command = f'PGPASSWORD="$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U postgres -XAtqc "{query}"'
    return stack.run_in(namespace, workload, "sh", "-c", command, container="db", check=check)


def dump(stack: Stack, namespace: str) -> dict[str, tuple[str, str]]:
    """UID and resourceVersion of every object of a namespace, and of itself; empty when it is gone."""
    return _versions(stack.administrator.everything(namespace, without=_NOISE))


def _versions(objects: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {
        f"{each['kind']}/{each['metadata']['name']}": (
            each["metadata"]["uid"],
            each["metadata"]["resourceVersion"],
        )
        for each in objects
    }


def settled(stack: Stack, namespace: str) -> dict[str, tuple[str, str]]:
    """The dump of a namespace in which the cluster's own controllers have no more to do."""
    last: dict[str, tuple[str, str]] = {"": ("", "")}

    def look() -> bool:
        nonlocal last
        objects = stack.administrator.everything(namespace, without=_NOISE)
        before, last = last, _versions(objects)
        # A pod on its way out changes nothing for as long as its container takes to stop.
        return before == last and not any("deletionTimestamp" in each["metadata"] for each in objects)

    eventually(look, f"namespace {namespace} is at rest", within=SETTLE_SECONDS)
    return last


def assert_exactly_one_shop(stack: Stack, handle: Handle) -> None:
    """Every object of the shop is there once, and nothing else; its table has one row."""
    found = eventually(
        lambda: (now := _without_hashes(dump(stack, handle.namespace))) == sorted(EXPECTED) and now,
        f"exactly the objects of a shop are in {handle.namespace}, "
        f"last seen {_without_hashes(dump(stack, handle.namespace))}",
        within=20,
    )
    assert len(found) == len(EXPECTED)
    assert psql(stack, handle.namespace, "select count(*) from visits") == "1"
    [deployment] = stack.objects(handle.namespace, "deployments")
    revision = deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
    assert revision == "1", "a second attempt rendered another pod template"


def assert_ledger_tells_a_success(stack: Stack, handle: Handle) -> None:
    """The operation and each of its steps began once and succeeded once, in the row and in the event log."""
    operation = handle.succeeded(within=30)
    assert {step["name"]: step["state"] for step in operation["steps"]} == {
        step["name"]: "succeeded" for step in operation["steps"]
    }
    assert all(step["startedAt"] <= step["finishedAt"] for step in operation["steps"])
    told: dict[str, list[tuple[str, str]]] = {}
    for kind, data in stack.rows(
        "select type, data from events where operation_id = ? order by number", handle.operation_id
    ):
        change = json.loads(data)
        what = change["step"] if kind == "step" else "operation"
        told.setdefault(what, []).append((change["state"], json.dumps(change.get("blockedBy"))))
    assert not any(one == next_ for changes in told.values() for one, next_ in pairwise(changes)), told
    # A step that is blocked says so while it runs.
    states = {what: list(dict.fromkeys(state for state, _ in changes)) for what, changes in told.items()}
    assert states.pop("operation") == ["accepted", "running", "succeeded"]
    assert states == {step["name"]: ["running", "succeeded"] for step in operation["steps"]}


def _without_hashes(found: dict[str, tuple[str, str]]) -> list[str]:
    """Kinds and names, sorted; a name that the cluster made up is cut to its prefix."""
    made_up = ("Pod/api-", "ReplicaSet/api-", "ControllerRevision/db-")
    names = (next((f"{prefix}*" for prefix in made_up if name.startswith(prefix)), name) for name in found)
    return sorted(name for name in names if not name.startswith("Namespace/"))
