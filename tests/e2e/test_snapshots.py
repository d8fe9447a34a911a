"""Snapshots on the real cluster: taken, restored, and equal, whoever dies in between."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lifecycle import accepted, change
from tests.e2e.shop import shop
from tests.e2e.support import POSTGRES, REGISTRY, idle, states
from tests.helpers.stack import Handle, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ENDED_SECONDS = 240.0
_VOLUME = {"type": "pvc", "size": "1Gi"}
_FILL = """
create role reader login password 'other''s word';
create table parents (id bigserial primary key, name text unique, note text, raw bytea);
create table children (id bigserial primary key, parent bigint not null references parents);
insert into parents (name, note, raw)
  select 'ü' || n || chr(9731), case when n % 3 = 0 then null else repeat('x', n % 50) end,
         decode(md5(n::text) || '00ff', 'hex') from generate_series(1, 2000) n;
insert into children (parent) select id from parents;
grant select on parents to reader;
select lo_from_bytea(4711, decode(repeat('00ff10', 1000), 'hex'));
select setval('children_id_seq', 424242);
"""
_DIGEST = """
select md5(string_agg(t::text, '|' order by id)) from parents t
union all select md5(string_agg(t::text, '|' order by id)) from children t
union all select last_value::text from children_id_seq
union all select md5(lo_get(4711))
union all select string_agg(rolname || rolcanlogin, ',' order by rolname) from pg_roles
  where rolname !~ '^pg_'
union all select has_table_privilege('reader', 'parents', 'select')::text
"""


def _name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def _stores(name: str) -> dict[str, Any]:
    """A database, a cache, a second database and files, and an application that depends on all of them."""
    services = shop(name)["services"]
    services["db"]["init"] = {"type": "sql", "script": _FILL}
    services["cache"] = {
        "image": f"{REGISTRY}/redis:1",
        "ports": [{"containerPort": 6379}],
        "resources": {"cpu": "10m", "memory": "32Mi"},
    }
    services["files"] = idle(
        image=POSTGRES,  # which runs as root, and has the tools
        snapshot={"store": "files"},
        volumes=[{"name": "docs", "mountPath": "/docs", **_VOLUME}],
    )
    services["api"]["dependsOn"] = ["db", "cache", "files"]
    return {"name": name, "services": services}


def sh(handle: Handle, pod: str, script: str) -> str:
    """Run a script in a pod and return what it says."""
    return handle.stack.kubectl("-n", handle.namespace, "exec", pod, "--", "sh", "-c", script).strip()


def fill(handle: Handle) -> None:
    """Put data into cache and files; the database has its own by init."""
    sh(
        handle,
        "deploy/cache",
        "for n in $(seq 200); do echo SET key:$n value-$n; done | redis-cli >/dev/null",
    )
    sh(handle, "deploy/cache", "redis-cli HSET basket a 1 b 2; redis-cli RPUSH queue x y z")
    sh(
        handle,
        "files-0",
        "mkdir -p /docs/a/b && head -c 3000000 /dev/urandom > /docs/a/b/blob && "
        "printf 'ü\\n' > '/docs/a/name with spaces' && ln -s a/b/blob /docs/link && : > /docs/empty",
    )


def digests(handle: Handle) -> dict[str, str]:
    """What the data of each store comes to."""
    query = _DIGEST.replace("\n", " ")
    return {
        "db": sh(
            handle,
            "db-0",
            f'PGPASSWORD="$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U postgres -XAtqc "{query}"',
        ),
        "cache": sh(
            handle,
            "deploy/cache",
            "redis-cli --scan | sort | while read k; do echo $k; redis-cli DUMP $k; done | md5sum; "
            "redis-cli DBSIZE",
        ),
        "files": sh(
            handle,
            "files-0",
            "cd /docs && find . -type f -exec sha256sum {} + | sort -k2 && find . -printf '%p %y %m %l\\n' "
            "| grep -v lost+found | sort",
        ),
    }


def take(handle: Handle, **body: Any) -> tuple[Handle, str]:
    """Ask for a snapshot; return a handle on its operation, and its id."""
    answer = handle.stack.client.post(f"/v1/environments/{handle.environment_id}/snapshots", json=body)
    return accepted(handle, answer), answer.json()["data"]["snapshotId"]


def taken(handle: Handle, **body: Any) -> str:
    """Take a snapshot and return its id."""
    taking, snapshot = take(handle, **body)
    taking.succeeded(ENDED_SECONDS)
    return snapshot


def restore(stack: Stack, snapshot: str, **target: Any) -> Handle:
    """Ask for a restore and return a handle on it."""
    answer = stack.client.post(f"/v1/snapshots/{snapshot}/restore", json=target)
    assert answer.status_code == 202, answer.text
    operation = answer.json()["data"]
    path = f"/v1/environments/{operation['environmentId']}"
    environment = stack.client.get(path).json()["data"]
    return Handle(stack, environment["id"], environment["namespace"], operation["id"])


def shown(stack: Stack, snapshot: str) -> dict[str, Any]:
    """Return a snapshot as the API shows it."""
    found: dict[str, Any] = stack.client.get(f"/v1/snapshots/{snapshot}").json()["data"]
    return found


def objects(stack: Stack, snapshot: str) -> list[Path]:
    """Return the files that the store has of a snapshot."""
    [organization] = [
        row[0] for row in stack.rows("select organization_id from snapshots where id = ?", snapshot)
    ]
    below = stack.database.parent / "objects" / "snapshots" / organization / snapshot
    return sorted(path for path in below.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def stores(stack: Stack) -> Handle:
    """An environment of several stores with data."""
    handle = stack.create(_stores(_name()))
    handle.succeeded(ENDED_SECONDS)
    fill(handle)
    return handle


def test_an_environment_comes_back_equal_after_it_was_deleted(stack: Stack) -> None:
    handle = stack.create(_stores(_name()))
    handle.succeeded(ENDED_SECONDS)
    fill(handle)
    before = digests(handle)

    snapshot = taken(handle, name="nightly")
    found = shown(stack, snapshot)
    assert (found["state"], found["name"], found["scope"]) == ("available", "nightly", "independent")
    assert found["consistency"] == "live-copy"  # that of the files, the least
    engines = {each["service"]: each["engine"] for each in found["components"]}
    assert engines == {
        "db": "exec-dump",
        "cache": "exec-dump",
        "files": "live-copy",
        "api": "manifest-only",
    }
    handle.delete().succeeded(ENDED_SECONDS)

    name = _name()
    restored = restore(stack, snapshot, name=name)
    operation = restored.succeeded(ENDED_SECONDS)
    assert operation["kind"] == "restore"
    assert states(operation)["load/db"] == "succeeded"
    assert digests(restored) == before
    assert restored.status()["phase"] == "running"
    loaded, api = restored.step("load/db"), restored.step("service/api")
    assert api["startedAt"] >= loaded["finishedAt"]
    # What was generated in the first is known in the second, and other roles keep their own.
    assert (
        sh(
            restored,
            "db-0",
            "PGPASSWORD=\"other's word\" psql -h 127.0.0.1 -U reader -d postgres -Atc 'select 1'",
        )
        == "1"
    )

    # Its init ran long ago: neither the restore nor an update runs it again.
    restart = change(restored, "restart", service="db")
    restart.succeeded(ENDED_SECONDS)
    assert digests(restored) == before
