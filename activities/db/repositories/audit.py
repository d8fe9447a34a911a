"""The audit trail: who did what to which thing, written in the transaction of what was done."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import insert_rows, table_of, values_of
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, AuditRecord, JsonObject, audit_record
from activities.db.repositories.paging import Filter, Listing, Page, only, since, until
from activities.db.tables import AuditEntry
from activities.db.types import utc_now


class AuditSort(StrEnum):
    """Order of a list of entries; `-`: the newest first."""

    OLDEST = "at"
    NEWEST = "-at"


@dataclass(frozen=True, slots=True)
class AuditFilter(Filter):
    """Which entries a list holds. `since`: not before that; `until`: before that."""

    action: str | None = None
    subject_id: str | None = None
    principal_id: str | None = None
    key_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        return [
            *only(col(AuditEntry.action), self.action),
            *only(col(AuditEntry.subject_id), self.subject_id),
            *only(col(AuditEntry.principal_id), self.principal_id),
            *only(col(AuditEntry.key_id), self.key_id),
            *since(col(AuditEntry.at), self.since),
            *until(col(AuditEntry.at), self.until),
        ]


_LISTING: Final = Listing(
    name="audit",
    copy=audit_record,
    by={"at": table_of(AuditEntry).c.at},
    identifier=table_of(AuditEntry).c.id,
)


async def add_entry(
    session: AsyncSession, actor: Actor, action: str, subject_id: str, data: JsonObject | None = None
) -> None:
    """Add an entry: `action` is `<thing>.<verb>`, `data` holds ids and choices, never secret values."""
    entry = AuditRecord(
        id=new_id(IdPrefix.AUDIT_ENTRY),
        organization_id=actor.organization_id,
        principal_id=actor.principal_id,
        key_id=actor.key_id,
        action=action,
        subject_id=subject_id,
        data=data or {},
        at=utc_now(),
    )
    await insert_rows(session, AuditEntry, values_of(entry))


async def list_entries(
    session: AsyncSession,
    organization_id: str,
    *,
    wanted: AuditFilter = AuditFilter(),
    sort: AuditSort = AuditSort.NEWEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[AuditRecord]:
    """Return a page of entries. Raises InvalidCursor."""
    query = select(AuditEntry).where(col(AuditEntry.organization_id) == organization_id)
    return await _LISTING.page(session, query, sort=sort, wanted=wanted, limit=limit, cursor=cursor)
