"""Accepting another attempt at what failed, or the repair of what is degraded."""

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import (
    Accepted,
    accept,
    last_operation,
    last_standing,
    provision_of,
)
from activities.db.errors import AlreadyDeleted, Busy, NotRetryable
from activities.db.inserts import Asked
from activities.db.records import Actor, operation_record
from activities.db.repositories import secrets, snapshots
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.operations import live_rows
from activities.db.repositories.seed_runs import add_run, get_run
from activities.db.tables import Environment, Operation, Step
from activities.db.transitions import step_rows
from activities.secrets import MasterKeys
from workflows.domain.operations import (
    ASIDE,
    LOADING,
    EnvironmentPhase,
    OnFailure,
    OperationKind,
    OperationState,
    PlannedStep,
)


async def retry_environment(
    session: AsyncSession, actor: Actor, environment_id: str, *, keys: MasterKeys
) -> Accepted:
    """Accept a new attempt at the last operation, which failed or was cancelled or rolled back.

    Those that were taken back do not count: they are asked for anew. After one that succeeded, a repair:
    accepted while the environment is degraded, over the same revision.
    Raises NotFound, AlreadyDeleted, Busy, NotRetryable, or SnapshotNotReady when what it loads is gone.
    """
    environment = await locked_environment(session, environment_id, actor.organization_id)
    last, repairs = await _what_to_retry(session, environment)
    again = operation_record(last)
    key = await secrets.data_key(session, environment.organization_id, keys)
    kind = OperationKind.PROVISION if repairs or again.kind is OperationKind.DELETE else again.kind
    # A replay into a new environment makes what was not there, as a provision does.
    makes = kind is OperationKind.PROVISION or (kind is OperationKind.REPLAY and again.change is None)
    planned = await provision_of(session, environment, keys, key.hash_key())
    if kind is not OperationKind.PROVISION:
        # The same graph, over what its steps are made from now.
        hashes = {step.name: step.input_hash for step in planned}
        planned = tuple(_again(step, hashes.get(step.name, "")) for step in await step_rows(session, last.id))
    snapshot = None
    if kind in LOADING:
        snapshot = await snapshots.run_of(session, last.id)
    if snapshot is not None:
        await snapshots.usable_snapshot(session, environment.organization_id, snapshot.snapshot_id)
    accepted = await accept(
        session,
        actor,
        environment,
        Asked(
            kind,
            # What a repair made is worth keeping, even when it was not enough.
            on_failure=OnFailure.KEEP if repairs else again.on_failure,
            retry_of=last.id,
            replay_of=again.replay_of if kind is OperationKind.REPLAY else None,
            from_step=again.from_step if kind is OperationKind.REPLAY else None,
            change=None if kind is OperationKind.PROVISION else again.change,
            # An undo goes back to before the first attempt, whose objects are there by now.
            pre_image=None if makes else again.pre_image,
        ),
        planned,
        audit=("environment.retry", {"retryOf": last.id}),
    )
    if snapshot is not None:
        await snapshots.add_run(session, environment.organization_id, accepted.operation.id, snapshot)
    if kind is OperationKind.SEED:
        run = await get_run(session, last.id)
        resumed = run.model_copy(update={"first": run.first or last.id})
        await add_run(session, environment.organization_id, accepted.operation.id, resumed)
    return accepted


async def _what_to_retry(session: AsyncSession, environment: Environment) -> tuple[Operation, bool]:
    """Return the operation that is tried again, and whether that is a repair over what it made.

    Raises AlreadyDeleted, Busy, NotRetryable.
    """
    if environment.deleted_at is not None:
        raise AlreadyDeleted(environment.id)
    for live in await live_rows(session, environment.id):
        raise Busy(live.id, live.kind)
    newest = await last_operation(session, environment)
    last = await last_standing(session, environment)
    if environment.delete_requested_at is not None:
        raise NotRetryable(
            "its deletion was asked for: delete it again", None if newest is None else newest.state
        )
    if newest is None or last is None:
        raise NotRetryable("it has had no operation")
    # One aside that failed says nothing about what runs: what is degraded is repaired first.
    repairs = last.state is OperationState.SUCCEEDED or (
        last.kind in ASIDE and environment.phase is EnvironmentPhase.DEGRADED
    )
    if repairs and environment.phase is not EnvironmentPhase.DEGRADED:
        reason = "its last operation did not fail, and it is not degraded"
        if newest.id != last.id:
            reason = f"its last operation was taken back: ask for the {newest.kind} again"
        raise NotRetryable(reason, newest.state)
    if last.kind is OperationKind.SNAPSHOT and not repairs:
        raise NotRetryable("its last operation took a snapshot: take another one", newest.state)
    return last, repairs


def _again(step: Step, input_hash: str) -> PlannedStep:
    return PlannedStep(
        name=step.name,
        kind=step.kind,
        service=step.service,
        depends_on=tuple(step.depends_on),
        input_hash=input_hash,
    )
