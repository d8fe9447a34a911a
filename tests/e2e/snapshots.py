"""What the tests of snapshots share: environments with data, what their data comes to, takes and restores."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.lifecycle import accepted
from tests.e2e.shop import shop
from tests.e2e.support import POSTGRES, REGISTRY, idle, probed_by
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

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


MARIA = 'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb -h 127.0.0.1 -u root -N'
PSQL = 'PGPASSWORD="$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U postgres -XAtq'
_MARIA_FILL = """
create database shop character set utf8mb4;
create table shop.parents (id int primary key auto_increment, name varchar(50), raw varbinary(100));
create table shop.children (id int primary key auto_increment, parent int not null);
insert into shop.parents (name, raw) values ('ü☃', x'00ff10'), (null, null), ('it''s', '');
insert into shop.children (parent) values (1), (3);
create function shop.twice(x int) returns int deterministic return x * 2;
create trigger shop.named before insert on shop.parents
  for each row set new.name = coalesce(new.name, 'none');
create user clerk@'%' identified by 'clerk''s word';
grant select, insert on shop.* to clerk@'%';
grant execute on function shop.twice to clerk@'%';
"""
_MARIA_DIGEST = (
    "select id, name, hex(raw) from shop.parents order by id; "
    "select id, parent from shop.children order by id; show create table shop.children"
)
WRITERS = {
    "db-0": f"{PSQL} -c \"begin; insert into parents (name) values ('w-$n-$$'); "
    'insert into children (parent) select max(id) from parents; commit"',
    "deploy/maria": f"{MARIA} -e \"begin; insert into shop.parents (name) values ('w'); "
    'insert into shop.children (parent) values (last_insert_id()); commit"',
    "deploy/cache": "redis-cli eval \"redis.call('set', 'parent:' .. ARGV[1], 1); "
    "redis.call('rpush', 'children', ARGV[1])\" 0 $n; sleep 0.02",
}
"""By pod: what writes a parent with a child, once."""


def new_name() -> str:
    """Return a name for an environment that no other test uses."""
    return f"t-{uuid.uuid4().hex[:8]}"


def stores_of(name: str) -> dict[str, Any]:
    """A database, a cache, a second database and files, and an application that depends on all of them."""
    services = shop(name)["services"]
    services["db"]["init"] = {"type": "sql", "script": _FILL}
    services["cache"] = {
        "image": f"{REGISTRY}/redis:1",
        "ports": [{"containerPort": 6379}],
        "resources": {"cpu": "10m", "memory": "32Mi"},
    }
    services["maria"] = {
        "image": f"{REGISTRY}/mariadb:1",
        "ports": [{"containerPort": 3306}],
        "secrets": [{"name": "maria", "envKey": "MARIADB_ROOT_PASSWORD", "value": "auto-generated"}],
        "resources": {"cpu": "20m", "memory": "128Mi"},
        "probes": probed_by("sh", "-c", f"{MARIA} -e 'select 1'"),
        "init": {"type": "sql", "script": _MARIA_FILL},
    }
    services["files"] = idle(
        image=POSTGRES,  # which runs as root, and has the tools
        snapshot={"store": "files"},
        volumes=[{"name": "docs", "mountPath": "/docs", **_VOLUME}],
    )
    services["api"]["dependsOn"] = ["db", "maria", "cache", "files"]
    return {"name": name, "services": services}


def fill(handle: Handle) -> None:
    """Put data into cache and files; the database has its own by init."""
    handle.sh(
        "deploy/cache",
        "for n in $(seq 200); do echo SET key:$n value-$n; done | redis-cli >/dev/null",
    )
    handle.sh("deploy/cache", "redis-cli HSET basket a 1 b 2; redis-cli RPUSH queue x y z")
    handle.sh(
        "files-0",
        "mkdir -p /docs/a/b && head -c 3000000 /dev/urandom > /docs/a/b/blob && "
        "printf 'ü\\n' > '/docs/a/name with spaces' && ln -s a/b/blob /docs/link && : > /docs/empty",
    )


def checksums(folder: str) -> str:
    """A script that prints the SHA-256 of each file below a folder; it fails unless there are some."""
    files = "find . -type f ! -path './lost+found/*' -exec sha256sum {} +"
    return f'cd {folder} && found=$({files}) && [ -n "$found" ] && echo "$found" | sort -k2'


_DIGESTS = {
    "db": f'{PSQL}c "{_DIGEST.replace(chr(10), " ")}"',
    "maria": f'{MARIA} -e "{_MARIA_DIGEST}"',
    "cache": "redis-cli --scan | sort | while read k; do echo $k; redis-cli DUMP $k; done | md5sum; "
    "redis-cli DBSIZE",
    "files": f"{checksums('/docs')} && find . -printf '%p %y %m %l\\n' | grep -v lost+found | sort",
}
_PODS = {"db": "db-0", "maria": "deploy/maria", "cache": "deploy/cache", "files": "files-0"}


def digests(handle: Handle, pods: Mapping[str, str] = _PODS) -> dict[str, str]:
    """What the data of each store comes to; `pods`: where each of them is."""
    return {store: handle.sh(pod, _DIGESTS[store]) for store, pod in pods.items()}


def children(handle: Handle) -> dict[str, int]:
    """Return how many children each server has, by pod."""
    counted = _counted(handle, "select count(*) from {}children")
    return counted | {"deploy/cache": int(handle.sh("deploy/cache", "redis-cli llen children"))}


def orphans(handle: Handle) -> dict[str, int]:
    """Return how many children without a parent each server has, by pod."""
    counted = _counted(
        handle, "select count(*) from {0}children where parent not in (select id from {0}parents)"
    )
    missing = (
        "local n = 0; for _, each in ipairs(redis.call('lrange', 'children', 0, -1)) do "
        "n = n + 1 - redis.call('exists', 'parent:' .. each) end; return n"
    )
    return counted | {"deploy/cache": int(handle.sh("deploy/cache", f'redis-cli eval "{missing}" 0'))}


def _counted(handle: Handle, query: str) -> dict[str, int]:
    return {
        "db-0": int(handle.sh("db-0", f'{PSQL}c "{query.format("")}"')),
        "deploy/maria": int(handle.sh("deploy/maria", f'{MARIA} -e "{query.format("shop.")}"')),
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
    """Return the files that the store has of a snapshot, also while they are being removed."""
    [organization] = [
        row[0] for row in stack.rows("select organization_id from snapshots where id = ?", snapshot)
    ]
    below = stack.directory / "objects" / "snapshots" / organization / snapshot
    return sorted(Path(at, name) for at, _, names in os.walk(below) for name in names)


def assert_only_what_is_named(stack: Stack, snapshot: str) -> None:
    """The directory has what the manifest names, itself and whose it is, and nothing of other attempts."""
    root = stack.directory / "objects"
    there = {path.relative_to(root).as_posix(): path.stat().st_size for path in objects(stack, snapshot)}
    assert_named(stack, snapshot, there)


def assert_named(stack: Stack, snapshot: str, there: Mapping[str, int]) -> None:
    """What a store has of a snapshot, size by key, is what `assert_only_what_is_named` says."""
    manifest = stack.client.get(f"/v1/snapshots/{snapshot}/manifest").json()["data"]
    parts = [part for component in manifest["components"] for part in component["parts"]]
    named = {part["prefix"]: part["storedBytes"] for part in parts}
    found = dict.fromkeys(named, 0)
    for key, size in there.items():
        if key.endswith((f"{snapshot}/manifest.json", f"{snapshot}/installation.json")):
            continue
        prefix = key.rpartition("/")[0]
        assert prefix in found, key
        found[prefix] += size
    assert found == named


def ask_to_verify(stack: Stack, snapshot: str, level: int) -> str:
    """Ask for a verification and return its path."""
    answer = stack.client.post(f"/v1/snapshots/{snapshot}/verify", json={"level": level})
    assert answer.status_code == 202, answer.text
    return str(answer.headers["Location"])


def verification(stack: Stack, path: str) -> dict[str, Any]:
    """Return a verification as the API shows it."""
    found: dict[str, Any] = stack.client.get(path).json()["data"]
    return found


def verification_ended(stack: Stack, path: str) -> dict[str, Any]:
    """Return a verification once it has ended."""

    def look() -> dict[str, Any] | None:
        found = verification(stack, path)
        return None if found["state"] == "running" else found

    return eventually(look, f"{path} ends", within=ENDED_SECONDS)
