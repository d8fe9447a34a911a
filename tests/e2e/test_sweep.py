"""The sweeper on the real cluster: what is due happens once, and nothing is asked about what is not due."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, ScheduleActionExecutionStartWorkflow

from tests.e2e.shop import assert_ledger_tells_a_success
from tests.e2e.support import idle
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually, eventually_async
from workflows.contracts.sweep import SWEEP_SCHEDULE, Swept

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
GATED = True
SETTINGS = {"PERDURE_SWEEP_EVERY_SECONDS": "3600"}
"""The sweeper looks when a test asks for it."""

ENVIRONMENTS = 3
"""At once, so that a kill falls between two of them."""
DUE = 450
"""More than two pages."""
PAGE = 200
"""How many environments the sweeper looks at between two words to Temporal."""
BATCH = 200
"""Most events that are forgotten in one transaction."""


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


def sweep(stack: Stack) -> Swept:
    """Let the schedule start a sweep, and return what it did once it has ended."""
    return ended(stack, in_background(stack))


def in_background(stack: Stack) -> str:
    """Let the schedule start a sweep; return its workflow's id."""

    async def run() -> str:
        client = await Client.connect(stack.temporal_address)
        schedule = client.get_schedule_handle(SWEEP_SCHEDULE)
        before = (await schedule.describe()).info.num_actions
        await schedule.trigger()

        async def started() -> str | None:
            info = (await schedule.describe()).info
            action = info.recent_actions[-1].action if info.num_actions > before else None
            return action.workflow_id if isinstance(action, ScheduleActionExecutionStartWorkflow) else None

        return await eventually_async(started, "a sweep is started")

    return asyncio.run(run())


def at_work(stack: Stack, sweeping: str) -> bool:
    """Whether a worker has begun with a part of a sweep."""

    async def look() -> bool:
        client = await Client.connect(stack.temporal_address)
        described = await client.get_workflow_handle(sweeping).describe()
        pending = described.raw_description.pending_activities
        return any(each.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED for each in pending)

    return asyncio.run(look())


def ended(stack: Stack, sweeping: str) -> Swept:
    """What a sweep did, once it has ended."""

    async def run() -> Swept:
        client = await Client.connect(stack.temporal_address)
        return Swept.model_validate(await client.get_workflow_handle(sweeping).result())

    return asyncio.run(run())


@contextmanager
def last_refused(stack: Stack, handles: list[Handle], kind: str) -> Iterator[Callable[[], bool]]:
    """Let the sweep of these not get past the last one, while the body runs; yields whether it has tried."""
    last = max(handle.environment_id for handle in handles)
    seen = len(stack.worker.text())
    stack.execute(
        f"""CREATE TRIGGER held BEFORE INSERT ON operations
        WHEN NEW.environment_id = '{last}' AND NEW.kind = '{kind}'
        BEGIN SELECT RAISE(ABORT, 'the sweep is held'); END"""
    )
    try:
        yield lambda: "the sweep is held" in stack.worker.text()[seen:]
    finally:
        stack.execute("DROP TRIGGER held")


@pytest.mark.parametrize(
    ("kind", "timers", "phase"),
    [
        ("stop", {"autoShutdownEnabled": True, "autoShutdownDelayMinutes": 30}, "stopped"),
        ("delete", {"ttlMinutes": 30}, "deleted"),
    ],
)
def test_what_is_due_happens_once_though_the_worker_is_killed_within_a_page(
    stack: Stack, kind: str, timers: dict[str, object], phase: str
) -> None:
    handles = environments(stack, f"due-{kind}", **timers)
    turn_back(stack, handles, minutes=31)
    assert sweep(stack).warned == ENVIRONMENTS
    with last_refused(stack, handles, kind) as tried:
        in_background(stack)
        eventually(tried, "the sweep has come to the last of its page", within=60)
        assert len(operations(stack, handles, kind)) == ENVIRONMENTS - 1
        stack.worker.kill()
    stack.worker.start()

    def all_done() -> bool:
        found = operations(stack, handles, kind)
        return len(found) == ENVIRONMENTS and all(state == "succeeded" for _, state, _ in found)

    eventually(all_done, f"each has had its {kind}", within=150)
    assert sweep(stack).looked_at == 0
    assert {asker for _, _, asker in operations(stack, handles, kind)} == {"schedule:sweep"}
    assert len(operations(stack, handles, kind)) == ENVIRONMENTS
    for handle in handles:
        assert timer_events(stack, handle) == ["warn", kind]
    ids = {handle.environment_id for handle in handles}
    phases = {each: found for each, found in stack.rows("select id, phase from environments") if each in ids}
    assert set(phases.values()) == {phase}


