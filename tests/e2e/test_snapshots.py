"""Snapshots on the real cluster: taken, restored, and equal; what breaks publishes nothing."""

import json
from http import HTTPStatus
from typing import Any

import pytest

from tests.e2e.lifecycle import change
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    PSQL,
    WRITERS,
    assert_only_what_is_named,
    children,
    digests,
    fill,
    new_name,
    objects,
    orphans,
    restore,
    shown,
    stores_of,
    take,
    taken,
)
from tests.e2e.support import SHOP_API, states
from tests.e2e.sweeps import eventually_swept
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stores(stack: Stack) -> Handle:
    """An environment of several stores with data."""
    handle = stack.create(stores_of(new_name()))
    handle.succeeded(ENDED_SECONDS)
    fill(handle)
    return handle


def _with_application(name: str) -> dict[str, Any]:
    """The stores, and the example shop's application that uses two of them."""
    document = stores_of(name)
    document["services"]["api"] |= {
        "image": SHOP_API,
        "env": {
            "DATABASE_URL": "postgres://postgres:$(DB_PASSWORD)@db:5432/postgres",
            "REDIS_URL": "redis://cache:6379/0",
        },
        "probes": {"readiness": {"http": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}},
        "resources": {"cpu": "10m", "memory": "64Mi"},
    }
    return document


def _get(handle: Handle, path: str) -> Any:
    """Ask the application, through its Service."""
    status, said = handle.ask("api", path)
    assert status == HTTPStatus.OK, said
    return said


def _in_api(handle: Handle, program: str) -> str:
    """Run a Python program in a pod of the application, which is a client of the stores as any."""
    return handle.stack.run_in(handle.namespace, "deploy/api", "python3", "-c", program)


def _order(handle: Handle, quantity: int) -> dict[str, Any]:
    """Order something: a row in the database, and an entry in the cache."""
    body = json.dumps({"product_id": 1, "quantity": quantity})
    made: dict[str, Any] = json.loads(
        _in_api(
            handle,
            "import urllib.request as r; "
            f"print(r.urlopen(r.Request('http://api:8080/orders', data={body!r}.encode())).read().decode())",
        )
    )
    return made


def _assert_it_works(handle: Handle, order: dict[str, Any]) -> None:
    """The application reads what was restored, and goes on writing where that ends; so do other clients."""
    assert _get(handle, f"/orders/{order['id']}") == order
    assert _get(handle, "/products")["products"][0]["name"] == "lamp"
    assert _order(handle, 5) == {**order, "id": order["id"] + 1, "quantity": 5}
    queue = handle.sh("deploy/cache", "redis-cli lrange orders 0 -1").split("\n")
    assert [json.loads(each)["order"] for each in queue] == [order["id"], order["id"] + 1]
    # A role of the first one, by its own password and with its rights, over the network.
    reads = (
        "import psycopg2; c = psycopg2.connect(host='db', dbname='postgres', user='reader', "
        'password="other\'s word").cursor(); '
        "c.execute('select count(*) from parents'); print(c.fetchone()[0])"
    )
    assert _in_api(handle, reads) == "2000"
    numbered = "insert into children (parent) values (1) returning id"
    assert handle.sh("db-0", f'{PSQL}c "{numbered}"') == "424243"
    clerk = 'MYSQL_PWD="clerk\'s word" mariadb -h $(hostname -i) -u clerk -N shop -e'
    assert handle.sh(
        "deploy/maria",
        f"""{clerk} "insert into parents (name) values (null); insert into children (parent)
            values (last_insert_id()); select id, name from parents order by id desc limit 1;
            select max(id) from children; select twice(21)" """,
    ).split() == ["4", "none", "3", "42"]
    assert handle.sh("files-0", "echo more >> /docs/empty && cat /docs/empty") == "more"


