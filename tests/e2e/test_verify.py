"""Verifications on the real cluster: what is broken is found at the level that claims to find it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import TINY
from tests.e2e.lifecycle import VOLUME
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    ask_to_verify,
    fill,
    new_name,
    objects,
    restore,
    shown,
    stores_of,
    taken,
    verification,
    verification_ended,
)
from tests.e2e.support import POSTGRES, idle, pods, probed_by
from tests.e2e.sweeps import eventually_swept
from tests.helpers.registry import moving_image
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


def verified(stack: Stack, snapshot: str, level: int) -> dict[str, Any]:
    """Verify a snapshot and return what came of it."""
    return verification_ended(stack, ask_to_verify(stack, snapshot, level))


def faults(verification: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the checks that failed."""
    return [check for check in verification["checks"] if not check["ok"]]


def streams(stack: Stack, snapshot: str, service: str) -> list[Path]:
    """Return the objects of a service's data."""
    return [path for path in objects(stack, snapshot) if f"/{service}/" in str(path)]


def test_a_good_one_passes_each_level_and_leaves_no_environment(stack: Stack, stores: Handle) -> None:
    snapshot = taken(stores)
    assert "verifiedLevel" not in shown(stack, snapshot)
    for level in (0, 1, 2):
        found = verified(stack, snapshot, level)
        assert (found["state"], faults(found)) == ("passed", []), found
        now = shown(stack, snapshot)
        assert (now["verifiedLevel"], now["lastVerifiedAt"]) == (level, found["finishedAt"])
    levels = {check["level"] for check in found["checks"]}
    assert levels == {0, 1, 2}
    # The environment that it was restored into was proved, and is gone.
    operation = stack.client.get(f"/v1/operations/{found['operationId']}").json()["data"]
    loads = {step["name"]: step for step in operation["steps"] if step["kind"] == "load"}
    assert loads.keys() == {"load/db", "load/maria", "load/cache", "load/files"}
    assert all(step["output"]["proved"] >= 1 for step in loads.values())
    assert stack.rows("select phase from environments where id = ?", found["environmentId"]) == [("deleted",)]
    assert len(stack.client.get(f"/v1/snapshots/{snapshot}/verifications").json()["data"]) == 3


def test_a_flipped_byte_is_found_where_it_is_looked_at(stack: Stack, stores: Handle) -> None:
    snapshot = taken(stores)
    for service in ("db", "cache", "files"):
        path = max(streams(stack, snapshot, service), key=lambda each: each.stat().st_size)
        whole = path.read_bytes()
        path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
        found = verified(stack, snapshot, 2)
        assert found["state"] == "failed"
        assert [(check["level"], check["subject"].partition("/")[0]) for check in faults(found)] == [
            (0, service)
        ]
        path.write_bytes(whole)
    assert verified(stack, snapshot, 1)["state"] == "passed"


def test_what_is_cut_or_missing_is_found_at_level_0(stack: Stack, stores: Handle) -> None:
    snapshot = taken(stores)
    cut = streams(stack, snapshot, "files")[-1]
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-1])
    [fault] = faults(verified(stack, snapshot, 0))
    assert (fault["level"], fault["subject"]) == (0, "files/volume-docs")
    cut.write_bytes(whole)
    for path in streams(stack, snapshot, "cache"):
        path.unlink()
    [fault] = faults(verified(stack, snapshot, 0))
    assert (fault["level"], fault["subject"]) == (0, "cache/rdb")
    assert "missing" in fault["message"]
    # And a restore says so as well, instead of giving half of it.
    operation = restore(stack, snapshot, name=new_name()).ended(ENDED_SECONDS)
    assert (operation["state"], operation["failure"]["kind"]) == ("failed", "snapshot_corrupt")
    assert operation["failure"]["step"] == "load/cache"


def test_streams_that_were_exchanged_are_found_at_level_1(stack: Stack, stores: Handle) -> None:
    """Somebody with the store and the database in hand, but no key."""
    first, second = taken(stores), taken(stores)
    manifest = json.loads(stack.rows("select manifest from snapshots where id = ?", second)[0][0])
    other = json.loads(stack.rows("select manifest from snapshots where id = ?", first)[0][0])
    by_service = {each["service"]: each for each in other["components"]}
    for component in manifest["components"]:
        if component["service"] == "db":
            component["parts"] = by_service["db"]["parts"]
    _rewrite(stack, second, manifest)
    found = verified(stack, second, 1)
    [fault] = faults(found)
    assert (found["state"], fault["level"], fault["subject"]) == ("failed", 1, "readable/db"), found


