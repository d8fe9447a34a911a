"""Snapshots while services are held still, and restores that hide values on the way."""

from typing import Any

import pytest

from tests.e2e.lifecycle import VOLUME
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    PSQL,
    digests,
    fill,
    new_name,
    restore,
    sh,
    shown,
    stores_of,
    take,
    taken,
)
from tests.e2e.support import POSTGRES, idle
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

_WRITER = "n=0; while :; do [ -e /tmp/held ] || { n=$((n + 1)); echo $n >> /data/log; }; sleep 0.01; done"


def _held(name: str, quiesce: str = "touch /tmp/held", **more: Any) -> dict[str, Any]:
    """Two services with files, each with a hook of its own."""
    hooks = {
        "store": "files",
        "quiesce": quiesce,
        "thaw": "rm -f /tmp/held; date +%s%N >> /tmp/thawed",
        **more,
    }

    def keeper() -> dict[str, Any]:
        return idle(image=POSTGRES, snapshot=hooks, volumes=[VOLUME])

    return {"name": name, "services": {"one": keeper(), "two": {**keeper(), "dependsOn": ["one"]}}}


def _thawed(handle: Handle) -> bool:
    return all(
        sh(handle, f"{service}-0", "[ ! -e /tmp/held ] && echo free || true") == "free"
        for service in ("one", "two")
    )


def test_what_is_held_still_is_of_one_point_and_let_go(stack: Stack) -> None:
    handle = stack.create(_held(new_name()))
    handle.succeeded(ENDED_SECONDS)
    for service in ("one", "two"):
        sh(handle, f"{service}-0", f"nohup sh -c '{_WRITER}' >/dev/null 2>&1 &")
    snapshot = taken(handle, consistencyFloor="application")
    found = shown(stack, snapshot)
    assert (found["consistency"], found["scope"]) == ("application", "one-point")
    assert all(each["quiesced"] for each in found["components"])
    step = handle.stack.client.get(f"/v1/operations/{found['operationId']}").json()["data"]["steps"]
    frozen = {each["output"]["longestFrozenMs"] for each in step if each["kind"] == "capture"}
    assert all(0 < each < 30_000 for each in frozen)
    assert _thawed(handle)
    restored = restore(stack, snapshot, name=new_name())
    restored.succeeded(ENDED_SECONDS)
    # The last line of each is whole: nobody wrote while it was copied.
    for service in ("one", "two"):
        lines = sh(restored, f"{service}-0", "tail -n 2 /data/log").split()
        assert int(lines[1]) == int(lines[0]) + 1


def test_a_hook_that_fails_is_told_and_everything_goes_on(stack: Stack) -> None:
    handle = stack.create(_held(new_name(), quiesce="touch /tmp/held; echo no room >&2; exit 7"))
    handle.succeeded(ENDED_SECONDS)
    taking, snapshot = take(handle)
    operation = taking.ended(ENDED_SECONDS)
    assert (operation["state"], operation["failure"]["kind"]) == ("failed", "hook_failed")
    assert shown(stack, snapshot)["state"] == "failed"
    assert _thawed(handle)
    assert handle.status()["phase"] == "running"


def test_a_worker_that_is_killed_leaves_nothing_frozen(stack: Stack) -> None:
    handle = stack.create(_held(new_name(), quiesceSeconds=20))
    handle.succeeded(ENDED_SECONDS)
    sh(handle, "one-0", "head -c 200000000 /dev/urandom > /data/large; sync")
    taking, _ = take(handle)
    held = "[ -e /tmp/held ] && echo held || true"
    eventually(lambda: sh(handle, "one-0", held) == "held", "it is held still", within=60)
    stack.worker.kill()
    eventually(lambda: _thawed(handle), "it is let go by itself", within=25)
    # The second time it has to fit the window, also on a machine that is slow.
    sh(handle, "one-0", "rm /data/large")
    stack.worker.start()
    taking.succeeded(ENDED_SECONDS)
    assert _thawed(handle)


