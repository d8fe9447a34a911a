"""Accepting a new environment and its first operation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import Accepted, over_caps, refuse
from activities.db.errors import (
    DomainError,
    NameTaken,
)
from activities.db.inserts import (
    CREATED,
    Asked,
    insert_environment,
    insert_operation,
    new_environment,
    new_operation,
    new_secrets,
)
from activities.db.planning import provision_steps
from activities.db.records import (
    Actor,
    EnvironmentRecord,
    EventRecord,
    JsonObject,
    OrganizationRecord,
)
from activities.db.references import missing_references
from activities.db.repositories import events, secrets
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.audit import add_entry
from activities.db.repositories.environments import find_environment
from activities.db.repositories.secrets import NewSecret
from activities.db.secret_material import material_beside
from activities.db.tables import EventType
from activities.db.transitions import accepted_data
from activities.db.types import utc_now
from activities.db.usage import Usage, usage_of
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, without_literals
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.errors import FieldError
from workflows.domain.operations import OperationKind, PlannedStep


@dataclass(frozen=True, slots=True)
class Site:
    """Where a new environment is made. `guard_rails` are the cluster's; the organisation's go on top."""

    cluster: str
    installation_id: str
    guard_rails: GuardRails


async def create_environment(
    session: AsyncSession,
    actor: Actor,
    blueprint: Blueprint,
    site: Site,
    *,
    plan: str | None,
    keys: MasterKeys,
    asked: Asked | None = None,
    message: str = CREATED,
) -> Accepted:
    """Accept a new environment and its first operation: a provision, unless another one is asked for.

    `blueprint` has its plan applied (`plan` names it) and its literal secret values still inside: they are
    stored encrypted, the revision refers to them.

    Raises NameTaken, CapExceeded, or InvalidReferences; the last one lists all faults when there are several.
    """
    organization = await locked_organization(session, actor.organization_id)
    rails = rails_of(organization, site.guard_rails)
    usage = usage_of(blueprint, rails)
    await refuse_faults(session, organization, blueprint, usage)
    environment = new_environment(
        actor,
        blueprint,
        cluster=site.cluster,
        plan=plan,
        installation_id=site.installation_id,
        guard_rails=rails,
        now=utc_now(),
    )
    own = new_secrets(blueprint)
    proposed = Proposed(environment, blueprint, usage, own, asked=asked, message=message)
    return await accept_new(session, actor, proposed, keys=keys)


def rails_of(organization: OrganizationRecord, guard_rails: GuardRails) -> GuardRails:
    """Return the guard rails of an organisation's new environment: the cluster's, with its own on top."""
    return GuardRails.model_validate(organization.guard_rails).on_top_of(guard_rails)


@dataclass(frozen=True, slots=True)
class Proposed:
    """A new environment that nothing speaks against; its first event is counted already.

    `own`: the values that belong to it alone. Its first operation writes under `fence`; `asked`: what that
    is, None: a provision.
    """

    environment: EnvironmentRecord
    blueprint: Blueprint
    usage: Usage
    own: Mapping[str, NewSecret]
    fence: int = 1
    asked: Asked | None = None
    message: str = CREATED


async def accept_new(
    session: AsyncSession,
    actor: Actor,
    proposed: Proposed,
    *,
    keys: MasterKeys,
    action: str = "environment.create",
    plan: Callable[[tuple[PlannedStep, ...]], tuple[PlannedStep, ...]] = tuple,
) -> Accepted:
    """Write a new environment of a locked organisation, and its first operation.

    `plan` makes its steps of those of a provision.
    """
    environment, blueprint, own = proposed.environment, proposed.blueprint, proposed.own
    now, organization_id = environment.created_at, environment.organization_id
    kept = without_literals(blueprint)
    await insert_environment(session, environment, kept, proposed.usage, proposed.message)
    key = await secrets.data_key(session, organization_id, keys)
    await secrets.insert_secrets(
        session, organization_id, environment.id, own, key, revision=environment.revision
    )
    values = {name: secret.value for name, secret in own.items()}
    material = await material_beside(session, organization_id, kept, values, keys)
    planned = plan(provision_steps(environment, kept, Overrides(), material, key.hash_key()))
    asked = proposed.asked or Asked(OperationKind.PROVISION, on_failure=blueprint.on_failure)
    operation = new_operation(actor, environment, asked, fence=proposed.fence, now=now)
    steps = await insert_operation(session, operation, planned)
    event = EventRecord(
        environment_id=environment.id,
        organization_id=organization_id,
        number=environment.last_event,
        operation_id=operation.id,
        type=EventType.OPERATION,
        data=accepted_data(operation, environment.phase, steps),
        at=now,
    )
    await events.insert_event(session, event)
    data: JsonObject = {"operation": operation.id, "name": environment.name}
    await add_entry(session, actor, action, environment.id, data)
    await events.announce(session, environment.id)
    return Accepted(environment, operation)


async def refuse_faults(
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
    over = await over_caps(session, organization, usage)
    faults += over
    places += [FieldError(path=(), message=str(each)) for each in over]
    places += await missing_references(session, organization.id, blueprint)
    refuse(faults, places)