def test_facts_that_are_not_the_data_s_are_found_at_level_1_and_2(stack: Stack, stores: Handle) -> None:
    snapshot = taken(stores)
    manifest = json.loads(stack.rows("select manifest from snapshots where id = ?", snapshot)[0][0])
    for component in manifest["components"]:
        for part in component["parts"]:
            for tally in part["facts"]["tallies"]:
                if part["subject"] == "postgres" and tally["kind"] == "tables":
                    tally["count"] += 1
                    tally["digest"] = "0" * len(tally["digest"])
                    for entry in tally["entries"]:
                        if entry["name"].endswith("parents"):
                            entry["count"] += 1
    _rewrite(stack, snapshot, manifest)
    [fault] = faults(verified(stack, snapshot, 1))
    assert "parents" in fault["message"]
    assert "2001" in fault["message"]


def test_what_differs_or_does_not_run_is_found_at_level_2(stack: Stack) -> None:
    """Whole, readable, and no good: its next server has no room for it, or an application breaks on it."""
    image = stores_of("any")["services"]["cache"]["image"]
    small = ["redis-server", "--protected-mode", "no"]
    small += ["--maxmemory", "6mb", "--maxmemory-policy", "allkeys-random"]
    ready = "until redis-cli -h cache ping; do sleep 0.2; done"
    reads = f'{ready}; [ "$(redis-cli -h cache get poison)" != yes ] && touch /tmp/up && exec sleep 10000'
    services = {
        "cache": {
            "image": image,
            "command": small,
            "ports": [{"containerPort": 6379}],
            "resources": {"cpu": "10m", "memory": "64Mi"},
        },
        "app": idle(
            image=image,
            command=["sh", "-c", reads],
            dependsOn=["cache"],
            probes=probed_by("test", "-e", "/tmp/up"),
            snapshot={"engine": "manifest-only"},
        ),
    }
    handle = stack.create({"name": new_name(), "services": services})
    handle.succeeded(ENDED_SECONDS)
    large = "for n = 1, 8000 do redis.call('set', 'k' .. n, string.rep('x', 1000)) end"
    handle.sh("deploy/cache", f'redis-cli config set maxmemory 0; redis-cli eval "{large}" 0')
    found = verified(stack, taken(handle), 2)
    [fault] = faults(found)
    assert (found["state"], fault["level"], fault["subject"]) == ("failed", 2, "restore"), found
    assert "8000" in fault["message"]

    handle.sh("deploy/cache", "redis-cli flushall; redis-cli set poison yes")
    found = verified(stack, taken(handle), 2)
    [fault] = faults(found)
    assert (found["state"], fault["level"], fault["subject"]) == ("failed", 2, "restore"), found
    assert "app" in fault["message"]
    failed = stack.client.get(f"/v1/operations/{found['operationId']}").json()["data"]["failure"]
    assert (failed["kind"], failed["step"]) == ("crash_loop", "service/app")


def test_files_that_are_written_meanwhile_are_told_and_are_no_damage(stack: Stack) -> None:
    write = "while :; do echo line >> /data/log; sleep 0.03 & wait $!; done"
    log = ["sh", "-c", f"trap 'exit 0' TERM; [ -e /data/kept ] || echo kept > /data/kept; {write}"]
    writer = idle(image=POSTGRES, command=log, snapshot={"store": "files"}, volumes=[VOLUME])
    handle = stack.create({"name": new_name(), "services": {"writer": writer}})
    handle.succeeded(ENDED_SECONDS)
    snapshot = taken(handle)
    assert verified(stack, snapshot, 1)["state"] == "passed"
    found = verified(stack, snapshot, 2)
    assert found["state"] == "passed", found
    [told] = [check["message"] for check in found["checks"] if check["subject"] == "restore"]
    assert told == "writer /data: 1 written since (log)"
    handle.delete()  # it starts thirty processes a second


