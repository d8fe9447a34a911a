"""Accepting operations: all that a request changes, inside the caller's one transaction.

Nothing here talks to the workflow engine: the caller commits, then starts or tells the workflow; what gets
lost between the two is made good by the reconciler. Locks are taken in one order: organisation, environment,
operation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import (
    AlreadyDeleted,
    AlreadyEnded,
    Busy,
    DomainError,
    InvalidReferences,
    NameTaken,
    NotCancellable,
    NotRetryable,
    Protected,
)
from activities.db.inserts import (
    add_operation,
    insert_environment,
    insert_operation,
    new_environment,
    new_operation,
    new_secrets,
)
from activities.db.planning import provision_steps
from activities.db.records import (
    Actor,
    Caps,
    EnvironmentRecord,
    EventRecord,
    JsonObject,
    OperationRecord,
    OrganizationRecord,
    StepRecord,
    environment_record,
    operation_record,
)
from activities.db.references import missing_references
from activities.db.repositories import environments, events, secrets
from activities.db.repositories._rows import locked_environment, locked_operation, locked_organization
from activities.db.repositories.audit import add_entry
from activities.db.repositories.environments import apply_phase, find_environment
from activities.db.repositories.operations import live_rows
from activities.db.secret_material import material_beside, secret_material
from activities.db.tables import Environment, EventType, Operation, Revision
from activities.db.transitions import accepted_data, cancel_at_once, operation_changed, ready, step_rows
from activities.db.types import utc_now
from activities.db.usage import Usage, exceeded, usage_of, used_by
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, without_literals
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.errors import FieldError
from workflows.domain.operations import TERMINAL_STATES, EnvironmentPhase, OperationKind, OperationState
from workflows.domain.plan import plan_delete


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted operation; `repeated`: it was accepted before, and this answers it again."""

    environment: EnvironmentRecord
    operation: OperationRecord
    repeated: bool = False


async def create_environment(
    session: AsyncSession,
    actor: Actor,
    blueprint: Blueprint,
    *,
    cluster: str,
    plan: str | None,
    installation_id: str,
    keys: MasterKeys,
    guard_rails: GuardRails,
) -> Accepted:
    """Accept a new environment and its provision.

    `blueprint` has its plan applied (`plan` names it) and its literal secret values still inside: they are
    stored encrypted, the revision refers to them. `guard_rails` are the cluster's; the organisation's go on
    top.

    Raises NameTaken, CapExceeded, or InvalidReferences; the last one lists all faults when there are several.
    """
    organization = await locked_organization(session, actor.organization_id)
    rails = guard_rails.model_copy(
        update=GuardRails.model_validate(organization.guard_rails).model_dump(exclude_unset=True)
    )
    usage = usage_of(blueprint, rails)
    await _refuse_faults(session, organization, blueprint, usage)
    now = utc_now()
    environment = new_environment(
        actor,
        blueprint,
        cluster=cluster,
        plan=plan,
        installation_id=installation_id,
        guard_rails=rails,
        now=now,
    )
    kept = without_literals(blueprint)
    await insert_environment(session, environment, kept, usage)
    key = await secrets.data_key(session, organization.id, keys)
    own = new_secrets(blueprint)
    await secrets.insert_secrets(session, organization.id, environment.id, own, key)
    values = {name: secret.value for name, secret in own.items()}
    material = await material_beside(session, organization.id, kept, values, keys)
    planned = provision_steps(environment, kept, Overrides(), material, key.hash_key())
    operation = new_operation(
        actor, environment, OperationKind.PROVISION, fence=1, now=now, on_failure=blueprint.on_failure
    )
    steps = await insert_operation(session, operation, planned)
    event = EventRecord(
        environment_id=environment.id,
        organization_id=organization.id,
        number=environment.last_event,
        operation_id=operation.id,
        type=EventType.OPERATION,
        data=accepted_data(operation, environment.phase, steps),
        at=now,
    )
    await events.insert_event(session, event)
    data: JsonObject = {"operation": operation.id, "name": environment.name}
    await add_entry(session, actor, "environment.create", environment.id, data)
    await events.announce(session, environment.id)
    return Accepted(environment, operation)


