"""The audit trail: who did what to which thing, written in the transaction of what was done."""

from datetime import datetime

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import insert_rows, table_of, values_of
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, AuditRecord, JsonObject, audit_record
from activities.db.repositories.paging import Page, newest_first, read_page
from activities.db.tables import AuditEntry
from activities.db.types import utc_now


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
    limit: int = 50,
    cursor: str | None = None,
    subject_id: str | None = None,
    principal_id: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
) -> Page[AuditRecord]:
    """Return a page of entries, newest first. Raises InvalidCursor."""
    table = table_of(AuditEntry).c
    order = newest_first(table.at, table.id, "audit", subject_id, principal_id, action, since)
    query = select(AuditEntry).where(col(AuditEntry.organization_id) == organization_id)
    if subject_id is not None:
        query = query.where(col(AuditEntry.subject_id) == subject_id)
    if principal_id is not None:
        query = query.where(col(AuditEntry.principal_id) == principal_id)
    if action is not None:
        query = query.where(col(AuditEntry.action) == action)
    if since is not None:
        query = query.where(col(AuditEntry.at) >= since)
    return await read_page(session, query, order, audit_record, limit=limit, cursor=cursor)