def test_values_are_hidden_and_joins_still_join(stack: Stack) -> None:
    handle = stack.create(stores_of(new_name()))
    handle.succeeded(ENDED_SECONDS)
    snapshot = taken(handle)
    wrong = {"services": {"db": {"columns": [{"table": "parents", "column": "nmae", "how": "hash"}]}}}
    refused = restore(stack, snapshot, name=new_name(), masking=wrong).ended(ENDED_SECONDS)
    assert (refused["state"], refused["failure"]["kind"]) == ("failed", "masking_invalid")
    assert "nmae" in refused["failure"]["message"]
    begun = {step["name"] for step in refused["steps"] if "startedAt" in step}
    assert begun <= {"namespace", "secrets", "masking"}
    nothing: dict[str, Any] = {"services": {"nobody": {"columns": []}, "files": {"columns": []}}}
    asked = {"name": new_name(), "masking": nothing}
    faults = stack.client.post(f"/v1/snapshots/{snapshot}/restore", json=asked)
    assert faults.status_code == 422, faults.text
    assert {each["path"].rpartition(".")[2] for each in faults.json()["errors"]} == {"nobody", "files"}

    columns = [
        {"table": "parents", "column": "name", "how": "fake", "kind": "username"},
        {"table": "parents", "column": "id", "how": "hash"},
        {"table": "children", "column": "parent", "how": "hash"},
    ]
    restored = restore(stack, snapshot, name=new_name(), masking={"services": {"db": {"columns": columns}}})
    restored.succeeded(ENDED_SECONDS)
    joined = "select count(*) from children join parents on parents.id = children.parent"
    clear = "select count(*) from parents where name like 'ü%'"
    assert sh(restored, "db-0", f'{PSQL}c "{joined}"') == "2000"
    assert sh(restored, "db-0", f'{PSQL}c "{clear}"') == "0"
    assert sh(handle, "db-0", f'{PSQL}c "{clear}"') == "2000"


def test_rules_of_any_service_that_do_not_fit_keep_all_data_what_they_are(stack: Stack) -> None:
    handle = stack.create(stores_of(new_name()))
    handle.succeeded(ENDED_SECONDS)
    snapshot = taken(handle)
    fill(handle)
    before = digests(handle)
    wrong = {
        "db": {"columns": [{"table": "parents", "column": "nmae", "how": "hash"}]},
        "maria": {
            "columns": [
                {"table": "nobody", "column": "email", "how": "redact"},
                {"table": "nobody", "column": "name", "how": "redact"},
            ]
        },
        "cache": {"keys": [{"keys": "key:*", "how": "redact"}]},
    }
    asked = restore(stack, snapshot, environmentId=handle.environment_id, masking={"services": wrong})
    refused = asked.ended(ENDED_SECONDS)
    failed = refused["failure"]
    assert (refused["state"], failed["kind"], failed["step"]) == ("failed", "masking_invalid", "masking")
    for place in ("services.db.columns[0]", "services.maria.columns[0]", "services.maria.columns[1]"):
        assert f"{place}: " in failed["message"]
    begun = {step["name"] for step in refused["steps"] if "startedAt" in step}
    assert not {name for name in begun if name.startswith(("stop/", "load/"))}
    assert digests(handle) == before

    right = {"db": {"columns": [{"table": "parents", "column": "name", "how": "hash"}]}}
    again = restore(stack, snapshot, environmentId=handle.environment_id, masking={"services": right})
    again.succeeded(ENDED_SECONDS)
    clear = "select count(*) from parents where name like 'ü%'"
    assert sh(handle, "db-0", f'{PSQL}c "{clear}"') == "0"
    # What was not named is what it was when the snapshot was taken: nothing.
    assert sh(handle, "deploy/cache", "redis-cli DBSIZE") == "0"
