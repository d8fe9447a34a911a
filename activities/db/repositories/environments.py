"""Environments as the database has them."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import Values, insert_rows, table_of
from activities.db.errors import NotFound
from activities.db.records import Condition, EnvironmentRecord, environment_record
from activities.db.repositories._rows import locked_environment, owned_row
from activities.db.repositories.paging import Page, Position, older_than, page
from activities.db.tables import Environment, Override
from activities.db.types import utc_now
from workflows.domain.blueprint import Blueprint
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

READY = "Ready"
"""Type of the condition that says whether an environment is as its Blueprint wants it."""


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
    name: str | None = None,
    phases: Collection[EnvironmentPhase] = (),
) -> Page[EnvironmentRecord]:
    """Return a page of environments, newest first; deleted ones only when `phases` names them.

    Raises InvalidCursor.
    """
    query = select(Environment).where(col(Environment.organization_id) == organization_id)
    if name is not None:
        query = query.where(col(Environment.name) == name)
    if phases:
        query = query.where(col(Environment.phase).in_(phases))
    else:
        query = query.where(col(Environment.deleted_at).is_(None))
    after = older_than(cursor, col(Environment.created_at), col(Environment.id))
    if after is not None:
        query = query.where(after)
    query = query.order_by(col(Environment.created_at).desc(), col(Environment.id).desc())
    rows = (await session.exec(query.limit(limit + 1))).all()
    return page(rows, limit, environment_record, lambda row: Position(row.created_at, row.id))


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


def describe(row: Environment, blueprint: Blueprint) -> None:
    """Set what a locked row says of its Blueprint beside the services."""
    row.description = blueprint.description
    row.labels = dict(blueprint.labels)
    row.protected = blueprint.protected
    row.auto_shutdown_enabled = blueprint.auto_shutdown_enabled
    row.auto_shutdown_delay_minutes = blueprint.auto_shutdown_delay_minutes
    row.ttl_minutes = blueprint.ttl_minutes


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
    )


async def replace_overrides(session: AsyncSession, environment: Environment, wanted: Overrides) -> None:
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
            "updated_at": now,
        }
        for service in sorted({*wanted.replicas, *wanted.restarts})
    ]
    await insert_rows(session, Override, *rows)
