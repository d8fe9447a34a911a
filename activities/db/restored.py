"""Whether what a snapshot brought is still there: the condition `DataWhole`, and when it ceases to hold."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import Condition, operation_record
from activities.db.repositories.environments import apply_phase, overrides, replace_overrides
from activities.db.tables import Environment, Operation, Revision, Step
from workflows.domain.blueprint import Blueprint
from workflows.domain.failures import Failure
from workflows.domain.operations import OperationKind, OperationState, StepKind, StepState
from workflows.domain.snapshot import in_pods_alone

DATA_WHOLE: Final = "DataWhole"
"""Condition of an environment into which a snapshot was loaded: whether its data all came, and stayed."""
_FAILED: Final = "RestoreFailed"


async def say_what_became_of_data(
    session: AsyncSession,
    environment: Environment,
    operation: Operation,
    steps: Sequence[Step],
    reason: Failure | None,
    now: datetime,
) -> None:
    """Keep the condition at an operation's end, before anything of the operation is taken back.

    Data that were loaded in part are told of until all of them came: whatever makes the services run
    again says nothing about that. Data that a pod keeps without a volume are told of when they came, and when
    an operation ends that pod. That the cluster itself replaces a pod is not seen here.
    """
    loads = operation.kind is OperationKind.RESTORE or any(step.kind is StepKind.LOAD for step in steps)
    if loads:
        condition = _after_load(operation, steps, reason, now)
        if condition is None:
            return
        apply_phase(environment, environment.phase, condition, now)
    if not _whole(environment):
        return
    blueprint = await _blueprint(session, environment, operation)
    present = await overrides(session, environment.organization_id, environment.id)
    kept_in_pods = in_pods_alone(blueprint, present.loaded)
    ended = _pods_ended(operation, steps) & set(kept_in_pods)
    change = operation_record(operation).change
    # Those that were accepted as changes that lose them, and have begun to be made.
    begun = {step.service for step in steps if step.kind is StepKind.SERVICE and step.started_at is not None}
    given_up = (set(change.overrides.loaded) - set(present.loaded)) & begun if change is not None else set()
    lost = sorted(name for name in {*ended, *given_up} if name is not None)
    if lost:
        message = f"What was restored is no longer in {', '.join(lost)}, whose pods were replaced or ended"
        told = Condition(
            type=DATA_WHOLE,
            status="False",
            reason="DataGone",
            message=f"{message} ({operation.kind})",
            since=now,
        )
        apply_phase(environment, environment.phase, told, now)
        gone = {step.service for step in steps if step.state is StepState.SUCCEEDED} & ended
        # What comes next begins with no data: the init that was left out is to run then.
        loaded = {name: snapshot for name, snapshot in present.loaded.items() if name not in gone}
        if loaded != present.loaded:
            await replace_overrides(session, environment, present.model_copy(update={"loaded": loaded}))
    elif loads and kept_in_pods:
        names = ", ".join(kept_in_pods)
        message = f"{names}: no volume keeps them, so they go with the pod, whoever replaces it"
        whole = Condition(type=DATA_WHOLE, status="True", reason="Restored", message=message, since=now)
        apply_phase(environment, environment.phase, whole, now)


def _after_load(
    operation: Operation, steps: Sequence[Step], reason: Failure | None, now: datetime
) -> Condition | None:
    begun = [step for step in steps if step.kind is StepKind.LOAD and step.started_at is not None]
    if operation.state is OperationState.SUCCEEDED:
        return Condition(type=DATA_WHOLE, status="True", reason="Restored", since=now)
    if not begun:
        return None
    half = ", ".join(step.service or "" for step in begun if step.state is not StepState.SUCCEEDED)
    message = f"Not loaded to the end: {half}" if half else "Loaded, and something else failed"
    if reason is not None:
        message += f" ({reason.message})"
    return Condition(type=DATA_WHOLE, status="False", reason=_FAILED, message=message, since=now)


def lacks_data(environment: Environment) -> bool:
    """Whether a snapshot's data were loaded in part, and nothing has loaded all of them since."""
    known = _known(environment)
    return known is not None and known.status == "False" and known.reason == _FAILED


def _whole(environment: Environment) -> bool:
    known = _known(environment)
    return known is not None and known.status == "True"


def _known(environment: Environment) -> Condition | None:
    conditions = (Condition.model_validate(each) for each in environment.conditions)
    return next((each for each in conditions if each.type == DATA_WHOLE), None)


def _pods_ended(operation: Operation, steps: Sequence[Step]) -> set[str | None]:
    """The services whose pods this operation has ended, or begun to, and not filled with data again."""
    kinds = {StepKind.STOP_SERVICE}
    if operation.kind in (OperationKind.RESTART, OperationKind.REPLAY):
        kinds.add(StepKind.SERVICE)
    ended = {
        step.service
        for step in steps
        if step.kind in kinds and step.started_at is not None and step.state is not StepState.SKIPPED
    }
    return ended - {step.service for step in steps if step.kind is StepKind.LOAD}


async def _blueprint(session: AsyncSession, environment: Environment, operation: Operation) -> Blueprint:
    revision = await session.get_one(Revision, (environment.id, operation.revision))
    return Blueprint.model_validate(revision.blueprint)
