"""The sweeper on the real cluster: what is due happens once, also when the worker is killed in the middle."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.conftest import own_stack
from tests.e2e.support import idle
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

# A workflow every other second: whoever counts seconds meanwhile counts ours too.
pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(300)]

ENVIRONMENTS = 3
"""At once, so that a kill falls between two of them."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, cluster_files: tuple[Path, Path]) -> Iterator[Stack]:
    """A stack whose sweeper looks every other second."""
    with own_stack(tmp_path_factory, cluster_files, {"PERDURE_SWEEP_EVERY_SECONDS": "2"}) as running:
        yield running


def environments(stack: Stack, prefix: str, **timers: object) -> list[Handle]:
    """Running environments of one idle service each."""
    handles = [
        stack.create({"name": f"{prefix}-{number}", "services": {"web": idle()}, **timers})
        for number in range(ENVIRONMENTS)
    ]
    for handle in handles:
        assert handle.ended()["state"] == "succeeded"
    return handles


def turn_back(stack: Stack, handles: list[Handle], **ago: float) -> None:
    """Let all of them have been made and last used so long ago."""
    then = datetime.now(UTC) - timedelta(**ago)
    ids = [handle.environment_id for handle in handles]
    marks = ", ".join("?" for _ in ids)
    with closing(sqlite3.connect(stack.directory / "perdure.db", timeout=30)) as database, database:
        database.execute(
            f"update environments set created_at = ?, last_active_at = ?, next_look_at = ?,"
            f" expires_at = case when ttl_minutes is null then null else ? end where id in ({marks})",
            [*([then.strftime("%Y-%m-%d %H:%M:%S.%f")] * 4), *ids],
        )


def operations(stack: Stack, handles: list[Handle], kind: str) -> list[tuple[str, str, str]]:
    """Environment, state and asker of the operations of one kind on these environments."""
    ids = [handle.environment_id for handle in handles]
    return [
        (environment, state, asker)
        for environment, state, asker, found in stack.rows(
            "select environment_id, state, requested_by, kind from operations"
        )
        if environment in ids and found == kind
    ]


def timer_events(stack: Stack, handle: Handle) -> list[str]:
    """What the environment's timers have told, in order."""
    return [
        action
        for environment, action in stack.rows(
            "select environment_id, json_extract(data, '$.action') from events where type = 'timer'"
            " order by number"
        )
        if environment == handle.environment_id
    ]


@pytest.mark.parametrize(
    ("kind", "timers", "phase"),
    [
        ("stop", {"autoShutdownEnabled": True, "autoShutdownDelayMinutes": 30}, "stopped"),
        ("delete", {"ttlMinutes": 30}, "deleted"),
    ],
)
def test_what_is_due_happens_once_though_the_worker_is_killed(
    stack: Stack, kind: str, timers: dict[str, object], phase: str
) -> None:
    handles = environments(stack, f"due-{kind}", **timers)
    turn_back(stack, handles, minutes=31)
    eventually(lambda: operations(stack, handles, kind), f"a {kind} is accepted", within=60)
    stack.worker.kill()
    stack.worker.start()

    def all_done() -> bool:
        found = operations(stack, handles, kind)
        return len(found) == ENVIRONMENTS and all(state == "succeeded" for _, state, _ in found)

    eventually(all_done, f"each has had its {kind}", within=150)
    assert {asker for _, _, asker in operations(stack, handles, kind)} == {"schedule:sweep"}
    for handle in handles:
        assert timer_events(stack, handle) == ["warn", kind]
    ids = {handle.environment_id for handle in handles}
    phases = {each: found for each, found in stack.rows("select id, phase from environments") if each in ids}
    assert set(phases.values()) == {phase}
