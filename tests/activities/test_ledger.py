"""The ledger: begin, record, end; the first end wins, readers of events miss nothing."""

import asyncio
from datetime import timedelta

import pytest
from sqlmodel import col, select

from activities.db import ledger
from activities.db.acceptance import Accepted, cancel_operation, delete_environment
from activities.db.engine import Database
from activities.db.errors import NotFound
from activities.db.repositories import events, operations, secrets, volume_samples
from activities.db.repositories._rows import locked_environment
from activities.db.tables import EventType, Secret
from activities.db.types import utc_now
from tests.helpers.tenants import (
    Tenant,
    accept,
    begin,
    degrade,
    environment_of,
    finish,
    make_tenant,
    operation_of,
    record,
    retry,
)
from workflows.contracts.operation import LedgerEntry, OperationResult, PreImage
from workflows.domain.failures import FailureKind, failure
from workflows.domain.operations import (
    Cleanup,
    EnvironmentPhase,
    OperationState,
    StepChange,
    StepState,
)

S, P = OperationState, EnvironmentPhase
CRASHED = failure(FailureKind.CRASH_LOOP, "exits with 1", step="service/api")


def running(step: str) -> StepChange:
    return StepChange(step=step, state=StepState.RUNNING)


def succeeded(step: str, uid: str | None = None) -> StepChange:
    return StepChange(step=step, state=StepState.SUCCEEDED, output=None if uid is None else {"uid": uid})


async def started(database: Database, tenant: Tenant) -> Accepted:
    accepted = await accept(database, tenant)
    await begin(database, accepted.operation.id)
    return accepted


async def delete(database: Database, tenant: Tenant, environment_id: str) -> Accepted:
    async with database.transaction() as session:
        return await delete_environment(session, tenant.actor, environment_id, force=False)


async def log_of(database: Database, tenant: Tenant, environment_id: str) -> list[tuple[int, str, object]]:
    async with database.reading() as session:
        rows = await events.after(session, tenant.id, environment_id, 0)
    return [(row.number, str(row.data.get("step", row.type)), row.data["state"]) for row in rows]


