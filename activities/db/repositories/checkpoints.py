"""Checkpoints: names for revisions, which then are not pruned."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from activities.db.core import table_of
from activities.db.errors import NameTaken, NotFound
from activities.db.records import Actor, CheckpointRecord, JsonObject, checkpoint_record
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.audit import add_entry
from activities.db.repositories.paging import ByTimeOrName, Filter, Listing, Page, holding
from activities.db.repositories.revisions import get_revision
from activities.db.tables import Checkpoint
from activities.db.types import utc_now


@dataclass(frozen=True, slots=True)
class CheckpointFilter(Filter):
    """Which checkpoints a list holds. `part` stands in the name."""

    part: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        return holding(col(Checkpoint.name), self.part)


_TABLE: Final = table_of(Checkpoint)
_LISTING: Final = Listing(
    name="checkpoints",
    copy=checkpoint_record,
    by={"createdAt": _TABLE.c.created_at, "name": _TABLE.c.name},
    identifier=_TABLE.c.name,
)


async def get_checkpoint(
    session: AsyncSession, organization_id: str, environment_id: str, name: str
) -> CheckpointRecord:
    """Return the checkpoint of this name. Raises NotFound."""
    return checkpoint_record(await _row(session, organization_id, environment_id, name))


async def list_checkpoints(
    session: AsyncSession,
    organization_id: str,
    environment_id: str,
    *,
    wanted: CheckpointFilter = CheckpointFilter(),
    sort: ByTimeOrName = ByTimeOrName.NEWEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[CheckpointRecord]:
    """Return a page of an environment's checkpoints. Raises InvalidCursor."""
    query = _of(organization_id, environment_id)
    return await _LISTING.page(
        session, query, environment_id, sort=sort, wanted=wanted, limit=limit, cursor=cursor
    )


async def names_of_revisions(
    session: AsyncSession, organization_id: str, environment_id: str
) -> dict[int, list[str]]:
    """Return the names that an environment's revisions have, by number, newest first."""
    query = _of(organization_id, environment_id).order_by(col(Checkpoint.created_at).desc())
    names: dict[int, list[str]] = {}
    for row in await session.exec(query.order_by(col(Checkpoint.name).desc())):
        names.setdefault(row.revision, []).append(row.name)
    return names


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


def _of(organization_id: str, environment_id: str) -> SelectOfScalar[Checkpoint]:
    return select(Checkpoint).where(
        col(Checkpoint.organization_id) == organization_id, col(Checkpoint.environment_id) == environment_id
    )


async def _row(session: AsyncSession, organization_id: str, environment_id: str, name: str) -> Checkpoint:
    row = await session.get(Checkpoint, (environment_id, name))
    if row is None or row.organization_id != organization_id:
        raise NotFound("checkpoint", name)
    return row
