"""Snapshots on the real cluster: taken, restored, and equal; what breaks publishes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import own_stack
from tests.e2e.lifecycle import change
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    WRITERS,
    assert_only_what_is_named,
    children,
    digests,
    fill,
    new_name,
    objects,
    orphans,
    restore,
    sh,
    shown,
    stores_of,
    take,
    taken,
)
from tests.e2e.support import states
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, cluster_files: tuple[Path, Path]) -> Iterator[Stack]:
    """A stack that removes at once what is of no use."""
    extra = {"PERDURE_SWEEP_EVERY_SECONDS": "5"}
    with own_stack(tmp_path_factory, cluster_files, extra) as running:
        yield running


@pytest.fixture(scope="module")
def stores(stack: Stack) -> Handle:
    """An environment of several stores with data."""
    handle = stack.create(stores_of(new_name()))
    handle.succeeded(ENDED_SECONDS)
    fill(handle)
    return handle


def test_an_environment_comes_back_equal_after_it_was_deleted(stack: Stack) -> None:
    handle = stack.create(stores_of(new_name()))
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


def test_data_come_back_in_place_while_what_depends_on_them_waits(stack: Stack, stores: Handle) -> None:
    before = digests(stores)
    snapshot = taken(stores)
    assert_only_what_is_named(stack, snapshot)
    sh(stores, "deploy/cache", "redis-cli FLUSHALL; redis-cli SET other 1")
    sh(stores, "files-0", "rm -rf /docs/a; echo new > /docs/new")
    drop = "truncate children; insert into parents (name) values ('late'); create table late ()"
    sh(stores, "db-0", f'PGPASSWORD="$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U postgres -XAtqc "{drop}"')
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
    eventually(lambda: not objects(stack, snapshot), "its objects are gone", within=60)
    eventually(
        lambda: stack.client.get(f"/v1/snapshots/{snapshot}").status_code == 404, "it is gone", within=20
    )


def test_below_the_floor_nothing_is_written(stack: Stack, stores: Handle) -> None:
    taking, snapshot = take(stores, consistencyFloor="application")
    operation = taking.ended(ENDED_SECONDS)
    assert (operation["state"], operation["failure"]["kind"]) == ("failed", "snapshot_below_floor")
    assert operation["failure"]["step"] == "survey"
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    assert stores.status()["phase"] == "running"


def test_a_tool_that_breaks_after_half_its_output_publishes_nothing(stack: Stack, stores: Handle) -> None:
    real = sh(stores, "db-0", "command -v pg_dump")
    # pg_dumpall, which runs before, asks it for its version.
    half = (
        '[ "$1" != -V ] || exec /opt/real/pg_dump -V; '
        '/opt/real/pg_dump "$@" | head -c 20000; echo half way $POSTGRES_PASSWORD >&2; exit 3'
    )
    sh(
        stores,
        "db-0",
        f"mkdir -p /opt/real && mv {real} /opt/real/pg_dump && printf '%s\n' '#!/bin/sh' '{half}' > {real} "
        f"&& chmod +x {real}",
    )
    try:
        taking, snapshot = take(stores)
        operation = taking.ended(ENDED_SECONDS)
    finally:
        sh(stores, "db-0", f"mv /opt/real/pg_dump {real}")
    failed = operation["failure"]
    assert (operation["state"], failed["kind"], failed["step"]) == ("failed", "transfer_failed", "capture/db")
    assert "status 3" in failed["message"]
    assert "half way" in failed["message"]
    password = sh(stores, "db-0", "printf %s $POSTGRES_PASSWORD")
    assert password not in str(operation)
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    # The environment is what it was, and the next one succeeds.
    assert stores.status()["phase"] == "running"
    taken(stores)


def test_what_is_written_meanwhile_comes_as_a_whole_or_not_at_all(stack: Stack) -> None:
    """No child without its parent, in two servers of which each is written to all the time."""
    handle = stack.create(stores_of(new_name()))
    handle.succeeded(ENDED_SECONDS)
    for pod, client in WRITERS.items():
        loop = f"n=0; while :; do n=$((n + 1)); {client}; done"
        start = "nohup sh /tmp/writer >/dev/null 2>&1 &"
        sh(handle, pod, f"cat > /tmp/writer <<'END'\n{loop}\nEND\n{start}")
    first = children(handle)
    eventually(lambda: all(children(handle)[pod] > count + 20 for pod, count in first.items()), "all write")
    snapshot = taken(handle)
    restored = restore(stack, snapshot, name=new_name())
    restored.succeeded(ENDED_SECONDS)
    for pod, count in children(restored).items():
        assert count > first[pod]
        assert orphans(restored)[pod] == 0


def test_a_policy_takes_and_verifies_by_itself(stack: Stack, stores: Handle) -> None:
    path = f"/v1/environments/{stores.environment_id}"
    answer = stack.client.put(f"{path}/snapshot-policy", json={"everyMinutes": 15, "verifyLevel": 0})
    assert answer.status_code == 200, answer.text

    def scheduled() -> list[dict[str, Any]]:
        found = stack.client.get(f"{path}/snapshots").json()["data"]
        return [each for each in found if each["scheduled"]]

    eventually(
        lambda: [each["state"] for each in scheduled()] == ["available"], "one is taken", within=ENDED_SECONDS
    )
    eventually(lambda: scheduled()[0].get("verifiedLevel") == 0, "it is verified", within=ENDED_SECONDS)
    told = stack.client.get(f"{path}/snapshot-policy").json()["data"]
    [taken_one] = scheduled()
    assert told["lastResult"] == taken_one["id"]
    assert stack.client.delete(f"{path}/snapshot-policy").status_code == 204
    assert stores.status()["phase"] == "running"
