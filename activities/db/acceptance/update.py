"""Accepting an environment's next revision: what changes, what is refused, and the values of its secrets."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import (
    Accepted,
    accept,
    change_from,
    changeable,
    left_to_remove,
    over_caps,
    refuse,
)
from activities.db.errors import DomainError, UpdateRefused
from activities.db.inserts import Asked, insert_revision
from activities.db.planning import context_of
from activities.db.pruning import prune
from activities.db.records import (
    Actor,
    EnvironmentRecord,
    JsonObject,
    OrganizationRecord,
    RevisionRecord,
    environment_record,
)
from activities.db.references import missing_references
from activities.db.repositories import checkpoints, environments, revisions, secrets
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.revisions import current_blueprint
from activities.db.repositories.secrets import NewSecret
from activities.db.secret_material import SecretMaterial, digests, material_beside
from activities.db.settings import between, set_settings, tell_settings
from activities.db.tables import Environment
from activities.db.types import utc_now
from activities.db.usage import Usage, count, counted, usage_of
from activities.secrets import MasterKeys, generate_secret
from workflows.domain.blueprint import (
    Blueprint,
    SecretSourceKind,
    literal_secrets,
    secret_sources,
    without_literals,
)
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.errors import FieldError
from workflows.domain.operations import EnvironmentPhase, OnFailure, OperationKind
from workflows.domain.plan import input_hashes, provision_inputs
from workflows.domain.update import (
    Desired,
    Effect,
    ServiceChange,
    keeps_data,
    obsolete_objects,
    plan_update,
    service_changes,
)

_SETTLED_WELL = frozenset({EnvironmentPhase.RUNNING, EnvironmentPhase.DEGRADED})
"""Phases in which the same Blueprint again asks for nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an environment is to become. `plan` names the plan that was applied to the Blueprint.

    `secrets_of`: values of secrets that the Blueprint does not write out are those of this revision; None:
    those of the present one.
    """

    blueprint: Blueprint
    message: str = ""
    plan: str | None = None
    on_failure: OnFailure | None = None
    """None: what is usual, which is a rollback for an update, and what the Blueprint says for a creation."""
    secrets_of: int | None = None
    keep: int = 50
    """How many revisions are kept beside named ones."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an update would do. `noop`: nothing, the environment is so already."""

    environment: EnvironmentRecord
    changes: tuple[ServiceChange, ...]
    noop: bool


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update does; `accepted` is None when there was nothing to do."""

    preview: Preview
    accepted: Accepted | None


@dataclass(frozen=True, slots=True)
class _Next:
    """A next revision, worked out under the locks and not written yet."""

    kept: Blueprint
    before: Desired
    after: Desired
    preview: Preview
    values: Mapping[str, str]
    """All values of the environment's own secrets as the next revision has them."""
    fresh: Mapping[str, NewSecret]
    """Those among them that have to be stored."""
    usage: Usage
    overrides: Overrides
    """Those of before, save of services that go."""


async def preview_update(
    session: AsyncSession, actor: Actor, environment_id: str, wanted: Wanted, *, keys: MasterKeys
) -> Preview:
    """Work out what an update would do, and write nothing.

    Raises what `update_environment` raises, save UpdateRefused: what would be refused is in the answer.
    """
    organization = await locked_organization(session, actor.organization_id)
    environment = await changeable(session, actor, environment_id)
    return (await _next(session, organization, environment, wanted, keys)).preview


