"""A worker that is killed at each step of a verification: it comes to the same end, and leaves nothing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lifecycle import VOLUME
from tests.e2e.shop import shop
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    ask_to_verify,
    new_name,
    objects,
    shown,
    taken,
    verification,
    verification_ended,
)
from tests.e2e.support import POSTGRES, idle
from tests.helpers.kube_gate import Hold
from tests.helpers.leases import opening_held
from tests.helpers.stack import Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(600)]
GATED = True


@pytest.fixture(scope="module")
def snapshot(stack: Stack) -> str:
    """A snapshot of a database and of files."""
    services = shop(new_name())["services"]
    services["files"] = idle(image=POSTGRES, snapshot={"store": "files"}, volumes=[VOLUME])
    handle = stack.create({"name": new_name(), "services": services})
    handle.succeeded(ENDED_SECONDS)
    handle.sh("files-0", "head -c 400000 /dev/urandom > /data/a")
    return taken(handle)


def _killed(
    stack: Stack, until: AbstractContextManager[Callable[[], bool]], what: str, within: float = 40
) -> None:
    """Kill the worker at a moment, and start another."""
    with until as reached:
        eventually(reached, what, within=within)
        stack.worker.kill()
    stack.worker.start()


def _object(stack: Stack, snapshot: str, service: str) -> Path:
    return next(path for path in objects(stack, snapshot) if f"/{service}/" in str(path))


def _assert_passed_once(stack: Stack, snapshot: str, found: dict[str, Any]) -> None:
    assert found["state"] == "passed", found
    subjects = [(check["level"], check["subject"]) for check in found["checks"]]
    assert len(set(subjects)) == len(subjects), "something was told twice"
    assert {level for level, _ in subjects} == set(range(found["level"] + 1))
    now = shown(stack, snapshot)
    assert (now["verifiedLevel"], now["lastVerifiedAt"]) == (found["level"], found["finishedAt"])


def test_killed_at_level_0_and_at_level_1(stack: Stack, snapshot: str) -> None:
    """Each object is read once at each of them, those of the database before the files."""
    database, files = (_object(stack, snapshot, service) for service in ("db", "files"))
    with opening_held(files) as level_0:
        path = ask_to_verify(stack, snapshot, 1)
        eventually(level_0, "level 0 reads the last object", within=40)
        stack.worker.kill()
    # What has been looked at already is not looked at again: the next to read this one is level 1.
    with opening_held(database) as level_1:
        stack.worker.start()
        eventually(level_1, "level 1 reads the first object", within=40)
        assert verification(stack, path)["state"] == "running"
        stack.worker.kill()
    stack.worker.start()
    found = verification_ended(stack, path)
    _assert_passed_once(stack, snapshot, found)


@contextmanager
def _seen(holding: AbstractContextManager[Hold]) -> Iterator[Callable[[], bool]]:
    """The moment at which the gate holds a request; it is dropped with the worker that made it."""
    with holding as hold:
        yield hold.seen.is_set
        hold.drop()


def test_killed_at_level_2_in_the_middle_of_the_data_and_three_times_more(
    stack: Stack, snapshot: str
) -> None:
    """While data stream in, while a service starts, while its environment is removed, and at its end."""
    # Of the files 100 kB of 400 pass. The service waits for the database alone: it may not be first.
    pods, api = (
        r"GET .*/namespaces/verify-[^/]*/pods/files-0/exec",
        r"PATCH .*/verify-[^/]*/deployments/api\?",
    )
    streaming = _seen(stack.gate.hold_streams(pods, 100_000))
    with _seen(stack.gate.hold(api, "before", every=True)), streaming as reached:
        path = ask_to_verify(stack, snapshot, 2)
        eventually(reached, "its data stream into the pod", within=ENDED_SECONDS)
        stack.worker.kill()
    identifier = path.rpartition("/")[2]
    name = f"verify-{identifier[-12:].lower()}"
    with _seen(stack.gate.hold(api, "after", every=True)) as reached:
        stack.worker.start()
        eventually(reached, "a service starts", within=ENDED_SECONDS)
        assert verification(stack, path)["state"] == "running"
        stack.worker.kill()
    stack.worker.start()
    trial = f"""NEW.kind = 'delete'
        AND NEW.environment_id IN (SELECT id FROM environments WHERE name = '{name}')"""
    removal = stack.write_refused("removal", "INSERT ON operations", trial)
    _killed(stack, removal, "its environment is to be removed", within=ENDED_SECONDS)
    end = stack.write_refused("end", "UPDATE OF state ON snapshot_verifications", f"NEW.id = '{identifier}'")
    _killed(stack, end, "its end is to be written", within=ENDED_SECONDS)
    found = verification_ended(stack, path)
    _assert_passed_once(stack, snapshot, found)
    [(namespace, phase)] = stack.rows(
        "select namespace, phase from environments where id = ?", found["environmentId"]
    )
    assert (phase, stack.namespace_exists(namespace)) == ("deleted", False)
    kinds = stack.rows("select kind from operations where environment_id = ?", found["environmentId"])
    assert sorted(kinds) == [("delete",), ("restore",)]
    loads = stack.rows(
        "select attempt from steps where operation_id = ? and name = 'load/files'", found["operationId"]
    )
    assert loads == [(1,)], "what Temporal tries again is no attempt of the ledger's"