def test_an_environment_comes_back_equal_after_it_was_deleted(stack: Stack) -> None:
    handle = stack.create(_with_application(new_name()))
    handle.succeeded(ENDED_SECONDS)
    fill(handle)
    order = _order(handle, 2)
    before = digests(handle)

    snapshot = taken(handle, name="nightly")
    found = shown(stack, snapshot)
    assert (found["state"], found["name"], found["scope"]) == ("available", "nightly", "independent")
    assert found["consistency"] == "live-copy"  # that of the files, the least
    engines = {each["service"]: each["engine"] for each in found["components"]}
    assert engines == {
        "db": "exec-dump",
        "maria": "exec-dump",
        "cache": "exec-dump",
        "files": "live-copy",
        "api": "manifest-only",
    }
    handle.delete().succeeded(ENDED_SECONDS)

    name = new_name()
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
        restored.sh(
            "db-0",
            "PGPASSWORD=\"other's word\" psql -h 127.0.0.1 -U reader -d postgres -Atc 'select 1'",
        )
        == "1"
    )

    _assert_it_works(restored, order)

    # Its init ran long ago: neither the restore nor an update runs it again.
    written = digests(restored)
    restart = change(restored, "restart", service="db")
    restart.succeeded(ENDED_SECONDS)
    assert digests(restored) == written


def test_data_come_back_in_place_while_what_depends_on_them_waits(stack: Stack, stores: Handle) -> None:
    before = digests(stores)
    snapshot = taken(stores)
    assert_only_what_is_named(stack, snapshot)
    stores.sh("deploy/cache", "redis-cli FLUSHALL; redis-cli SET other 1")
    stores.sh("files-0", "rm -rf /docs/a; echo new > /docs/new")
    drop = "truncate children; insert into parents (name) values ('late'); create table late ()"
    stores.sh("db-0", f'PGPASSWORD="$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U postgres -XAtqc "{drop}"')
    assert digests(stores) != before

    restored = restore(stack, snapshot, environmentId=stores.environment_id)
    operation = restored.succeeded(ENDED_SECONDS)
    assert digests(stores) == before
    steps = {step["name"]: step for step in operation["steps"]}
    assert {name for name in steps if name.startswith("stop/")} == {"stop/api"}
    for name in ("load/db", "load/cache", "load/files"):
        assert steps["stop/api"]["finishedAt"] <= steps[name]["startedAt"]
        assert steps[name]["finishedAt"] <= steps["service/api"]["startedAt"]
    assert stores.status()["phase"] == "running"


def test_a_snapshot_that_was_deleted_leaves_nothing(stack: Stack, stores: Handle) -> None:
    snapshot = taken(stores, expiresInDays=None)
    assert objects(stack, snapshot)
    answer = stack.client.delete(f"/v1/snapshots/{snapshot}")
    assert (answer.status_code, answer.json()["data"]["state"]) == (202, "deleting")
    refused = stack.client.post(f"/v1/snapshots/{snapshot}/restore", json={"name": new_name()})
    assert refused.status_code == 409
    eventually_swept(
        stack, lambda: stack.client.get(f"/v1/snapshots/{snapshot}").status_code == 404, "it is gone"
    )
    assert objects(stack, snapshot) == []


def test_below_the_floor_nothing_is_written(stack: Stack, stores: Handle) -> None:
    taking, snapshot = take(stores, consistencyFloor="application")
    operation = taking.ended(ENDED_SECONDS)
    assert (operation["state"], operation["failure"]["kind"]) == ("failed", "snapshot_below_floor")
    assert operation["failure"]["step"] == "survey"
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    assert stores.status()["phase"] == "running"


def test_a_tool_that_breaks_after_half_its_output_publishes_nothing(stack: Stack, stores: Handle) -> None:
    real = stores.sh("db-0", "command -v pg_dump")
    # pg_dumpall, which runs before, asks it for its version.
    half = (
        '[ "$1" != -V ] || exec /opt/real/pg_dump -V; '
        '/opt/real/pg_dump "$@" | head -c 20000; echo half way $POSTGRES_PASSWORD >&2; exit 3'
    )
    stores.sh(
        "db-0",
        f"mkdir -p /opt/real && mv {real} /opt/real/pg_dump && printf '%s\n' '#!/bin/sh' '{half}' > {real} "
        f"&& chmod +x {real}",
    )
    try:
        taking, snapshot = take(stores)
        operation = taking.ended(ENDED_SECONDS)
    finally:
        stores.sh("db-0", f"mv /opt/real/pg_dump {real}")
    failed = operation["failure"]
    assert (operation["state"], failed["kind"], failed["step"]) == ("failed", "transfer_failed", "capture/db")
    assert "status 3" in failed["message"]
    assert "half way" in failed["message"]
    password = stores.sh("db-0", "printf %s $POSTGRES_PASSWORD")
    assert password not in str(operation)
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    # The environment is what it was, and the next one succeeds.
    assert stores.status()["phase"] == "running"
    taken(stores)


