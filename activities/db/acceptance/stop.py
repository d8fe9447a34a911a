"""Accepting a stop, and the resume after it."""

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import (
    Accepted,
    accept,
    change_from,
    changeable,
    last_operation,
    left_to_remove,
    provision_of,
    refuse_phases,
)
from activities.db.errors import Protected
from activities.db.inserts import Asked
from activities.db.records import SWEEPER, Actor, OperationRecord, operation_record
from activities.db.repositories import environments, secrets
from activities.db.repositories.revisions import current_blueprint
from activities.secrets import MasterKeys
from workflows.domain.operations import EnvironmentPhase, OperationKind
from workflows.domain.plan import plan_removals, plan_stop


async def stop_environment(session: AsyncSession, actor: Actor, environment_id: str) -> Accepted:
    """Accept that an environment has no pods from now on; its volumes and the numbers of replicas stay.

    One that fell asleep may be stopped: use does not wake it any more then. Raises NotFound, AlreadyDeleted,
    Deleting, Busy, Protected, or NotApplicable when it is stopped already.
    """
    environment = await changeable(session, actor, environment_id)
    if environment.protected:
        raise Protected(environment.id, environment.name)
    row = await last_operation(session, environment)
    if actor.principal_id == SWEEPER or row is None or not fell_asleep(operation_record(row)):
        refuse_phases(environment, "it is stopped already", EnvironmentPhase.STOPPED)
    overrides = await environments.overrides(session, environment.organization_id, environment.id)
    left = await left_to_remove(session, environment)
    change = change_from(environment, overrides).model_copy(update={"obsolete": left})
    return await accept(
        session,
        actor,
        environment,
        Asked(OperationKind.STOP, change=change),
        plan_stop(await current_blueprint(session, environment), list(left)),
        audit=("environment.stop", {}),
    )


def fell_asleep(last: OperationRecord) -> bool:
    """Whether an environment whose newest operation this is was stopped, or is being, for want of use."""
    return last.kind is OperationKind.STOP and last.requested_by == SWEEPER


async def resume_environment(
    session: AsyncSession,
    actor: Actor,
    environment_id: str,
    *,
    keys: MasterKeys,
    woken_for: str | None = None,
) -> Accepted:
    """Accept that a stopped environment runs again, as its revision and overrides say.

    One whose last operation failed may be resumed too: it may stand between the two. `woken_for`: the service
    whose use asks for it, for the audit trail. Raises NotFound, AlreadyDeleted, Deleting, Busy, or
    NotApplicable when it is not stopped.
    """
    environment = await changeable(session, actor, environment_id)
    awake = frozenset(EnvironmentPhase) - {EnvironmentPhase.STOPPED, EnvironmentPhase.ERROR}
    refuse_phases(environment, "only a stopped environment can be resumed", *awake)
    overrides = await environments.overrides(session, environment.organization_id, environment.id)
    key = await secrets.data_key(session, environment.organization_id, keys)
    left = await left_to_remove(session, environment)
    change = change_from(environment, overrides).model_copy(update={"obsolete": left})
    planned = await provision_of(session, environment, keys, key.hash_key())
    return await accept(
        session,
        actor,
        environment,
        Asked(OperationKind.RESUME, change=change),
        (*planned, *plan_removals(list(left), after=[step.name for step in planned])),
        audit=("environment.resume", {} if woken_for is None else {"wokenFor": woken_for}),
    )
