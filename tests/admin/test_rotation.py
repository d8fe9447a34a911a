"""Rotating master keys: done once, done again, killed in the middle, and with a key that is missing."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select

from activities.db.engine import Database
from activities.db.errors import NotFound
from activities.db.repositories import audit, secrets, shares
from activities.db.tables import DataKey
from activities.secrets import MasterKeys, SecretsError
from activities.snapshots.frames import Component, ComponentKey, FileKey, data_key_id
from admin.rotation import rotate
from tests.admin.conftest import Admin, started
from tests.helpers.tenants import KEYS, PLANTED, Tenant, accept, make_tenant
from tests.helpers.waiting import eventually_async

pytestmark = pytest.mark.slow

NEW = os.urandom(32)
BOTH = MasterKeys("m2", {"m2": NEW, **KEYS.keys})
ONLY_NEW = MasterKeys("m2", {"m2": NEW})


def _said(_: str, __: int) -> None:
    return


async def value_of(database: Database, tenant: Tenant, environment_id: str, keys: MasterKeys) -> str:
    """The planted secret, opened with these keys."""
    async with database.reading() as session:
        found = await secrets.secret_values(session, tenant.id, environment_id, keys)
    return found["api-token"]


async def wrapped_by(database: Database) -> dict[str, str]:
    """By organisation: the id of the master key."""
    async with database.reading() as session:
        return {key.organization_id: key.master_key_id for key in await secrets.wrapped_keys(session)}


async def test_secrets_open_with_the_new_key_alone(
    database: Database, database_url: str, admin: Admin
) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    done = admin(database_url, "rotate-keys", keys=BOTH)
    assert done.returncode == 0, done.stderr
    assert "1 data keys are now under 'm2'." in done.stderr
    assert "Done: no data key needs another master key." in done.stderr
    assert await value_of(database, tenant, accepted.environment.id, ONLY_NEW) == PLANTED
    again = admin(database_url, "rotate-keys", keys=ONLY_NEW)
    assert (again.returncode, "0 data keys are now under 'm2'." in again.stderr) == (0, True)
    async with database.reading() as session:
        entries = (
            await audit.list_entries(session, tenant.id, wanted=audit.AuditFilter(action="keys.rotate"))
        ).items
    assert [(entry.principal_id, entry.data) for entry in entries] == [
        ("operator", {"dataKeys": 1, "masterKey": "m2"})
    ]


async def test_streams_of_snapshots_from_before_open_with_the_new_key_alone(database: Database) -> None:
    """And for their own organisation alone, as before."""
    tenant, other = await make_tenant(database), await make_tenant(database)
    component = Component("snap_1", "db")
    async with database.transaction() as session:
        key = await secrets.data_key(session, tenant.id, KEYS)
        await secrets.data_key(session, other.id, KEYS)
    stream = ComponentKey.new(key, component).stream_key()
    await rotate(database, BOTH, _said)
    async with database.reading() as session:
        opened = await secrets.open_data_key(session, tenant.id, data_key_id(stream.header), ONLY_NEW)
        assert FileKey.open(opened, stream.header, component) == stream
        with pytest.raises(NotFound):
            await secrets.open_data_key(session, other.id, data_key_id(stream.header), ONLY_NEW)
        with pytest.raises(SecretsError):
            await secrets.open_data_key(session, tenant.id, data_key_id(stream.header), KEYS)


async def test_share_links_keep_the_old_key(database: Database, database_url: str, admin: Admin) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    async with database.transaction() as session:
        made = await shares.create_share(
            session,
            tenant.actor,
            accepted.environment.id,
            shares.NewShare("m1", pin_hash=None, label="", show_images=False, lifetime=timedelta(hours=1)),
        )
    done = admin(database_url, "rotate-keys", keys=BOTH)
    assert done.returncode == 0
    assert "1 share links were signed with 'm1'" in done.stderr
    async with database.transaction() as session:
        await shares.revoke_share(session, tenant.actor, accepted.environment.id, made.id)
    assert "share links" not in admin(database_url, "rotate-keys", keys=BOTH).stderr


async def test_an_organisation_whose_key_does_not_open_is_left_and_named(database: Database) -> None:
    first, second = await make_tenant(database, "first"), await make_tenant(database, "second")
    foreign = MasterKeys("lost", {"lost": os.urandom(32)})
    await accept(database, first)
    async with database.transaction() as session:
        await secrets.data_key(session, second.id, foreign)
    found = await rotate(database, BOTH, _said)
    assert (found.complete, found.rewrapped, found.left) == (False, 1, {"lost": 1})
    assert found.closed == {second.id: "master key 'lost' is not configured"}
    assert await wrapped_by(database) == {first.id: "m2", second.id: "lost"}


async def test_what_does_not_open_is_exit_code_1(database: Database, database_url: str, admin: Admin) -> None:
    tenant = await make_tenant(database)
    async with database.transaction() as session:
        await secrets.data_key(session, tenant.id, MasterKeys("lost", {"lost": os.urandom(32)}))
    done = admin(database_url, "rotate-keys", keys=BOTH)
    assert done.returncode == 1
    assert "1 data keys are still under 'lost': keep that key." in done.stderr
    assert "Done" not in done.stderr


@pytest.mark.postgres
async def test_killed_in_the_middle(postgres_url: str) -> None:
    """The second organisation is held by a lock: the process is killed with the first one done."""
    database = Database(postgres_url)
    try:
        first, second = sorted(
            [await make_tenant(database, name) for name in ("first", "second")], key=lambda each: each.id
        )
        environments = [(await accept(database, each)).environment.id for each in (first, second)]
        async with database.transaction() as session:
            held = select(DataKey).where(col(DataKey.organization_id) == second.id).with_for_update()
            assert (await session.exec(held)).all()
            with started(postgres_url, "rotate-keys", keys=BOTH):

                async def half_done() -> bool:
                    return await wrapped_by(database) == {first.id: "m2", second.id: "m1"}

                await eventually_async(half_done, "the first organisation is done", within=30)
        assert await wrapped_by(database) == {first.id: "m2", second.id: "m1"}
        for tenant, environment in zip((first, second), environments, strict=True):
            assert await value_of(database, tenant, environment, BOTH) == PLANTED
        found = await rotate(database, BOTH, _said)
        assert (found.complete, found.rewrapped) == (True, 1)
        for tenant, environment in zip((first, second), environments, strict=True):
            assert await value_of(database, tenant, environment, ONLY_NEW) == PLANTED
    finally:
        await database.dispose()


async def test_two_at_once(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    found = await asyncio.gather(rotate(database, BOTH, _said), rotate(database, BOTH, _said))
    assert sorted(each.rewrapped for each in found) in ([0, 1], [1])
    assert await value_of(database, tenant, accepted.environment.id, ONLY_NEW) == PLANTED


class TestRefusals:
    def test_without_keys(self, sqlite_url: str, admin: Admin) -> None:
        done = admin(sqlite_url, "rotate-keys", more={"PERDURE_MASTER_KEYS": ""})
        assert done.returncode == 2
        assert "there is no key" in done.stderr

    def test_a_database_without_our_schema(self, empty_database_url: str, admin: Admin) -> None:
        if empty_database_url.startswith("sqlite"):
            Path(empty_database_url.partition("///")[2]).touch()  # as one that holds nothing
        done = admin(empty_database_url, "rotate-keys")
        assert done.returncode == 1
        assert "The database's schema is at no revision" in done.stderr

    def test_a_database_that_is_away(self, admin: Admin) -> None:
        done = admin("postgresql://nobody:planted-password@127.0.0.1:9/none", "rotate-keys")
        assert done.returncode == 1
        assert "planted-password" not in done.stderr

    def test_a_setting_that_cannot_be_read(self, sqlite_url: str, admin: Admin) -> None:
        done = admin(sqlite_url, "rotate-keys", more={"PERDURE_CLUSTERS": "{"})
        assert (done.returncode, "clusters" in done.stderr) == (2, True)
