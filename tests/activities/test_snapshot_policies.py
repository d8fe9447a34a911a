"""Policies of snapshots on both databases: what is due is taken once, what is too much goes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from typing import cast

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlmodel import func, select, update

from activities.db.acceptance import Accepted, SnapshotWish, delete_environment
from activities.db.engine import Database
from activities.db.errors import NotFound
from activities.db.records import SWEEPER, JsonObject
from activities.db.repositories import events, snapshot_policies, snapshot_retention, snapshots, verifications
from activities.db.repositories.snapshot_policies import PolicyRecord
from activities.db.snapshot_schedule import take_due
from activities.db.tables import EventType, Revision, Snapshot
from activities.db.types import utc_now
from tests.helpers.changes import ended, running
from tests.helpers.clock import JumpingClock
from tests.helpers.snapshots import publish, restore_new, snapshot_of, stored, take
from tests.helpers.tenants import KEYS, Tenant, begin, finish, make_tenant, operation_of, shop
from tests.helpers.waiting import eventually_async
from workflows.contracts.verify import VerificationResult
from workflows.domain.blueprint_models import DataStore
from workflows.domain.operations import OperationState
from workflows.domain.snapshot_manifest import SnapshotState
from workflows.domain.snapshot_policy import SnapshotPolicy
from workflows.domain.verification import Check, VerificationState, VerifyLevel

pytestmark = pytest.mark.slow

DB = stored("db", DataStore.POSTGRES, "shop")
HOURLY = SnapshotPolicy(every_minutes=60, keep_last=2, verify_level=VerifyLevel.READABLE)


async def put(
    database: Database, tenant: Tenant, environment_id: str, policy: SnapshotPolicy = HOURLY
) -> PolicyRecord:
    async with database.transaction() as session:
        return await snapshot_policies.put(session, tenant.actor, environment_id, policy)


async def policy_of(database: Database, tenant: Tenant, environment_id: str) -> PolicyRecord:
    async with database.reading() as session:
        return await snapshot_policies.get(session, tenant.id, environment_id)


async def due(database: Database, environment_id: str, at: datetime) -> Accepted | None:
    async with database.transaction() as session:
        return await take_due(session, environment_id, at, keys=KEYS)


async def test_what_is_due_is_taken_once_and_keeps_to_its_times(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = (await put(database, tenant, environment_id)).next_at
    assert first is not None
    now = first + timedelta(minutes=5)
    async with database.reading() as session:
        assert [each.environment_id for each in await snapshot_policies.due(session, now)] == [environment_id]
        assert await snapshot_policies.due(session, first - timedelta(seconds=1)) == ()
    accepted = await due(database, environment_id, now)
    assert accepted is not None
    assert accepted.operation.requested_by == SWEEPER
    assert await due(database, environment_id, now) is None
    told = await policy_of(database, tenant, environment_id)
    assert (told.next_at, told.last_at) == (first + timedelta(hours=1), first)
    taken = await snapshot_of(database, tenant, told.last_result)
    assert (taken.scheduled, taken.state, taken.name) == (True, SnapshotState.CREATING, "scheduled")
    assert taken.expires_at is not None


async def test_a_busy_environment_is_asked_again_and_one_that_rests_at_its_time(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    busy = await take(database, tenant, environment_id, SnapshotWish())
    first = (await put(database, tenant, environment_id)).next_at
    assert first is not None
    assert await due(database, environment_id, first) is None
    told = await policy_of(database, tenant, environment_id)
    assert told.next_at == first + timedelta(minutes=1)
    assert told.last_result.startswith("skipped: the environment is busy with snapshot")
    assert (told.result_at, told.last_at, told.last_snapshot_id) == (first, None, None)
    await publish(database, busy.accepted.operation.id, DB)
    again = first + timedelta(minutes=1)
    accepted = await due(database, environment_id, again)
    assert accepted is not None
    told = await policy_of(database, tenant, environment_id)
    assert (told.result_at, told.last_at, told.last_snapshot_id) == (again, again, told.last_result)
    assert told.last_snapshot_state is SnapshotState.CREATING
    taken = told.last_snapshot_id
    # Another skip tells its own time, and the snapshot what became of it.
    later = first + timedelta(hours=2)
    assert await due(database, environment_id, later) is None
    await begin(database, accepted.operation.id)
    await finish(database, accepted.operation.id, OperationState.FAILED)
    told = await policy_of(database, tenant, environment_id)
    assert (told.result_at, told.last_at, told.last_snapshot_id) == (later, again, taken)
    assert told.last_result.startswith("skipped: ")
    assert told.last_snapshot_state is SnapshotState.FAILED


async def test_who_is_busy_now_and_then_keeps_to_the_policys_times(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = (await put(database, tenant, environment_id)).next_at
    assert first is not None
    accepted = await due(database, environment_id, first)
    second = first + timedelta(hours=1)
    assert await due(database, environment_id, second) is None, "the first one is still being taken"
    assert accepted is not None
    await publish(database, accepted.operation.id, DB)
    assert await due(database, environment_id, second + timedelta(minutes=1)) is not None
    told = await policy_of(database, tenant, environment_id)
    assert (told.last_at, told.next_at) == (second, second + timedelta(hours=1))


@pytest.mark.parametrize("set_anew", [False, True])
async def test_a_clock_that_was_ahead_keeps_no_snapshot_from_being_taken(
    database: Database, clock: JumpingClock, *, set_anew: bool
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await put(database, tenant, environment_id)
    clock.jump(days=365)
    accepted = await due(database, environment_id, utc_now())
    assert accepted is not None
    await publish(database, accepted.operation.id, DB)
    # Put back by a little, it is not taken once more.
    clock.jump(minutes=-30)
    assert await due(database, environment_id, utc_now()) is None
    clock.ahead = timedelta()
    now = utc_now()
    if set_anew:
        told = await put(database, tenant, environment_id)
        assert told.next_at is not None
        now = told.next_at
        assert now <= utc_now() + timedelta(hours=1)
    async with database.reading() as session:
        assert [each.environment_id for each in await snapshot_policies.due(session, now)] == [environment_id]
    assert await due(database, environment_id, now) is not None
    told = await policy_of(database, tenant, environment_id)
    assert told.last_at is not None
    assert told.last_at <= now
    assert told.next_at == told.last_at + timedelta(hours=1)
    assert await due(database, environment_id, now) is None


async def test_one_that_cannot_be_read_is_said_and_passed_over(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = (await put(database, tenant, environment_id)).next_at
    assert first is not None
    async with database.transaction() as session:
        await session.exec(update(Revision).values(blueprint={"name": 3}))
    assert await due(database, environment_id, first) is None
    told = await policy_of(database, tenant, environment_id)
    assert told.next_at == first + timedelta(hours=1)
    assert told.last_result == "skipped: its Blueprint cannot be read by this version"


async def test_a_policy_that_is_paused_or_gone_takes_none(database: Database) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database)
    environment_id = await running(database, tenant)
    paused = await put(database, tenant, environment_id, HOURLY.model_copy(update={"paused": True}))
    assert paused.next_at is None
    far = utc_now() + timedelta(days=365)
    assert await due(database, environment_id, far) is None
    with pytest.raises(NotFound):
        await policy_of(database, other, environment_id)
    with pytest.raises(NotFound):
        await put(database, other, environment_id)
    async with database.transaction() as session:
        await snapshot_policies.remove(session, tenant.actor, environment_id)
    with pytest.raises(NotFound):
        await policy_of(database, tenant, environment_id)


async def _scheduled(database: Database, tenant: Tenant, environment_id: str) -> str:
    accepted = await take(database, tenant, environment_id, SnapshotWish(scheduled=True))
    await publish(database, accepted.accepted.operation.id, DB)
    return accepted.snapshot.id


async def test_beyond_the_last_that_are_kept_scheduled_ones_go(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    by_hand = await take(database, tenant, environment_id, SnapshotWish())
    await publish(database, by_hand.accepted.operation.id, DB)
    made = [await _scheduled(database, tenant, environment_id) for _ in range(4)]
    for other, policy in (("kept", SnapshotPolicy(every_minutes=60)), ("without", None)):
        unlimited = await running(database, tenant, shop(other))
        if policy is not None:
            await put(database, tenant, unlimited, policy)
        made += [await _scheduled(database, tenant, unlimited) for _ in range(3)]
    await put(database, tenant, environment_id)
    restoring = await restore_new(database, tenant, made[0])

    async def keep() -> int:
        async with database.transaction() as session:
            return await snapshot_retention.expire_surplus(session, limit=10)

    async def states() -> list[SnapshotState]:
        return [(await snapshot_of(database, tenant, each)).state for each in made]

    assert await keep() == 1
    a, d = SnapshotState.AVAILABLE, SnapshotState.DELETING
    others = [a] * 6
    assert await states() == [a, d, a, a, *others]  # the first is being restored
    await ended(database, restoring)
    assert await keep() == 1
    assert await states() == [d, d, a, a, *others]
    assert (await snapshot_of(database, tenant, by_hand.snapshot.id)).state is a
    assert (await operation_of(database, tenant, restoring.operation.id)).ended


@pytest_asyncio.fixture
async def on_postgres(postgres_url: str) -> AsyncIterator[Database]:
    """An open, migrated database on Postgres."""
    opened = Database(postgres_url)
    yield opened
    await opened.dispose()


async def _one_waits(database: Database) -> bool:
    """Whether somebody waits for the lock that a test has."""
    query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    async with database.reading() as session:
        waiting: int | None = await (await session.connection()).scalar(query)
        return waiting == 1


@pytest.mark.postgres
@pytest.mark.parametrize("meanwhile", ["deletion", "sweep", "policy"])
async def test_what_its_policy_keeps_by_now_does_not_go(on_postgres: Database, meanwhile: str) -> None:
    """The query that ranks them begins before something else is done, and gets its locks after that."""
    database = on_postgres
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    policy = SnapshotPolicy(every_minutes=60, keep_last=2)
    await put(database, tenant, environment_id, policy)
    made = [await _scheduled(database, tenant, environment_id) for _ in range(3)]
    # A number that the query has only once it gets a lock, which the test holds until then.
    late = select(10).select_from(func.pg_advisory_xact_lock(1)).scalar_subquery()

    async def keep(limit: int) -> int:
        async with database.transaction() as session:
            return await snapshot_retention.expire_surplus(session, limit=limit)

    async with database.transaction() as holding:
        await holding.exec(select(func.pg_advisory_xact_lock(1)))
        sweep = asyncio.create_task(keep(cast("int", late)))
        await eventually_async(partial(_one_waits, database), "the query has begun")
        if meanwhile == "sweep":
            assert await keep(10) == 1
        elif meanwhile == "policy":
            await put(database, tenant, environment_id, policy.model_copy(update={"keep_last": 3}))
        else:
            async with database.transaction() as session:
                await snapshots.ask_to_delete(session, tenant.actor, made[-1])
    assert await sweep == 0
    a, d = SnapshotState.AVAILABLE, SnapshotState.DELETING
    states = [(await snapshot_of(database, tenant, each)).state for each in made]
    assert states == {"deletion": [a, a, d], "sweep": [d, a, a], "policy": [a, a, a]}[meanwhile]


@pytest.mark.postgres
@pytest.mark.parametrize("use", ["restore", "verification"])
async def test_one_whose_use_is_accepted_while_it_is_looked_for_does_not_expire(
    on_postgres: Database, use: str
) -> None:
    """The query that finds what is over begins before the use is accepted, and gets its lock after that."""
    database = on_postgres
    tenant = await make_tenant(database)
    identifier = await _scheduled(database, tenant, await running(database, tenant))
    past = utc_now() - timedelta(hours=1)
    async with database.transaction() as session:
        await session.exec(update(Snapshot).values(expires_at=past))
    # A time that the query has only once it gets a lock, which the test holds until the use is accepted.
    late = select(func.now()).select_from(func.pg_advisory_xact_lock(1)).scalar_subquery()

    async def expire() -> int:
        async with database.transaction() as session:
            return await snapshot_retention.expire(session, cast("datetime", late), limit=10)

    async with database.transaction() as holding:
        await holding.exec(select(func.pg_advisory_xact_lock(1)))
        sweep = asyncio.create_task(expire())
        await eventually_async(partial(_one_waits, database), "the query has begun")
        if use == "restore":
            await restore_new(database, tenant, identifier)
        else:
            async with database.transaction() as session:
                await verifications.ask(session, tenant.actor, identifier, VerifyLevel.READABLE)
    assert await sweep == 0
    assert (await snapshot_of(database, tenant, identifier)).state is SnapshotState.AVAILABLE


async def test_the_newest_scheduled_one_is_to_be_verified_once(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)

    async def unproved(level: VerifyLevel | None = VerifyLevel.READABLE) -> list[tuple[str, VerifyLevel]]:
        await put(database, tenant, environment_id, HOURLY.model_copy(update={"verify_level": level}))
        async with database.reading() as session:
            found = await snapshot_retention.unproved(session, utc_now())
        assert {each.organization_id for each in found} <= {tenant.id}
        return [(each.snapshot_id, each.level) for each in found]

    assert await unproved() == []
    await _scheduled(database, tenant, environment_id)
    newest = await _scheduled(database, tenant, environment_id)
    assert await unproved() == [(newest, VerifyLevel.READABLE)]
    assert await unproved(None) == []
    assert await unproved(VerifyLevel.STORED) == [(newest, VerifyLevel.STORED)]
    async with database.transaction() as session:
        await verifications.ask(session, tenant.actor, newest, VerifyLevel.READABLE)
    assert await unproved() == []
    assert await unproved(VerifyLevel.RESTORED) == [(newest, VerifyLevel.RESTORED)]


async def _verify(
    database: Database, tenant: Tenant, snapshot_id: str, state: VerificationState, at: datetime | None = None
) -> None:
    async with database.transaction() as session:
        asked = await verifications.ask(session, tenant.actor, snapshot_id, VerifyLevel.READABLE)
        result = VerificationResult(verification_id=asked.id, state=state, checks=())
        await verifications.finish(session, result, at or utc_now())


async def test_an_unproved_snapshot_does_not_replace_the_last_proved_one(
    database: Database,
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first, second, third, fourth = [await _scheduled(database, tenant, environment_id) for _ in range(4)]
    for each in (first, second):
        await _verify(database, tenant, each, VerificationState.PASSED)
    await _verify(database, tenant, third, VerificationState.FAILED)

    async def keep(level: VerifyLevel | None) -> list[SnapshotState]:
        policy = SnapshotPolicy(every_minutes=60, keep_last=1, verify_level=level)
        await put(database, tenant, environment_id, policy)
        async with database.transaction() as session:
            await snapshot_retention.expire_surplus(session, limit=10)
        return [(await snapshot_of(database, tenant, each)).state for each in (first, second, third, fourth)]

    a, d = SnapshotState.AVAILABLE, SnapshotState.DELETING
    assert await keep(VerifyLevel.READABLE) == [d, a, d, a]
    await _verify(database, tenant, fourth, VerificationState.PASSED)
    assert await keep(VerifyLevel.READABLE) == [d, d, d, a]


async def test_without_a_wish_for_proofs_they_go_by_age(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first, second = [await _scheduled(database, tenant, environment_id) for _ in range(2)]
    await _verify(database, tenant, first, VerificationState.PASSED)
    await put(database, tenant, environment_id, SnapshotPolicy(every_minutes=60, keep_last=1))
    async with database.transaction() as session:
        assert await snapshot_retention.expire_surplus(session, limit=10) == 1
    assert (await snapshot_of(database, tenant, first)).state is SnapshotState.DELETING
    assert (await snapshot_of(database, tenant, second)).state is SnapshotState.AVAILABLE


async def test_an_aborted_verification_is_asked_for_again_later_each_time(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await put(database, tenant, environment_id)
    snapshot = await _scheduled(database, tenant, environment_id)
    now = utc_now()

    async def wanted(after: timedelta) -> bool:
        async with database.reading() as session:
            return bool(await snapshot_retention.unproved(session, now + after))

    for minutes in (10, 20, 40):
        await _verify(database, tenant, snapshot, VerificationState.ABORTED, now)
        assert not await wanted(timedelta(minutes=minutes - 1))
        assert await wanted(timedelta(minutes=minutes))
    for _ in range(snapshot_retention.ASKED_AT_MOST - 4):
        await _verify(database, tenant, snapshot, VerificationState.ABORTED, now)
    assert not await wanted(timedelta(hours=23))
    assert await wanted(timedelta(days=1))
    await _verify(database, tenant, snapshot, VerificationState.ABORTED, now)
    assert not await wanted(timedelta(days=30)), "not for ever"


async def test_a_failed_verification_has_told_what_the_snapshot_is(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await put(database, tenant, environment_id)
    snapshot = await _scheduled(database, tenant, environment_id)
    await _verify(database, tenant, snapshot, VerificationState.ABORTED)
    await _verify(database, tenant, snapshot, VerificationState.FAILED)
    async with database.reading() as session:
        assert await snapshot_retention.unproved(session, utc_now() + timedelta(days=2)) == ()


def _after(hours: int, level: VerifyLevel | None = VerifyLevel.READABLE) -> SnapshotPolicy:
    """A policy whose snapshots are verified anew after so many hours."""
    return SnapshotPolicy(every_minutes=60, verify_level=level, verify_every_hours=hours)


async def _stale(database: Database, at: datetime) -> list[str]:
    async with database.reading() as session:
        return [each.snapshot_id for each in await snapshot_retention.stale(session, at)]


async def _proved(
    database: Database, tenant: Tenant, environment_id: str, *hours_ago: int
) -> tuple[datetime, list[str]]:
    """Snapshots of a policy whose verification passed so long before the time that is returned first."""
    now = utc_now()
    made = [await _scheduled(database, tenant, environment_id) for _ in hours_ago]
    for each, hours in zip(made, hours_ago, strict=True):
        await _verify(database, tenant, each, VerificationState.PASSED, now - timedelta(hours=hours))
    return now, made


async def test_what_is_kept_is_verified_anew_the_oldest_proof_first_and_one_at_a_time(
    database: Database,
) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database)
    environment_id = await running(database, tenant)
    now, (second, first, young) = await _proved(database, tenant, environment_id, 30, 40, 5)
    await _scheduled(database, tenant, environment_id)  # never proved: there is nothing to renew
    by_hand = await take(database, tenant, environment_id, SnapshotWish())
    await publish(database, by_hand.accepted.operation.id, DB)
    await _verify(database, tenant, by_hand.snapshot.id, VerificationState.PASSED, now - timedelta(days=9))
    elsewhere = await running(database, other)
    _, [of_other] = await _proved(database, other, elsewhere, 35)

    await put(database, tenant, environment_id)  # a policy that does not say so
    assert await _stale(database, now + timedelta(days=99)) == []
    await put(database, tenant, environment_id, _after(24))
    await put(database, other, elsewhere, _after(24, VerifyLevel.STORED))
    async with database.reading() as session:
        found = await snapshot_retention.stale(session, now)
    assert found == (
        snapshot_retention.Unproved(tenant.id, first, VerifyLevel.READABLE),
        snapshot_retention.Unproved(other.id, of_other, VerifyLevel.STORED),
    )
    assert await _stale(database, now - timedelta(hours=16, minutes=1)) == []
    assert await _stale(database, now - timedelta(hours=15, minutes=59)) == [first]

    # While one of them is verified, whoever asked for it, it is no other's turn.
    async with database.transaction() as session:
        asked = await verifications.ask(session, tenant.actor, young, VerifyLevel.STORED)
    assert await _stale(database, now) == [of_other]
    aborted = VerificationResult(verification_id=asked.id, state=VerificationState.ABORTED)
    async with database.transaction() as session:
        await verifications.finish(session, aborted, now)
    await _verify(database, tenant, first, VerificationState.PASSED, now)
    assert await _stale(database, now) == [of_other, second]
    await _verify(database, tenant, second, VerificationState.PASSED, now)
    assert await _stale(database, now) == [of_other]
    assert await _stale(database, now + timedelta(hours=20)) == [of_other, young]
    async with database.transaction() as session:
        await session.exec(update(Snapshot).values(state=SnapshotState.DELETING))
    assert await _stale(database, now + timedelta(days=9)) == []


async def test_only_what_passed_the_policys_level_is_a_proof(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    now, [snapshot] = await _proved(database, tenant, environment_id, 48)
    async with database.transaction() as session:
        asked = await verifications.ask(session, tenant.actor, snapshot, VerifyLevel.STORED)
        lower = VerificationResult(verification_id=asked.id, state=VerificationState.PASSED)
        await verifications.finish(session, lower, now)
    for level, expected in (
        (VerifyLevel.STORED, []),
        (VerifyLevel.READABLE, [snapshot]),  # the later one was of a lower level
        (VerifyLevel.RESTORED, []),
        (None, []),
    ):
        await put(database, tenant, environment_id, _after(24, level))
        assert await _stale(database, now) == expected, level


async def test_one_that_fails_anew_is_told_and_is_no_proof_any_more(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    now, (first, damaged) = await _proved(database, tenant, environment_id, 30, 40)
    newest = await _scheduled(database, tenant, environment_id)
    await put(database, tenant, environment_id, _after(24).model_copy(update={"keep_last": 1}))
    assert await _stale(database, now) == [damaged]

    async def told() -> list[JsonObject]:
        async with database.reading() as session:
            found = await events.after(session, tenant.id, environment_id, 0)
        return [each.data for each in found if each.type is EventType.VERIFICATION]

    assert await told() == []
    async with database.transaction() as session:
        asked = await verifications.ask(session, tenant.actor, damaged, VerifyLevel.READABLE)
        checks = (
            Check(level=VerifyLevel.STORED, subject="db/roles", ok=True),
            Check(level=VerifyLevel.STORED, subject="db/shop", ok=False, message="an object is missing"),
        )
        failed = VerificationResult(verification_id=asked.id, state=VerificationState.FAILED, checks=checks)
        await verifications.finish(session, failed, now)
        await verifications.finish(session, failed, now)  # a repeat tells it no second time
    assert await told() == [
        {
            "snapshotId": damaged,
            "verificationId": asked.id,
            "level": 1,
            "state": "failed",
            "message": "db/shop: an object is missing",
        }
    ]
    # It is as a snapshot whose first one failed: it stays, is not asked for, and the last good one is kept.
    assert await _stale(database, now) == [first]
    assert await _stale(database, now + timedelta(days=99)) == [first]
    async with database.transaction() as session:
        assert await snapshot_retention.expire_surplus(session, limit=10) == 1
    states = [(await snapshot_of(database, tenant, each)).state for each in (first, damaged, newest)]
    assert states == [SnapshotState.AVAILABLE, SnapshotState.DELETING, SnapshotState.AVAILABLE]


async def test_the_end_of_a_deleted_environments_verification_needs_no_event(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    snapshot = await _scheduled(database, tenant, environment_id)
    async with database.transaction() as session:
        deleting = await delete_environment(session, tenant.actor, environment_id, force=False)
    await ended(database, deleting)
    await _verify(database, tenant, snapshot, VerificationState.FAILED)
    async with database.reading() as session:
        found = await events.after(session, tenant.id, environment_id, 0)
    assert EventType.VERIFICATION not in {each.type for each in found}


async def test_one_that_is_aborted_anew_gives_way_and_is_never_given_up(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await put(database, tenant, environment_id, _after(24 * 7))
    now, (young, old) = await _proved(database, tenant, environment_id, 24 * 8, 24 * 9)
    for minutes in (10, 20, 40):
        await _verify(database, tenant, old, VerificationState.ABORTED, now)
        assert await _stale(database, now + timedelta(minutes=minutes - 1)) == [young]
        assert await _stale(database, now + timedelta(minutes=minutes)) == [old]
    for _ in range(snapshot_retention.ASKED_AT_MOST - 3):
        await _verify(database, tenant, old, VerificationState.ABORTED, now)
    assert await _stale(database, now + timedelta(days=6, hours=23)) == [young]
    assert await _stale(database, now + timedelta(days=7, minutes=1)) == [old], "a week has passed"
    # A verification that passed begins all of it anew.
    await _verify(database, tenant, old, VerificationState.PASSED, now)
    await _verify(database, tenant, old, VerificationState.ABORTED, now + timedelta(days=7))
    later = now + timedelta(days=7, minutes=10)
    await _verify(database, tenant, young, VerificationState.PASSED, later)
    assert await _stale(database, later) == [old]