async def update_environment(
    session: AsyncSession, actor: Actor, environment_id: str, wanted: Wanted, *, keys: MasterKeys
) -> Updated:
    """Accept a Blueprint as the environment's next revision, and the operation that brings it there.

    The same Blueprint again is no operation while the environment runs; a stopped one is started by it.
    Raises NotFound, AlreadyDeleted, Deleting, Busy, CapExceeded, InvalidReferences, or UpdateRefused, which
    lists every service that would lose data.
    """
    organization = await locked_organization(session, actor.organization_id)
    environment = await changeable(session, actor, environment_id)
    upcoming = await _next(session, organization, environment, wanted, keys)
    if upcoming.preview.noop:
        return Updated(upcoming.preview, None)
    _refuse_losses(wanted.blueprint, upcoming.preview.changes)
    key = await secrets.data_key(session, environment.organization_id, keys)
    before = await environments.overrides(session, environment.organization_id, environment.id)
    rails = GuardRails.model_validate(environment.guard_rails)
    context = context_of(environment_record(environment), "", revision=0, fence=0)
    left = await left_to_remove(session, environment)
    obsolete = obsolete_objects(context, rails, upcoming.before, upcoming.after, left)
    planned = plan_update(
        upcoming.before.blueprint,
        upcoming.kept,
        upcoming.preview.changes,
        obsolete,
        input_hashes(key.hash_key(), upcoming.after.inputs),
        # Of what is not seen to run, more may be missing than what changes.
        everything=environment.phase is not EnvironmentPhase.RUNNING,
    )
    settings = set_settings(environment, between(upcoming.before.blueprint, upcoming.kept), utc_now())
    change = change_from(environment, before).model_copy(
        update={
            "replaced": {
                each.service: each.lost_volumes
                for each in upcoming.preview.changes
                if each.effect is Effect.REPLACE
            },
            "obsolete": obsolete,
            "settings": settings,
        }
    )
    await _write_revision(session, actor, environment, upcoming, wanted, keys)
    await tell_settings(session, environment, settings, actor.principal_id)
    data: JsonObject = {
        "revision": environment.revision,
        "parent": change.revision,
        "message": wanted.message,
    }
    accepted = await accept(
        session,
        actor,
        environment,
        Asked(OperationKind.UPDATE, on_failure=wanted.on_failure or OnFailure.ROLLBACK, change=change),
        planned,
        audit=("environment.update" if wanted.secrets_of is None else "environment.rollback", data),
    )
    return Updated(upcoming.preview, accepted)


async def rollback_environment(
    session: AsyncSession,
    actor: Actor,
    environment_id: str,
    *,
    revision: int | None,
    checkpoint: str | None,
    on_failure: OnFailure | None = None,
    keys: MasterKeys,
    keep: int,
) -> Updated:
    """Accept the Blueprint of an earlier revision or of a checkpoint as the next one, with its secrets.

    Raises NotFound for a revision that is not kept, and what `update_environment` raises.
    """
    # Locks in their order: organisation, environment.
    await locked_organization(session, actor.organization_id)
    environment = await changeable(session, actor, environment_id)
    if revision is None:
        found = await checkpoints.get_checkpoint(
            session, actor.organization_id, environment.id, checkpoint or ""
        )
        revision = found.revision
    earlier = await revisions.get_revision(session, actor.organization_id, environment.id, revision)
    wanted = Wanted(
        Blueprint.model_validate(earlier.blueprint),
        message=f"rollback to revision {revision}",
        plan=environment.plan,
        on_failure=on_failure,
        secrets_of=revision,
        keep=keep,
    )
    return await update_environment(session, actor, environment_id, wanted, keys=keys)


async def _next(
    session: AsyncSession,
    organization: OrganizationRecord,
    environment: Environment,
    wanted: Wanted,
    keys: MasterKeys,
) -> _Next:
    """Work out the next revision of a locked environment. Raises what speaks against it, all at once."""
    blueprint = wanted.blueprint
    current = await current_blueprint(session, environment)
    kept = without_literals(blueprint)
    own = await _own_values(session, environment, keys, environment.revision)
    inherited = own
    if wanted.secrets_of is not None:
        inherited = await _own_values(session, environment, keys, wanted.secrets_of)
    newest = await _own_values(session, environment, keys, None)
    values, generated = _values(blueprint, inherited)
    overrides = await environments.overrides(session, environment.organization_id, environment.id)
    remaining = overrides.of([service.name for service in kept.services])
    usage = usage_of(kept, GuardRails.model_validate(environment.guard_rails), remaining)
    await _refuse_faults(session, organization, environment, blueprint, usage, inherited)
    before = await _desired(session, environment, current, overrides, own, keys)
    after = await _desired(session, environment, kept, remaining, values, keys)
    changes = service_changes(before, after)
    # What comes anew without its volumes has no restored data any more: its init is to run again.
    emptied = {
        each.service
        for each in changes
        if each.effect in (Effect.IN_PLACE, Effect.REPLACE)
        and not keeps_data(current.service(each.service), kept.service(each.service))
    }
    remaining = remaining.model_copy(
        update={"loaded": {name: from_ for name, from_ in remaining.loaded.items() if name not in emptied}}
    )
    # After a rename the Blueprint may call the environment either way.
    renamed = current.model_copy(update={"name": kept.name})
    same = renamed == kept and all(each.effect is Effect.UNCHANGED for each in changes)
    return _Next(
        kept=kept,
        before=before,
        after=after,
        preview=Preview(
            environment=environment_record(environment),
            changes=changes,
            noop=same and environment.phase in _SETTLED_WELL,
        ),
        values=values,
        fresh={
            name: NewSecret(value, generated=name in generated)
            for name, value in values.items()
            if newest.get(name) != value
        },
        usage=usage,
        overrides=remaining,
    )


