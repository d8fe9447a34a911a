"""Settings of an environment: what a Blueprint brings, what a request sets, and which of both holds when."""

from datetime import datetime, timedelta

from pydantic import JsonValue
from sqlmodel import col, select

from activities.db.acceptance.settings import Settings, change_settings
from activities.db.engine import Database
from activities.db.records import EnvironmentRecord
from activities.db.tables import Environment, Event, EventType
from activities.db.types import utc_now
from tests.helpers.changes import DONE, ended, rollback, running, scale, update
from tests.helpers.tenants import Tenant, environment_of, make_tenant, shop
from workflows.domain.blueprint import Blueprint
from workflows.domain.operations import OperationState
from workflows.domain.timers import EXPIRY_NOTICE

S = OperationState


async def given(database: Database, blueprint: Blueprint, **wanted: JsonValue) -> tuple[Tenant, str]:
    """An environment that runs, with settings of its Blueprint and others that a request set."""
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, blueprint)
    await set_by_request(database, tenant, environment_id, **wanted)
    return tenant, environment_id


async def set_by_request(
    database: Database, tenant: Tenant, environment_id: str, **wanted: JsonValue
) -> None:
    async with database.transaction() as session:
        settings = Settings(**wanted)  # type: ignore[typeddict-item]
        await change_settings(session, tenant.actor, environment_id, settings)


async def made_before(database: Database, environment_id: str, age: timedelta) -> datetime:
    """Have the environment been made so long ago; return when."""
    async with database.transaction() as session:
        row = await session.get_one(Environment, environment_id)
        row.created_at = utc_now() - age
        return row.created_at


async def told(database: Database, environment_id: str) -> list[JsonValue]:
    """What the events of settings say that changed, in order."""
    async with database.reading() as session:
        query = (
            select(Event.data)
            .where(col(Event.environment_id) == environment_id, col(Event.type) == EventType.SETTINGS)
            .order_by(col(Event.number))
        )
        return [data["changes"] for data in (await session.exec(query)).all()]


def shown(environment: EnvironmentRecord) -> tuple[str, dict[str, str], bool, int | None]:
    return environment.description, environment.labels, environment.protected, environment.ttl_minutes


async def test_an_update_leaves_what_a_request_set_and_brings_what_its_blueprint_changes(
    database: Database,
) -> None:
    tenant, environment_id = await given(
        database,
        shop(labels={"team": "a"}),
        protected=True,
        description="by hand",
        labels={"team": "hand"},
    )
    await ended(
        database,
        (await update(database, tenant, environment_id, shop(labels={"team": "a"}, ttlMinutes=600))).accepted,
    )
    after = await environment_of(database, tenant, environment_id)
    assert shown(after) == ("by hand", {"team": "hand"}, True, 600)
    await ended(
        database,
        (await update(database, tenant, environment_id, shop(labels={"team": "b"}, ttlMinutes=600))).accepted,
    )
    after = await environment_of(database, tenant, environment_id)
    assert shown(after) == ("by hand", {"team": "b"}, True, 600)
    assert (await told(database, environment_id))[1:] == [
        {"ttlMinutes": {"before": None, "after": 600}},
        {"labels": {"before": {"team": "hand"}, "after": {"team": "b"}}},
    ]


async def test_what_is_taken_back_takes_its_own_settings_with_it(database: Database) -> None:
    tenant, environment_id = await given(database, shop(), protected=True, description="by hand")
    updated = await update(
        database, tenant, environment_id, shop(description="of revision 2", labels={"a": "b"})
    )
    await set_by_request(database, tenant, environment_id, labels={"set": "meanwhile"})
    await ended(database, updated.accepted, S.ROLLED_BACK, DONE)
    after = await environment_of(database, tenant, environment_id)
    assert shown(after) == ("by hand", {"set": "meanwhile"}, True, None)
    assert (await told(database, environment_id))[-1] == {
        "description": {"before": "of revision 2", "after": "by hand"}
    }


async def test_what_changes_no_blueprint_takes_back_no_setting(database: Database) -> None:
    tenant, environment_id = await given(
        database, shop(), protected=True, labels={"by": "hand"}, ttl_minutes=600
    )
    await ended(database, await scale(database, tenant, environment_id, 3), S.CANCELLED, DONE)
    after = await environment_of(database, tenant, environment_id)
    assert shown(after) == ("", {"by": "hand"}, True, 600)


async def test_a_rollback_brings_the_settings_that_its_blueprint_has_otherwise(database: Database) -> None:
    tenant, environment_id = await given(database, shop(description="first"), protected=True)
    await ended(
        database, (await update(database, tenant, environment_id, shop(description="second"))).accepted
    )
    await ended(database, (await rollback(database, tenant, environment_id, 1)).accepted)
    after = await environment_of(database, tenant, environment_id)
    assert shown(after) == ("first", {}, True, None)


async def test_the_end_goes_by_the_time_to_live_whoever_changes_it(database: Database) -> None:
    tenant, environment_id = await given(database, shop(), ttl_minutes=5000)
    made = (await environment_of(database, tenant, environment_id)).created_at
    updated = await update(database, tenant, environment_id, shop(ttlMinutes=600))
    after = await environment_of(database, tenant, environment_id)
    assert after.expires_at == made + timedelta(minutes=600)
    await ended(database, updated.accepted, S.ROLLED_BACK, DONE)
    after = await environment_of(database, tenant, environment_id)
    assert (after.ttl_minutes, after.expires_at) == (5000, made + timedelta(minutes=5000))
    await ended(database, (await update(database, tenant, environment_id, shop(ttlMinutes=600))).accepted)
    await ended(database, (await update(database, tenant, environment_id, shop())).accepted)
    after = await environment_of(database, tenant, environment_id)
    assert (after.ttl_minutes, after.expires_at) == (None, None)


async def test_an_end_that_would_have_passed_is_put_off_until_it_was_announced(database: Database) -> None:
    tenant, environment_id = await given(database, shop())
    await made_before(database, environment_id, timedelta(days=2))
    asked = utc_now()
    await set_by_request(database, tenant, environment_id, ttl_minutes=1)
    after = await environment_of(database, tenant, environment_id)
    assert after.expires_at is not None
    assert asked + EXPIRY_NOTICE <= after.expires_at <= utc_now() + EXPIRY_NOTICE


async def test_taking_protection_off_deletes_nothing_unannounced(database: Database) -> None:
    tenant, environment_id = await given(database, shop(), protected=True, ttl_minutes=60)
    made = await made_before(database, environment_id, timedelta(days=2))
    async with database.transaction() as session:
        row = await session.get_one(Environment, environment_id)
        row.expires_at = row.expiry_warned_for = made + timedelta(minutes=60)
    await set_by_request(database, tenant, environment_id, protected=False)
    async with database.reading() as session:
        row = await session.get_one(Environment, environment_id)
        assert row.expires_at is not None
        assert row.expires_at > utc_now() + EXPIRY_NOTICE - timedelta(minutes=1)
        assert row.expiry_warned_for != row.expires_at


async def test_after_a_rename_the_same_blueprint_is_no_update_by_either_name(database: Database) -> None:
    tenant, environment_id = await given(database, shop("shop"), name="branch")
    for name in ("shop", "branch"):
        assert (await update(database, tenant, environment_id, shop(name))).preview.noop