async def test_begin_moves_to_running_once(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    first = await begin(database, accepted.operation.id)
    second = await begin(database, accepted.operation.id)
    assert first == second
    assert (first.proceed, first.operation.state) == (True, S.RUNNING)
    assert [step.name for step in first.steps] == ["namespace", "secrets", "service/db", "service/api"]
    assert first.steps[3].depends_on == ("secrets", "service/db")
    assert await log_of(database, tenant, accepted.environment.id) == [
        (1, "operation", "accepted"),
        (2, "operation", "running"),
    ]


async def test_begin_of_an_unknown_operation(database: Database) -> None:
    with pytest.raises(NotFound):
        await begin(database, "op_none")


async def test_begin_ends_what_a_delete_overtook(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    await delete(database, tenant, accepted.environment.id)
    assert not (await begin(database, accepted.operation.id)).proceed
    assert (await operation_of(database, tenant, accepted.operation.id)).state is S.CANCELLED
    assert (await environment_of(database, tenant, accepted.environment.id)).phase is P.DELETING


async def test_begin_hands_on_a_cancel_that_came_before(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    async with database.transaction() as session:
        await cancel_operation(session, tenant.actor, accepted.operation.id, cleanup=True, reason="why not")
    again = await begin(database, accepted.operation.id)
    assert again.operation.cancel is not None
    assert again.operation.cancel.request().cleanup


async def test_record_writes_steps_and_events_once(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    changes = (running("namespace"), succeeded("namespace", "uid-1"), running("secrets"))
    for _ in range(2):
        await record(database, accepted.operation.id, *changes)
    assert (await log_of(database, tenant, accepted.environment.id))[2:] == [
        (3, "namespace", "running"),
        (4, "namespace", "succeeded"),
        (5, "secrets", "running"),
    ]
    async with database.reading() as session:
        last = (await events.after(session, tenant.id, accepted.environment.id, 4))[0]
    assert last.type is EventType.STEP
    assert last.data["progress"] == {"done": 1, "total": 4, "running": ["secrets"]}


async def test_record_of_an_unknown_step_writes_nothing(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    with pytest.raises(NotFound):
        await record(database, accepted.operation.id, running("namespace"), running("service/none"))
    assert len(await log_of(database, tenant, accepted.environment.id)) == 2


async def test_changes_of_an_ended_operation_are_dropped(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    await finish(database, accepted.operation.id, S.FAILED, failure=CRASHED)
    before = await log_of(database, tenant, accepted.environment.id)
    await record(database, accepted.operation.id, running("namespace"))
    assert await log_of(database, tenant, accepted.environment.id) == before


async def test_the_first_pre_image_holds(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    for existed in (False, True):
        async with database.transaction() as session:
            await ledger.record(
                session,
                LedgerEntry(
                    operation_id=accepted.operation.id,
                    pre_image=PreImage(namespace_existed=existed, revision=1),
                ),
            )
    async with database.reading() as session:
        recorded = await ledger.recorded_pre_image(session, accepted.operation.id)
    assert recorded.pre_image == PreImage(namespace_existed=False, revision=1)
    assert recorded.blueprint is not None
    assert recorded.blueprint["name"] == "shop"


@pytest.mark.parametrize(
    ("state", "phase", "status", "reason"),
    [
        (S.SUCCEEDED, P.RUNNING, "True", "Provisioned"),
        (S.FAILED, P.ERROR, "False", "ProvisionFailed"),
        (S.CANCELLED, P.ERROR, "False", "Cancelled"),
        (S.ROLLED_BACK, P.ERROR, "False", "RolledBack"),
    ],
)
async def test_an_end_settles_the_environment(
    database: Database, state: OperationState, phase: EnvironmentPhase, status: str, reason: str
) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    await record(database, accepted.operation.id, running("namespace"))
    cause = None if state is S.SUCCEEDED else CRASHED
    await finish(database, accepted.operation.id, state, failure=cause)
    environment = await environment_of(database, tenant, accepted.environment.id)
    assert environment.phase is phase
    assert [(each.type, each.status, each.reason) for each in environment.conditions] == [
        ("Ready", status, reason)
    ]
    async with database.reading() as session:
        steps = await operations.steps(session, tenant.id, accepted.operation.id)
        last = (await events.after(session, tenant.id, accepted.environment.id, 0))[-1]
    assert {step.state for step in steps} == {StepState.CANCELLED}
    assert (last.data["state"], last.data["phase"]) == (state, phase)
    assert last.number == environment.last_event


async def test_the_first_of_two_ends_wins(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    first, second = await asyncio.gather(
        finish(database, accepted.operation.id, S.FAILED, failure=CRASHED),
        finish(database, accepted.operation.id, S.SUCCEEDED),
    )
    assert first == second
    ended = await operation_of(database, tenant, accepted.operation.id)
    assert (ended.state, ended.failure) == (first.state, first.failure)
    ends = [row for row in await log_of(database, tenant, accepted.environment.id) if row[1] == "operation"]
    assert len(ends) == 3


async def test_a_finished_delete_releases_everything(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    async with database.transaction() as session:
        sample = volume_samples.Sample(utc_now(), 1)
        await volume_samples.add_sample(session, tenant.id, accepted.environment.id, "data-db-0", sample)
    deleting = await delete(database, tenant, accepted.environment.id)
    await begin(database, deleting.operation.id)
    await finish(database, deleting.operation.id, S.SUCCEEDED)
    environment = await environment_of(database, tenant, accepted.environment.id)
    assert environment.phase is P.DELETED
    assert environment.deleted_at is not None
    # Its workflow was terminated: nobody else would have closed it.
    assert (await operation_of(database, tenant, accepted.operation.id)).state is S.CANCELLED
    async with database.reading() as session:
        assert not (await secrets.list_secrets(session, tenant.id, environment.id)).items
        assert await volume_samples.samples(session, tenant.id, environment.id, ["data-db-0"]) == {}
        assert (
            await session.exec(select(Secret).where(col(Secret.organization_id) == tenant.id))
        ).all() == []


async def test_a_provision_that_ends_beside_a_delete_leaves_the_phase_alone(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    deleting = await delete(database, tenant, accepted.environment.id)
    await begin(database, deleting.operation.id)
    await asyncio.gather(
        finish(database, accepted.operation.id, S.SUCCEEDED),
        finish(database, deleting.operation.id, S.SUCCEEDED),
    )
    environment = await environment_of(database, tenant, accepted.environment.id)
    assert environment.phase is P.DELETED
    assert (await operation_of(database, tenant, accepted.operation.id)).ended
    assert len({row[0] for row in await log_of(database, tenant, environment.id)}) == environment.last_event


async def test_a_failed_delete_can_be_asked_for_again(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    await finish(database, accepted.operation.id, S.SUCCEEDED)
    deleting = await delete(database, tenant, accepted.environment.id)
    await begin(database, deleting.operation.id)
    await finish(database, deleting.operation.id, S.FAILED, failure=CRASHED)
    environment = await environment_of(database, tenant, accepted.environment.id)
    assert (environment.phase, environment.conditions[0].reason) == (P.ERROR, "DeleteFailed")
    again = await delete(database, tenant, accepted.environment.id)
    assert again.operation.id != deleting.operation.id
    assert again.environment.phase is P.DELETING


async def test_a_retry_learns_what_stands(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    await record(
        database,
        accepted.operation.id,
        running("namespace"),
        succeeded("namespace", "uid-n"),
        running("secrets"),
        succeeded("secrets"),
        running("service/db"),
        succeeded("service/db", "uid-db"),
        running("service/api"),
        StepChange(step="service/api", state=StepState.FAILED, failure=CRASHED),
    )
    await finish(database, accepted.operation.id, S.FAILED, failure=CRASHED)
    second = await retry(database, tenant, accepted.environment.id)
    begun = await begin(database, second.operation.id)
    hashes = {step.name: step.input_hash for step in begun.steps}
    assert {name: (each.uid, each.input_hash) for name, each in begun.earlier.items()} == {
        "namespace": ("uid-n", hashes["namespace"]),
        "service/db": ("uid-db", hashes["service/db"]),
    }
    # The second skips the database and is interrupted in the namespace: of that nothing is known any more.
    await record(
        database,
        second.operation.id,
        running("namespace"),
        StepChange(step="service/db", state=StepState.SKIPPED),
    )
    await finish(database, second.operation.id, S.CANCELLED)
    third = await retry(database, tenant, accepted.environment.id)
    assert (await begin(database, third.operation.id)).earlier.keys() == {"service/db"}


async def test_a_retry_trusts_nothing_from_before_a_clean_up(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    await record(database, accepted.operation.id, running("service/db"), succeeded("service/db", "uid-db"))
    await finish(
        database, accepted.operation.id, S.CANCELLED, cleanup=Cleanup(complete=False, left=("Pod/a",))
    )
    again = await retry(database, tenant, accepted.environment.id)
    assert (await begin(database, again.operation.id)).earlier == {}


async def test_a_repair_trusts_nothing_that_succeeded_before(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    await record(
        database,
        accepted.operation.id,
        running("service/db"),
        succeeded("service/db", "uid-db"),
        running("service/api"),
        succeeded("service/api", "uid-api"),
    )
    await finish(database, accepted.operation.id, S.SUCCEEDED)
    await degrade(database, tenant, accepted.environment.id)
    repair = await retry(database, tenant, accepted.environment.id)
    assert (await begin(database, repair.operation.id)).earlier == {}
    # The repair gets as far as the database: its own retry skips that, and no more.
    await record(database, repair.operation.id, running("service/db"), succeeded("service/db", "uid-new"))
    await finish(database, repair.operation.id, S.FAILED, failure=CRASHED)
    third = await retry(database, tenant, accepted.environment.id)
    begun = await begin(database, third.operation.id)
    assert {name: each.uid for name, each in begun.earlier.items()} == {"service/db": "uid-new"}


async def test_the_reconciler_finds_what_was_lost(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    identifier = accepted.operation.id
    soon = utc_now() + timedelta(seconds=1)
    async with database.reading() as session:
        assert await operations.lost_starts(session, utc_now(), timedelta(minutes=1)) == ()
        lost = await operations.lost_starts(session, soon, timedelta())
        assert await operations.live_running(session) == ()
    assert [(ref.operation_id, ref.environment_name, ref.workflow_id) for ref in lost] == [
        (identifier, "shop", f"provision/shop/{identifier}")
    ]
    await begin(database, identifier)
    async with database.transaction() as session:
        await cancel_operation(session, tenant.actor, identifier, cleanup=True, reason="")
    async with database.transaction() as session:
        assert [ref.operation_id for ref in await operations.live_running(session)] == [identifier]
        [undelivered] = await operations.undelivered(session)
        assert undelivered.cancel is not None
        assert (undelivered.id, undelivered.cancel.cleanup) == (identifier, True)
        await ledger.mark_told(session, identifier, undelivered.asked)
        assert await operations.undelivered(session) == ()
    async with database.transaction() as session:
        assert await ledger.close_lost(
            session, identifier, failure(FailureKind.INTERNAL, "the workflow is gone")
        )
    assert (await operation_of(database, tenant, identifier)).state is S.FAILED
    async with database.transaction() as session:
        assert not await ledger.close_lost(session, identifier, CRASHED)


async def test_a_mark_that_comes_late_takes_nothing_back(database: Database) -> None:
    tenant = await make_tenant(database)
    identifier = (await started(database, tenant)).operation.id
    async with database.transaction() as session:
        for cleanup in (False, True):
            await cancel_operation(session, tenant.actor, identifier, cleanup=cleanup, reason="")
        await ledger.mark_told(session, identifier, 1)
        assert [each.id for each in await operations.undelivered(session)] == [identifier]
        await ledger.mark_told(session, identifier, 2)
        await ledger.mark_told(session, identifier, 1)
        assert await operations.undelivered(session) == ()


async def test_what_was_asked_of_an_operation_that_ended_is_not_told(database: Database) -> None:
    tenant = await make_tenant(database)
    identifier = (await started(database, tenant)).operation.id
    async with database.transaction() as session:
        await cancel_operation(session, tenant.actor, identifier, cleanup=False, reason="")
    await finish(database, identifier, S.SUCCEEDED)
    async with database.reading() as session:
        assert await operations.undelivered(session) == ()
    assert not (await operation_of(database, tenant, identifier)).undelivered


async def test_an_operation_whose_workflow_ended_before_it_began_is_closed(database: Database) -> None:
    """Its workflow id is used up: nothing would ever start it again, and it would hold the environment."""
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    async with database.transaction() as session:
        assert await ledger.close_lost(session, accepted.operation.id, CRASHED)
    assert (
        await retry(database, tenant, accepted.environment.id)
    ).operation.retry_of == accepted.operation.id


async def test_live_beside_a_delete(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    deleting = await delete(database, tenant, accepted.environment.id)
    async with database.reading() as session:
        beside = await operations.live_beside(session, deleting.operation.id)
        live = await operations.live(session, tenant.id, accepted.environment.id)
    assert beside is not None
    assert beside.id == accepted.operation.id
    assert [row.id for row in live] == [deleting.operation.id, accepted.operation.id]


@pytest.mark.postgres
async def test_a_reader_misses_no_event_of_a_slow_transaction(postgres_url: str) -> None:
    """A transaction that took its numbers and commits late holds up those after it, not those beside it."""
    database = Database(postgres_url)
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    beside = await make_tenant(database, "two")
    other = await started(database, beside)
    seen: list[int] = []

    async def read_on() -> None:
        async with database.reading() as session:
            rows = await events.after(session, tenant.id, accepted.environment.id, seen[-1] if seen else 0)
        seen.extend(row.number for row in rows)

    async with database.transaction() as slow:
        await ledger.record(
            slow, LedgerEntry(operation_id=accepted.operation.id, changes=(running("namespace"),))
        )
        late = asyncio.create_task(record(database, accepted.operation.id, running("secrets")))
        # Another environment's writer goes on meanwhile, which also gives the late one time to begin.
        await record(database, other.operation.id, running("namespace"))
        await read_on()
        assert not late.done()
        assert seen == [1, 2]
    await late
    await read_on()
    assert seen == [1, 2, 3, 4]
    await database.dispose()


async def test_many_writers_number_without_gap(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    names = ("namespace", "secrets", "service/db", "service/api")
    await asyncio.gather(*(record(database, accepted.operation.id, running(name)) for name in names * 2))
    numbers = [row[0] for row in await log_of(database, tenant, accepted.environment.id)]
    assert numbers == [1, 2, 3, 4, 5, 6]


async def test_a_transaction_that_fails_gives_its_numbers_back(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)

    async def cancelled() -> None:
        async with database.transaction() as session:
            row = await locked_environment(session, accepted.environment.id)
            await events.append(session, row, accepted.operation.id, EventType.STEP, {"state": "lost"})
            await session.flush()
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await cancelled()
    await record(database, accepted.operation.id, running("namespace"))
    assert (await log_of(database, tenant, accepted.environment.id))[-1] == (3, "namespace", "running")


async def test_result_of_a_finish_is_the_end_that_holds(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await started(database, tenant)
    left = Cleanup(complete=False, left=("Pod/a",))
    first = await finish(database, accepted.operation.id, S.CANCELLED, failure=CRASHED, cleanup=left)
    assert first.finished_at is not None
    second = await finish(database, accepted.operation.id, S.SUCCEEDED)
    assert second == first
    assert second == OperationResult(
        operation_id=accepted.operation.id,
        state=S.CANCELLED,
        failure=CRASHED,
        cleanup=left,
        finished_at=first.finished_at,
    )
