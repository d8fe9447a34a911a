"""What all acceptances share: the checks before, the rows and the event after."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import (
    AlreadyDeleted,
    Busy,
    CapExceeded,
    Deleting,
    DomainError,
    InvalidReferences,
    NotApplicable,
)
from activities.db.inserts import Asked, add_operation, new_operation
from activities.db.planning import provision_steps
from activities.db.records import (
    SWEEPER,
    Actor,
    Caps,
    EnvironmentRecord,
    JsonObject,
    OperationRecord,
    OrganizationRecord,
    StepRecord,
    environment_record,
    operation_record,
)
from activities.db.repositories import environments, events
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.audit import add_entry
from activities.db.repositories.environments import READY, apply_phase
from activities.db.repositories.operations import live_rows
from activities.db.repositories.revisions import current_blueprint
from activities.db.secret_material import secret_material
from activities.db.tables import Environment, EventType, Operation
from activities.db.timers import used
from activities.db.transitions import accepted_data, ready, taken_back
from activities.db.types import utc_now
from activities.db.usage import NOTHING, Usage, exceeded, used_by
from activities.secrets import MasterKeys
from activities.temporal import OperationStart
from workflows.domain.environment import ObjectName, Overrides
from workflows.domain.errors import FieldError
from workflows.domain.operations import (
    ASIDE,
    Change,
    EnvironmentPhase,
    OperationKind,
    OperationState,
    PlannedStep,
)

_UNDER_WAY: Final = {
    OperationKind.PROVISION: (EnvironmentPhase.PROVISIONING, "Provisioning"),
    OperationKind.UPDATE: (EnvironmentPhase.PROVISIONING, "Updating"),
    OperationKind.STOP: (EnvironmentPhase.STOPPING, "Stopping"),
    OperationKind.RESUME: (EnvironmentPhase.RESUMING, "Resuming"),
    OperationKind.SCALE: (EnvironmentPhase.PROVISIONING, "Scaling"),
    OperationKind.RESTART: (EnvironmentPhase.PROVISIONING, "Restarting"),
    OperationKind.RESTORE: (EnvironmentPhase.PROVISIONING, "Restoring"),
    OperationKind.REPLAY: (EnvironmentPhase.PROVISIONING, "Replaying"),
    OperationKind.DELETE: (EnvironmentPhase.DELETING, "Deleting"),
}
"""What an environment's phase and its Ready condition's reason are while an operation is live."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted operation; `repeated`: it was accepted before, and this answers it again.

    `in_pods_alone`: the services whose data it loads and no volume keeps. `pinned`: those that get the image
    of a snapshot by its digest.
    """

    environment: EnvironmentRecord
    operation: OperationRecord
    repeated: bool = False
    in_pods_alone: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()

    def start(self) -> OperationStart:
        """Return what starting the operation's workflow takes."""
        return OperationStart(
            kind=self.operation.kind,
            workflow_id=self.operation.workflow_id,
            operation_id=self.operation.id,
            organization_id=self.environment.organization_id,
            environment_id=self.environment.id,
            environment_name=self.environment.name,
        )


async def standing(session: AsyncSession, actor: Actor, environment_id: str) -> Environment:
    """Lock an environment that is there to stay, and return its row.

    Raises NotFound, AlreadyDeleted, or Deleting.
    """
    environment = await locked_environment(session, environment_id, actor.organization_id)
    if environment.deleted_at is not None:
        raise AlreadyDeleted(environment.id)
    if environment.delete_requested_at is not None:
        raise Deleting(environment.id, environment.name)
    return environment


async def changeable(session: AsyncSession, actor: Actor, environment_id: str) -> Environment:
    """Lock an environment that nothing else changes now, and return its row.

    Raises NotFound, AlreadyDeleted, Deleting, or Busy.
    """
    environment = await standing(session, actor, environment_id)
    for live in await live_rows(session, environment.id):
        raise Busy(live.id, live.kind)
    return environment


def refuse_phases(environment: Environment, action: str, *phases: EnvironmentPhase) -> None:
    """Raise NotApplicable when the environment is in one of these phases."""
    if environment.phase in phases:
        raise NotApplicable(action, environment.name, environment.phase)