async def _own_values(
    session: AsyncSession, environment: Environment, keys: MasterKeys, revision: int | None
) -> dict[str, str]:
    return await secrets.secret_values(
        session, environment.organization_id, environment.id, keys, revision=revision
    )


def _values(blueprint: Blueprint, inherited: Mapping[str, str]) -> tuple[dict[str, str], Collection[str]]:
    """The values of the environment's own secrets, written out, kept or generated; names of the generated."""
    literals = literal_secrets(blueprint)
    values: dict[str, str] = {}
    generated: set[str] = set()
    for name, source in secret_sources(blueprint).items():
        if name in literals:
            values[name] = literals[name]
        elif source.kind is SecretSourceKind.GENERATED:
            generated.add(name)
            values[name] = inherited.get(name) or generate_secret()
        elif source.stored == name and name in inherited:
            values[name] = inherited[name]
    return values, generated


async def _desired(
    session: AsyncSession,
    environment: Environment,
    kept: Blueprint,
    overrides: Overrides,
    own: Mapping[str, str],
    keys: MasterKeys,
) -> Desired:
    material: SecretMaterial = await material_beside(session, environment.organization_id, kept, own, keys)
    key = (await secrets.data_key(session, environment.organization_id, keys)).hash_key()
    inputs = provision_inputs(
        kept,
        context_of(environment_record(environment), "", revision=0, fence=0),
        GuardRails.model_validate(environment.guard_rails),
        overrides,
        digests(key, material.values),
        digests(key, material.registry_credentials),
    )
    return Desired(blueprint=kept, overrides=overrides, inputs=inputs)


async def _refuse_faults(
    session: AsyncSession,
    organization: OrganizationRecord,
    environment: Environment,
    blueprint: Blueprint,
    usage: Usage,
    own: Collection[str],
) -> None:
    faults: list[DomainError] = []
    places: list[FieldError] = []
    if blueprint.name not in (environment.name, environment.instance):
        places.append(
            FieldError(
                path=("name",),
                message=f"the environment is called {environment.name!r}: an update does not rename it",
                suggestion=f"name: {environment.name}",
            )
        )
    over = await over_caps(session, organization, usage, counted(environment))
    faults += over
    places += [FieldError(path=(), message=str(each)) for each in over]
    places += await missing_references(session, organization.id, blueprint, own)
    refuse(faults, places)


def _refuse_losses(blueprint: Blueprint, changes: tuple[ServiceChange, ...]) -> None:
    index = {service.name: place for place, service in enumerate(blueprint.services)}
    refused = tuple(
        FieldError(path=("services", index[each.service]), message=f"{each.service}: {each.reason}")
        for each in changes
        if each.effect is Effect.REFUSED
    )
    if refused:
        raise UpdateRefused(refused)


async def _write_revision(
    session: AsyncSession,
    actor: Actor,
    environment: Environment,
    upcoming: _Next,
    wanted: Wanted,
    keys: MasterKeys,
) -> None:
    number = await revisions.highest_revision(session, environment.id) + 1
    await insert_revision(
        session,
        RevisionRecord(
            environment_id=environment.id,
            number=number,
            parent=environment.revision,
            message=wanted.message,
            blueprint=upcoming.kept.model_dump(mode="json", by_alias=True),
            created_by=actor.principal_id,
            created_at=utc_now(),
        ),
        environment.organization_id,
    )
    key = await secrets.data_key(session, environment.organization_id, keys)
    await secrets.insert_secrets(
        session, environment.organization_id, environment.id, upcoming.fresh, key, revision=number
    )
    await environments.replace_overrides(session, environment, upcoming.overrides)
    environment.revision = number
    await prune(session, environment, wanted.keep)
    environment.plan = wanted.plan
    count(environment, upcoming.usage)
