"""What happens to an operation, its steps, its environment and the event log together, under their locks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, assert_never

from pydantic import JsonValue
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import Condition, JsonObject, OperationRecord, StepRecord, operation_record
from activities.db.repositories import events
from activities.db.repositories.environments import READY, apply_phase, replace_overrides
from activities.db.repositories.operations import live_rows
from activities.db.repositories.secrets import destroy_environment_secrets
from activities.db.repositories.snapshots import settle_snapshot
from activities.db.repositories.volume_samples import forget_samples
from activities.db.restored import say_what_became_of_data
from activities.db.settings import take_settings_back, tell_settings
from activities.db.step_changes import cancel_step
from activities.db.tables import Environment, EventType, Operation, Revision, Step
from activities.db.timers import reschedule
from activities.db.usage import count, usage_of
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import GuardRails
from workflows.domain.failures import Failure, FailureKind, failure
from workflows.domain.operations import (
    ASIDE,
    TERMINAL_STEP_STATES,
    Change,
    Cleanup,
    EnvironmentPhase,
    OperationKind,
    OperationState,
    StepKind,
    StepState,
)

_STATUS: Final = {EnvironmentPhase.RUNNING: "True"}
"""Status of the Ready condition by phase, where it is not False."""

_SUCCEEDED: Final = {
    OperationKind.PROVISION: (EnvironmentPhase.RUNNING, "Provisioned"),
    OperationKind.UPDATE: (EnvironmentPhase.RUNNING, "Updated"),
    OperationKind.STOP: (EnvironmentPhase.STOPPED, "Stopped"),
    OperationKind.RESUME: (EnvironmentPhase.RUNNING, "Resumed"),
    OperationKind.SCALE: (EnvironmentPhase.RUNNING, "Scaled"),
    OperationKind.RESTART: (EnvironmentPhase.RUNNING, "Restarted"),
    OperationKind.RESTORE: (EnvironmentPhase.RUNNING, "Restored"),
    OperationKind.REPLAY: (EnvironmentPhase.RUNNING, "Replayed"),
    OperationKind.DELETE: (EnvironmentPhase.DELETED, "Deleted"),
}
"""What an operation that succeeded makes of its environment."""


async def step_rows(session: AsyncSession, operation_id: str) -> Sequence[Step]:
    """Return the rows of an operation's steps in the order of its plan."""
    query = select(Step).where(col(Step.operation_id) == operation_id).order_by(col(Step.position))
    return (await session.exec(query, execution_options={"populate_existing": True})).all()


async def operation_changed(
    session: AsyncSession, environment: Environment, operation: Operation, steps: Sequence[Step]
) -> None:
    """Append the event of an operation's change."""
    cancel: JsonValue = None
    if operation.cancel_requested_at is not None:
        cancel = {"cleanup": bool(operation.cancel_cleanup), "reason": operation.cancel_reason or ""}
    data: JsonObject = {
        **accepted_data(operation, environment.phase, steps),
        "failure": operation.failure,
        "cleanup": operation.cleanup,
        "cancel": cancel,
    }
    await events.append(session, environment, operation.id, EventType.OPERATION, data)


def accepted_data(
    operation: Operation | OperationRecord, phase: EnvironmentPhase, steps: Sequence[Step | StepRecord]
) -> JsonObject:
    """Return the data of the event of an operation that nothing has happened to yet."""
    return {
        "operationId": operation.id,
        "kind": str(operation.kind),
        "state": str(operation.state),
        "force": operation.force,
        "failure": None,
        "cleanup": None,
        "cancel": None,
        "phase": str(phase),
        "progress": progress(steps),
    }


async def step_changed(
    session: AsyncSession, environment: Environment, step: Step, steps: Sequence[Step]
) -> None:
    """Append the event of a step's change."""
    data: JsonObject = {
        "operationId": step.operation_id,
        "step": step.name,
        "kind": str(step.kind),
        "service": step.service,
        "state": str(step.state),
        "attempt": step.attempt,
        "output": step.output,
        "failure": step.failure,
        "blockedBy": list(step.blocked_by),
        "progress": progress(steps),
    }
    await events.append(session, environment, step.operation_id, EventType.STEP, data)


def progress(steps: Sequence[Step | StepRecord]) -> JsonObject:
    """Return steps done and planned, and the names of those that run."""
    done = sum(step.state in (StepState.SUCCEEDED, StepState.SKIPPED) for step in steps)
    running: list[JsonValue] = [step.name for step in steps if step.state is StepState.RUNNING]
    return {"done": done, "total": len(steps), "running": running}


