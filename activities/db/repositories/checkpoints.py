"""Checkpoints: names for revisions, which then are not pruned."""

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import NameTaken, NotFound
from activities.db.records import Actor, CheckpointRecord, JsonObject, checkpoint_record
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.audit import add_entry
from activities.db.repositories.revisions import get_revision
from activities.db.tables import Checkpoint
from activities.db.types import utc_now


async def get_checkpoint(
    session: AsyncSession, organization_id: str, environment_id: str, name: str
) -> CheckpointRecord:
    """Return the checkpoint of this name. Raises NotFound."""
    return checkpoint_record(await _row(session, organization_id, environment_id, name))


async def list_checkpoints(
    session: AsyncSession, organization_id: str, environment_id: str
) -> tuple[CheckpointRecord, ...]:
    """Return an environment's checkpoints, newest first; none for an unknown environment."""
    query = select(Checkpoint).where(
        col(Checkpoint.organization_id) == organization_id, col(Checkpoint.environment_id) == environment_id
    )
    rows = await session.exec(query.order_by(col(Checkpoint.created_at).desc(), col(Checkpoint.name)))
    return tuple(checkpoint_record(row) for row in rows)


async def add_checkpoint(
    session: AsyncSession, actor: Actor, environment_id: str, name: str, revision: int | None
) -> CheckpointRecord:
    """Name a revision, the present one when none is given. Raises NotFound, or NameTaken for another one.

    The same name for the same revision again is answered as it is.
    """
    environment = await locked_environment(session, environment_id, actor.organization_id)
    number = environment.revision if revision is None else revision
    await get_revision(session, actor.organization_id, environment.id, number)
    known = await session.get(Checkpoint, (environment.id, name))
    if known is not None:
        if known.revision != number:
            raise NameTaken("checkpoint", name, f"revision {known.revision}")
        return checkpoint_record(known)
    row = Checkpoint(
        environment_id=environment.id,
        name=name,
        organization_id=actor.organization_id,
        revision=number,
        created_by=actor.principal_id,
        created_at=utc_now(),
    )
    session.add(row)
    data: JsonObject = {"name": name, "revision": number}
    await add_entry(session, actor, "environment.checkpoint", environment.id, data)
    await session.flush()
    return checkpoint_record(row)


async def remove_checkpoint(session: AsyncSession, actor: Actor, environment_id: str, name: str) -> None:
    """Take a name away; its revision may be pruned from then on. Raises NotFound."""
    environment = await locked_environment(session, environment_id, actor.organization_id)
    await session.delete(await _row(session, actor.organization_id, environment.id, name))
    await add_entry(session, actor, "environment.remove_checkpoint", environment.id, {"name": name})
    await session.flush()


async def _row(session: AsyncSession, organization_id: str, environment_id: str, name: str) -> Checkpoint:
    row = await session.get(Checkpoint, (environment_id, name))
    if row is None or row.organization_id != organization_id:
        raise NotFound("checkpoint", name)
    return row
