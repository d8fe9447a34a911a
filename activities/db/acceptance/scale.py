"""Accepting changes on top of a revision, of one service: its replicas, and a restart."""

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import (
    Accepted,
    accept,
    change_from,
    changeable,
    over_caps,
    provision_of,
    refuse,
    refuse_phases,
)
from activities.db.errors import DomainError, NotFound
from activities.db.inserts import Asked
from activities.db.records import Actor
from activities.db.repositories import environments, secrets
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.revisions import current_blueprint
from activities.db.tables import Environment
from activities.db.usage import count, counted, usage_of
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, Service, ServiceKind
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.errors import FieldError
from workflows.domain.manifests_workload import desired_replicas
from workflows.domain.operations import (
    EnvironmentPhase,
    OnFailure,
    OperationKind,
    PlannedStep,
)
from workflows.domain.plan import NAMESPACE_STEP, SECRETS_STEP, service_step
from workflows.domain.snapshot import in_pods_alone

MAX_REPLICAS = 100
"""Most replicas of a service, by a Blueprint as by a scale."""

_RESUME_FIRST = "resume it first"
_WHOLE_FIRST = (
    "its last operation did not end well, and one service alone does not mend that: retry or update it"
)


async def scale_service(
    session: AsyncSession, actor: Actor, environment_id: str, service: str, replicas: int, *, keys: MasterKeys
) -> Accepted | None:
    """Accept another number of replicas for one service; it holds over updates, until it is scaled again.

    When they do not become ready, the number goes back to what it was. None: the service has that number
    already, by a scale or by its Blueprint, and nothing is written. Raises NotFound, AlreadyDeleted,
    Deleting, Busy, NotApplicable while it is stopped or in error, CapExceeded, or InvalidReferences.
    """
    organization = await locked_organization(session, actor.organization_id)
    environment = await changeable(session, actor, environment_id)
    _refuse_unsettled(environment)
    blueprint = await current_blueprint(session, environment)
    before = await environments.overrides(session, environment.organization_id, environment.id)
    change = change_from(environment, before)
    wanted = before.model_copy(update={"replicas": {**before.replicas, service: replicas}})
    if replicas == 0:
        wanted = _without_pods(blueprint, wanted, service)
    usage = usage_of(blueprint, GuardRails.model_validate(environment.guard_rails), wanted)
    over = await over_caps(session, organization, usage, counted(environment))
    places = [*_scale_faults(_service(blueprint, service), replicas)]
    places += [FieldError(path=("replicas",), message=str(each)) for each in over]
    faults: list[DomainError] = [*over]
    refuse(faults, places)
    if replicas == desired_replicas(_service(blueprint, service), before):
        return None
    count(environment, usage)
    await environments.replace_overrides(session, environment, wanted)
    return await accept(
        session,
        actor,
        environment,
        Asked(OperationKind.SCALE, on_failure=OnFailure.ROLLBACK, change=change),
        await _steps(session, environment, service, keys),
        audit=("environment.scale", {"service": service, "replicas": replicas}),
    )


async def restart_service(
    session: AsyncSession, actor: Actor, environment_id: str, service: str, *, mark: str, keys: MasterKeys
) -> Accepted:
    """Accept that a service gets new pods; `mark` is a word that no earlier restart had.

    Raises NotFound, AlreadyDeleted, Deleting, Busy, NotApplicable while it is stopped or in error, or
    InvalidReferences for a Job, which runs once.
    """
    environment = await changeable(session, actor, environment_id)
    _refuse_unsettled(environment)
    blueprint = await current_blueprint(session, environment)
    if _service(blueprint, service).kind is ServiceKind.JOB:
        refuse([], [FieldError(path=("service",), message=f"{service} is a job: it runs once")])
    before = await environments.overrides(session, environment.organization_id, environment.id)
    marked = before.model_copy(update={"restarts": {**before.restarts, service: mark}})
    wanted = _without_pods(blueprint, marked, service)
    await environments.replace_overrides(session, environment, wanted)
    return await accept(
        session,
        actor,
        environment,
        Asked(OperationKind.RESTART, change=change_from(environment, before)),
        await _steps(session, environment, service, keys),
        audit=("environment.restart", {"service": service}),
    )


async def _steps(
    session: AsyncSession, environment: Environment, service: str, keys: MasterKeys
) -> tuple[PlannedStep, ...]:
    """The steps of an operation on one service alone; the services that it depends on hold already.

    Its secrets are written too: an organisation's may have a new value, which marks the pods.
    """
    key = await secrets.data_key(session, environment.organization_id, keys)
    whole = await provision_of(session, environment, keys, key.hash_key())
    needed = next(step for step in whole if step.name == service_step(service)).depends_on
    wanted = {NAMESPACE_STEP, SECRETS_STEP} & {NAMESPACE_STEP, *needed}
    return tuple(
        step.model_copy(update={"depends_on": tuple(name for name in step.depends_on if name in wanted)})
        for step in whole
        if step.name in (*wanted, service_step(service))
    )


def _without_pods(blueprint: Blueprint, overrides: Overrides, service: str) -> Overrides:
    """Return what holds once no pod of now is left: data without a volume are gone, and init runs again."""
    gone = in_pods_alone(blueprint, [service])
    return overrides.model_copy(
        update={"loaded": {name: each for name, each in overrides.loaded.items() if name not in gone}}
    )


def _refuse_unsettled(environment: Environment) -> None:
    refuse_phases(environment, _RESUME_FIRST, EnvironmentPhase.STOPPED)
    refuse_phases(environment, _WHOLE_FIRST, EnvironmentPhase.ERROR)


def _service(blueprint: Blueprint, name: str) -> Service:
    try:
        return blueprint.service(name)
    except KeyError:
        raise NotFound("service", name) from None


def _scale_faults(service: Service, replicas: int) -> list[FieldError]:
    faults: list[FieldError] = []
    if not 0 <= replicas <= MAX_REPLICAS:
        message = f"{replicas} is out of range: 0 to {MAX_REPLICAS}"
        faults.append(FieldError(path=("replicas",), message=message))
    if service.kind is ServiceKind.JOB:
        faults.append(FieldError(path=("service",), message=f"{service.name} is a job: it runs once"))
    elif service.model_copy(update={"replicas": replicas}).unsafely_replicated:
        message = f"{service.name} keeps data in a volume, of which each replica would have its own"
        suggestion = "say `replicable: true` on the service when that is meant"
        faults.append(FieldError(path=("replicas",), message=message, suggestion=suggestion))
    return faults