async def end_operation(
    session: AsyncSession,
    environment: Environment,
    operation: Operation,
    state: OperationState,
    *,
    reason: Failure | None,
    cleanup: Cleanup | None,
    now: datetime,
) -> None:
    """End a live operation whose rows are locked: steps, phase, events, and what a done delete releases."""
    if operation.kind is OperationKind.DELETE and state is OperationState.SUCCEEDED:
        await _release(session, environment, operation, now)
    operation.state = state
    operation.failure = None if reason is None else reason.model_dump(mode="json")
    operation.finished_at = now
    if operation.kind is OperationKind.SNAPSHOT:
        await settle_snapshot(session, operation.id, state, now)
    steps = await step_rows(session, operation.id)
    if cleanup is None and _refused(operation, steps, reason):
        cleanup = Cleanup(complete=True)
    operation.cleanup = None if cleanup is None else cleanup.model_dump(mode="json")
    for step in steps:
        if step.state not in TERMINAL_STEP_STATES:
            cancel_step(step, now)
            await step_changed(session, environment, step, steps)
    if operation.kind not in ASIDE and operation.kind is not OperationKind.DELETE:
        await say_what_became_of_data(session, environment, operation, steps, reason, now)
    record = operation_record(operation)
    change = record.change if taken_back(record) else None
    if change is not None:
        await _restore(session, environment, change, now)
    if operation.kind not in ASIDE and (
        operation.kind is OperationKind.DELETE or environment.delete_requested_at is None
    ):
        phase, condition = settled(operation.kind, state, reason, now)
        if change is not None:
            phase = change.phase
            condition = condition.model_copy(update={"status": _STATUS.get(phase, "False")})
            if state is OperationState.FAILED and change.ready is not None:
                condition = Condition.model_validate(change.ready)
        apply_phase(environment, phase, condition, now)
    reschedule(environment)
    await operation_changed(session, environment, operation, steps)
    await session.flush()


async def cancel_at_once(
    session: AsyncSession, environment: Environment, operation: Operation, text: str, now: datetime
) -> None:
    """End a live operation that has written nothing to the cluster, as cancelled."""
    await end_operation(
        session,
        environment,
        operation,
        OperationState.CANCELLED,
        reason=failure(FailureKind.CANCELLED, text or "Cancelled before it began."),
        cleanup=None,
        now=now,
    )


def taken_back(operation: OperationRecord) -> bool:
    """Whether the end of an operation left the environment as it was before that, and before what it retried.

    A retry that never began took nothing back: what the attempt before it left is still there. One that was
    refused before it touched anything (`_refused`) is as one that was taken back.
    """
    if operation.change is None:
        return False
    if operation.state is OperationState.FAILED:
        return operation.cleanup is not None and operation.cleanup.complete
    if operation.state is OperationState.CANCELLED:
        if operation.started_at is None:
            return operation.retry_of is None
        return operation.cleanup is not None and operation.cleanup.complete
    return operation.state is OperationState.ROLLED_BACK


def _refused(operation: Operation, steps: Sequence[Step], reason: Failure | None) -> bool:
    """Whether an operation failed in a look at what it was to load, before it touched anything.

    The ledger has to show it: the failure is that of the look, and of all else nothing has begun but the
    fencing of a namespace that was there. A retry is none: what the attempt before it did is still there. Nor
    is an operation whose workflow got lost: what it noted last may not be written.
    """
    if operation.state is not OperationState.FAILED or reason is None or operation.retry_of is not None:
        return False
    looked = [step for step in steps if step.kind is StepKind.CHECK]
    if not any(step.name == reason.step and step.state is StepState.FAILED for step in looked):
        return False
    # A step has an attempt once anything was noted of it, also where its beginning and its end came as one.
    begun = [step for step in steps if step.kind is not StepKind.CHECK and step.attempt > 0]
    return all(
        step.kind is StepKind.NAMESPACE
        and step.state is StepState.SUCCEEDED
        and (step.output or {}).get("existed") is True
        for step in begun
    )


async def _restore(session: AsyncSession, environment: Environment, change: Change, now: datetime) -> None:
    """Set what an environment ought to be to what it was before an operation that was taken back."""
    environment.revision = change.revision
    environment.plan = change.plan
    await replace_overrides(session, environment, change.overrides)
    revision = await session.get_one(Revision, (environment.id, change.revision))
    blueprint = Blueprint.model_validate(revision.blueprint)
    await tell_settings(session, environment, take_settings_back(environment, change.settings, now), None)
    count(
        environment, usage_of(blueprint, GuardRails.model_validate(environment.guard_rails), change.overrides)
    )


def settled(
    kind: OperationKind, state: OperationState, reason: Failure | None, now: datetime
) -> tuple[EnvironmentPhase, Condition]:
    """Return what an operation's end makes of its environment."""
    message = "" if reason is None else reason.message
    match state:
        case OperationState.SUCCEEDED:
            return _succeeded(kind, now)
        case OperationState.FAILED:
            return EnvironmentPhase.ERROR, ready("False", f"{kind.capitalize()}Failed", message, now)
        case OperationState.CANCELLED:
            return EnvironmentPhase.ERROR, ready("False", "Cancelled", message, now)
        case OperationState.ROLLED_BACK:
            return EnvironmentPhase.ERROR, ready("False", "RolledBack", message, now)
        case OperationState.ACCEPTED | OperationState.RUNNING:
            raise ValueError(f"{state} is not an end")
        case _:
            assert_never(state)


def ready(status: str, reason: str, message: str, now: datetime) -> Condition:
    """Return a `Ready` condition."""
    return Condition(type=READY, status=status, reason=reason, message=message, since=now)


def _succeeded(kind: OperationKind, now: datetime) -> tuple[EnvironmentPhase, Condition]:
    phase, reason = _SUCCEEDED[kind]
    return phase, ready(_STATUS.get(phase, "False"), reason, "", now)


async def _release(session: AsyncSession, environment: Environment, delete: Operation, now: datetime) -> None:
    """Free the name, destroy secrets, forget volumes, and close what the delete terminated."""
    for other in await live_rows(session, environment.id):
        if other.id != delete.id:
            await cancel_at_once(session, environment, other, "The environment was deleted.", now)
    environment.deleted_at = now
    await destroy_environment_secrets(session, environment.organization_id, environment.id)
    await forget_samples(session, environment.organization_id, environment.id)