async def retry_environment(
    session: AsyncSession, actor: Actor, environment_id: str, *, keys: MasterKeys
) -> Accepted:
    """Accept a new attempt at the last operation, which failed or was cancelled or rolled back.

    After one that succeeded, a repair: accepted while the environment is degraded, over the same revision.
    Raises NotFound, AlreadyDeleted, Busy, or NotRetryable.
    """
    environment = await locked_environment(session, environment_id, actor.organization_id)
    if environment.deleted_at is not None:
        raise AlreadyDeleted(environment.id)
    for live in await live_rows(session, environment.id):
        raise Busy(live.id, live.kind)
    last = await _last_operation(session, environment)
    if environment.delete_requested_at is not None:
        raise NotRetryable(
            "its deletion was asked for: delete it again", None if last is None else last.state
        )
    if last is None:
        raise NotRetryable("it has had no operation")
    if last.state is OperationState.SUCCEEDED and environment.phase is not EnvironmentPhase.DEGRADED:
        raise NotRetryable("its last operation did not fail, and it is not degraded", last.state)
    revision = await session.get_one(Revision, (environment.id, environment.revision))
    blueprint = Blueprint.model_validate(revision.blueprint)
    key = await secrets.data_key(session, environment.organization_id, keys)
    material = await secret_material(session, environment.organization_id, environment.id, blueprint, keys)
    overrides = await environments.overrides(session, environment.organization_id, environment.id)
    before = environment_record(environment)
    planned = provision_steps(before, blueprint, overrides, material, key.hash_key())
    now = utc_now()
    operation = new_operation(
        actor,
        before,
        OperationKind.PROVISION,
        fence=environment.last_fence + 1,
        now=now,
        on_failure=blueprint.on_failure,
        retry_of=last.id,
    )
    steps = await add_operation(session, environment, operation, planned)
    apply_phase(environment, EnvironmentPhase.PROVISIONING, ready("False", "Provisioning", "", now), now)
    await _announce(session, actor, environment, operation, steps, "environment.retry", {"retryOf": last.id})
    return Accepted(environment_record(environment), operation)


async def delete_environment(
    session: AsyncSession, actor: Actor, environment_id: str, *, force: bool
) -> Accepted:
    """Accept the deletion of an environment. Nothing that runs holds it up; a live delete is answered again.

    What was only accepted is cancelled here, what runs is asked to cancel; the delete's workflow ends it.
    `force`: remove foreign finalizers; it counts for a live delete too: one that has not begun reads it as it
    begins, one that runs is to be told (`operation.undelivered`).

    Raises NotFound, AlreadyDeleted, or Protected.
    """
    environment = await locked_environment(session, environment_id, actor.organization_id)
    if environment.deleted_at is not None:
        raise AlreadyDeleted(environment.id)
    if environment.protected:
        raise Protected(environment.id, environment.name)
    now = utc_now()
    live = await live_rows(session, environment.id)
    running = next((row for row in live if row.kind is OperationKind.DELETE), None)
    if running is not None:
        if force and not running.force:
            await _ask_to_force(session, actor, environment, running)
        return Accepted(environment_record(environment), operation_record(running), repeated=True)
    environment.delete_requested_at = now
    apply_phase(environment, EnvironmentPhase.DELETING, ready("False", "Deleting", "", now), now)
    for other in live:
        await _ask_to_cancel(
            session, environment, other, cleanup=False, reason="The environment is being deleted.", now=now
        )
    operation = new_operation(
        actor,
        environment_record(environment),
        OperationKind.DELETE,
        fence=environment.last_fence + 1,
        now=now,
        force=force,
    )
    steps = await add_operation(session, environment, operation, plan_delete())
    await _announce(session, actor, environment, operation, steps, "environment.delete", {"force": force})
    return Accepted(environment_record(environment), operation)


