"""Repositories: what they find, page by page, and that one organisation never sees another's."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance import Accepted
from activities.db.engine import Database
from activities.db.errors import (
    IdempotencyMismatch,
    IdempotencyUsed,
    InvalidCursor,
    NameTaken,
    NotFound,
    Unauthenticated,
)
from activities.db.records import Condition, RegistryCredentialRecord
from activities.db.repositories import (
    audit,
    environments,
    events,
    idempotency,
    keys,
    operations,
    organizations,
    registry_credentials,
    revisions,
    secrets,
)
from activities.db.repositories.environments import EnvironmentFilter
from activities.db.repositories.idempotency import StoredAnswer
from activities.db.tables import PrincipalKind, Role
from activities.db.types import utc_now
from tests.helpers.tenants import KEYS, PLANTED, Tenant, accept, begin, finish, make_tenant, shop
from workflows.domain.operations import EnvironmentPhase, OperationKind, OperationState

ANSWER = StoredAnswer(status=202, body={"data": {"id": "env_1"}}, headers={"Location": "/v1/operations/op_1"})


@dataclass(frozen=True)
class World:
    """Two organisations, one of which has everything."""

    owner: Tenant
    stranger: Tenant
    accepted: Accepted
    credential: RegistryCredentialRecord

    @property
    def environment_id(self) -> str:
        return self.accepted.environment.id

    @property
    def operation_id(self) -> str:
        return self.accepted.operation.id


async def world_in(database: Database) -> World:
    owner, stranger = await make_tenant(database), await make_tenant(database, "two")
    accepted = await accept(database, owner)
    async with database.transaction() as session:
        key = await secrets.data_key(session, owner.id, KEYS)
        await secrets.store_secret(session, owner.id, "shared", PLANTED, key=key)
        credential = await registry_credentials.create_registry_credential(
            session, owner.actor, name="corp", host="r.test", username="u", password=PLANTED, keys=KEYS
        )
    return World(owner, stranger, accepted, credential)


READS: dict[str, Callable[[AsyncSession, str, World], Awaitable[object]]] = {
    "environment": lambda s, o, w: environments.get_environment(s, o, w.environment_id),
    "name of an environment": lambda s, o, w: environments.environment_name(s, o, w.environment_id),
    "environment by name": lambda s, o, w: environments.find_environment(s, o, "shop"),
    "environments": lambda s, o, w: environments.list_environments(s, o),
    "environments by name": lambda s, o, w: environments.list_environments(
        s, o, wanted=EnvironmentFilter(name="shop")
    ),
    "update of a phase": lambda s, o, w: environments.update_phase(
        s, o, w.environment_id, EnvironmentPhase.DEGRADED
    ),
    "operation": lambda s, o, w: operations.get_operation(s, o, w.operation_id),
    "operations": lambda s, o, w: operations.list_operations(s, o),
    "operations of it": lambda s, o, w: operations.list_operations(
        s, o, wanted=operations.OperationFilter(environment_id=w.environment_id)
    ),
    "latest operations": lambda s, o, w: operations.latest(s, o, [w.environment_id]),
    "live operations": lambda s, o, w: operations.live(s, o, w.environment_id),
    "steps": lambda s, o, w: operations.steps(s, o, w.operation_id),
    "events": lambda s, o, w: events.after(s, o, w.environment_id, 0),
    "events of an operation": lambda s, o, w: events.after(
        s, o, w.environment_id, 0, operation_id=w.operation_id
    ),
    "revision": lambda s, o, w: revisions.get_revision(s, o, w.environment_id, 1),
    "revisions": lambda s, o, w: revisions.list_revisions(s, o, w.environment_id),
    "secrets": lambda s, o, w: secrets.list_secrets(s, o, w.environment_id),
    "shared secrets": lambda s, o, w: secrets.list_secrets(s, o),
    "secret values": lambda s, o, w: secrets.secret_values(s, o, w.environment_id, KEYS),
    "shared secret values": lambda s, o, w: secrets.secret_values(s, o, None, KEYS),
    "secret names": lambda s, o, w: secrets.existing_names(s, o, ["shared"]),
    "credential": lambda s, o, w: registry_credentials.get_registry_credential(s, o, w.credential.id),
    "credential by name": lambda s, o, w: registry_credentials.find_registry_credential(s, o, "corp"),
    "replaced credential": lambda s, o, w: registry_credentials.replace_registry_credential(
        s,
        replace(w.owner.actor, organization_id=o),
        w.credential.id,
        host="r.test",
        username="u",
        password=PLANTED,
        keys=KEYS,
    ),
    "credentials": lambda s, o, w: registry_credentials.list_registry_credentials(s, o),
    "credential names": lambda s, o, w: registry_credentials.existing_names(s, o, ["corp"]),
    "docker configs": lambda s, o, w: registry_credentials.docker_configs(s, o, ["corp"], KEYS),
    "audit of it": lambda s, o, w: audit.list_entries(
        s, o, wanted=audit.AuditFilter(subject_id=w.environment_id)
    ),
    "principal": lambda s, o, w: organizations.get_principal(s, o, w.owner.actor.principal_id),
    "key": lambda s, o, w: keys.revoke_key(s, o, w.owner.actor.key_id or ""),
}


async def found(database: Database, read: Awaitable[object]) -> bool:
    """Whether a read found anything: not the empty answer, and not NotFound."""
    try:
        answer = await read
    except NotFound:
        return False
    items = getattr(answer, "items", None)
    return bool(items if isinstance(items, tuple) else answer)


@pytest.mark.parametrize("name", sorted(READS))
async def test_another_organisations_things_are_not_found(database: Database, name: str) -> None:
    world = await world_in(database)
    read = READS[name]
    async with database.reading() as session:
        assert not await found(database, read(session, world.stranger.id, world))
        assert await found(database, read(session, world.owner.id, world))


async def test_a_strangers_data_key_and_writes_are_refused(database: Database) -> None:
    world = await world_in(database)
    async with database.reading() as session:
        key = await secrets.data_key(session, world.owner.id, KEYS)
        with pytest.raises(NotFound):
            await secrets.open_data_key(session, world.stranger.id, key.id, KEYS)
        with pytest.raises(NotFound):
            await keys.create_key(
                session, world.stranger.id, world.owner.actor.principal_id, name="x", role=Role.OWNER
            )
        await secrets.destroy_environment_secrets(session, world.stranger.id, world.environment_id)
        assert (await secrets.list_secrets(session, world.owner.id, world.environment_id)).items
        assert await organizations.find_organization(session, "none") is None
        assert [key.id for key in (await keys.list_keys(session, world.stranger.id)).items] == [
            world.stranger.actor.key_id
        ]


async def test_tokens_open_until_they_expire_or_are_revoked(database: Database) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database, "two")
    async with database.transaction() as session:
        service = await organizations.create_principal(session, tenant.id, PrincipalKind.SERVICE, "ci")
        expired = await keys.create_key(
            session,
            tenant.id,
            service.id,
            name="old",
            role=Role.VIEWER,
            expires_at=utc_now() - timedelta(seconds=1),
        )
        good = await keys.create_key(
            session, tenant.id, service.id, name="ci", role=Role.DEVELOPER, unlimited=True
        )
    assert good.token not in repr(good)
    assert good.token.endswith(good.key.last8)
    async with database.transaction() as session:
        known = await keys.authenticate(session, good.token)
        assert (known.actor.principal_id, known.actor.role, known.key.unlimited) == (
            service.id,
            Role.DEVELOPER,
            True,
        )
        assert await keys.authenticate(session, good.token, tenant.id) == known
        with pytest.raises(NotFound):
            await keys.authenticate(session, good.token, other.id)
        for token in (expired.token, "pdr_unknown", ""):
            with pytest.raises(Unauthenticated):
                await keys.authenticate(session, token)
        revoked = await keys.revoke_key(session, tenant.id, good.key.id)
        assert await keys.revoke_key(session, tenant.id, good.key.id) == revoked
        with pytest.raises(Unauthenticated):
            await keys.authenticate(session, good.token)


async def test_pages_go_on_where_they_ended(database: Database) -> None:
    tenant = await make_tenant(database)
    for number in range(5):
        await accept(database, tenant, shop(f"shop-{number}"))
    names: list[str] = []
    cursor: str | None = None
    async with database.reading() as session:
        while True:
            page = await environments.list_environments(session, tenant.id, limit=2, cursor=cursor)
            names.extend(item.name for item in page.items)
            cursor = page.next_cursor
            if cursor is None:
                break
    assert names == [f"shop-{number}" for number in range(4, -1, -1)]


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "W10", "WzEsMl0", "WyIyMDI2LTAxLTAxIiwiYSJd", "ä"])
async def test_other_cursors_are_refused(database: Database, cursor: str) -> None:
    tenant = await make_tenant(database)
    async with database.reading() as session:
        with pytest.raises(InvalidCursor):
            await operations.list_operations(session, tenant.id, cursor=cursor)


async def test_lists_are_filtered(database: Database) -> None:
    tenant = await make_tenant(database)
    first = await accept(database, tenant, shop("first"))
    await accept(database, tenant, shop("second"))
    await begin(database, first.operation.id)
    await finish(database, first.operation.id, OperationState.SUCCEEDED)
    async with database.reading() as session:
        wanted = EnvironmentFilter(phases=frozenset({EnvironmentPhase.RUNNING}))
        running = await environments.list_environments(session, tenant.id, wanted=wanted)
        live = await operations.list_operations(
            session, tenant.id, wanted=operations.OperationFilter(states=frozenset({OperationState.ACCEPTED}))
        )
        deletes = await operations.list_operations(
            session, tenant.id, wanted=operations.OperationFilter(kinds=frozenset({OperationKind.DELETE}))
        )
        latest = await operations.latest(session, tenant.id, [first.environment.id])
    assert [item.name for item in running.items] == ["first"]
    assert [item.environment_id == first.environment.id for item in live.items] == [False]
    assert deletes.items == ()
    assert {key: value.state for key, value in latest.items()} == {
        first.environment.id: OperationState.SUCCEEDED
    }


async def test_a_phase_is_written_only_when_it_differs(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    now = utc_now()
    condition = Condition(type="Ready", status="False", reason="PodsNotReady", since=now)
    async with database.transaction() as session:
        first = await environments.update_phase(
            session, tenant.id, accepted.environment.id, EnvironmentPhase.DEGRADED, condition
        )
        later = condition.model_copy(update={"since": now + timedelta(hours=1)})
        second = await environments.update_phase(
            session, tenant.id, accepted.environment.id, EnvironmentPhase.DEGRADED, later
        )
    assert first.version == accepted.environment.version + 1
    assert second == first
    # It was not ready before either: that holds since then.
    assert first.conditions[0].since == accepted.environment.conditions[0].since


async def test_a_registry_credential_name_is_unique(database: Database) -> None:
    world = await world_in(database)
    async with database.transaction() as session:
        with pytest.raises(NameTaken):
            await registry_credentials.create_registry_credential(
                session, world.owner.actor, name="corp", host="x", username="u", password="p", keys=KEYS
            )
        await registry_credentials.create_registry_credential(
            session, world.stranger.actor, name="corp", host="x", username="u", password="p", keys=KEYS
        )
        assert PLANTED not in repr(
            await registry_credentials.list_registry_credentials(session, world.owner.id)
        )


async def claim(database: Database, tenant: Tenant, fingerprint: str = "a" * 64) -> StoredAnswer | None:
    async with database.transaction() as session:
        known = await idempotency.claim(session, tenant.actor, "POST /environments", "key-1", fingerprint)
        if known is None:
            await idempotency.keep(session, tenant.actor, "POST /environments", "key-1", ANSWER)
        return known


async def test_an_idempotency_key_answers_once(database: Database) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database, "two")
    assert await claim(database, tenant) is None
    assert await claim(database, tenant) == ANSWER
    with pytest.raises(IdempotencyMismatch):
        await claim(database, tenant, "b" * 64)
    assert await claim(database, other, "b" * 64) is None


async def test_twins_of_a_request_do_the_work_once(database: Database) -> None:
    tenant = await make_tenant(database)
    answers = await asyncio.gather(*(claim(database, tenant) for _ in range(4)))
    assert sorted(answer is None for answer in answers) == [False, False, False, True]
    assert [answer for answer in answers if answer is not None] == [ANSWER] * 3


async def test_an_answer_that_is_not_kept_is_not_given_again(database: Database) -> None:
    tenant = await make_tenant(database)
    async with database.transaction() as session:
        assert await idempotency.claim(session, tenant.actor, "POST /keys", "key-1", "a" * 64) is None
    async with database.transaction() as session:
        with pytest.raises(IdempotencyUsed):
            await idempotency.claim(session, tenant.actor, "POST /keys", "key-1", "a" * 64)


async def test_an_expired_key_is_free_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = await make_tenant(database)
    assert await claim(database, tenant) is None
    tomorrow = utc_now() + timedelta(hours=25)
    monkeypatch.setattr(idempotency, "utc_now", lambda: tomorrow)
    assert await claim(database, tenant, "b" * 64) is None
    async with database.transaction() as session:
        await idempotency.purge(session, tomorrow + timedelta(hours=25))
    assert await claim(database, tenant, "c" * 64) is None
