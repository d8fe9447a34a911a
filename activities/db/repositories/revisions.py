"""Revisions: each accepted Blueprint of an environment, without literal secret values."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, exists, func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.records import RevisionRecord, revision_record
from activities.db.repositories._rows import owned_row
from activities.db.repositories.paging import Filter, Listing, Page, holding, only, since
from activities.db.tables import Checkpoint, Environment, Revision
from workflows.domain.blueprint import Blueprint


class RevisionSort(StrEnum):
    """Order of a list of revisions; `-`: the newest first."""

    OLDEST = "number"
    NEWEST = "-number"


@dataclass(frozen=True, slots=True)
class RevisionFilter(Filter):
    """Which revisions a list holds. `part` stands in the message; `named`: with a checkpoint, or without."""

    part: str | None = None
    created_by: str | None = None
    named: bool | None = None
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        found = [
            *holding(col(Revision.message), self.part),
            *only(col(Revision.created_by), self.created_by),
            *since(col(Revision.created_at), self.since),
        ]
        if self.named is not None:
            name = exists().where(
                col(Checkpoint.environment_id) == col(Revision.environment_id),
                col(Checkpoint.revision) == col(Revision.number),
            )
            found.append(name if self.named else ~name)
        return found


_LISTING: Final = Listing(
    name="revisions",
    copy=revision_record,
    by={"number": table_of(Revision).c.number},
    identifier=table_of(Revision).c.number,
)


async def current_blueprint(session: AsyncSession, environment: Environment) -> Blueprint:
    """Return the Blueprint of a locked environment's revision, without literal secrets."""
    revision = await session.get_one(Revision, (environment.id, environment.revision))
    return Blueprint.model_validate(revision.blueprint)


async def get_revision(
    session: AsyncSession, organization_id: str, environment_id: str, number: int
) -> RevisionRecord:
    """Return one revision. Raises NotFound."""
    row = await owned_row(session, Revision, (environment_id, number), organization_id, "revision")
    return revision_record(row)


async def highest_revision(session: AsyncSession, environment_id: str) -> int:
    """Return the highest number that an environment's revisions have had. For use under its lock."""
    query = select(func.max(col(Revision.number))).where(col(Revision.environment_id) == environment_id)
    return (await session.exec(query)).one() or 0


async def revisions_by_number(
    session: AsyncSession, organization_id: str, environment_id: str, numbers: Collection[int]
) -> tuple[RevisionRecord, ...]:
    """Return those of these revisions that are kept."""
    query = select(Revision).where(
        col(Revision.organization_id) == organization_id,
        col(Revision.environment_id) == environment_id,
        col(Revision.number).in_(numbers),
    )
    return tuple(revision_record(row) for row in await session.exec(query))


async def list_revisions(
    session: AsyncSession,
    organization_id: str,
    environment_id: str,
    *,
    wanted: RevisionFilter = RevisionFilter(),
    sort: RevisionSort = RevisionSort.NEWEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[RevisionRecord]:
    """Return a page of an environment's revisions that are kept. Raises InvalidCursor."""
    query = select(Revision).where(
        col(Revision.organization_id) == organization_id, col(Revision.environment_id) == environment_id
    )
    return await _LISTING.page(
        session, query, environment_id, sort=sort, wanted=wanted, limit=limit, cursor=cursor
    )