def test_what_is_written_meanwhile_comes_as_a_whole_or_not_at_all(stack: Stack) -> None:
    """No child without its parent, in three servers of which each is written to all the time.

    Of files that is not promised: each is copied as it is when its turn comes.
    """
    handle = stack.create(stores_of(new_name()))
    handle.succeeded(ENDED_SECONDS)
    for pod, client in (WRITERS | {"files-0": _WRITES_FILES}).items():
        loop = f"n=0; while [ ! -e /tmp/stop ]; do n=$((n + 1)); {client}; done"
        start = "nohup sh /tmp/writer >/dev/null 2>&1 &"
        handle.sh(pod, f"cat > /tmp/writer <<'END'\n{loop}\nEND\n{start}")
    first = children(handle)
    eventually(lambda: all(children(handle)[pod] > count + 20 for pod, count in first.items()), "all write")
    written = _files(handle)
    assert len(written) > 1
    snapshot = taken(handle)
    for pod in (*WRITERS, "files-0"):
        handle.sh(pod, "touch /tmp/stop")
    assert shown(stack, snapshot)["consistency"] == "live-copy"
    restored = restore(stack, snapshot, name=new_name())
    restored.succeeded(ENDED_SECONDS)
    for pod, count in children(restored).items():
        assert count > first[pod]
        assert orphans(restored)[pod] == 0
    # Written in one order, and of one point: none is missing in between.
    kept = restored.sh("deploy/cache", "redis-cli lrange children 0 -1").split()
    assert kept == [str(n) for n in range(1, len(kept) + 1)]
    copied, now = _files(restored), _files(handle)
    log = copied.pop("log")
    assert now["log"].startswith(log)
    assert len(log) >= len(written.pop("log"))
    assert copied.keys() >= written.keys()
    assert copied == {name: f"whole {name}" for name in copied}


_WRITES_FILES = (
    "mkdir -p /docs/w; echo line $n >> /docs/w/log; "
    "echo whole $n > /docs/.new; mv /docs/.new /docs/w/$n; sleep 0.02"
)
"""Files that come as a whole, by their name, and one that grows."""


def _files(handle: Handle) -> dict[str, str]:
    """Return what `_WRITES_FILES` wrote: text by name."""
    script = 'cd /docs/w && for each in *; do echo "=$each"; cat $each; done'
    parts = [part.partition("\n") for part in handle.sh("files-0", script).split("=")[1:]]
    return {name: text.strip() for name, _, text in parts}


def test_a_policy_takes_and_verifies_by_itself(stack: Stack, stores: Handle) -> None:
    path = f"/v1/environments/{stores.environment_id}"
    answer = stack.client.put(f"{path}/snapshot-policy", json={"everyMinutes": 15, "verifyLevel": 0})
    assert answer.status_code == 200, answer.text

    def scheduled() -> list[dict[str, Any]]:
        found = stack.client.get(f"{path}/snapshots").json()["data"]
        return [each for each in found if each["scheduled"]]

    eventually_swept(
        stack,
        lambda: [each["state"] for each in scheduled()] == ["available"],
        "one is taken",
        within=ENDED_SECONDS,
    )
    eventually_swept(
        stack,
        lambda: scheduled()[0].get("verifiedLevel") == 0,
        "it is verified",
        within=ENDED_SECONDS,
    )
    told = stack.client.get(f"{path}/snapshot-policy").json()["data"]
    [taken_one] = scheduled()
    assert told["lastResult"] == taken_one["id"]
    assert stack.client.delete(f"{path}/snapshot-policy").status_code == 204
    assert stores.status()["phase"] == "running"
