"""Accepting the deletion of an environment: nothing that runs holds it up."""

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import Accepted, accept, under_way
from activities.db.acceptance.cancel import ask_to_cancel
from activities.db.errors import AlreadyDeleted, Protected
from activities.db.inserts import Asked
from activities.db.records import Actor, environment_record, operation_record
from activities.db.repositories import events
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.audit import add_entry
from activities.db.repositories.operations import live_rows
from activities.db.tables import Environment, Operation
from activities.db.transitions import operation_changed, step_rows
from activities.db.types import utc_now
from workflows.domain.operations import OperationKind, OperationState
from workflows.domain.plan import plan_delete


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
            await ask_to_force(session, actor, environment, running)
        return Accepted(environment_record(environment), operation_record(running), repeated=True)
    environment.delete_requested_at = now
    under_way(environment, OperationKind.DELETE, now)
    for other in live:
        await ask_to_cancel(
            session, environment, other, cleanup=False, reason="The environment is being deleted.", now=now
        )
    return await accept(
        session,
        actor,
        environment,
        Asked(OperationKind.DELETE, force=force),
        plan_delete(),
        audit=("environment.delete", {"force": force}),
    )


async def ask_to_force(
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
