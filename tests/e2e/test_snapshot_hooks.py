"""Snapshots while services are held still, and restores that hide values on the way."""

from typing import Any

import pytest

from tests.e2e.lifecycle import VOLUME
from tests.e2e.lockstep import CLIENTS, THAW, holds_of, in_lockstep, in_rounds, rounds_of
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    PSQL,
    digests,
    fill,
    new_name,
    objects,
    restore,
    shown,
    stores_of,
    take,
    taken,
)
from tests.e2e.support import POSTGRES, idle
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

_WRITER = "until [ -e /tmp/over ]; do [ -e /tmp/held ] || echo $((n=n+1)) >> /data/log; sleep 0.01; done"

_QUIESCE = "echo quiesce $(date +%s%N) >> /tmp/times; touch /tmp/held"


def _held(name: str, quiesce: str = _QUIESCE, **more: Any) -> dict[str, Any]:
    """Two services with files, each with a hook of its own."""
    hooks = {
        "store": "files",
        "quiesce": quiesce,
        "thaw": THAW,
        **more,
    }

    def keeper() -> dict[str, Any]:
        return idle(image=POSTGRES, snapshot=hooks, volumes=[VOLUME])

    return {"name": name, "services": {"one": keeper(), "two": {**keeper(), "dependsOn": ["one"]}}}


def _thawed(handle: Handle) -> bool:
    return all(
        handle.sh(f"{service}-0", "[ ! -e /tmp/held ] && echo free || true") == "free"
        for service in ("one", "two")
    )


def test_what_is_held_still_is_of_one_point_and_let_go(stack: Stack) -> None:
    handle = stack.create(_held(new_name()))
    handle.succeeded(ENDED_SECONDS)
    for service in ("one", "two"):
        handle.sh(f"{service}-0", f"nohup sh -c '{_WRITER}' >/dev/null 2>&1 &")
    snapshot = taken(handle, consistencyFloor="application")
    for service in ("one", "two"):
        handle.sh(f"{service}-0", "touch /tmp/over")  # it starts a hundred processes a second
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
        lines = restored.sh(f"{service}-0", "tail -n 2 /data/log").split()
        assert int(lines[1]) == int(lines[0]) + 1


def test_a_hook_that_fails_is_told_and_everything_goes_on(stack: Stack) -> None:
    handle = stack.create(_held(new_name(), quiesce=f"{_QUIESCE}; echo no room >&2; exit 7"))
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
    handle.sh("one-0", "head -c 200000000 /dev/urandom > /data/large; sync")
    taking, _ = take(handle)
    held = "[ -e /tmp/held ] && echo held || true"
    eventually(lambda: handle.sh("one-0", held) == "held", "it is held still", within=60)
    stack.worker.kill()
    eventually(lambda: _thawed(handle), "it is let go by itself", within=25)
    # The second time it has to fit the window, also on a machine that is slow.
    handle.sh("one-0", "rm /data/large")
    stack.worker.start()
    taking.succeeded(ENDED_SECONDS)
    assert _thawed(handle)
    for pod in ("one-0", "two-0"):
        holds = holds_of(handle, pod)
        assert len(holds) >= 2
        assert all(each.milliseconds <= 20_000 for each in holds), holds


def test_what_takes_longer_than_it_may_be_held_is_told_and_nothing_is_left(stack: Stack) -> None:
    handle = stack.create(_held(new_name(), quiesceSeconds=6))
    handle.succeeded(ENDED_SECONDS)
    handle.sh("one-0", "echo some > /data/some")
    never = "/usr/local/bin/tar"  # which is found before the real one
    handle.sh("two-0", f"printf '#!/bin/sh\\nexec sleep 600\\n' > {never}; chmod +x {never}")
    taking, snapshot = take(handle)

    def first_is_stored() -> bool:
        return any("/one/" in str(path) for path in objects(stack, snapshot))

    eventually(first_is_stored, "what the first one has is stored", within=60)
    operation = taking.ended(ENDED_SECONDS)
    failed = operation["failure"]
    assert (operation["state"], failed["kind"], failed["step"]) == ("failed", "timeout", "capture/one")
    assert "quiesceSeconds" in failed["message"]
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    assert _thawed(handle)
    # One window only: another would take as long.
    [one], [two] = holds_of(handle, "one-0"), holds_of(handle, "two-0")
    assert one.milliseconds <= 6000
    assert two.milliseconds <= 6000
    handle.sh("two-0", f"rm {never}")
    taken(handle)


