"""Waking an environment that went to sleep because nobody used it."""

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import Accepted, last_operation
from activities.db.acceptance.stop import fell_asleep, resume_environment
from activities.db.errors import AlreadyDeleted, Deleting, NotApplicable
from activities.db.records import Actor, OperationRecord, environment_record, operation_record
from activities.db.repositories import events
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.operations import latest
from activities.db.tables import EventType
from activities.db.types import utc_now
from activities.secrets import MasterKeys
from workflows.domain.operations import OperationKind, OperationState


def wakes(last: OperationRecord | None) -> bool:
    """Whether use wakes an environment whose newest operation this is, or is waking it already.

    It has to be the sweeper's stop, under way or done, or a resume under way. Whatever somebody has decided
    since, a stop of theirs or a resume that they cancelled, is the newest operation then, and stays.
    """
    if last is None:
        return False
    if last.kind is OperationKind.RESUME:
        return not last.ended
    return fell_asleep(last) and (not last.ended or last.state is OperationState.SUCCEEDED)


async def may_be_woken(session: AsyncSession, organization_id: str, environment_id: str) -> bool:
    """Whether `wake_environment` would find something to do. Locks nothing."""
    return wakes((await latest(session, organization_id, [environment_id])).get(environment_id))


async def wake_environment(
    session: AsyncSession, actor: Actor, environment_id: str, service: str, *, keys: MasterKeys
) -> Accepted | None:
    """Accept the resume of an environment that is asleep for want of use; `service`: what was asked for.

    However many ask, one resume is accepted: the others are given it, `repeated`. So is the sweeper's stop
    while that is under way: wake again once it has ended. None: use does not wake it (any more). Raises
    NotFound.
    """
    environment = await locked_environment(session, environment_id, actor.organization_id)
    row = await last_operation(session, environment)
    last = None if row is None else operation_record(row)
    if last is None or not wakes(last):
        return None
    if not last.ended:
        return Accepted(environment_record(environment), last, repeated=True)
    try:
        accepted = await resume_environment(session, actor, environment_id, keys=keys, woken_for=service)
    except (AlreadyDeleted, Deleting, NotApplicable):
        return None
    now = utc_now()
    data = {"timer": "idle", "action": "wake", "at": now.isoformat(), "service": service}
    await events.append(session, environment, None, EventType.TIMER, {**data})
    await session.flush()
    return accepted
