"""The clock is put forward and back while timers, retention and repairs run: nothing is lost, doubled or
ended without a word. docs/lifecycle.md says what a wrong clock does all the same.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlmodel import func, select

from activities.db.acceptance import stop_environment
from activities.db.engine import Database
from activities.db.repositories import operations
from activities.db.repositories.idempotency import StoredAnswer, claim, keep
from activities.db.tables import AuditEntry, Environment, Event, Operation
from activities.db.types import utc_now
from activities.reconcile import START_GRACE
from activities.temporal import OperationStart
from tests.activities.test_sweep import Starts, forget, running, sweep, told
from tests.helpers.clock import JumpingClock
from tests.helpers.tenants import Tenant, accept, begin, finish, make_tenant
from workflows.domain.operations import EnvironmentPhase, OperationKind, OperationState

pytestmark = pytest.mark.slow

DAY = 24 * 60
HERE_AND_THERE = [
    pytest.param([0, 3 * DAY, -3 * DAY, 0, 30], id="far ahead and back"),
    pytest.param([-2 * DAY, 0, 2 * DAY, 1 * DAY, -5 * DAY, 4 * DAY], id="back, then to and fro"),
    pytest.param([23 * 60 + 5, -10, 15, -50, 50, 60], id="around the announcement"),
]
"""By how many minutes the clock jumps before each sweep."""


@dataclass
class TurningBack(Starts):
    """Temporal at a moment when the clock jumps: with the first start that it is asked for."""

    clock: JumpingClock | None = None

    async def start(self, operation: OperationStart) -> None:
        await super().start(operation)
        if self.clock is not None:
            self.clock.jump(days=-10)
            self.clock = None


async def three(database: Database, tenant: Tenant) -> list[str]:
    return [await running(database, tenant, f"shop-{number}", ttlMinutes=DAY) for number in range(3)]


async def end_all(database: Database, starts: Starts, kind: OperationKind) -> None:
    """Let the operations that the sweeper started end well, as their workflows would."""
    for each in starts.started:
        if each.kind is kind:
            await begin(database, each.operation_id)
            await finish(database, each.operation_id, OperationState.SUCCEEDED)


@pytest.mark.parametrize("jumps", HERE_AND_THERE)
async def test_what_expires_is_told_once_and_deleted_once_whatever_the_clock_does(
    database: Database, clock: JumpingClock, jumps: list[int]
) -> None:
    tenant, starts = await make_tenant(database), Starts()
    ids = await three(database, tenant)
    for minutes in jumps:
        clock.jump(minutes=minutes)
        await sweep(database, starts)
    # The clock is right again, and goes on until everything is over.
    clock.ahead = timedelta(days=1, minutes=1)
    for _ in range(2):
        await sweep(database, starts)
    assert Counter(each.environment_id for each in starts.started) == dict.fromkeys(ids, 1)
    for environment_id in ids:
        assert await told(database, tenant, environment_id) == [("expiry", "warn"), ("expiry", "delete")]


async def test_a_sweep_that_runs_while_the_clock_is_put_back_leaves_the_rest_for_later(
    database: Database, clock: JumpingClock
) -> None:
    tenant = await make_tenant(database)
    ids = await three(database, tenant)
    clock.jump(days=2)
    starts = TurningBack(clock=clock)
    assert (await sweep(database, starts)).warned == 3
    swept = await sweep(database, starts)
    assert (swept.looked_at, swept.deleted) == (3, 1), "the others were not due any more when looked at"
    assert (await sweep(database, starts)).looked_at == 0
    clock.jump(days=10)
    assert (await sweep(database, starts)).deleted == 2
    assert {each.environment_id for each in starts.started} == set(ids)
    assert len(starts.started) == 3
    for environment_id in ids:
        assert await told(database, tenant, environment_id) == [("expiry", "warn"), ("expiry", "delete")]


async def test_what_was_put_to_sleep_by_a_clock_that_was_ahead_is_not_put_to_sleep_twice(
    database: Database, clock: JumpingClock
) -> None:
    tenant, starts = await make_tenant(database), Starts()
    environment_id = await running(database, tenant, autoShutdownEnabled=True, autoShutdownDelayMinutes=30)
    clock.jump(days=1)
    await sweep(database, starts)
    await sweep(database, starts)
    assert [each.kind for each in starts.started] == [OperationKind.STOP]
    clock.jump(days=-1)
    await end_all(database, starts, OperationKind.STOP)
    for minutes in (0, 31, 60):
        clock.jump(minutes=minutes)
        assert (await sweep(database, starts)).looked_at == 0
    assert await told(database, tenant, environment_id) == [("idle", "warn"), ("idle", "stop")]


async def test_a_busy_environment_is_not_forgotten_until_a_clock_that_was_ahead_is_right(
    database: Database, clock: JumpingClock
) -> None:
    tenant, starts = await make_tenant(database), Starts()
    environment_id = await running(database, tenant, autoShutdownEnabled=True, autoShutdownDelayMinutes=30)
    async with database.transaction() as session:
        stopped = await stop_environment(session, tenant.actor, environment_id)
        row = await session.get_one(Environment, environment_id)
        # As it is between a look and the lock: due, announced, and busy.
        due = utc_now() + timedelta(minutes=30)
        row.phase = EnvironmentPhase.RUNNING
        row.last_active_at = due - timedelta(minutes=30)
        row.idle_warned_for = row.next_look_at = due
    clock.jump(days=365)
    assert (await sweep(database, starts)).busy == 1
    clock.jump(days=-365)
    await begin(database, stopped.operation.id)
    await finish(database, stopped.operation.id, OperationState.FAILED)
    async with database.reading() as session:
        row = await session.get_one(Environment, environment_id)
        assert row.next_look_at is None or row.next_look_at < utc_now() + timedelta(hours=1)


async def test_a_lost_start_of_a_time_that_is_not_yet_is_made_at_once(
    database: Database, clock: JumpingClock
) -> None:
    tenant = await make_tenant(database)
    clock.jump(hours=5)
    accepted = await accept(database, tenant)
    clock.jump(hours=-5)
    async with database.reading() as session:
        lost = await operations.lost_starts(session, utc_now(), START_GRACE)
    assert [each.operation_id for each in lost] == [accepted.operation.id]


async def test_retention_keeps_what_is_needed_though_the_clock_is_years_ahead(
    database: Database, clock: JumpingClock
) -> None:
    tenant = await make_tenant(database)
    ended = await running(database, tenant, "ended")
    live = (await accept(database, tenant)).operation.id
    async with database.reading() as session:
        before = (await session.exec(select(func.count()).select_from(AuditEntry))).one()
    clock.jump(days=-400)
    assert (await forget(database)).forgotten == 0
    clock.jump(days=400 + 20)
    assert (await forget(database)).forgotten == 0
    clock.jump(days=4000)
    await forget(database)
    async with database.reading() as session:
        kept = (await session.exec(select(Operation.environment_id, Operation.id))).all()
        events = set((await session.exec(select(Event.operation_id))).all())
        audit = (await session.exec(select(func.count()).select_from(AuditEntry))).one()
    assert {environment for environment, _ in kept} >= {ended}
    assert live in {identifier for _, identifier in kept}
    assert live in events, "what runs keeps its events"
    assert audit == before
    # The sweeper's own: what is kept can be gone on with once the clock is right.
    clock.ahead = timedelta()
    await begin(database, live)
    await finish(database, live, OperationState.SUCCEEDED)


async def test_an_answer_that_is_kept_is_given_again_until_its_day_is_over(
    database: Database, clock: JumpingClock
) -> None:
    tenant = await make_tenant(database)
    first = StoredAnswer(status=202, body={"id": "op_1"}, headers={})

    async def ask() -> StoredAnswer | None:
        async with database.transaction() as session:
            found = await claim(session, tenant.actor, "POST /v1/environments", "k", "same")
            if found is None:
                await keep(session, tenant.actor, "POST /v1/environments", "k", first)
            return found

    clock.jump(days=30)
    assert await ask() is None
    for jump in (timedelta(hours=23), timedelta(days=-60), timedelta(days=29)):
        clock.ahead += jump
        await forget(database)
        assert await ask() == first, clock.ahead
    # More than a day after it was made, by the clock: as documented, it is new again, and once.
    clock.ahead = timedelta(days=31, minutes=1)
    assert await ask() is None
    assert await ask() == first
