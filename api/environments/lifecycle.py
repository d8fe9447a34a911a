"""Use cases on an environment that is there: update, stop, resume, scale, restart, clone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import acceptance
from activities.db.acceptance import Accepted, Preview, Updated, Wanted
from activities.db.ids import IdPrefix, new_id
from activities.db.inserts import CREATED, Asked
from activities.db.records import EnvironmentRecord
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.environments import find_environment
from api.deferred import start_workflow
from api.environments.schemas import UpdateOut
from api.environments.service import (
    Caller,
    accept,
    accept_environment,
    accepted_operation,
    located,
    location,
    shown_alone,
)
from api.environments.shapes import service_changes_out
from api.idempotency import Outcome, Replayed, once
from api.operations.shapes import operation_out
from api.preconditions import check_named, check_precondition
from workflows.domain.operations import OnFailure, OperationKind
from workflows.domain.update import Effect, ServiceChange

Created = Outcome[Accepted | None]


async def preview(caller: Caller, environment_id: str, wanted: Wanted) -> UpdateOut:
    """Say what an update would do. Writes nothing. Raises ProblemError for a stale If-Match."""
    async with caller.state.database.transaction() as session:
        await check_precondition(caller.request, session, caller.actor.organization_id)
        found = await acceptance.preview_update(
            session, caller.actor, environment_id, wanted, keys=caller.state.master_keys
        )
        await session.rollback()
    return _update_out(found)


async def update(caller: Caller, environment_id: str, wanted: Wanted) -> Created | Replayed:
    """Make a Blueprint the environment's next revision."""

    async def work(session: AsyncSession) -> Created:
        updated = await acceptance.update_environment(
            session, caller.actor, environment_id, wanted, keys=caller.state.master_keys
        )
        return _updated(caller, updated)

    return await _finish(caller, work)


async def rollback(
    caller: Caller,
    environment_id: str,
    *,
    revision: int | None,
    checkpoint: str | None,
    on_failure: OnFailure | None,
) -> Created | Replayed:
    """Make an earlier revision's Blueprint the environment's next one."""

    async def work(session: AsyncSession) -> Created:
        updated = await acceptance.rollback_environment(
            session,
            caller.actor,
            environment_id,
            revision=revision,
            checkpoint=checkpoint,
            on_failure=on_failure,
            keys=caller.state.master_keys,
            keep=caller.state.settings.keep_revisions,
        )
        return _updated(caller, updated)

    return await _finish(caller, work)


async def create_or_update(caller: Caller, wanted: Wanted) -> Created | Replayed:
    """Bring the environment of the Blueprint's name to what it says, whether it is there or not."""
    installation = await caller.state.installation.id()

    async def work(session: AsyncSession) -> Created:
        # Under the organisation's lock nobody else takes the name between the look and the insert.
        await locked_organization(session, caller.actor.organization_id)
        known = await find_environment(session, caller.actor.organization_id, wanted.blueprint.name)
        await check_named(caller.request, session, caller.actor.organization_id, known)
        if known is None:
            on_failure = wanted.on_failure or wanted.blueprint.on_failure
            accepted, shaped = await accept_environment(
                session,
                caller,
                wanted.blueprint,
                wanted.plan,
                installation,
                asked=Asked(OperationKind.PROVISION, on_failure=on_failure),
                message=wanted.message or CREATED,
            )
            return Outcome(accepted, 202, shaped.operation or shaped, headers=location(accepted.operation))
        updated = await acceptance.update_environment(
            session, caller.actor, known, wanted, keys=caller.state.master_keys
        )
        return _updated(caller, updated)

    return await _finish(caller, work)


async def clone(caller: Caller, environment_id: str, name: str) -> Outcome[Accepted] | Replayed:
    """Create another environment of the same Blueprint, with secrets of its own where they are generated."""
    installation = await caller.state.installation.id()

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        source = await acceptance.blueprint_for_clone(
            session, caller.actor, environment_id, name, keys=caller.state.master_keys
        )
        accepted, shaped = await accept_environment(
            session, caller, source.blueprint, source.plan, installation
        )
        return Outcome(accepted, 202, shaped, headers=located(accepted, shaped))

    return await accept(caller, work)


async def stop(caller: Caller, environment_id: str) -> Outcome[Accepted] | Replayed:
    """Take all pods of an environment away, keep its data."""

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        return accepted_operation(
            caller.state, await acceptance.stop_environment(session, caller.actor, environment_id)
        )

    return await accept(caller, work)


async def resume(caller: Caller, environment_id: str) -> Outcome[Accepted] | Replayed:
    """Let a stopped environment run again."""

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        accepted = await acceptance.resume_environment(
            session, caller.actor, environment_id, keys=caller.state.master_keys
        )
        return accepted_operation(caller.state, accepted)

    return await accept(caller, work)


async def scale(caller: Caller, environment_id: str, service: str, replicas: int) -> Created | Replayed:
    """Give one service another number of replicas, if it has not that number already."""

    async def work(session: AsyncSession) -> Created:
        accepted = await acceptance.scale_service(
            session, caller.actor, environment_id, service, replicas, keys=caller.state.master_keys
        )
        if accepted is None:
            unchanged = service_changes_out([ServiceChange(service=service, effect=Effect.UNCHANGED)])
            shown = UpdateOut(environment_id=environment_id, noop=True, refused=False, changes=unchanged)
            return Outcome(None, 200, shown)
        shaped = accepted_operation(caller.state, accepted)
        return Outcome(accepted, shaped.status, shaped.data, shaped.headers)

    return await _finish(caller, work)


async def restart(caller: Caller, environment_id: str, service: str) -> Outcome[Accepted] | Replayed:
    """Give one service new pods."""

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        accepted = await acceptance.restart_service(
            session,
            caller.actor,
            environment_id,
            service,
            mark=new_id(IdPrefix.OPERATION),
            keys=caller.state.master_keys,
        )
        return accepted_operation(caller.state, accepted)

    return await accept(caller, work)


async def extend(caller: Caller, environment_id: str, minutes: int) -> Outcome[EnvironmentRecord] | Replayed:
    """Put off what an environment's timers bring."""

    async def work(session: AsyncSession) -> Outcome[EnvironmentRecord]:
        record = await acceptance.extend_environment(session, caller.actor, environment_id, minutes)
        return await shown_alone(session, caller.state, record)

    outcome = await once(caller.request, caller.state, caller.actor, caller.key, work)
    caller.state.live.forget(caller.actor.organization_id, environment_id)
    return outcome


def _updated(caller: Caller, updated: Updated) -> Created:
    accepted = updated.accepted
    if accepted is None:
        return Outcome(None, 200, _update_out(updated.preview))
    shaped = operation_out(
        caller.state.settings, accepted.operation, environment_name=accepted.environment.name
    )
    changes = service_changes_out(updated.preview.changes)
    return Outcome(
        accepted,
        202,
        shaped.model_copy(update={"changes": changes}),
        headers=location(accepted.operation),
    )


async def _finish(caller: Caller, work: Callable[[AsyncSession], Awaitable[Created]]) -> Created | Replayed:
    outcome = await once(caller.request, caller.state, caller.actor, caller.key, work)
    if isinstance(outcome, Outcome) and outcome.result is not None:
        start_workflow(caller.state, outcome.result)
    return outcome


def _update_out(found: Preview) -> UpdateOut:
    return UpdateOut(
        environment_id=found.environment.id,
        noop=found.noop,
        refused=any(change.effect == "refused" for change in found.changes),
        changes=service_changes_out(found.changes),
    )