def test_what_the_snapshot_saw_runs_when_its_tag_has_moved(stack: Stack) -> None:
    """What the tag means now only where that is asked for."""
    with moving_image(TINY) as (image, reference):
        seen = image.push("seen")
        handle = stack.create({"name": new_name(), "services": {"app": idle(image=reference)}})
        handle.succeeded(ENDED_SECONDS)
        snapshot = taken(handle)
        moved = image.push("moved")
        then = restore(stack, snapshot, name=new_name())
        now = restore(stack, snapshot, name=new_name(), currentImages=True)
        for restored, digest in ((then, seen), (now, moved)):
            restored.succeeded(ENDED_SECONDS)
            [pod] = pods(stack, restored.namespace, "app")
            assert pod["status"]["containerStatuses"][0]["imageID"].endswith(f"@{digest}")


def test_killed_while_it_verifies_it_goes_on_and_leaves_nothing(stack: Stack, stores: Handle) -> None:
    snapshot = taken(stores)
    path = ask_to_verify(stack, snapshot, 2)

    def restoring() -> dict[str, Any] | None:
        found: dict[str, Any] = stack.client.get(path).json()["data"]
        return found if "operationId" in found else None

    operation = eventually(restoring, "it restores", within=120)["operationId"]
    stack.worker.kill()
    # Two at a time there are not.
    answer = stack.client.post(f"/v1/snapshots/{snapshot}/verify", json={"level": 0})
    assert answer.status_code == 409
    assert stack.client.delete(f"/v1/snapshots/{snapshot}").status_code == 409
    stack.worker.start()
    found = verification_ended(stack, path)
    assert (found["state"], found["operationId"]) == ("passed", operation), found
    assert stack.rows("select phase from environments where id = ?", found["environmentId"]) == [("deleted",)]


def test_a_start_that_was_lost_is_made_good(stack: Stack, stores: Handle) -> None:
    snapshot = taken(stores)
    stack.temporal.stop()
    path = ask_to_verify(stack, snapshot, 0)
    stack.start_temporal()
    eventually_swept(
        stack, lambda: verification(stack, path)["state"] != "running", "it ends", within=ENDED_SECONDS
    )
    assert verification_ended(stack, path)["state"] == "passed"


def test_a_store_that_is_away_says_nothing_about_the_snapshot(stack: Stack, stores: Handle) -> None:
    snapshot = taken(stores)
    root = stack.directory / "objects"
    away = root.rename(root.with_name("away"))
    root.mkdir()  # as where a mount is not there
    try:
        path = ask_to_verify(stack, snapshot, 0)
        with pytest.raises(AssertionError, match="ends"):
            eventually(lambda: stack.client.get(path).json()["data"]["state"] != "running", "ends", within=10)
        assert list(root.iterdir()) == []
    finally:
        root.rmdir()
        away.rename(root)
    found = verification_ended(stack, path)
    assert (found["state"], faults(found)) == ("passed", []), found
    assert stores.sh("files-0", "ls /docs")


def test_the_manifest_in_the_store_and_what_it_does_not_name_are_looked_at(
    stack: Stack, stores: Handle
) -> None:
    snapshot = taken(stores)
    copy = _copy(stack, snapshot)
    whole = copy.read_text()
    extra = streams(stack, snapshot, "cache")[0].with_name("00000077")
    extra.write_bytes(b"foreign")
    copy.write_text('{"broken":')
    found = verified(stack, snapshot, 1)
    assert {(check["level"], check["subject"]): check["message"] for check in faults(found)} == {
        (0, "manifest.json"): "it is no JSON document",
        (0, "other objects"): f"the manifest does not name cache/rdb/{extra.parent.name}/00000077",
    }
    extra.unlink()
    copy.unlink()
    [fault] = faults(verified(stack, snapshot, 0))
    assert (fault["subject"], fault["message"]) == ("manifest.json", "it is missing")
    copy.write_text(whole)
    assert verified(stack, snapshot, 0)["state"] == "passed"


def _rewrite(stack: Stack, snapshot: str, manifest: dict[str, Any]) -> None:
    """Change both copies of a manifest."""
    stack.execute("update snapshots set manifest = ? where id = ?", json.dumps(manifest), snapshot)
    _copy(stack, snapshot).write_text(json.dumps(manifest))


def _copy(stack: Stack, snapshot: str) -> Path:
    """Where the store's copy of the manifest is."""
    [path] = [each for each in objects(stack, snapshot) if each.name == "manifest.json"]
    return path
