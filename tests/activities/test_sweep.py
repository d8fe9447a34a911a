"""The sweeper over the database: what is due is told, accepted once, and costs one query when nothing is."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import JsonValue
from sqlalchemy import insert
from sqlmodel import col, func, select, update

from activities.db import sweeping
from activities.db.acceptance import extend_environment, stop_environment
from activities.db.engine import Database
from activities.db.records import SWEEPER
from activities.db.repositories import audit, events, operations
from activities.db.tables import Environment, Event, EventType, Operation, Revision, Step
from activities.sweep import ControlSweep
from activities.temporal import OperationStart, TemporalUnavailable
from tests.helpers.attempts import handed_out
from tests.helpers.statements import statements_of
from tests.helpers.tenants import Tenant, accept, begin, environment_of, finish, make_tenant, shop
from workflows.contracts.operation import CancelRequest
from workflows.contracts.sweep import SweepPage, Swept
from workflows.domain.environment import GuardRails
from workflows.domain.operations import EnvironmentPhase, OperationKind, OperationState


@dataclass
class Starts:
    """Stands in for Temporal."""

    started: list[OperationStart] = field(default_factory=list)
    away: bool = False

    async def start(self, operation: OperationStart) -> None:
        if self.away:
            raise TemporalUnavailable("Temporal does not answer")
        self.started.append(operation)

    async def signal(self, workflow_id: str, name: str, argument: CancelRequest | None) -> bool:
        raise AssertionError("the sweeper signals nothing")

    async def check(self) -> None:
        return


def sweeper(database: Database, starts: Starts | None = None) -> ControlSweep:
    return ControlSweep(database, starts or Starts(), timedelta(days=30), timedelta(days=90))


async def sweep(database: Database, starts: Starts | None = None, page: SweepPage | None = None) -> Swept:
    """One page, the first if not told otherwise, as the workflow asks for it."""
    return await handed_out().run(sweeper(database, starts).sweep_page, page or SweepPage())


async def forget(database: Database) -> Swept:
    return await handed_out().run(sweeper(database).forget_history)


async def running(database: Database, tenant: Tenant, name: str = "shop", **changes: object) -> str:
    """An environment whose provision has succeeded."""
    accepted = await accept(database, tenant, shop(name, **changes))  # type: ignore[arg-type]
    await begin(database, accepted.operation.id)
    await finish(database, accepted.operation.id, OperationState.SUCCEEDED)
    return accepted.environment.id


async def turn_back(database: Database, environment_id: str, **ago: float) -> None:
    """Let the environment have been made and last used so long ago; as if all that time had passed."""
    then = datetime.now(UTC) - timedelta(**ago)
    async with database.transaction() as session:
        row = await session.get_one(Environment, environment_id)
        row.last_active_at = then
        if row.expires_at is not None:
            row.expires_at = then + (row.expires_at - row.created_at)
        row.created_at = then
        row.next_look_at = then


async def told(database: Database, tenant: Tenant, environment_id: str) -> list[tuple[str, str]]:
    async with database.reading() as session:
        found = await events.after(session, tenant.id, environment_id, 0)
    return [
        (str(each.data["timer"]), str(each.data["action"])) for each in found if each.type is EventType.TIMER
    ]


async def test_an_idle_environment_is_warned_and_then_stopped_once(database: Database) -> None:
    tenant, starts = await make_tenant(database), Starts()
    environment_id = await running(database, tenant, autoShutdownEnabled=True, autoShutdownDelayMinutes=30)
    assert (await sweep(database, starts)).looked_at == 0
    await turn_back(database, environment_id, minutes=26)
    assert (await sweep(database, starts)).warned == 1
    assert (await sweep(database, starts)).looked_at == 0, "its end is not there yet"
    async with database.transaction() as session:
        row = await session.get_one(Environment, environment_id)
        assert row.last_active_at is not None
        assert row.idle_warned_for is not None
        row.last_active_at -= timedelta(minutes=10)
        row.idle_warned_for -= timedelta(minutes=10)
        row.next_look_at = row.idle_warned_for
    assert (await sweep(database, starts)).stopped == 1
    assert await told(database, tenant, environment_id) == [("idle", "warn"), ("idle", "stop")]
    (started,) = starts.started
    assert started.kind is OperationKind.STOP
    record = await environment_of(database, tenant, environment_id)
    assert record.phase is EnvironmentPhase.STOPPING
    async with database.transaction() as session:
        operation = await operations.get_operation(session, tenant.id, started.operation_id)
        (entry, *_) = (await audit.list_entries(session, tenant.id)).items
        # An attempt whose answer was lost is made again.
        await session.exec(
            update(Environment)
            .where(col(Environment.id) == environment_id)
            .values(next_look_at=datetime.now(UTC) - timedelta(minutes=1))
        )
    assert (operation.requested_by, entry.action) == (SWEEPER, "environment.stop")
    again = await sweep(database, starts)
    assert (again.looked_at, again.stopped, len(starts.started)) == (1, 0, 1)


async def test_an_operation_counts_as_use_and_the_sweepers_own_does_not(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, autoShutdownEnabled=True, autoShutdownDelayMinutes=10)
    await turn_back(database, environment_id, minutes=9)
    assert (await sweep(database)).warned == 1
    async with database.transaction() as session:
        stopped = await stop_environment(session, tenant.actor, environment_id)
    await begin(database, stopped.operation.id)
    await finish(database, stopped.operation.id, OperationState.FAILED)
    record = await environment_of(database, tenant, environment_id)
    assert record.last_active_at is not None
    assert datetime.now(UTC) - record.last_active_at < timedelta(minutes=1)


async def test_what_is_reached_past_us_stays_awake_and_says_why(database: Database) -> None:
    tenant = await make_tenant(database)
    web: JsonValue = {
        "name": "web",
        "image": "registry.test/web:1",
        "ports": [{"containerPort": 80}],
        "expose": True,
    }
    blueprint = shop(services=[web], autoShutdownEnabled=True, autoShutdownDelayMinutes=10)
    accepted = await accept(database, tenant, blueprint, rails=GuardRails(ingress_class="nginx"))
    environment_id = accepted.environment.id
    await begin(database, accepted.operation.id)
    await finish(database, accepted.operation.id, OperationState.SUCCEEDED)
    await turn_back(database, environment_id, hours=5)
    assert (await sweep(database)).warned == 0
    record = await environment_of(database, tenant, environment_id)
    condition = next(each for each in record.conditions if each.type == sweeping.AUTO_SHUTDOWN)
    assert (condition.status, condition.reason) == ("False", "NotMeasured")
    async with database.transaction() as session:
        row = await session.get_one(Environment, environment_id)
        row.auto_shutdown_unmeasured = True
        row.next_look_at = datetime.now(UTC)
    assert (await sweep(database)).warned == 1


async def test_an_expired_environment_is_warned_deleted_and_may_be_extended(database: Database) -> None:
    tenant, starts = await make_tenant(database), Starts()
    first = await running(database, tenant, "first", ttlMinutes=600)
    second = await running(database, tenant, "second", ttlMinutes=600)
    for environment_id in (first, second):
        await turn_back(database, environment_id, minutes=601)
    assert (await sweep(database, starts)).warned == 2
    async with database.transaction() as session:
        record = await extend_environment(session, tenant.actor, second, 60)
    assert record.expires_at is not None
    assert record.expires_at > datetime.now(UTC) + timedelta(minutes=55)
    assert (await sweep(database, starts)).deleted == 1
    assert [(each.kind, each.environment_id) for each in starts.started] == [(OperationKind.DELETE, first)]
    assert (await environment_of(database, tenant, second)).phase is EnvironmentPhase.RUNNING


async def test_a_protected_environment_outlives_its_time(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, ttlMinutes=10, protected=True)
    await turn_back(database, environment_id, days=2)
    swept = await sweep(database)
    assert (swept.looked_at, swept.warned, swept.deleted) == (1, 0, 0)
    assert (await sweep(database)).looked_at == 0


async def test_a_busy_environment_is_skipped_and_looked_at_again(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, autoShutdownEnabled=True, autoShutdownDelayMinutes=10)
    async with database.transaction() as session:
        await stop_environment(session, tenant.actor, environment_id)
        row = await session.get_one(Environment, environment_id)
        # As it is for the moment between the look and the lock.
        row.phase = EnvironmentPhase.RUNNING
        row.last_active_at = datetime.now(UTC) - timedelta(hours=1)
        row.idle_warned_for = row.last_active_at + timedelta(minutes=10)
        row.next_look_at = row.idle_warned_for
    assert (await sweep(database)).busy == 1
    assert await told(database, tenant, environment_id) == []
    assert (await sweep(database)).looked_at == 0, "not before a minute has passed"


async def test_a_start_that_temporal_does_not_take_is_left_to_the_reconciler(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, ttlMinutes=10)
    await turn_back(database, environment_id, days=1)
    await sweep(database)
    assert (await sweep(database, Starts(away=True))).deleted == 1
    async with database.reading() as session:
        lost = await operations.lost_starts(session, datetime.now(UTC) + timedelta(seconds=1), timedelta())
    assert [each.environment_id for each in lost] == [environment_id]


async def test_one_that_cannot_be_read_holds_nobody_up(database: Database) -> None:
    tenant = await make_tenant(database)
    broken, *others = [await running(database, tenant, f"shop-{each}", ttlMinutes=60) for each in range(3)]
    for ago, environment_id in enumerate((others[0], broken, others[1])):
        await turn_back(database, environment_id, days=3 - ago)
    async with database.transaction() as session:
        await session.exec(
            update(Revision).where(col(Revision.environment_id) == broken).values(blueprint={"name": 3})
        )
    swept = await sweep(database)
    assert (swept.looked_at, swept.warned, swept.unreadable) == (3, 2, 1)
    assert (await sweep(database)).deleted == 2
    async with database.transaction() as session:
        await session.exec(
            update(Revision)
            .where(col(Revision.environment_id) == broken)
            .values(blueprint=shop("shop-0").model_dump(mode="json"))
        )
    assert (await sweep(database)).warned == 1


async def test_untouched_environments_cost_one_query(database: Database) -> None:
    tenant = await make_tenant(database)
    for number in range(5):
        await running(database, tenant, f"shop-{number}", ttlMinutes=10_000)
    await sweep(database)
    with statements_of(database) as seen:
        assert (await sweep(database)).looked_at == 0
    assert len([each for each, _ in seen if each.lstrip().upper().startswith("SELECT")]) == 1, seen


async def a_thousand(database: Database, tenant: Tenant) -> list[str]:
    """One environment that runs and 999 copies of its row and revision, all with a time to live."""
    made = await running(database, tenant, "shop-0", ttlMinutes=10_000)
    async with database.transaction() as session:
        environment = (await session.get_one(Environment, made)).model_dump()
        revision = (await session.get_one(Revision, (made, 1))).model_dump()
        names = [f"shop-{number}" for number in range(1, 1000)]
        rows = [
            environment | {"id": f"env_{name}", "name": name, "instance": name, "namespace": name}
            for name in names
        ]
        await session.exec(insert(Environment), params=rows)
        copies = [revision | {"environment_id": row["id"]} for row in rows]
        await session.exec(insert(Revision), params=copies)
    return [made, *(str(row["id"]) for row in rows)]


async def sweep_all(database: Database) -> list[Swept]:
    """Page after page, as the workflow goes through them."""
    pages = [await sweep(database)]
    while pages[-1].following is not None:
        pages.append(await sweep(database, page=SweepPage(after=pages[-1].following)))
    return pages


@pytest.mark.slow
async def test_a_thousand_untouched_cost_one_query_and_those_due_one_for_each_page(
    database: Database,
) -> None:
    tenant = await make_tenant(database)
    ids = await a_thousand(database, tenant)
    with statements_of(database) as seen:
        assert [page.looked_at for page in await sweep_all(database)] == [0]
    (only,) = [statement for statement, _ in seen if statement.lstrip().upper().startswith("SELECT")]
    assert "next_look_at <=" in only
    due, untouched = ids[300:750], ids[:300] + ids[750:]
    then = datetime.now(UTC) - timedelta(hours=2)
    async with database.transaction() as session:
        await session.exec(
            update(Environment)
            .where(col(Environment.id).in_(due))
            .values(expires_at=then, created_at=then - timedelta(days=1), next_look_at=then)
        )
    with statements_of(database) as seen:
        pages = await sweep_all(database)
    assert [page.looked_at for page in pages] == [200, 200, 50]
    assert sum(page.warned for page in pages) == len(due)
    assert sum("next_look_at <=" in statement for statement, _ in seen) == len(pages)
    asked = "".join(parameters for _, parameters in seen)
    assert all(f"'{each}'" in asked for each in due)
    assert not [each for each in untouched if f"'{each}'" in asked], "nothing was asked about the others"


async def test_pages_go_on_where_they_ended(database: Database) -> None:
    tenant = await make_tenant(database)
    ids = {await running(database, tenant, f"shop-{number}", ttlMinutes=60) for number in range(3)}
    for environment_id in ids:
        await turn_back(database, environment_id, days=1)
    found: list[str] = []
    after = None
    async with database.reading() as session:
        first = await sweeping.due_page(session, datetime.now(UTC), None)
        assert set(first.environment_ids) == ids
        row = await session.get_one(Environment, first.environment_ids[0])
        assert row.next_look_at is not None
        after = (row.next_look_at, row.id)
        found += (await sweeping.due_page(session, datetime.now(UTC), after)).environment_ids
    assert found == list(first.environment_ids[1:])


async def test_old_history_is_forgotten_and_what_is_needed_stays(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    for _ in range(2):
        async with database.transaction() as session:
            stopped = await stop_environment(session, tenant.actor, environment_id)
        await begin(database, stopped.operation.id)
        await finish(database, stopped.operation.id, OperationState.FAILED)
    long_ago = datetime.now(UTC) - timedelta(days=100)
    async with database.transaction() as session:
        await session.exec(update(Operation).values(finished_at=long_ago))
        await session.exec(update(Event).values(at=long_ago))
    assert (await forget(database)).forgotten > 0
    async with database.reading() as session:
        kept = (await session.exec(select(Operation))).all()
        left = (await session.exec(select(func.count()).select_from(Event))).one()
        owners = set((await session.exec(select(Step.operation_id))).all())
    assert [each.id for each in kept] == [stopped.operation.id], "an environment's last operation stays"
    assert owners == {stopped.operation.id}
    assert left == 0
    assert (await forget(database)).forgotten == 0