async def cancel_operation(
    session: AsyncSession, actor: Actor, operation_id: str, *, cleanup: bool, reason: str
) -> OperationRecord:
    """Take a cancel: one that has not begun ends at once, one that runs is to be told (`undelivered`).

    Asked twice, the first request stands, save that a later one may add the clean-up. Raises NotFound,
    NotCancellable for a delete, AlreadyEnded.
    """
    environment, operation = await locked_operation(session, operation_id, actor.organization_id)
    if operation.state in TERMINAL_STATES:
        raise AlreadyEnded(operation.id, operation.state)
    if operation.kind is OperationKind.DELETE:
        raise NotCancellable(operation.id, operation.kind)
    await _ask_to_cancel(session, environment, operation, cleanup=cleanup, reason=reason, now=utc_now())
    await add_entry(session, actor, "operation.cancel", operation.id, {"cleanup": cleanup, "reason": reason})
    await events.announce(session, environment.id)
    await session.flush()
    return operation_record(operation)


async def _ask_to_cancel(
    session: AsyncSession,
    environment: Environment,
    operation: Operation,
    *,
    cleanup: bool,
    reason: str,
    now: datetime,
) -> None:
    """Cancel a locked live operation, or record for one that runs that it should end."""
    if operation.state is OperationState.ACCEPTED:
        await cancel_at_once(session, environment, operation, reason, now)
    elif operation.cancel_requested_at is None or (cleanup and not operation.cancel_cleanup):
        operation.cancel_cleanup = cleanup
        operation.cancel_reason = reason
        operation.cancel_requested_at = now
        operation.asked += 1
        await operation_changed(session, environment, operation, await step_rows(session, operation.id))


async def _ask_to_force(
    session: AsyncSession, actor: Actor, environment: Environment, delete: Operation
) -> None:
    """Record for a locked live delete that it is to take foreign finalizers off."""
    delete.force = True
    if delete.state is OperationState.RUNNING:
        delete.asked += 1
    await operation_changed(session, environment, delete, await step_rows(session, delete.id))
    await add_entry(session, actor, "environment.force_delete", environment.id, {"operation": delete.id})
    await events.announce(session, environment.id)
    await session.flush()


async def _refuse_faults(
    session: AsyncSession, organization: OrganizationRecord, blueprint: Blueprint, usage: Usage
) -> None:
    """Raise what speaks against a new environment; several faults together as one list."""
    faults: list[DomainError] = []
    places: list[FieldError] = []
    holder = await find_environment(session, organization.id, blueprint.name)
    if holder is not None:
        taken = NameTaken("environment", blueprint.name, holder)
        faults.append(taken)
        places.append(FieldError(path=("name",), message=str(taken)))
    caps = organization.caps
    used = await used_by(session, organization.id) if caps != Caps() else Usage()
    for over in exceeded(caps, used, usage):
        faults.append(over)
        places.append(FieldError(path=(), message=str(over)))
    missing = await missing_references(session, organization.id, blueprint)
    if len(faults) == 1 and not missing:
        raise faults[0]
    if faults or missing:
        raise InvalidReferences((*places, *missing))


async def _last_operation(session: AsyncSession, environment: Environment) -> Operation | None:
    query = select(Operation).where(col(Operation.environment_id) == environment.id)
    newest = query.order_by(col(Operation.fence).desc()).limit(1)
    return (await session.exec(newest)).one_or_none()


async def _announce(
    session: AsyncSession,
    actor: Actor,
    environment: Environment,
    operation: OperationRecord,
    steps: Sequence[StepRecord],
    action: str,
    data: JsonObject,
) -> None:
    """Write event and audit entry of an operation that was just added, and the environment's row."""
    change = accepted_data(operation, environment.phase, steps)
    await events.append(session, environment, operation.id, EventType.OPERATION, change)
    await add_entry(session, actor, action, environment.id, {"operation": operation.id, **data})
    await events.announce(session, environment.id)
    await session.flush()
