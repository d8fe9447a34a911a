"""Namespaces and the environments that answer for them, over all organisations: for the operator alone."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.tables import Environment, Operation, Orphan
from activities.db.types import utc_now
from workflows.domain.operations import FENCES_PER_OPERATION, EnvironmentPhase


@dataclass(frozen=True, slots=True)
class KnownEnvironment:
    """An environment that is not deleted. `highest_fence`: the highest that its operations write under."""

    id: str
    name: str
    namespace: str
    phase: EnvironmentPhase
    highest_fence: int


@dataclass(frozen=True, slots=True)
class SeenNamespace:
    """A namespace that no environment answers for."""

    uid: str
    name: str
    organization_id: str


async def known_environments(session: AsyncSession, cluster: str) -> dict[str, KnownEnvironment]:
    """Return the environments of a cluster that are not deleted, by namespace."""
    fences = select(Operation.environment_id, func.max(Operation.fence)).group_by(
        col(Operation.environment_id)
    )
    highest = dict((await session.exec(fences)).all())
    query = select(Environment).where(
        col(Environment.cluster) == cluster, col(Environment.deleted_at).is_(None)
    )
    return {
        row.namespace: KnownEnvironment(
            row.id,
            row.name,
            row.namespace,
            row.phase,
            highest.get(row.id, 0) + FENCES_PER_OPERATION - 1,
        )
        for row in await session.exec(query)
    }


async def note_orphans(
    session: AsyncSession, cluster: str, seen: Collection[SeenNamespace]
) -> dict[str, datetime]:
    """Note all orphans of a cluster; return since when each is seen so, by UID. Others are forgotten."""
    rows = {row.uid: row for row in await session.exec(select(Orphan).where(col(Orphan.cluster) == cluster))}
    now = utc_now()
    for each in seen:
        if each.uid not in rows:
            row = Orphan(
                cluster=cluster,
                uid=each.uid,
                namespace=each.name,
                organization_id=each.organization_id,
                seen_at=now,
            )
            session.add(row)
            rows[each.uid] = row
    left = {each.uid for each in seen}
    await session.exec(delete(Orphan).where(col(Orphan.cluster) == cluster, col(Orphan.uid).not_in(left)))
    await session.flush()
    return {uid: row.seen_at for uid, row in rows.items() if uid in left}


async def answers_for(session: AsyncSession, cluster: str, namespace: str) -> bool:
    """Whether an environment that is not deleted answers for a namespace."""
    query = select(Environment.id).where(
        col(Environment.cluster) == cluster,
        col(Environment.namespace) == namespace,
        col(Environment.deleted_at).is_(None),
    )
    return (await session.exec(query)).first() is not None
