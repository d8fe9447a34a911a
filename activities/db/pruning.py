"""Forgetting old revisions of an environment without breaking one that can still be read."""

from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import operation_record
from activities.db.tables import Checkpoint, Environment, Operation, Revision, Secret


async def prune(session: AsyncSession, environment: Environment, keep: int) -> None:
    """Keep the newest `keep` revisions of a locked environment, and those that something refers to.

    That is its present one, those with a checkpoint, and those that its last operation goes from and to. A
    secret's value stays while a revision that is kept has it. What is about to be accepted goes from the
    present revision, which is among the newest.
    """
    of_environment = col(Revision.environment_id) == environment.id
    numbers = (
        await session.exec(
            select(Revision.number).where(of_environment).order_by(col(Revision.number).desc())
        )
    ).all()
    if len(numbers) <= keep:
        return
    needed = {environment.revision, *numbers[:keep], *await _referred(session, environment)}
    await session.exec(delete(Revision).where(of_environment, col(Revision.number).not_in(needed)))
    await _prune_secrets(session, environment, sorted(needed & set(numbers)))


async def _referred(session: AsyncSession, environment: Environment) -> set[int]:
    named = select(Checkpoint.revision).where(col(Checkpoint.environment_id) == environment.id)
    last = (
        select(Operation)
        .where(col(Operation.environment_id) == environment.id)
        .order_by(col(Operation.fence).desc())
        .limit(1)
    )
    found = set((await session.exec(named)).all())
    for row in await session.exec(last):
        record = operation_record(row)
        found.add(record.revision)
        if record.change is not None:
            found.add(record.change.revision)
    return found


async def _prune_secrets(session: AsyncSession, environment: Environment, kept: list[int]) -> None:
    """Remove each value that no kept revision has: of every name, each has the newest up to itself."""
    query = select(Secret.id, Secret.name, Secret.since_revision).where(
        col(Secret.environment_id) == environment.id
    )
    rows = (await session.exec(query)).all()
    needed: set[str] = set()
    for name in {name for _, name, _ in rows}:
        versions = sorted((since, identifier) for identifier, other, since in rows if other == name)
        for number in kept:
            holding = [identifier for since, identifier in versions if since <= number]
            needed.update(holding[-1:])
    unneeded = [identifier for identifier, _, _ in rows if identifier not in needed]
    if unneeded:
        await session.exec(delete(Secret).where(col(Secret.id).in_(unneeded)))
