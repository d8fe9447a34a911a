"""The sweeper beside a real cluster: the rest costs its API server nothing; killed in a page, it goes on."""

import sqlite3
from contextlib import closing

import pytest

from tests.e2e.test_sweep import environments, operations, timer_events, turn_back
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
GATED = True

SETTINGS = {"PERDURE_SWEEP_EVERY_SECONDS": "5"}
STOPS = {"autoShutdownEnabled": True, "autoShutdownDelayMinutes": 30}
MANY = 1_000


def stopped(stack: Stack, handle: Handle) -> bool:
    """Whether the sweeper's stop of this environment has ended well."""
    return [state for _, state, _ in operations(stack, [handle], "stop")] == ["succeeded"]


def multiply(stack: Stack, handle: Handle) -> None:
    """Let there be a thousand environments like this one, which the cluster knows nothing of."""
    with closing(sqlite3.connect(stack.database, timeout=60)) as database, database:
        columns = [row[1] for row in database.execute("pragma table_info(environments)")]
        own = {
            name: f"'copy-' || n.value || '-' || {name}" for name in ("id", "name", "instance", "namespace")
        }
        database.execute(
            "with recursive n(value) as (select 1 union all select value + 1 from n where value < ?) "
            f"insert into environments ({', '.join(columns)}) "
            f"select {', '.join(own.get(name, name) for name in columns)} from environments, n where id = ?",
            (MANY, handle.environment_id),
        )


def test_what_is_not_due_costs_the_api_server_nothing(stack: Stack) -> None:
    touched, *others = environments(stack, "quiet", **STOPS)
    multiply(stack, others[0])
    mark = len(stack.gate.requests("."))
    turn_back(stack, [touched], minutes=31)
    eventually(lambda: stopped(stack, touched), "the one that is due is stopped", within=90)
    still = stack.rows("select count(*) from environments where phase = 'running'")
    asked = stack.gate.requests(".")[mark:]
    assert [line for line in asked if touched.namespace in line], "the gate sees what the worker asks"
    elsewhere = [line for line in asked if touched.namespace not in line]
    assert [line for line in elsewhere if "/namespaces" in line] == []
    for handle in others:
        assert not [line for line in asked if handle.namespace in line]
    assert not [line for line in asked if "copy-" in line]
    assert still == [(MANY + len(others),)], "and nothing has become of the others"


def test_a_sweep_that_is_killed_in_the_middle_of_a_page_is_gone_on_with(stack: Stack) -> None:
    handles = sorted(environments(stack, "page", **STOPS), key=lambda each: each.environment_id)
    first, second, third = handles
    condition = f"NEW.environment_id = '{second.environment_id}'"
    with stack.write_held("second", "INSERT ON operations", condition) as held:
        turn_back(stack, handles, minutes=31)
        eventually(lambda: operations(stack, [first], "stop"), "the first stop is accepted", within=90)
        eventually(held, "the sweep stands in the second", within=30)
        stack.worker.kill()
        assert operations(stack, [second, third], "stop") == []
    assert [timer_events(stack, each) for each in handles] == [["warn", "stop"], ["warn"], ["warn"]]
    stack.worker.start()
    eventually(lambda: all(stopped(stack, each) for each in handles), "each has had its stop", within=150)
    assert [timer_events(stack, each) for each in handles] == [["warn", "stop"]] * len(handles)
    assert {asker for _, _, asker in operations(stack, handles, "stop")} == {"schedule:sweep"}
