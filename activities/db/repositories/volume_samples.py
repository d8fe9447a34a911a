"""How full volumes were, a few samples of each: what their growth is computed from."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.tables import VolumeSample

LEAST_INTERVAL: Final = timedelta(minutes=1)
"""A sample that follows sooner is not kept: many who look make no many rows."""
KEPT: Final = 100
"""Samples of one volume; older ones go."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How many bytes were used in a volume at a time."""

    at: datetime
    used_bytes: int


async def samples(
    session: AsyncSession, organization_id: str, environment_id: str, claims: Collection[str]
) -> dict[str, list[Sample]]:
    """Return the samples of these volume claims, oldest first."""
    query = (
        select(VolumeSample)
        .where(
            col(VolumeSample.organization_id) == organization_id,
            col(VolumeSample.environment_id) == environment_id,
            col(VolumeSample.claim).in_(claims),
        )
        .order_by(col(VolumeSample.at))
    )
    found: dict[str, list[Sample]] = {}
    for row in await session.exec(query):
        found.setdefault(row.claim, []).append(Sample(row.at, row.used_bytes))
    return found


async def add_sample(
    session: AsyncSession, organization_id: str, environment_id: str, claim: str, sample: Sample
) -> None:
    """Keep a sample, unless one was kept within `LEAST_INTERVAL`; drop those beyond `KEPT`."""
    known = (await samples(session, organization_id, environment_id, [claim])).get(claim, [])
    if known and sample.at - known[-1].at < LEAST_INTERVAL:
        return
    session.add(
        VolumeSample(
            organization_id=organization_id,
            environment_id=environment_id,
            claim=claim,
            at=sample.at,
            used_bytes=sample.used_bytes,
        )
    )
    if len(known) >= KEPT:
        oldest_kept = known[-KEPT + 1].at
        connection = await session.connection()
        await connection.execute(
            delete(VolumeSample).where(
                col(VolumeSample.organization_id) == organization_id,
                col(VolumeSample.environment_id) == environment_id,
                col(VolumeSample.claim) == claim,
                col(VolumeSample.at) < oldest_kept,
            )
        )
    await session.flush()


async def forget_samples(session: AsyncSession, organization_id: str, environment_id: str) -> None:
    """Drop all samples of an environment's volumes."""
    connection = await session.connection()
    await connection.execute(
        delete(VolumeSample).where(
            col(VolumeSample.organization_id) == organization_id,
            col(VolumeSample.environment_id) == environment_id,
        )
    )
