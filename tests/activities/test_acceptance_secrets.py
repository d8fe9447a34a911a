"""The secrets of a revision: written out, kept, generated, referred to, and had again by a rollback."""

import json

import pytest
from pydantic import JsonValue

from activities.db.acceptance import blueprint_for_clone
from activities.db.engine import Database
from activities.db.errors import InvalidReferences
from activities.db.repositories import revisions, secrets
from activities.operation import Ledger
from activities.secrets import Opener, Sealer, new_private_key
from tests.helpers.changes import DONE, edited, ended, rollback, running, update, values_of
from tests.helpers.tenants import KEYS, PLANTED, Tenant, begin, make_tenant, shop
from workflows.contracts.operation import LedgerEntry, OperationInput, PreImage, SealSecrets
from workflows.domain.blueprint import Blueprint
from workflows.domain.operations import OperationState

pytestmark = pytest.mark.slow

S = OperationState
OPENER = Opener(new_private_key())
GENERATED: JsonValue = {"name": "db-password", "envKey": "DB_PASSWORD", "value": "auto-generated"}


def with_token(value: str) -> Blueprint:
    return edited(api={"secrets": [GENERATED, {"name": "api-token", "envKey": "API_TOKEN", "value": value}]})


def referring(name: str, stored: str) -> Blueprint:
    secret: JsonValue = {"name": name, "envKey": "API_TOKEN", "valueFrom": {"secret": stored}}
    return edited(api={"secrets": [GENERATED, secret]})


async def store(database: Database, tenant: Tenant, name: str, value: str) -> None:
    async with database.transaction() as session:
        key = await secrets.data_key(session, tenant.id, KEYS)
        await secrets.store_secret(session, tenant.id, name, value, key=key)


async def blueprint_of(database: Database, tenant: Tenant, environment_id: str, number: int) -> Blueprint:
    async with database.reading() as session:
        revision = await revisions.get_revision(session, tenant.id, environment_id, number)
    assert PLANTED not in json.dumps(revision.blueprint)
    return Blueprint.model_validate(revision.blueprint)


def ledger(database: Database) -> Ledger:
    return Ledger(database=database, keys=KEYS, sealers={"local": Sealer(OPENER.public_key)})


async def sealed(database: Database, operation_id: str, revision: int | None = None) -> dict[str, str]:
    """Return the values as the cluster's worker opens them."""
    request = SealSecrets(operation_id=operation_id, revision=revision)
    answer = await ledger(database).seal_secrets(request)
    return {name: OPENER.open(value) for name, value in answer.values.items()}


