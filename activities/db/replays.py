"""What the ledger knows for a replay: what each step of the operation that is replayed left behind."""

from collections.abc import Collection

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.attempts import begun_loads
from activities.db.tables import Operation, Step
from activities.db.transitions import step_rows
from workflows.domain.operations import Earlier, OperationKind, StepState
from workflows.domain.plan import NAMESPACE_STEP
from workflows.domain.replay import Replay

_DID = frozenset({StepState.SUCCEEDED, StepState.SKIPPED})


async def replay_basis(
    session: AsyncSession,
    environment_id: str,
    replay_of: str,
    *,
    from_step: str | None = None,
    retry_of: str | None = None,
    beyond: Collection[str] = (),
) -> tuple[dict[str, Earlier], Replay]:
    """Return what each step has left, by step name, and what else a replay in place goes by.

    The hashes are those of the operation that is replayed; with `retry_of` those of the newest attempt before
    that got as far as to decide, which skipped by the same hashes and owes whatever it did not end. The
    objects are those that the newest run of a step made or found, in whichever operation. `beyond`: steps
    that are run though it had none of them, and whose hashes are those of their last run before it.
    """
    steps = tuple(step.name for step in await step_rows(session, replay_of))
    before = await _before(session, environment_id, replay_of, set(beyond) - set(steps))
    recorded = (*steps, *before)
    attempt = await _decided(session, retry_of)
    if attempt is None:
        hashes = {**before, **await _hashes(session, replay_of)}
    else:
        hashes = await _hashes(session, attempt)
    uids = await _made(session, environment_id, hashes)
    earlier = {
        name: Earlier(input_hash=input_hash, uid=uids[name])
        for name, input_hash in hashes.items()
        if name in uids
    }
    if attempt is None:
        return earlier, Replay(from_step=from_step, recorded=recorded)
    touched = await begun_loads(session, retry_of)
    done = (*earlier, *(name for name in touched if name in hashes))
    return earlier, Replay(from_step=from_step, recorded=recorded, done=done)


async def _decided(session: AsyncSession, attempt: str | None) -> str | None:
    """The newest attempt of a chain of retries that knew what was there, or None."""
    while attempt is not None:
        row = await session.get(Operation, attempt)
        if row is None or row.kind is not OperationKind.REPLAY:
            return None
        namespace = await session.get(Step, (attempt, NAMESPACE_STEP))
        if namespace is not None and namespace.state is StepState.SUCCEEDED:
            return attempt
        attempt = row.retry_of
    return None


async def _before(
    session: AsyncSession, environment_id: str, replay_of: str, names: Collection[str]
) -> dict[str, str]:
    """The input hash of the last run of each of these steps in an environment before an operation on it."""
    replayed = await session.get(Operation, replay_of) if names else None
    if replayed is None:
        return {}
    query = (
        select(Step.name, Step.input_hash)
        .join(Operation, col(Operation.id) == col(Step.operation_id))
        .where(
            col(Operation.environment_id) == environment_id,
            col(Operation.fence) < replayed.fence,
            col(Step.name).in_(names),
            col(Step.state).in_(_DID),
        )
        .order_by(col(Operation.fence))
    )
    return dict((await session.exec(query)).all())


async def _hashes(session: AsyncSession, operation_id: str) -> dict[str, str]:
    """The input hash of each step that an operation has done, or skipped since an earlier one had."""
    return {
        step.name: step.input_hash for step in await step_rows(session, operation_id) if step.state in _DID
    }


async def _made(session: AsyncSession, environment_id: str, names: Collection[str]) -> dict[str, str]:
    """The UID of the object that each step's newest run in an environment made, or found and left alone."""
    query = (
        select(Step.name, Step.output)
        .join(Operation, col(Operation.id) == col(Step.operation_id))
        .where(
            col(Operation.environment_id) == environment_id,
            col(Step.name).in_(names),
            col(Step.state).in_(_DID),
        )
        .order_by(col(Operation.fence))
    )
    found = ((name, (output or {}).get("uid")) for name, output in await session.exec(query))
    return {name: uid for name, uid in found if isinstance(uid, str)}