def test_servers_that_are_held_still_together_are_of_one_point(stack: Stack) -> None:
    """Also when the worker is killed while all are held: they are let go, and held once more."""
    handle = stack.create(in_rounds(new_name()))
    handle.succeeded(ENDED_SECONDS)
    taken_between: dict[str, tuple[int, int]] = {}
    with in_lockstep(handle) as rounds:
        eventually(lambda: rounds.written > 5, "all are written to")
        before = rounds.written
        snapshot = taken(handle, consistencyFloor="application")
        taken_between[snapshot] = before, rounds.written
        eventually(lambda: rounds.written > taken_between[snapshot][1], "it goes on once all are let go")
        assert rounds.refused
        held = {pod: holds_of(handle, pod) for pod in CLIENTS}

        taking, again = take(handle, consistencyFloor="application")
        eventually(lambda: _held_now(handle), "all are held still", within=60)
        stack.worker.kill()
        killed_at = rounds.written
        eventually(lambda: rounds.written > killed_at, "all are let go by themselves", within=35)
        stack.worker.start()
        taking.succeeded(ENDED_SECONDS)
        # What the first window began counts for nothing.
        taken_between[again] = killed_at + 1, rounds.written
        held_again = {pod: holds_of(handle, pod)[1:] for pod in CLIENTS}

    assert [len(each) for each in held.values()] == [1] * len(CLIENTS)
    assert [len(each) for each in held_again.values()] == [2] * len(CLIENTS)
    windows = [held, *({pod: [each[n]] for pod, each in held_again.items()} for n in range(2))]
    for window in windows:
        together = [hold for [hold] in window.values()]
        assert max(each.quiesced for each in together) < min(each.thawed for each in together)
        assert all(each.milliseconds < 30_000 for each in together)
    for identifier, window, unmeasured in ((snapshot, windows[0], None), (again, windows[2], 1)):
        found = shown(stack, identifier)
        assert (found["consistency"], found["scope"]) == ("application", "one-point")
        steps = stack.client.get(f"/v1/operations/{found['operationId']}").json()["data"]["steps"]
        outputs = [each["output"] for each in steps if each["kind"] == "capture"]
        assert {each.get("windowsNotMeasured") for each in outputs} == {unmeasured}
        [longest] = {each["longestFrozenMs"] for each in outputs}
        assert longest < 30_000
        # The pod counts from before its quiesce to after its thaw, which say their times themselves.
        assert -20 <= longest - max(hold.milliseconds for [hold] in window.values()) <= 2000

    restored = {each: restore(stack, each, name=new_name()) for each in taken_between}
    for each, (earliest, latest) in taken_between.items():
        restored[each].succeeded(ENDED_SECONDS)
        counted = {pod: rounds_of(restored[each], pod) for pod in CLIENTS}
        assert len(set(counted.values())) == 1, counted
        first, last, count = counted["db-0"]
        assert (first, last) == (1, count)
        assert earliest <= last <= latest


def _held_now(handle: Handle) -> bool:
    """Whether the last of what is held has been."""
    return all(handle.sh(pod, "tail -n 1 /tmp/times").startswith("quiesced") for pod in CLIENTS)


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
    assert restored.sh("db-0", f'{PSQL}c "{joined}"') == "2000"
    assert restored.sh("db-0", f'{PSQL}c "{clear}"') == "0"
    assert handle.sh("db-0", f'{PSQL}c "{clear}"') == "2000"


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
    assert handle.sh("db-0", f'{PSQL}c "{clear}"') == "0"
    # What was not named is what it was when the snapshot was taken: nothing.
    assert handle.sh("deploy/cache", "redis-cli DBSIZE") == "0"
