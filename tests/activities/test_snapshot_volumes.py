"""Snapshots whose volumes the storage keeps, on both databases: restored as new, removed there first."""

import pytest

from activities.db.engine import Database
from activities.db.errors import SnapshotUnfit
from activities.db.repositories import operations, snapshots
from activities.db.types import utc_now
from tests.helpers.changes import running
from tests.helpers.snapshots import restore_in, restore_new, snapshot_of, stored, take, taken
from tests.helpers.tenants import Tenant, begin, finish, make_tenant
from workflows.domain.blueprint_models import DataStore
from workflows.domain.operations import OperationState
from workflows.domain.snapshot import Consistency, Engine
from workflows.domain.snapshot_manifest import SnapshotState, StoredComponent, StoredVolume

VOLUME = StoredVolume(volume="data", driver="fast.csi", handle="h-1", content="snapcontent-1")
DB = StoredComponent(
    service="db",
    store=DataStore.POSTGRES,
    engine=Engine.CSI,
    consistency=Consistency.CRASH_VOLUME,
    volumes=(VOLUME,),
)


async def _steps(database: Database, tenant: Tenant, operation_id: str) -> dict[str, tuple[str, ...]]:
    async with database.reading() as session:
        steps = await operations.steps(session, tenant.id, operation_id)
        return {step.name: tuple(step.depends_on) for step in steps}


async def _kept(database: Database, tenant: Tenant) -> str:
    environment_id = await running(database, tenant)
    return await taken(database, tenant, environment_id, DB)


async def test_a_new_environment_claims_its_volumes_first(database: Database) -> None:
    tenant = await make_tenant(database)
    snapshot = await _kept(database, tenant)
    accepted = await restore_new(database, tenant, snapshot)
    steps = await _steps(database, tenant, accepted.operation.id)
    assert steps["claim/db"] == ("namespace",)
    assert "claim/db" in steps["service/db"]
    assert steps["load/db"] == ("service/db",)


async def test_streams_claim_nothing(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    snapshot = await taken(database, tenant, environment_id, stored("db", DataStore.POSTGRES))
    accepted = await restore_new(database, tenant, snapshot)
    assert "claim/db" not in await _steps(database, tenant, accepted.operation.id)


async def test_volumes_that_stand_are_not_replaced(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    snapshot = await taken(database, tenant, environment_id, DB)
    with pytest.raises(SnapshotUnfit) as refused:
        await restore_in(database, tenant, snapshot, environment_id)
    [fault] = refused.value.errors
    assert fault.path == ("services", "db")
    assert "restore it as a new environment" in fault.message


@pytest.mark.parametrize("ends", [OperationState.FAILED, OperationState.CANCELLED])
async def test_what_a_snapshot_that_failed_left_at_the_storage_is_not_forgotten(
    database: Database, ends: OperationState
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    accepted = await take(database, tenant, environment_id)
    snapshot = accepted.snapshot.id
    async with database.transaction() as session:
        await snapshots.expect_volumes(session, snapshot)
    await begin(database, accepted.accepted.operation.id)
    await finish(database, accepted.accepted.operation.id, ends)
    async with database.transaction() as session:
        [left] = await snapshots.left_behind(session, limit=10)
        assert (left.snapshot_id, left.at_storage) == (snapshot, True)
        await snapshots.note_standing(session, snapshot, "VolumeSnapshotContent/a stands.", utc_now())
    assert (await snapshot_of(database, tenant, snapshot)).standing == "VolumeSnapshotContent/a stands."
    async with database.transaction() as session:
        await snapshots.forget_volumes(session, snapshot)
        [left] = await snapshots.left_behind(session, limit=10)
        assert not left.at_storage
    assert (await snapshot_of(database, tenant, snapshot)).standing == ""


async def test_what_fell_back_may_have_left_something_at_the_storage(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    snapshot = await taken(database, tenant, environment_id, stored("db", DataStore.POSTGRES))
    async with database.transaction() as session:
        await snapshots.expect_volumes(session, snapshot)
        await snapshots.ask_to_delete(session, tenant.actor, snapshot)
        [left] = await snapshots.left_behind(session, limit=10)
    assert left.at_storage


async def test_rows_wait_until_the_storage_has_removed_its_volumes(database: Database) -> None:
    tenant = await make_tenant(database)
    snapshot = await _kept(database, tenant)
    async with database.transaction() as session:
        # What is of use stays as it is.
        await snapshots.forget_volumes(session, snapshot)
        assert await snapshots.left_behind(session, limit=10) == ()
    kept = (await snapshot_of(database, tenant, snapshot)).manifest
    assert kept is not None
    assert kept.volumes == (VOLUME,)
    async with database.transaction() as session:
        await snapshots.ask_to_delete(session, tenant.actor, snapshot)
    async with database.reading() as session:
        [left] = await snapshots.left_behind(session, limit=10)
        assert (left.snapshot_id, left.at_storage) == (snapshot, True)
        assert await snapshots.left_behind(session, limit=10, after=snapshot) == ()
    for _ in range(2):
        async with database.transaction() as session:
            await snapshots.forget_volumes(session, snapshot)
    async with database.reading() as session:
        [left] = await snapshots.left_behind(session, limit=10)
        assert not left.at_storage
    assert (await snapshot_of(database, tenant, snapshot)).state is SnapshotState.DELETING
