"""Accepting a new environment and its provision."""

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import Accepted, over_caps, refuse
from activities.db.errors import (
    DomainError,
    NameTaken,
)
from activities.db.inserts import (
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
    EventRecord,
    JsonObject,
    OrganizationRecord,
)
from activities.db.references import missing_references
from activities.db.repositories import events, secrets
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.audit import add_entry
from activities.db.repositories.environments import find_environment
from activities.db.secret_material import material_beside
from activities.db.tables import EventType
from activities.db.transitions import accepted_data
from activities.db.types import utc_now
from activities.db.usage import Usage, usage_of
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, without_literals
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.errors import FieldError
from workflows.domain.operations import OperationKind


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
    asked = Asked(OperationKind.PROVISION, on_failure=blueprint.on_failure)
    operation = new_operation(actor, environment, asked, fence=1, now=now)
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
    over = await over_caps(session, organization, usage)
    faults += over
    places += [FieldError(path=(), message=str(each)) for each in over]
    places += await missing_references(session, organization.id, blueprint)
    refuse(faults, places)