async def test_a_changed_literal_changes_its_services_and_is_had_from_then_on(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = await values_of(database, tenant, environment_id)
    updated = await update(database, tenant, environment_id, with_token("rotated-1"))
    changes = {each.service: each for each in updated.preview.changes}
    assert [field.field for field in changes["api"].fields] == ["secrets[api-token].value"]
    assert not changes["db"].fields
    assert await values_of(database, tenant, environment_id, 1) == first
    assert await values_of(database, tenant, environment_id, 2) == {**first, "api-token": "rotated-1"}
    assert "rotated-1" not in json.dumps([each.model_dump(mode="json") for each in updated.preview.changes])


async def test_what_is_not_written_out_again_is_kept(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = await values_of(database, tenant, environment_id)
    shown = await blueprint_of(database, tenant, environment_id, 1)
    assert (await update(database, tenant, environment_id, shown)).preview.noop
    sent_back = edited(shown, api={"env": {"A": "1"}})
    await update(database, tenant, environment_id, sent_back)
    assert await values_of(database, tenant, environment_id, 2) == first


async def test_a_new_generated_secret_is_made_and_the_old_ones_stay(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = await values_of(database, tenant, environment_id)
    wanted = edited(web={"secrets": [{"name": "session", "envKey": "S", "value": "auto-generated"}]})
    await update(database, tenant, environment_id, wanted)
    values = await values_of(database, tenant, environment_id, 2)
    assert values == {**first, "session": values["session"]}
    assert len(values["session"]) == 32
    assert "session" not in await values_of(database, tenant, environment_id, 1)


async def test_a_rollback_has_the_values_of_its_revision_again(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = await values_of(database, tenant, environment_id)
    await ended(database, (await update(database, tenant, environment_id, with_token("rotated-1"))).accepted)
    await ended(database, (await update(database, tenant, environment_id, with_token("rotated-2"))).accepted)
    back = await rollback(database, tenant, environment_id, 1)
    assert not back.preview.noop, "only a value differs, and it does"
    await ended(database, back.accepted)
    assert (await values_of(database, tenant, environment_id, 4)) == first
    assert (await values_of(database, tenant, environment_id, 3))["api-token"] == "rotated-2"
    kept = await update(
        database,
        tenant,
        environment_id,
        edited(await blueprint_of(database, tenant, environment_id, 4), web={}),
    )
    assert kept.accepted is not None
    assert (await values_of(database, tenant, environment_id, 5))["api-token"] == PLANTED


async def test_a_value_of_an_update_that_went_back_is_not_the_next_ones(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    updated = await update(database, tenant, environment_id, with_token("bad"))
    await ended(database, updated.accepted, S.ROLLED_BACK, DONE)
    shown = await blueprint_of(database, tenant, environment_id, 1)
    await update(database, tenant, environment_id, edited(shown, web={}))
    assert (await values_of(database, tenant, environment_id, 3))["api-token"] == PLANTED
    assert (await values_of(database, tenant, environment_id, 2))["api-token"] == "bad"


async def test_the_same_value_again_after_it_went_back_is_had_again(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    updated = await update(database, tenant, environment_id, with_token("good-after-all"))
    await ended(database, updated.accepted, S.ROLLED_BACK, DONE)
    again = await update(database, tenant, environment_id, with_token("good-after-all"))
    assert again.accepted is not None
    assert (await values_of(database, tenant, environment_id, 3))["api-token"] == "good-after-all"


async def test_a_reference_to_another_secret_of_the_organisation(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    with pytest.raises(InvalidReferences):
        await update(database, tenant, environment_id, referring("api-token", "shared"))
    await store(database, tenant, "shared", "of-the-organisation")
    updated = await update(database, tenant, environment_id, referring("api-token", "shared"))
    assert updated.accepted is not None
    plan = await ledger(database).begin(OperationInput(operation_id=updated.accepted.operation.id))
    assert await sealed(database, plan.context.operation_id) == {
        "api-token": "of-the-organisation",
        "db-password": (await values_of(database, tenant, environment_id, 1))["db-password"],
    }


async def test_a_name_that_both_have_is_the_environments_own(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await store(database, tenant, "api-token", "of-the-organisation")
    unchanged = await update(database, tenant, environment_id, referring("api-token", "api-token"))
    assert unchanged.preview.noop


async def test_a_name_that_only_the_organisation_has_is_the_organisations(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await store(database, tenant, "other", "of-the-organisation")
    updated = await update(database, tenant, environment_id, referring("other", "other"))
    assert updated.accepted is not None
    await begin(database, updated.accepted.operation.id)
    assert (await sealed(database, updated.accepted.operation.id))["other"] == "of-the-organisation"


async def test_the_undo_seals_the_values_of_the_revision_before(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    updated = await update(database, tenant, environment_id, with_token("rotated-1"))
    assert updated.accepted is not None
    operation_id = updated.accepted.operation.id
    plan = await ledger(database).begin(OperationInput(operation_id=operation_id))
    assert (await sealed(database, operation_id))["api-token"] == "rotated-1"
    assert (await sealed(database, operation_id, 1))["api-token"] == PLANTED
    await ledger(database).record(
        LedgerEntry(operation_id=operation_id, pre_image=PreImage(namespace_existed=True, revision=1))
    )
    before = await ledger(database).pre_image(OperationInput(operation_id=operation_id))
    assert before.secret_digests["api-token"] != plan.secret_digests["api-token"]
    assert before.secret_digests["db-password"] == plan.secret_digests["db-password"]


async def test_a_clone_has_the_present_values_and_generates_its_own(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await ended(database, (await update(database, tenant, environment_id, with_token("rotated-1"))).accepted)
    async with database.transaction() as session:
        source = await blueprint_for_clone(session, tenant.actor, environment_id, "copy", keys=KEYS)
    copy = await running(database, tenant, source.blueprint)
    original, own = (
        await values_of(database, tenant, environment_id),
        await values_of(database, tenant, copy),
    )
    assert own["api-token"] == original["api-token"] == "rotated-1"
    assert own["db-password"] != original["db-password"]
    assert source.blueprint.name == "copy"
    assert [each.name for each in source.blueprint.services] == [each.name for each in shop().services]
