"""Retention of snapshots, on both databases and a directory; and how a verification ends in its row."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from ulid import ULID

from activities.db.acceptance import SnapshotWish
from activities.db.engine import Database
from activities.db.errors import SnapshotBusy
from activities.db.repositories import audit, snapshot_policies, snapshots, verifications
from activities.db.repositories.installation import Restored, installation_id, note_restore, store_note
from activities.db.tables import Snapshot
from activities.snapshots.janitor import ORPHAN_AGE
from activities.snapshots.ownership import sign
from activities.snapshots.sweep import LISTED_EVERY_SECONDS, LOST_GRACE, ControlSnapshotSweep, in_turn
from activities.storage.objects import ObjectStore, StoreUnavailable
from activities.temporal import TemporalServer, VerificationStart
from tests.helpers.attempts import handed_out
from tests.helpers.changes import running
from tests.helpers.contexts import CONTEXT
from tests.helpers.snapshots import publish, restore_new, snapshot_of, stored, take, taken
from tests.helpers.statements import statements_of
from tests.helpers.tenants import KEYS, Tenant, begin, finish, make_tenant, shop
from workflows.contracts.snapshot import Discard
from workflows.contracts.sweep_snapshots import AtStorage, SnapshotsSwept
from workflows.contracts.verify import VerificationResult
from workflows.domain.blueprint_models import DataStore
from workflows.domain.environment import EnvironmentContext
from workflows.domain.operations import OperationState
from workflows.domain.snapshot_manifest import SnapshotState, snapshot_prefix
from workflows.domain.snapshot_policy import SnapshotPolicy
from workflows.domain.verification import Check, VerificationState, VerifyLevel

pytestmark = pytest.mark.slow

DB = stored("db", DataStore.POSTGRES, "shop")
GONE = SnapshotWish(lifetime=timedelta(microseconds=-1))


@dataclass
class Starts:
    """Stands in for Temporal."""

    verified: list[VerificationStart] = field(default_factory=list)
    ended: dict[str, datetime] = field(default_factory=dict)
    """By workflow id."""

    async def ended_at(self, workflow_id: str) -> datetime | None:
        return self.ended.get(workflow_id)

    async def verify(self, verification: VerificationStart) -> None:
        self.verified.append(verification)


@dataclass
class Place:
    """A tenant, a store, and the sweep over both."""

    database: Database
    tenant: Tenant
    environment_id: str
    objects: ObjectStore
    starts: Starts = field(default_factory=Starts)

    def worker(self) -> ControlSnapshotSweep:
        """A process that sweeps."""
        return ControlSnapshotSweep(self.database, self.objects, cast(TemporalServer, self.starts), KEYS)

    async def do(self, what: str, worker: ControlSnapshotSweep | None = None) -> SnapshotsSwept:
        """Run one activity of the sweep, in a new process unless one is given."""
        sweep = worker or self.worker()
        done: Any = await handed_out().run(getattr(sweep, what))
        return SnapshotsSwept.model_validate(done)

    async def old(self) -> str:
        """A snapshot whose time is over."""
        accepted = await take(self.database, self.tenant, self.environment_id, GONE)
        await publish(self.database, accepted.accepted.operation.id, DB)
        return accepted.snapshot.id

    async def state(self, snapshot_id: str) -> SnapshotState:
        return (await snapshot_of(self.database, self.tenant, snapshot_id)).state

    async def put(self, snapshot_id: str, installation: str | None = None) -> None:
        """Store something of a snapshot: of this installation, another one, or ("") nobody."""
        if installation is None:
            async with self.database.transaction() as session:
                installation = await installation_id(session)
        if installation:
            signed = context_of_tenant(self.tenant.id, installation)
            await sign(self.objects, signed, snapshot_id)
        await self.objects.put_bytes(f"{snapshot_prefix(self.tenant.id, snapshot_id)}/db/all/1/0", b"data")

    async def there(self) -> set[str]:
        """The snapshots of which something is in the store."""
        return set(await self.objects.names_below(f"snapshots/{self.tenant.id}"))

    async def ask(self, snapshot_id: str, level: VerifyLevel = VerifyLevel.STORED) -> str:
        async with self.database.transaction() as session:
            return (await verifications.ask(session, self.tenant.actor, snapshot_id, level)).id

    async def end(self, verification_id: str, state: VerificationState, at: datetime) -> VerificationState:
        check = Check(level=VerifyLevel.STORED, subject="db/shop", ok=state is VerificationState.PASSED)
        result = VerificationResult(verification_id=verification_id, state=state, checks=(check,))
        async with self.database.transaction() as session:
            return (await verifications.finish(session, result, at)).state

    async def known(self, count: int, age: timedelta = timedelta(days=9)) -> list[str]:
        """Snapshots of that age that are of use, in the database and in the store."""
        found = [made(age) for _ in range(count)]
        async with self.database.transaction() as session:
            session.add_all(
                Snapshot(
                    id=each,
                    organization_id=self.tenant.id,
                    environment_id=self.environment_id,
                    environment_name="shop",
                    operation_id=f"op_of_{each}",
                    state=SnapshotState.AVAILABLE,
                    created_by=self.tenant.actor.principal_id,
                    created_at=datetime.now(UTC) - age,
                )
                for each in found
            )
        for each in found:
            await self.put(each)
        return found

    async def note(self) -> str:
        """What the last look through the store left alone."""
        async with self.database.reading() as session:
            return await store_note(session)


def made(age: timedelta) -> str:
    """The id of a snapshot of that age."""
    return f"snap_{ULID.from_datetime(datetime.now(UTC) - age)}"


def context_of_tenant(organization_id: str, installation: str) -> EnvironmentContext:
    """The context of some environment."""
    return CONTEXT.model_copy(update={"organization_id": organization_id, "installation_id": installation})


@pytest.fixture
async def place(database: Database, tmp_path: Path) -> Place:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    return Place(database, tenant, environment_id, ObjectStore(str(tmp_path)))


async def test_what_is_over_expires_and_goes_in_two_phases(place: Place) -> None:
    over, young = await place.old(), await taken(place.database, place.tenant, place.environment_id, DB)
    for each in (over, young):
        await place.put(each)
    assert await place.do("expire") == SnapshotsSwept(expired=1)
    assert (await place.state(over), await place.state(young)) == (
        SnapshotState.DELETING,
        SnapshotState.AVAILABLE,
    )
    assert await place.there() == {over, young}
    assert await place.do("remove") == SnapshotsSwept(removed=1)
    assert await place.there() == {young}
    # Each a second time finds nothing to do.
    assert (await place.do("expire"), await place.do("remove")) == (SnapshotsSwept(), SnapshotsSwept())
    async with place.database.reading() as session:
        page = await audit.list_entries(session, place.tenant.id, limit=100)
    assert [each.action for each in page.items].count("snapshot.expire") == 1


async def test_what_is_being_restored_or_verified_does_not_expire(place: Place) -> None:
    restored, verified = await place.old(), await place.old()
    restoring = await restore_new(place.database, place.tenant, restored)
    verification = await place.ask(verified)
    assert await place.do("expire") == SnapshotsSwept()
    await begin(place.database, restoring.operation.id)
    await finish(place.database, restoring.operation.id, OperationState.FAILED)
    await place.end(verification, VerificationState.ABORTED, datetime.now(UTC))
    assert await place.do("expire") == SnapshotsSwept(expired=2)


async def test_what_a_failed_snapshot_left_is_removed_and_its_row_stays(place: Place) -> None:
    accepted = await take(place.database, place.tenant, place.environment_id)
    await place.put(accepted.snapshot.id)
    assert await place.do("remove") == SnapshotsSwept()
    await begin(place.database, accepted.accepted.operation.id)
    await finish(place.database, accepted.accepted.operation.id, OperationState.FAILED)
    assert await place.do("remove") == SnapshotsSwept(removed=1)
    assert await place.there() == set()
    assert await place.state(accepted.snapshot.id) is SnapshotState.FAILED


async def test_orphans_go_when_they_are_old_enough(place: Place) -> None:
    known = await place.known(9)
    old, young = made(ORPHAN_AGE + timedelta(minutes=1)), made(ORPHAN_AGE - timedelta(minutes=1))
    for each in (old, young, "not-an-id"):
        await place.put(each)
    assert await place.do("remove_orphans") == SnapshotsSwept(orphans=1)
    assert await place.there() == {*known, young, "not-an-id"}


async def test_what_this_installation_has_not_stored_is_never_an_orphan(place: Place) -> None:
    """Two installations on one store, or a new database; and what was stored before we signed."""
    known = await place.known(9)
    others, unsigned, ours = (made(2 * ORPHAN_AGE) for _ in range(3))
    await place.put(others, installation=str(uuid.uuid4()))
    await place.put(unsigned, installation="")
    await place.put(ours)
    assert await place.do("remove_orphans") == SnapshotsSwept(orphans=1, foreign=2)
    assert await place.there() == {*known, others, unsigned}
    assert await place.note() == ""


async def test_when_many_look_orphaned_none_goes_and_it_is_told(place: Place) -> None:
    known = await place.known(8)
    orphan = made(2 * ORPHAN_AGE)
    await place.put(orphan)
    late = await place.known(1, age=2 * ORPHAN_AGE)
    async with place.database.transaction() as session:
        for each in late:
            (await session.get_one(Snapshot, each)).state = SnapshotState.FAILED
    # What a row says that it is of no use goes all the same.
    assert await place.do("remove_orphans") == SnapshotsSwept(orphans=2), "one of ten is no more than a tenth"
    assert await place.there() == {*known}
    await place.put(orphan)
    assert await place.do("remove_orphans") == SnapshotsSwept(withheld=1)
    assert await place.there() == {*known, orphan}
    assert await place.note() == (
        "1 of 9 snapshots of this installation in the object store are not in the database, more than 10%: "
        f"none of them is removed ({orphan})"
    )
    await place.objects.delete_below(snapshot_prefix(place.tenant.id, orphan))
    assert await place.do("remove_orphans") == SnapshotsSwept()
    assert await place.note() == ""


async def test_what_was_made_since_a_backup_that_was_restored_is_kept(place: Place) -> None:
    now = datetime.now(UTC)
    known = await place.known(9)
    before, since = made(timedelta(days=9)), made(timedelta(days=1))
    for each in (before, since):
        await place.put(each)
    async with place.database.transaction() as session:
        await note_restore(session, Restored(now, now - timedelta(days=2)))
        # And once more, from a backup that was taken after that: what was unknown stays so.
        await note_restore(session, Restored(now, now - timedelta(hours=3)))
    assert await place.do("remove_orphans") == SnapshotsSwept(orphans=1, withheld=1)
    assert await place.there() == {*known, since}
    assert await place.note() == (
        f"1 were made since the backup that the database was restored from, and are kept ({since})"
    )


async def test_what_was_being_taken_when_the_backup_was_made_is_kept(place: Place) -> None:
    """It may have become available after the backup: the reconciler ends it as failed for all that."""
    accepted = await take(place.database, place.tenant, place.environment_id)
    await begin(place.database, accepted.accepted.operation.id)
    lost = accepted.snapshot.id
    await place.put(lost)
    async with place.database.transaction() as session:
        now = datetime.now(UTC)
        await note_restore(session, Restored(now, now))
    await finish(place.database, accepted.accepted.operation.id, OperationState.FAILED)
    assert await place.do("remove") == SnapshotsSwept()
    assert await place.there() == {lost}
    # One that fails after that is like any other.
    after = await take(place.database, place.tenant, place.environment_id)
    await begin(place.database, after.accepted.operation.id)
    await place.put(after.snapshot.id)
    await finish(place.database, after.accepted.operation.id, OperationState.FAILED)
    assert await place.do("remove") == SnapshotsSwept(removed=1)
    assert await place.there() == {lost}


async def test_all_of_the_store_is_listed_once_an_hour_in_each_process(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.known(9)

    async def orphan() -> None:
        await place.put(made(2 * ORPHAN_AGE))

    async def away(prefix: str) -> tuple[str, ...]:
        raise StoreUnavailable("the store is away")

    worker = place.worker()
    await orphan()
    with monkeypatch.context() as during:
        during.setattr(place.objects, "names_below", away)
        with pytest.raises(StoreUnavailable):
            await place.do("remove_orphans", worker)
    assert await place.do("remove_orphans", worker) == SnapshotsSwept(orphans=1), "it was not listed before"
    await orphan()
    with monkeypatch.context() as during:
        during.setattr(place.objects, "names_below", away)
        assert await place.do("remove_orphans", worker) == SnapshotsSwept()
    assert worker.listing.ended is not None
    worker.listing.ended -= LISTED_EVERY_SECONDS
    assert await place.do("remove_orphans", worker) == SnapshotsSwept(orphans=1)


async def test_policies_of_which_nothing_is_due_cost_the_same_however_many_there_are(place: Place) -> None:
    policy = SnapshotPolicy(
        every_minutes=60, keep_last=1, verify_level=VerifyLevel.STORED, verify_every_hours=1
    )

    async def add(name: str) -> None:
        """An environment with a policy, and one snapshot by it that is verified."""
        environment_id = await running(place.database, place.tenant, shop(name))
        accepted = await take(place.database, place.tenant, environment_id, SnapshotWish(scheduled=True))
        await publish(place.database, accepted.accepted.operation.id, DB)
        verification = await place.ask(accepted.snapshot.id)
        await place.end(verification, VerificationState.PASSED, datetime.now(UTC))
        async with place.database.transaction() as session:
            await snapshot_policies.put(session, place.tenant.actor, environment_id, policy)
            later = datetime.now(UTC) + timedelta(hours=1)
            await snapshot_policies.note(session, environment_id, now=later, next_at=later, result="")

    async def cost() -> int:
        with statements_of(place.database) as seen:
            for what in ("take_due", "expire", "start_verifications"):
                assert await place.do(what) == SnapshotsSwept()
        return len(seen)

    await add("first")
    one = await cost()
    for number in range(6):
        await add(f"other-{number}")
    assert await cost() == one < 20


async def test_a_policy_has_the_newest_verified_first_and_then_what_it_keeps_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.snapshots.sweep.START_GRACE", timedelta(seconds=-1))
    policy = SnapshotPolicy(every_minutes=60, verify_level=VerifyLevel.STORED, verify_every_hours=24)
    made = []
    for _ in range(3):
        accepted = await take(
            place.database, place.tenant, place.environment_id, SnapshotWish(scheduled=True)
        )
        await publish(place.database, accepted.accepted.operation.id, DB)
        made.append(accepted.snapshot.id)
    now = datetime.now(UTC)
    for days, each in zip((2, 3), made, strict=False):
        await place.end(await place.ask(each), VerificationState.PASSED, now - timedelta(days=days))
    async with place.database.transaction() as session:
        await snapshot_policies.put(session, place.tenant.actor, place.environment_id, policy)
    for expected in (made[2], made[1], made[0]):
        for _ in range(2):  # the second sweep finds it running
            assert await place.do("start_verifications") == SnapshotsSwept(started=1)
        one, again = place.starts.verified[-2:]
        assert one == again
        assert one.snapshot_id == expected
        await place.end(one.verification_id, VerificationState.PASSED, now)
    assert await place.do("start_verifications") == SnapshotsSwept()
    assert (await snapshot_of(place.database, place.tenant, made[0])).last_verified_at == now


async def test_a_start_that_was_lost_is_made_once_it_is_old_enough(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = await taken(place.database, place.tenant, place.environment_id, DB)
    verification = await place.ask(snapshot)
    assert await place.do("start_verifications") == SnapshotsSwept()
    monkeypatch.setattr("activities.snapshots.sweep.START_GRACE", timedelta(seconds=-1))
    assert await place.do("start_verifications") == SnapshotsSwept(started=1)
    assert place.starts.verified == [
        VerificationStart(verification, snapshot, place.tenant.id, place.environment_id)
    ]
    await place.end(verification, VerificationState.PASSED, datetime.now(UTC))
    assert await place.do("start_verifications") == SnapshotsSwept()


async def test_one_whose_workflow_ended_without_a_word_is_aborted_and_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.snapshots.sweep.START_GRACE", timedelta(seconds=-1))
    snapshot = await taken(place.database, place.tenant, place.environment_id, DB)
    verification = await place.ask(snapshot)
    # It may still be writing its end.
    place.starts.ended[f"verify/{snapshot}/{verification}"] = datetime.now(UTC)
    assert await place.do("start_verifications") == SnapshotsSwept()
    place.starts.ended[f"verify/{snapshot}/{verification}"] = datetime.now(UTC) - LOST_GRACE
    assert await place.do("start_verifications") == SnapshotsSwept()
    assert place.starts.verified == []
    async with place.database.reading() as session:
        found = await verifications.get_verification(session, place.tenant.id, snapshot, verification)
    assert found.state is VerificationState.ABORTED
    assert found.finished_at is not None
    assert "ended without saying what it found" in found.checks[0].message
    # The snapshot can be verified, deleted and expire again.
    await place.ask(snapshot)


async def test_more_verifications_than_one_page_are_all_looked_at(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.snapshots.sweep.START_GRACE", timedelta(seconds=-1))
    monkeypatch.setattr("activities.snapshots.sweep._BATCH", 2)
    asked = [await place.ask(each) for each in await place.known(5)]
    assert await place.do("start_verifications") == SnapshotsSwept(started=5)
    assert {each.verification_id for each in place.starts.verified} == set(asked)


async def test_the_last_that_passed_and_the_highest_level_stay(place: Place) -> None:
    snapshot = await taken(place.database, place.tenant, place.environment_id, DB)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    passed, failed, aborted = (
        VerificationState.PASSED,
        VerificationState.FAILED,
        VerificationState.ABORTED,
    )
    story = [
        (VerifyLevel.STORED, failed, None, None),
        (VerifyLevel.RESTORED, passed, 1, 2),
        (VerifyLevel.STORED, passed, 2, 2),
        (VerifyLevel.RESTORED, failed, 2, 2),
        (VerifyLevel.RESTORED, aborted, 2, 2),
    ]
    for day, (level, state, verified_on, highest) in enumerate(story):
        verification = await place.ask(snapshot, level)
        with pytest.raises(SnapshotBusy, match=verification):
            await place.ask(snapshot)
        await place.end(verification, state, began + timedelta(days=day))
        now = await snapshot_of(place.database, place.tenant, snapshot)
        expected = None if verified_on is None else began + timedelta(days=verified_on)
        assert (now.last_verified_at, now.verified_level) == (expected, highest)


async def test_the_first_end_holds(place: Place) -> None:
    snapshot = await taken(place.database, place.tenant, place.environment_id, DB)
    verification = await place.ask(snapshot)
    now = datetime.now(UTC)
    assert await place.end(verification, VerificationState.FAILED, now) is VerificationState.FAILED
    assert await place.end(verification, VerificationState.PASSED, now) is VerificationState.FAILED
    assert (await snapshot_of(place.database, place.tenant, snapshot)).last_verified_at is None
    async with place.database.reading() as session:
        kept = await verifications.get_verification(session, place.tenant.id, snapshot, verification)
        assert await snapshots.environment_of(session, snapshot) == place.environment_id
    assert [check.ok for check in kept.checks] == [False]


def test_every_cluster_has_its_turn_and_in_each_what_waited_longest() -> None:
    def kept(cluster: str, snapshot_id: str) -> AtStorage:
        return AtStorage(cluster=cluster, discard=Discard(context=CONTEXT, snapshot_id=snapshot_id))

    now = datetime.now(UTC)
    found = [kept("gone", f"snap_{number:03}") for number in range(200)] + [kept("well", "snap_900")]
    asked: dict[str, datetime | None] = {each.discard.snapshot_id: None for each in found}
    asked["snap_000"] = now
    asked["snap_001"] = now - timedelta(minutes=1)
    turn = [each.discard.snapshot_id for each in in_turn(found, asked, limit=100)]
    assert len(turn) == 100
    assert turn[:3] == ["snap_002", "snap_900", "snap_003"]
    assert not {"snap_000", "snap_001"} & set(turn)
    everything = [each.discard.snapshot_id for each in in_turn(found, asked, limit=300)]
    assert everything[-2:] == ["snap_001", "snap_000"]
