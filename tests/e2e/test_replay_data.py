"""Replays from a snapshot: its data under the present Blueprint, equal by digest, in place and elsewhere."""

from typing import Any

import pytest

from tests.e2e.lifecycle import environment, pods_settle, update
from tests.e2e.replays import ENDED_SECONDS, done, elsewhere, preview, ran, replay
from tests.e2e.snapshots import digests, fill, new_name, stores_of, taken
from tests.e2e.support import states
from tests.helpers.stack import Handle, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(900)]

STORES = ("db", "maria", "cache", "files")
_DAMAGE = {
    "db-0": 'PGPASSWORD="$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U postgres -XAtqc '
    "\"truncate children; insert into parents (name) values ('late'); create table late ()\"",
    "deploy/cache": "redis-cli FLUSHALL; redis-cli SET other 1",
    "files-0": "rm -rf /docs/a; echo new > /docs/new",
}
"""By pod: what makes its data others than those of the snapshot."""


def _edited(name: str) -> dict[str, Any]:
    document = stores_of(name)
    document["services"]["api"]["env"] = {"LEVEL": "debug"}
    return document


def _pods(handle: Handle) -> dict[str, set[str]]:
    return {service: pods_settle(handle, service) for service in (*STORES, "api")}


def _assert_loaded_before_api(operation: dict[str, Any]) -> None:
    steps = {step["name"]: step for step in operation["steps"]}
    for store in STORES:
        assert steps[f"load/{store}"]["state"] == "succeeded"
        assert steps[f"load/{store}"]["finishedAt"] <= steps["service/api"]["startedAt"]


def test_the_data_are_equal_in_a_new_environment_and_in_place_after_a_replay_of_the_replay(
    stack: Stack,
) -> None:
    name = new_name()
    origin = stack.create(stores_of(name))
    origin.succeeded(ENDED_SECONDS)
    fill(origin)
    before = digests(origin)
    snapshot = taken(origin)
    # The Blueprint goes on, and so do the data of the first environment.
    update(origin, _edited(name)).succeeded(ENDED_SECONDS)
    origin.sh("db-0", _DAMAGE["db-0"])
    later = digests(origin)
    assert later["db"] != before["db"]

    planned = preview(origin, target="new", name=new_name(), snapshotId=snapshot)
    assert {each["reason"] for each in planned} == {"new"}
    assert {f"load/{store}" for store in STORES} <= {each["step"] for each in planned}
    made = elsewhere(origin, new_name(), snapshotId=snapshot)
    operation = made.succeeded(ENDED_SECONDS)
    assert digests(made) == before
    assert digests(origin) == later
    assert made.sh("deploy/api", "echo $LEVEL") == "debug"
    _assert_loaded_before_api(operation)
    assert (operation["kind"], operation["snapshotId"]) == ("replay", snapshot)
    listed = stack.client.get(f"/v1/environments/{origin.environment_id}/replays").json()["data"]
    assert [(each["id"], each["snapshotId"]) for each in listed] == [(operation["id"], snapshot)]
    whole = {each["type"]: each["status"] for each in environment(made)["conditions"]}
    assert whole["DataWhole"] == "True"
    # The role of the dump knows the password that the services of the new environment have.
    assert stack.client.get(f"/v1/snapshots/{snapshot}").json()["data"]["state"] == "available"
    origin.delete().succeeded(ENDED_SECONDS)

    # A replay of this replay has nothing to do, and leaves the data as they are.
    pods = _pods(made)
    again, operation = replay(made)
    assert operation["replayOf"] == made.operation_id
    assert ran(operation) == set()
    assert (_pods(made), digests(made)) == (pods, before)

    # With the snapshot it has: its data come back, and what depends on them gets new pods.
    for pod, script in _DAMAGE.items():
        made.sh(pod, script)
    assert digests(made) != before
    _, operation = replay(made, operationId=again.operation_id, snapshotId=snapshot)
    assert operation["replayOf"] == again.operation_id
    assert states(operation)["stop/api"] == "succeeded"
    assert ran(operation) == {"api"}
    assert done(operation)["db"] == ("skip", "unchanged and still there")
    _assert_loaded_before_api(operation)
    assert digests(made) == before
    now = _pods(made)
    assert now["api"].isdisjoint(pods["api"])
    # What keeps files begins anew with those that were put beneath it; servers were given their data.
    assert {store for store in STORES if now[store] != pods[store]} == {"files"}

    # And into yet another environment.
    third = elsewhere(made, new_name(), snapshotId=snapshot)
    operation = third.succeeded(ENDED_SECONDS)
    assert operation["replayOf"] is not None
    assert digests(third) == before
