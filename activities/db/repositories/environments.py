"""Environments as the database has them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, bindparam
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import Values, insert_rows, table_of
from activities.db.errors import NotFound
from activities.db.records import Condition, EnvironmentRecord, environment_record
from activities.db.repositories._rows import locked_environment, owned_row
from activities.db.repositories.paging import Filter, Listing, Page, among, holding, only
from activities.db.tables import Environment, Override
from activities.db.types import utc_now
from workflows.domain.environment import Overrides
from workflows.domain.operations import EnvironmentPhase

_TABLE: Final = table_of(Environment)
_NAME: Final = select(_TABLE.c.name).where(
    _TABLE.c.organization_id == bindparam("organization_id"), _TABLE.c.id == bindparam("id")
)
_BY_NAME: Final = select(_TABLE.c.id).where(
    _TABLE.c.organization_id == bindparam("organization_id"),
    _TABLE.c.name == bindparam("name"),
    _TABLE.c.deleted_at.is_(None),
)

READY: Final = "Ready"
"""Type of the condition that says whether an environment is as its Blueprint wants it."""


class EnvironmentSort(StrEnum):
    """Order of a list of environments; `-`: the greatest first."""

    CREATED = "createdAt"
    CREATED_LAST = "-createdAt"
    NAME = "name"
    NAME_LAST = "-name"
    UPDATED = "updatedAt"
    UPDATED_LAST = "-updatedAt"


@dataclass(frozen=True, slots=True)
class EnvironmentFilter(Filter):
    """Which environments a list holds.

    `part` stands somewhere in the name, in letters of any case. `labels`: key and value, None: any value.
    Deleted ones only when `phases` names them.
    """

    phases: frozenset[EnvironmentPhase] = frozenset()
    name: str | None = None
    part: str | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        found = among(col(Environment.phase), self.phases) or [col(Environment.deleted_at).is_(None)]
        found += only(col(Environment.name), self.name) + holding(col(Environment.name), self.part)
        for key, value in self.labels:
            label = col(Environment.labels)[key].as_string()
            found.append(label.is_not(None) if value is None else label == value)
        if self.created_after is not None:
            found.append(col(Environment.created_at) > self.created_after)
        if self.created_before is not None:
            found.append(col(Environment.created_at) < self.created_before)
        return found


_LISTING: Final = Listing(
    name="environments",
    copy=environment_record,
    by={"createdAt": _TABLE.c.created_at, "name": _TABLE.c.name, "updatedAt": _TABLE.c.updated_at},
    identifier=_TABLE.c.id,
)


async def get_environment(
    session: AsyncSession, organization_id: str, environment_id: str
) -> EnvironmentRecord:
    """Return an environment of this organisation, deleted ones included. Raises NotFound."""
    row = await owned_row(session, Environment, environment_id, organization_id, "environment")
    return environment_record(row)


async def environment_name(session: AsyncSession, organization_id: str, environment_id: str) -> str:
    """Return the name of an environment of this organisation, deleted ones included. Raises NotFound."""
    wanted = {"organization_id": organization_id, "id": environment_id}
    found: str | None = (await session.exec(_NAME, params=wanted)).one_or_none()
    if found is None:
        raise NotFound("environment", environment_id)
    return found


async def environment_names(
    session: AsyncSession, organization_id: str, environment_ids: Collection[str]
) -> dict[str, str]:
    """Return the names of these environments of the organisation by id, deleted ones included."""
    query = select(col(Environment.id), col(Environment.name)).where(
        col(Environment.organization_id) == organization_id, col(Environment.id).in_(environment_ids)
    )
    return dict((await session.exec(query)).all())


async def find_environment(session: AsyncSession, organization_id: str, name: str) -> str | None:
    """Return the id of the environment that has this name now; deleted ones have given theirs up."""
    wanted = {"organization_id": organization_id, "name": name}
    found: str | None = (await session.exec(_BY_NAME, params=wanted)).one_or_none()
    return found


async def list_environments(
    session: AsyncSession,
    organization_id: str,
    *,
    limit: int = 50,
    cursor: str | None = None,
    wanted: EnvironmentFilter = EnvironmentFilter(),
    sort: EnvironmentSort = EnvironmentSort.CREATED_LAST,
) -> Page[EnvironmentRecord]:
    """Return a page of environments. Raises InvalidCursor, also for a cursor of another order or filter."""
    query = select(Environment).where(col(Environment.organization_id) == organization_id)
    return await _LISTING.page(session, query, sort=sort, wanted=wanted, limit=limit, cursor=cursor)


async def update_phase(
    session: AsyncSession,
    organization_id: str,
    environment_id: str,
    phase: EnvironmentPhase,
    condition: Condition | None = None,
) -> EnvironmentRecord:
    """Write back what was seen live: phase and one condition. An unchanged row stays untouched.

    Raises NotFound. The caller checks that no operation is live: while one is, the phase is the operation's.
    """
    row = await locked_environment(session, environment_id, organization_id)
    apply_phase(row, phase, condition, utc_now())
    await session.flush()
    return environment_record(row)


def apply_phase(
    row: Environment, phase: EnvironmentPhase, condition: Condition | None, now: datetime
) -> None:
    """Set phase and condition on a locked row; `since` moves only when the condition's status changes."""
    conditions = [Condition.model_validate(known) for known in row.conditions]
    if condition is not None:
        before = next((known for known in conditions if known.type == condition.type), None)
        if before is not None and before.status == condition.status:
            condition = condition.model_copy(update={"since": before.since})
        conditions = [known for known in conditions if known.type != condition.type] + [condition]
    documents = [known.model_dump(mode="json") for known in conditions]
    if row.phase == phase and row.conditions == documents:
        return
    row.phase = phase
    row.conditions = documents
    touch(row, now)


def touch(row: Environment, now: datetime) -> None:
    """Note that a locked row changes: a new version, and when."""
    row.version += 1
    row.updated_at = now


async def overrides(session: AsyncSession, organization_id: str, environment_id: str) -> Overrides:
    """Return the recorded changes on top of the environment's revision; none for an unknown environment."""
    query = select(Override).where(
        col(Override.organization_id) == organization_id, col(Override.environment_id) == environment_id
    )
    rows = (await session.exec(query)).all()
    return Overrides(
        replicas={row.service: row.replicas for row in rows if row.replicas is not None},
        restarts={row.service: row.restart for row in rows if row.restart is not None},
        loaded={row.service: row.loaded for row in rows if row.loaded is not None},
    )


async def replace_overrides(
    session: AsyncSession, environment: Environment | EnvironmentRecord, wanted: Overrides
) -> None:
    """Record these changes on top of a locked environment's revision in the place of what was recorded."""
    await session.exec(delete(Override).where(col(Override.environment_id) == environment.id))
    now = utc_now()
    rows: list[Values] = [
        {
            "environment_id": environment.id,
            "service": service,
            "organization_id": environment.organization_id,
            "replicas": wanted.replicas.get(service),
            "restart": wanted.restarts.get(service),
            "loaded": wanted.loaded.get(service),
            "updated_at": now,
        }
        for service in sorted({*wanted.replicas, *wanted.restarts, *wanted.loaded})
    ]
    await insert_rows(session, Override, *rows)
