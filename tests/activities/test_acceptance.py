"""Accepting operations: what is written, what is refused, and who wins a race."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest
from pydantic import JsonValue
from sqlmodel import col, select

from activities.db.acceptance import (
    Accepted,
    cancel_operation,
    delete_environment,
)
from activities.db.engine import Database
from activities.db.errors import (
    AlreadyDeleted,
    AlreadyEnded,
    Busy,
    CapExceeded,
    InvalidReferences,
    NameTaken,
    NotCancellable,
    NotFound,
    NotRetryable,
    Protected,
)
from activities.db.inserts import Asked, add_operation, new_operation
from activities.db.records import Caps, OperationRecord
from activities.db.repositories import audit, environments, events, operations, revisions, secrets
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.registry_credentials import create_registry_credential
from activities.db.tables import EventType, Organization, Secret
from activities.db.types import utc_now
from tests.helpers.tenants import (
    KEYS,
    PLANTED,
    Tenant,
    accept,
    begin,
    degrade,
    environment_of,
    finish,
    make_tenant,
    operation_of,
    retry,
    shop,
)
from workflows.domain.environment import GuardRails
from workflows.domain.operations import EnvironmentPhase, OperationKind, OperationState, StepState

S, P = OperationState, EnvironmentPhase


async def delete(database: Database, tenant: Tenant, environment_id: str, *, force: bool = False) -> Accepted:
    async with database.transaction() as session:
        return await delete_environment(session, tenant.actor, environment_id, force=force)


async def cancel(
    database: Database, tenant: Tenant, operation_id: str, *, cleanup: bool = False
) -> OperationRecord:
    async with database.transaction() as session:
        return await cancel_operation(
            session, tenant.actor, operation_id, cleanup=cleanup, reason="changed my mind"
        )


def contents_of(directory: Path) -> dict[str, bytes]:
    return {file.suffix: file.read_bytes() for file in directory.glob("perdure.db*")}


async def failed(database: Database, tenant: Tenant) -> Accepted:
    accepted = await accept(database, tenant)
    await begin(database, accepted.operation.id)
    await finish(database, accepted.operation.id, S.FAILED)
    return accepted


async def test_accepting_writes_all_that_belongs_to_it(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    environment, operation = accepted.environment, accepted.operation
    assert (environment.phase, operation.state, operation.fence) == (P.PROVISIONING, S.ACCEPTED, 1)
    assert operation.workflow_id == f"provision/shop/{operation.id}"
    assert environment.created_at.utcoffset() is not None
    async with database.reading() as session:
        steps = await operations.steps(session, tenant.id, operation.id)
        log = await events.after(session, tenant.id, environment.id, 0)
        trail = await audit.list_entries(session, tenant.id)
        revision = await revisions.get_revision(session, tenant.id, environment.id, 1)
        stored = (await secrets.list_secrets(session, tenant.id, environment.id)).items
        values = await secrets.secret_values(session, tenant.id, environment.id, KEYS)
    assert [step.name for step in steps] == ["namespace", "secrets", "service/db", "service/api"]
    assert all(step.state is StepState.PENDING and step.input_hash for step in steps)
    assert [(event.number, event.type, event.data["state"]) for event in log] == [
        (1, EventType.OPERATION, "accepted")
    ]
    assert [entry.action for entry in trail.items] == ["environment.create"]
    assert {secret.name: secret.generated for secret in stored} == {"api-token": False, "db-password": True}
    assert values["api-token"] == PLANTED
    assert len(values["db-password"]) == 32
    assert PLANTED not in str(revision.blueprint)
    services = revision.blueprint["services"]
    assert isinstance(services, list)
    assert isinstance(services[0], dict)
    assert list(services[0]["env"]) == ["Z_FIRST", "A_SECOND"]  # type: ignore[arg-type]


async def test_a_planted_secret_is_not_in_the_database_files(sqlite_url: str) -> None:
    opened = Database(sqlite_url)
    tenant = await make_tenant(opened)
    accepted = await accept(opened, tenant)
    await begin(opened, accepted.operation.id)
    async with opened.transaction() as session:
        await create_registry_credential(
            session,
            tenant.actor,
            name="corp",
            host="registry.test",
            username="reader",
            password=PLANTED,
            keys=KEYS,
        )
    contents = contents_of(Path(sqlite_url.removeprefix("sqlite:///")).parent)
    assert {".db", ".db-wal"} <= contents.keys()
    content = b"".join(contents.values())
    assert b"api-token" in content
    assert PLANTED.encode() not in content
    assert tenant.token.encode() not in content
    await opened.dispose()


async def test_a_name_is_taken_until_its_environment_is_deleted(database: Database) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database, "two")
    first = await accept(database, tenant)
    with pytest.raises(NameTaken) as taken:
        await accept(database, tenant)
    assert taken.value.existing_id == first.environment.id
    assert taken.value.http_status == 409
    await accept(database, other)
    deleting = await delete(database, tenant, first.environment.id)
    await begin(database, deleting.operation.id)
    await finish(database, deleting.operation.id, S.SUCCEEDED)
    second = await accept(database, tenant)
    assert second.environment.namespace != first.environment.namespace


async def test_two_at_once_with_one_name_give_one_environment(database: Database) -> None:
    tenant = await make_tenant(database)
    answers = await asyncio.gather(accept(database, tenant), accept(database, tenant), return_exceptions=True)
    assert {type(answer) for answer in answers} == {Accepted, NameTaken}


async def test_all_faults_of_references_come_together(database: Database) -> None:
    tenant = await make_tenant(database, caps=Caps(environments=0))
    blueprint = shop(
        services=[
            {
                "name": "api",
                "image": "registry.test/api:1",
                "imagePullSecrets": ["corp"],
                "secrets": [{"name": "token", "envKey": "TOKEN", "valueFrom": {"secret": "shared"}}],
            }
        ]
    )
    with pytest.raises(InvalidReferences) as faults:
        await accept(database, tenant, blueprint)
    assert [error.field for error in faults.value.errors] == [
        "",
        "services[0].imagePullSecrets[0]",
        "services[0].secrets[0].valueFrom.secret",
    ]
    assert faults.value.http_status == 422
    async with database.reading() as session:
        assert (await environments.list_environments(session, tenant.id)).items == ()


async def test_references_to_the_organisation_are_found(database: Database) -> None:
    tenant = await make_tenant(database)
    async with database.transaction() as session:
        key = await secrets.data_key(session, tenant.id, KEYS)
        await secrets.store_secret(session, tenant.id, "shared", PLANTED, key=key)
        await create_registry_credential(
            session, tenant.actor, name="corp", host="r.test", username="u", password="p", keys=KEYS
        )
    service: dict[str, JsonValue] = {
        "name": "api",
        "image": "registry.test/api:1",
        "imagePullSecrets": ["corp"],
        "secrets": [{"name": "token", "envKey": "TOKEN", "valueFrom": {"secret": "shared"}}],
    }
    accepted = await accept(database, tenant, shop(services=[service]))
    async with database.reading() as session:
        assert not (await secrets.list_secrets(session, tenant.id, accepted.environment.id)).items


@pytest.mark.parametrize(
    ("caps", "name"),
    [
        (Caps(environments=1), "environments"),
        (Caps(cpu="30m"), "cpu"),
        (Caps(memory="100Mi"), "memory"),
        (Caps(storage="1.5Gi"), "storage"),
    ],
)
async def test_caps_count_what_exists(database: Database, caps: Caps, name: str) -> None:
    tenant = await make_tenant(database, caps=caps)
    await accept(database, tenant)
    with pytest.raises(CapExceeded) as over:
        await accept(database, tenant, shop("second"))
    assert over.value.cap == name


async def test_the_organisations_guard_rails_go_on_top(database: Database) -> None:
    tenant = await make_tenant(database)
    async with database.transaction() as session:
        row = await session.get_one(Organization, tenant.id)
        own = GuardRails(quota={"pods": "5"}, ingress_class=None, blocked_egress=())
        row.guard_rails = own.model_dump(mode="json", exclude_unset=True)
    cluster = GuardRails(base_domain="apps.test", ingress_class="nginx")
    rails = (await accept(database, tenant, rails=cluster)).environment.guard_rails
    assert rails == GuardRails(quota={"pods": "5"}, base_domain="apps.test", blocked_egress=())


async def test_retry_takes_up_a_failed_operation(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await failed(database, tenant)
    again = await retry(database, tenant, accepted.environment.id)
    assert again.operation.retry_of == accepted.operation.id
    assert again.operation.fence == 3
    assert again.environment.phase is P.PROVISIONING
    async with database.reading() as session:
        before = await operations.steps(session, tenant.id, accepted.operation.id)
        after = await operations.steps(session, tenant.id, again.operation.id)
    assert [step.input_hash for step in before] == [step.input_hash for step in after]


async def test_a_changed_secret_changes_the_input_hashes_of_a_retry(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await failed(database, tenant)
    async with database.transaction() as session:
        key = await secrets.data_key(session, tenant.id, KEYS)
        await secrets.store_secret(
            session, tenant.id, "api-token", "another", key=key, environment_id=accepted.environment.id
        )
    again = await retry(database, tenant, accepted.environment.id)
    async with database.reading() as session:
        before = await operations.steps(session, tenant.id, accepted.operation.id)
        after = await operations.steps(session, tenant.id, again.operation.id)
    changed = {old.name for old, new in zip(before, after, strict=True) if old.input_hash != new.input_hash}
    assert changed == {"secrets", "service/api"}


async def test_retry_is_refused_while_busy_and_when_nothing_failed(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    with pytest.raises(Busy) as busy:
        await retry(database, tenant, accepted.environment.id)
    assert busy.value.operation_id == accepted.operation.id
    await begin(database, accepted.operation.id)
    await finish(database, accepted.operation.id, S.SUCCEEDED)
    with pytest.raises(NotRetryable) as refused:
        await retry(database, tenant, accepted.environment.id)
    assert refused.value.state is S.SUCCEEDED


async def test_what_succeeded_is_provisioned_anew_while_degraded(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    await begin(database, accepted.operation.id)
    await finish(database, accepted.operation.id, S.SUCCEEDED)
    await degrade(database, tenant, accepted.environment.id)
    again = await retry(database, tenant, accepted.environment.id)
    assert (again.operation.kind, again.operation.retry_of) == (
        OperationKind.PROVISION,
        accepted.operation.id,
    )
    assert (again.operation.revision, again.operation.fence) == (accepted.operation.revision, 3)
    assert again.environment.phase is P.PROVISIONING
    with pytest.raises(Busy):
        await retry(database, tenant, accepted.environment.id)
    await begin(database, again.operation.id)
    await finish(database, again.operation.id, S.SUCCEEDED)
    with pytest.raises(NotRetryable):
        await retry(database, tenant, accepted.environment.id)


async def both(*work: Awaitable[Accepted]) -> set[type]:
    return {type(answer) for answer in await asyncio.gather(*work, return_exceptions=True)}


async def test_two_retries_at_once_give_one_operation(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await failed(database, tenant)
    identifier = accepted.environment.id
    assert await both(retry(database, tenant, identifier), retry(database, tenant, identifier)) == {
        Accepted,
        Busy,
    }


async def test_the_index_keeps_a_second_mutation_out(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    async with database.transaction() as session:
        environment = await locked_environment(session, accepted.environment.id)
        another, deletion = (
            new_operation(tenant.actor, accepted.environment, Asked(kind), fence=3, now=utc_now())
            for kind in (OperationKind.PROVISION, OperationKind.DELETE)
        )
        with pytest.raises(Busy) as busy:
            await add_operation(session, environment, another, ())
        # The transaction goes on after the refusal.
        await add_operation(session, environment, deletion, ())
    assert busy.value.operation_id == accepted.operation.id


async def test_delete_is_never_held_up_by_what_runs(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    await begin(database, accepted.operation.id)
    deleting = await delete(database, tenant, accepted.environment.id)
    assert deleting.environment.phase is P.DELETING
    assert deleting.environment.delete_requested_at is not None
    running = await operation_of(database, tenant, accepted.operation.id)
    assert running.state is S.RUNNING
    assert running.cancel is not None
    again = await delete(database, tenant, accepted.environment.id)
    assert again.repeated
    assert again.operation.id == deleting.operation.id


async def test_delete_cancels_at_once_what_has_not_begun(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    await delete(database, tenant, accepted.environment.id)
    ended = await operation_of(database, tenant, accepted.operation.id)
    assert ended.state is S.CANCELLED
    environment = await environment_of(database, tenant, accepted.environment.id)
    assert environment.phase is P.DELETING


async def audit_of(database: Database, tenant: Tenant, environment_id: str) -> list[str]:
    async with database.reading() as session:
        entries = await audit.list_entries(
            session, tenant.id, wanted=audit.AuditFilter(subject_id=environment_id)
        )
    return [entry.action for entry in entries.items]


async def test_force_for_a_delete_that_has_not_begun_is_read_as_it_begins(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    await delete(database, tenant, accepted.environment.id)
    forced = await delete(database, tenant, accepted.environment.id, force=True)
    assert (forced.repeated, forced.operation.force, forced.operation.asked) == (True, True, 0)
    begun = await begin(database, forced.operation.id)
    assert begun.operation.force
    assert not begun.operation.undelivered


async def test_force_for_a_delete_that_runs_is_to_be_delivered(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    deleting = await delete(database, tenant, accepted.environment.id)
    await begin(database, deleting.operation.id)
    before = await environment_of(database, tenant, accepted.environment.id)
    forced = await delete(database, tenant, accepted.environment.id, force=True)
    assert (forced.operation.id, forced.repeated) == (deleting.operation.id, True)
    assert (forced.operation.force, forced.operation.undelivered, forced.operation.asked) == (True, True, 1)
    async with database.reading() as session:
        [event] = await events.after(session, tenant.id, accepted.environment.id, before.last_event)
    assert (event.type, event.data["state"], event.data["force"]) == (EventType.OPERATION, "running", True)
    assert (await audit_of(database, tenant, accepted.environment.id))[0] == "environment.force_delete"


async def test_forcing_twice_changes_nothing_more(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    deleting = await delete(database, tenant, accepted.environment.id)
    await begin(database, deleting.operation.id)
    first, second = await asyncio.gather(
        delete(database, tenant, accepted.environment.id, force=True),
        delete(database, tenant, accepted.environment.id, force=True),
    )
    assert first == second
    assert (await delete(database, tenant, accepted.environment.id)).operation == first.operation
    trail = await audit_of(database, tenant, accepted.environment.id)
    assert trail == ["environment.force_delete", "environment.delete", "environment.create"]


async def test_two_deletes_at_once_are_one(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    identifier = accepted.environment.id
    first, second = await asyncio.gather(
        delete(database, tenant, identifier), delete(database, tenant, identifier)
    )
    assert first.operation.id == second.operation.id
    assert {first.repeated, second.repeated} == {False, True}


async def test_delete_says_when_it_cannot_be(database: Database) -> None:
    tenant = await make_tenant(database)
    guarded = await accept(database, tenant, shop("guarded", protected=True))
    with pytest.raises(Protected):
        await delete(database, tenant, guarded.environment.id)
    accepted = await accept(database, tenant)
    deleting = await delete(database, tenant, accepted.environment.id, force=True)
    assert deleting.operation.force
    await begin(database, deleting.operation.id)
    await finish(database, deleting.operation.id, S.SUCCEEDED)
    with pytest.raises(AlreadyDeleted):
        await delete(database, tenant, accepted.environment.id)
    with pytest.raises(AlreadyDeleted):
        await retry(database, tenant, accepted.environment.id)


async def test_cancel_of_an_accepted_operation_ends_it(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    answer = await cancel(database, tenant, accepted.operation.id)
    assert (answer.state, answer.undelivered) == (S.CANCELLED, False)
    environment = await environment_of(database, tenant, accepted.environment.id)
    assert environment.phase is P.ERROR
    assert [condition.reason for condition in environment.conditions] == ["Cancelled"]
    async with database.reading() as session:
        steps = await operations.steps(session, tenant.id, accepted.operation.id)
    assert {step.state for step in steps} == {StepState.CANCELLED}
    assert not (await begin(database, accepted.operation.id)).proceed
    with pytest.raises(AlreadyEnded):
        await cancel(database, tenant, accepted.operation.id)
    assert (await retry(database, tenant, accepted.environment.id)).operation.state is S.ACCEPTED


async def test_cancel_of_a_running_operation_is_to_be_delivered(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    await begin(database, accepted.operation.id)
    first = await cancel(database, tenant, accepted.operation.id)
    assert (first.undelivered, first.asked) == (True, 1)
    stronger = await cancel(database, tenant, accepted.operation.id, cleanup=True)
    assert stronger.cancel is not None
    assert (stronger.cancel.cleanup, stronger.asked) == (True, 2)
    weaker = await cancel(database, tenant, accepted.operation.id)
    assert (weaker.cancel, weaker.asked) == (stronger.cancel, 2)


async def test_a_delete_cannot_be_cancelled(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    deleting = await delete(database, tenant, accepted.environment.id)
    with pytest.raises(NotCancellable):
        await cancel(database, tenant, deleting.operation.id)


async def test_another_organisation_can_do_nothing(database: Database) -> None:
    tenant, stranger = await make_tenant(database), await make_tenant(database, "two")
    accepted = await failed(database, tenant)
    for attempt in (
        retry(database, stranger, accepted.environment.id),
        delete(database, stranger, accepted.environment.id),
        cancel(database, stranger, accepted.operation.id),
    ):
        with pytest.raises(NotFound) as unknown:
            await attempt
        assert unknown.value.http_status == 404


async def test_a_refused_request_leaves_nothing(database: Database) -> None:
    tenant = await make_tenant(database, caps=Caps(cpu="1m"))
    with pytest.raises(CapExceeded):
        await accept(database, tenant)
    async with database.reading() as session:
        assert (
            await session.exec(select(Secret).where(col(Secret.organization_id) == tenant.id))
        ).all() == []
        assert (await audit.list_entries(session, tenant.id)).items == ()
