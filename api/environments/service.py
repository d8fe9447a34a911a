"""Use cases on environments: each one transaction, what follows it after the commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, cast

from fastapi import Request
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import acceptance
from activities.db.acceptance import Accepted, CloneSource, Settings, Site
from activities.db.inserts import CREATED, Asked
from activities.db.records import Actor, EnvironmentRecord, OperationRecord
from activities.db.repositories import environments, operations, revisions
from activities.db.repositories.environments import EnvironmentFilter, EnvironmentSort
from activities.db.repositories.paging import Page
from api.deferred import start_workflow, tell_workflow
from api.environments.schemas import ChangeEnvironment, EnvironmentOut
from api.environments.shapes import environment_out, read_blueprint, services_out
from api.idempotency import Outcome, Replayed, once
from api.operations.schemas import OperationOut
from api.operations.shapes import operation_out, passing_data, pinned_images
from api.preconditions import entity_tag
from api.state import AppState
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import Overrides

OPERATIONS_PATH: Final = "/v1/operations"
Work = Callable[[AsyncSession], Awaitable[Outcome[Accepted]]]


@dataclass(frozen=True, slots=True)
class Caller:
    """One request that changes something: who asks, through what, under which idempotency key."""

    request: Request
    state: AppState
    actor: Actor
    key: str | None = None


async def accept_environment(
    session: AsyncSession,
    caller: Caller,
    blueprint: Blueprint,
    plan: str | None,
    installation: str,
    *,
    asked: Asked | None = None,
    message: str = CREATED,
) -> tuple[Accepted, EnvironmentOut]:
    """Accept a new environment; shape it as it is answered."""
    state = caller.state
    accepted = await acceptance.create_environment(
        session,
        caller.actor,
        blueprint,
        site_of(state, installation),
        plan=plan,
        keys=state.master_keys,
        asked=asked,
        message=message,
    )
    return accepted, _created(state, accepted, blueprint)


def _created(state: AppState, accepted: Accepted, blueprint: Blueprint) -> EnvironmentOut:
    services = services_out(accepted.environment, blueprint, overrides=Overrides())
    return environment_out(state.settings, accepted.environment, services, operation=accepted.operation)


def site_of(state: AppState, installation: str) -> Site:
    """Where new environments go."""
    return Site(state.settings.cluster, installation, state.settings.guard_rails())


async def create(
    caller: Caller, blueprint: Blueprint, plan: str | None, *, snapshot_id: str | None
) -> Outcome[Accepted] | Replayed:
    """Create an environment and start its provision; with a snapshot, its data are loaded on the way."""
    state = caller.state
    installation = await state.installation.id()

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        if snapshot_id is None:
            accepted, shaped = await accept_environment(session, caller, blueprint, plan, installation)
        else:
            accepted = await acceptance.create_from_snapshot(
                session,
                caller.actor,
                CloneSource(blueprint, plan),
                snapshot_id,
                site_of(state, installation),
                keys=state.master_keys,
            )
            shaped = _created(state, accepted, blueprint)
        return Outcome(accepted, 202, shaped, headers=located(accepted, shaped))

    return await accept(caller, work)


async def delete(caller: Caller, environment_id: str, *, force: bool) -> Outcome[Accepted] | Replayed:
    """Ask for an environment's deletion; one that runs already is answered again, and told of `force`."""

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        accepted = await acceptance.delete_environment(session, caller.actor, environment_id, force=force)
        return accepted_operation(caller.state, accepted)

    return await accept(caller, work)


async def retry(caller: Caller, environment_id: str) -> Outcome[Accepted] | Replayed:
    """Try the environment's last operation again from where it failed, or repair what is degraded."""
    # Whether it is degraded is what the cluster shows now, not what somebody last read.
    caller.state.live.forget(caller.actor.organization_id, environment_id)
    await caller.state.live.status(caller.actor.organization_id, environment_id)

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        accepted = await acceptance.retry_environment(
            session, caller.actor, environment_id, keys=caller.state.master_keys
        )
        return accepted_operation(caller.state, accepted)

    return await accept(caller, work)


async def change(
    caller: Caller, environment_id: str, wanted: ChangeEnvironment
) -> Outcome[EnvironmentRecord] | Replayed:
    """Change an environment's settings; answered without live numbers."""
    state, organization_id = caller.state, caller.actor.organization_id
    settings = cast(Settings, {field: getattr(wanted, field) for field in wanted.model_fields_set})

    async def work(session: AsyncSession) -> Outcome[EnvironmentRecord]:
        changed = await acceptance.change_settings(session, caller.actor, environment_id, settings)
        return await shown_alone(session, state, changed.environment)

    outcome = await once(caller.request, state, caller.actor, caller.key, work)
    state.live.forget(organization_id, environment_id)
    return outcome