def test_a_stop_is_started_once_though_the_worker_is_killed_between_commit_and_start(
    stack: Stack, name: str
) -> None:
    sleeps = {"autoShutdownEnabled": True, "autoShutdownDelayMinutes": 30}
    handle = stack.create({"name": name, "services": {"web": idle()}, **sleeps})
    handle.succeeded()
    turn_back(stack, [handle], minutes=31)
    assert sweep(stack).warned == 1
    with stack.database_locked():
        sweeping = in_background(stack)
        eventually(lambda: at_work(stack, sweeping), "the sweep waits for the database")
        stack.temporal.freeze()
    eventually(lambda: operations(stack, [handle], "stop"), "the stop is accepted")
    stack.worker.kill()
    # What of the start may be in its socket dies with it.
    stack.temporal.kill()
    stack.start_temporal()
    [(stop,)] = stack.rows("select id from operations where kind = 'stop' and state = 'accepted'")
    assert not stack.workflow_exists(stop)
    stack.worker.start()
    handle = replace(handle, operation_id=stop)
    handle.succeeded()
    assert ended(stack, sweeping).stopped == 0, "it was stopped by the attempt that was killed"
    assert_ledger_tells_a_success(stack, handle)
    assert len(operations(stack, [handle], "stop")) == 1
    assert timer_events(stack, handle) == ["warn", "stop"]
    assert stack.objects(handle.namespace, "pods") == []


def test_a_sweep_that_is_killed_in_its_second_page_warns_each_once(stack: Stack, name: str) -> None:
    handle = stack.create({"name": name, "services": {"web": idle()}})
    handle.succeeded()
    copy(stack, handle, range(2000, 2000 + DUE), created="-1 day", expires="+30 minutes", look="-1 minute")
    within = f"NEW.id = 'env_many-{2000 + PAGE + 50}'"
    warned = """select count(*), count(distinct environment_id) from events
        where type = 'timer' and environment_id like 'env_many-2___'"""
    with stack.write_held("warning", "UPDATE OF expiry_warned_for ON environments", within) as held:
        sweeping = in_background(stack)
        eventually(held, "the sweep stands in its second page", within=60)
        stack.worker.kill()
    assert stack.rows(warned) == [(PAGE + 50, PAGE + 50)]
    stack.worker.start()
    swept = ended(stack, sweeping)
    assert swept.looked_at == DUE - 50, "the first page is not done again, the second from where it was"
    assert stack.rows(warned) == [(DUE, DUE)]


def test_history_is_forgotten_wholly_though_the_worker_is_killed_between_batches_and_in_one(
    stack: Stack, name: str
) -> None:
    handle = stack.create({"name": name, "services": {"web": idle()}})
    handle.succeeded()
    last, steps, events = handle.operation_id, *history(stack, handle)[handle.operation_id]
    too_old = add_history(stack, handle, range(60), days=100)
    old = add_history(stack, handle, range(60, 80), days=40)
    # One that is kept is a retry of one that is too old, which stays with it.
    stack.execute("update operations set retry_of = ? where id = ?", too_old[0], old[0])
    kept = {last: (steps, events)} | dict.fromkeys([too_old[0], *old], (steps, 0))
    count = events * (1 + len(too_old) + len(old))

    ours = f"OLD.environment_id = '{handle.environment_id}'"
    rest = f"(select count(*) from events where environment_id = '{handle.environment_id}')"
    second = stack.write_refused("second", "DELETE ON events", f"{ours} and {rest} <= {count - BATCH}")
    with second as tried:
        sweeping = in_background(stack)
        eventually(tried, "the second batch is tried", within=60)
        stack.worker.kill()
    found = history(stack, handle)
    assert sum(number for _, number in found.values()) == count - BATCH, "the first batch has come through"
    assert {number for number, _ in found.values()} == {steps}, "an operation goes with its steps"

    latest = max(each for each, (_, number) in found.items() if number and each in too_old)
    with stack.write_held("operation", "DELETE ON operations", f"OLD.id = '{latest}'") as held:
        stack.worker.start()
        eventually(held, "its operations go, and their steps and events are gone", within=60)
        stack.worker.kill()
    found = history(stack, handle)
    assert latest in found
    assert {number for number, _ in found.values()} == {steps}, "what the batch had taken is there again"

    stack.worker.start()
    assert ended(stack, sweeping).forgotten > 0
    assert history(stack, handle) == kept
    assert sweep(stack).forgotten == 0
    assert handle.operation()["state"] == "succeeded"


