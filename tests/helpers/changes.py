"""Changes of accepted environments for tests: update, rollback, stop, resume, scale, restart, their ends."""

from pydantic import JsonValue

from activities.db import ledger
from activities.db.acceptance import (
    Accepted,
    Preview,
    Updated,
    Wanted,
    preview_update,
    restart_service,
    resume_environment,
    rollback_environment,
    scale_service,
    stop_environment,
    update_environment,
)
from activities.db.engine import Database
from activities.db.repositories import environments, operations, secrets
from tests.helpers.tenants import KEYS, Tenant, accept, begin, finish, shop
from workflows.contracts.operation import LedgerEntry, PreImage
from workflows.domain.blueprint import Blueprint, parse_blueprint
from workflows.domain.environment import Overrides
from workflows.domain.operations import Cleanup, OnFailure, OperationState

DONE = Cleanup(complete=True)
PARTLY = Cleanup(complete=False, left=("Service/api",))


def edited(blueprint: Blueprint | None = None, **services: dict[str, JsonValue] | None) -> Blueprint:
    """Return a Blueprint with fields of its services changed, services added, or (None) left out."""
    document = (blueprint or shop()).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    known = {each["name"]: each for each in document["services"]}
    for name, fields in services.items():
        if fields is None:
            del known[name]
        else:
            known[name] = {"name": name, "image": f"registry.test/{name}:1", **known.get(name, {}), **fields}
    return parse_blueprint({**document, "services": list(known.values())})


async def running(database: Database, tenant: Tenant, blueprint: Blueprint | None = None) -> str:
    """Return the id of an environment whose provision succeeded."""
    accepted = await accept(database, tenant, blueprint)
    await ended(database, accepted)
    return accepted.environment.id


async def ended(
    database: Database,
    accepted: Accepted | None,
    state: OperationState = OperationState.SUCCEEDED,
    cleanup: Cleanup | None = None,
) -> str:
    """Begin and end an operation as its workflow does; return its id."""
    assert accepted is not None
    await begin(database, accepted.operation.id)
    await finish(database, accepted.operation.id, state, cleanup=cleanup)
    return accepted.operation.id


async def note_pre_image(database: Database, operation_id: str, pre_image: PreImage) -> None:
    """Note what was there before, as a workflow does."""
    async with database.transaction() as session:
        await ledger.record(session, LedgerEntry(operation_id=operation_id, pre_image=pre_image))


async def update(
    database: Database,
    tenant: Tenant,
    environment_id: str,
    blueprint: Blueprint,
    *,
    message: str = "",
    plan: str | None = None,
    on_failure: OnFailure = OnFailure.ROLLBACK,
    keep: int = 50,
) -> Updated:
    """Accept an update."""
    wanted = Wanted(blueprint, message=message, plan=plan, on_failure=on_failure, keep=keep)
    async with database.transaction() as session:
        return await update_environment(session, tenant.actor, environment_id, wanted, keys=KEYS)


async def preview(database: Database, tenant: Tenant, environment_id: str, blueprint: Blueprint) -> Preview:
    """Work out an update."""
    async with database.transaction() as session:
        return await preview_update(session, tenant.actor, environment_id, Wanted(blueprint), keys=KEYS)


async def rollback(
    database: Database,
    tenant: Tenant,
    environment_id: str,
    revision: int | None = None,
    checkpoint: str | None = None,
) -> Updated:
    """Accept a rollback."""
    async with database.transaction() as session:
        return await rollback_environment(
            session,
            tenant.actor,
            environment_id,
            revision=revision,
            checkpoint=checkpoint,
            keys=KEYS,
            keep=50,
        )


async def stop(database: Database, tenant: Tenant, environment_id: str) -> Accepted:
    """Accept a stop."""
    async with database.transaction() as session:
        return await stop_environment(session, tenant.actor, environment_id)


async def resume(database: Database, tenant: Tenant, environment_id: str) -> Accepted:
    """Accept a resume."""
    async with database.transaction() as session:
        return await resume_environment(session, tenant.actor, environment_id, keys=KEYS)


async def scale(
    database: Database, tenant: Tenant, environment_id: str, replicas: int, service: str = "api"
) -> Accepted:
    """Accept another number of replicas than there is."""
    accepted = await scale_or_not(database, tenant, environment_id, replicas, service)
    assert accepted is not None
    return accepted


async def scale_or_not(
    database: Database, tenant: Tenant, environment_id: str, replicas: int, service: str = "api"
) -> Accepted | None:
    """Ask for a number of replicas; None when it is that already."""
    async with database.transaction() as session:
        return await scale_service(session, tenant.actor, environment_id, service, replicas, keys=KEYS)


async def restart(
    database: Database, tenant: Tenant, environment_id: str, mark: str = "mark-1", service: str = "api"
) -> Accepted:
    """Accept a restart."""
    async with database.transaction() as session:
        return await restart_service(session, tenant.actor, environment_id, service, mark=mark, keys=KEYS)


async def overrides_of(database: Database, tenant: Tenant, environment_id: str) -> Overrides:
    """Read the recorded changes on top of the revision."""
    async with database.reading() as session:
        return await environments.overrides(session, tenant.id, environment_id)


async def values_of(
    database: Database, tenant: Tenant, environment_id: str, revision: int | None = None
) -> dict[str, str]:
    """Read the values of the environment's own secrets, as a revision has them."""
    async with database.reading() as session:
        return await secrets.secret_values(session, tenant.id, environment_id, KEYS, revision=revision)


async def steps_of(database: Database, tenant: Tenant, accepted: Accepted | None) -> list[str]:
    """Read the names of an operation's steps."""
    assert accepted is not None
    async with database.reading() as session:
        return [step.name for step in await operations.steps(session, tenant.id, accepted.operation.id)]