async def shown_alone(
    session: AsyncSession, state: AppState, record: EnvironmentRecord
) -> Outcome[EnvironmentRecord]:
    """The answer that shows an environment after a change that made no operation: no live numbers."""
    revision = await revisions.get_revision(session, record.organization_id, record.id, record.revision)
    overrides = await environments.overrides(session, record.organization_id, record.id)
    latest = await operations.latest(session, record.organization_id, [record.id])
    services = services_out(record, read_blueprint(revision.blueprint), overrides=overrides)
    shaped = environment_out(state.settings, record, services, operation=latest.get(record.id))
    return Outcome(record, 200, shaped, headers={"ETag": entity_tag(record.version, shaped)})


def located(accepted: Accepted, shown: EnvironmentOut) -> dict[str, str]:
    """The headers of an answer that shows an environment with the operation that was just accepted."""
    return {**location(accepted.operation), "ETag": entity_tag(accepted.environment.version, shown)}


def location(operation: OperationRecord) -> dict[str, str]:
    """The header that says where an accepted operation is followed."""
    return {"Location": f"{OPERATIONS_PATH}/{operation.id}"}


async def get(state: AppState, organization_id: str, environment_id: str) -> EnvironmentOut:
    """Return one environment with what the cluster says about its services. Raises NotFound."""
    status = await state.live.status(organization_id, environment_id)
    return EnvironmentOut.model_construct(
        **{name: getattr(status, name) for name in EnvironmentOut.model_fields}
    )


async def find(
    state: AppState,
    organization_id: str,
    *,
    limit: int,
    cursor: str | None,
    wanted: EnvironmentFilter,
    sort: EnvironmentSort,
) -> tuple[list[EnvironmentOut], str | None]:
    """Return a page of environments without live numbers. Raises InvalidCursor."""
    async with state.database.reading() as session:
        page: Page[EnvironmentRecord] = await environments.list_environments(
            session, organization_id, limit=limit, cursor=cursor, wanted=wanted, sort=sort
        )
        services = await state.listed.services(session, organization_id, page.items)
        latest = await operations.latest(session, organization_id, [record.id for record in page.items])
    shaped = [
        environment_out(state.settings, record, services[record.id], operation=latest.get(record.id))
        for record in page.items
    ]
    return shaped, page.next_cursor


async def known_environment(state: AppState, organization_id: str, environment_id: str) -> EnvironmentRecord:
    """Return an environment as the database knows it. Raises NotFound."""
    async with state.database.reading() as session:
        return await environments.get_environment(session, organization_id, environment_id)


async def known_blueprint(
    state: AppState, organization_id: str, environment_id: str
) -> tuple[EnvironmentRecord, Blueprint]:
    """Return an environment and its current Blueprint. Raises NotFound."""
    async with state.database.reading() as session:
        record = await environments.get_environment(session, organization_id, environment_id)
        revision = await revisions.get_revision(session, organization_id, record.id, record.revision)
    return record, read_blueprint(revision.blueprint)


def accepted_operation(
    state: AppState, accepted: Accepted, *, snapshot_id: str | None = None
) -> Outcome[Accepted]:
    """Shape an accepted operation as it is answered; `snapshot_id`: what it takes or loads."""
    shaped: OperationOut = operation_out(
        state.settings,
        accepted.operation,
        environment_name=accepted.environment.name,
        snapshot_id=snapshot_id,
        warnings=(*passing_data(accepted.in_pods_alone), *pinned_images(accepted.pinned)),
    )
    return Outcome(accepted, 202, shaped, headers=location(accepted.operation))


async def accept(caller: Caller, work: Work) -> Outcome[Accepted] | Replayed:
    """Run a request's transaction once, then have its workflow started or told."""
    outcome = await once(caller.request, caller.state, caller.actor, caller.key, work)
    if isinstance(outcome, Outcome):
        await _follow_up(caller.state, outcome.result)
    return outcome


async def _follow_up(state: AppState, accepted: Accepted) -> None:
    """Make sure that the workflow is there, or tell one that has begun what was asked of it since."""
    if accepted.operation.undelivered:
        await tell_workflow(state, accepted.operation)
    else:
        start_workflow(state, accepted)