async def provision_of(
    session: AsyncSession, environment: Environment, keys: MasterKeys, hash_key: bytes
) -> tuple[PlannedStep, ...]:
    """Return the steps of a provision of a locked environment as it ought to be now."""
    blueprint = await current_blueprint(session, environment)
    material = await secret_material(
        session,
        environment.organization_id,
        environment.id,
        blueprint,
        keys,
        revision=environment.revision,
    )
    overrides = await environments.overrides(session, environment.organization_id, environment.id)
    return provision_steps(environment_record(environment), blueprint, overrides, material, hash_key)


def change_from(environment: Environment, overrides: Overrides) -> Change:
    """Return the state that an operation accepted now would go back to."""
    stopped = environment.phase is EnvironmentPhase.STOPPED
    return Change(
        revision=environment.revision,
        phase=environment.phase,
        ready=next((each for each in environment.conditions if each["type"] == READY), None),
        overrides=overrides.model_copy(update={"stopped": stopped}),
        plan=environment.plan,
    )


async def accept(
    session: AsyncSession,
    actor: Actor,
    environment: Environment,
    asked: Asked,
    planned: Sequence[PlannedStep],
    *,
    audit: tuple[str, JsonObject],
) -> Accepted:
    """Write an operation on a locked environment: rows, phase, event and audit entry. Raises Busy."""
    now = utc_now()
    operation = new_operation(
        actor,
        environment_record(environment),
        asked,
        fence=environment.last_fence + 1,
        now=now,
    )
    steps = await add_operation(session, environment, operation, planned)
    under_way(environment, asked.kind, now)
    if actor.principal_id != SWEEPER:
        used(environment, now)
    await announce(session, actor, environment, operation, steps, *audit)
    return Accepted(environment_record(environment), operation)


def under_way(environment: Environment, kind: OperationKind, now: datetime) -> None:
    """Set the phase that a live operation of this kind gives its environment; one aside gives none."""
    if kind in ASIDE:
        return
    phase, reason = _UNDER_WAY[kind]
    apply_phase(environment, phase, ready("False", reason, "", now), now)


async def over_caps(
    session: AsyncSession, organization: OrganizationRecord, asked: Usage, instead_of: Usage = NOTHING
) -> tuple[CapExceeded, ...]:
    """Return every cap of a locked organisation that `asked` would break, with `instead_of` given up.

    Of what is given up for no less, nothing is refused: over a cap that was lowered, less is still better.
    """
    if organization.caps == Caps():
        return ()
    used = await used_by(session, organization.id)
    over = exceeded(organization.caps, used.without(instead_of), asked)
    return tuple(each for each in over if asked.amount(each.cap) > instead_of.amount(each.cap))


def refuse(faults: Sequence[DomainError], places: Sequence[FieldError]) -> None:
    """Raise what speaks against a request: a single fault as itself, several as one list of places."""
    if len(faults) == 1 and len(places) == 1:
        raise faults[0]
    if places:
        raise InvalidReferences(tuple(places))


async def last_operation(session: AsyncSession, environment: Environment) -> Operation | None:
    """Return the environment's newest operation."""
    query = select(Operation).where(col(Operation.environment_id) == environment.id)
    newest = query.order_by(col(Operation.fence).desc()).limit(1)
    return (await session.exec(newest)).one_or_none()


async def last_standing(
    session: AsyncSession, environment: Environment, *, among: Collection[OperationKind] | None = None
) -> Operation | None:
    """Return the newest operation that made the environment what it is now, of these kinds.

    Those that were taken back left nothing, and neither did the attempts that they were retries of.
    """
    undone: set[str | None] = set()
    below = environment.last_fence + 1
    while True:
        query = select(Operation).where(
            col(Operation.environment_id) == environment.id, col(Operation.fence) < below
        )
        if among is not None:
            query = query.where(col(Operation.kind).in_(among))
        found = (await session.exec(query.order_by(col(Operation.fence).desc()).limit(1))).one_or_none()
        if found is None or not (found.id in undone or taken_back(operation_record(found))):
            return found
        undone.add(found.retry_of)
        below = found.fence


async def left_to_remove(
    session: AsyncSession, environment: Environment
) -> dict[str, tuple[ObjectName, ...]]:
    """Return the objects that an update was to remove and may not have, by service, in their order.

    Each operation after it takes them over, until one succeeds.
    """
    last = await last_standing(session, environment)
    if last is None or last.state is OperationState.SUCCEEDED:
        return {}
    change = operation_record(last).change
    return {} if change is None else change.obsolete


async def announce(
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