def test_the_cluster_is_not_asked_about_a_thousand_that_are_not_stopped_or_deleted(stack: Stack) -> None:
    handle = stack.create({"name": "many", "services": {"web": idle()}})
    assert handle.ended()["state"] == "succeeded"
    copy(stack, handle, range(DUE), created="-1 day", expires="+30 minutes", look="-1 minute")
    copy(stack, handle, range(DUE, 1000), created="-1 day", expires="+1 day", look="+22 hours")
    assert stack.gate.requests(handle.namespace), "what is asked about a namespace is seen"
    before = len(stack.gate.requests(""))
    swept = sweep(stack)
    assert (swept.looked_at, swept.warned) == (DUE, DUE), "more than two pages"
    assert sweep(stack).looked_at == 0
    asked = stack.gate.requests("")[before:]
    assert [each for each in asked if "many" in each] == []
    assert [each for each in asked if "/namespaces" in each] == []


def history(stack: Stack, handle: Handle) -> dict[str, tuple[int, int]]:
    """How many steps and how many events there are of each operation; nothing is there of others."""
    for table in ("steps", "events"):
        lost = f"""select count(*) from {table} where operation_id is not null
            and operation_id not in (select id from operations)"""
        assert stack.rows(lost) == [(0,)], f"{table} of operations that are gone"
    found = stack.rows(
        """select id, (select count(*) from steps where operation_id = o.id),
        (select count(*) from events where operation_id = o.id)
        from operations o where environment_id = ?""",
        handle.environment_id,
    )
    return {each: (steps, events) for each, steps, events in found}


def add_history(stack: Stack, handle: Handle, numbers: range, *, days: int) -> list[str]:
    """Copy an operation, its steps and its events, as if they were of so many days ago; return the ids."""
    then, copied = _from_now(f"-{days} days"), "'copy-' || n.value"
    operation = {"id": copied, "fence": "-n.value", "workflow_id": copied, "finished_at": then}
    multiply(stack, "operations", numbers, operation, ("id", handle.operation_id))
    multiply(stack, "steps", numbers, {"operation_id": copied}, ("operation_id", handle.operation_id))
    event = {"operation_id": copied, "number": "-1000 * n.value - t.number", "at": then}
    multiply(stack, "events", numbers, event, ("operation_id", handle.operation_id))
    return [f"copy-{number}" for number in numbers]


def copy(stack: Stack, handle: Handle, numbers: range, *, created: str, expires: str, look: str) -> None:
    """Copy an environment's row and its revision, with other times from now."""

    name = "'many-' || n.value"
    given = {
        "id": f"'env_' || {name}",
        "environment_id": f"'env_' || {name}",
        "name": name,
        "instance": name,
        "namespace": name,
        "created_at": _from_now(created),
        "expires_at": _from_now(expires),
        "next_look_at": _from_now(look),
    }
    for table, key in (("environments", "id"), ("revisions", "environment_id")):
        multiply(stack, table, numbers, given, (key, handle.environment_id))


def _from_now(shift: str) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', '{shift}') || '000'"


def multiply(stack: Stack, table: str, numbers: range, given: dict[str, str], which: tuple[str, str]) -> None:
    """Copy the rows with this value in a column, with other values, which may tell by `n.value`."""
    named = [name for (name,) in stack.rows(f"select name from pragma_table_info('{table}')")]
    chosen = ", ".join(given.get(column, f"t.{column}") for column in named)
    count = f"select {numbers.start} union all select value + 1 from n where value + 1 < {numbers.stop}"
    stack.execute(
        f"insert into {table} ({', '.join(named)}) with recursive n(value) as ({count})"
        f" select {chosen} from {table} t, n where t.{which[0]} = ?",
        which[1],
    )
