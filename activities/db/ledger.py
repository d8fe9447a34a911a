"""The ledger of operations: what their workflows write and read, one short transaction each.

Every function takes a session of a writing transaction, locks the environment's row and then the operation's,
and compares before it sets: whoever comes second finds the first one's answer.
"""

from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.attempts import begun_loads
from activities.db.errors import NotFound
from activities.db.records import (
    EnvironmentRecord,
    OperationRecord,
    RevisionRecord,
    environment_record,
    operation_record,
)
from activities.db.replays import replay_basis
from activities.db.repositories import environments, events, revisions
from activities.db.repositories._rows import locked_operation
from activities.db.step_changes import take_change
from activities.db.tables import Environment, Operation, Step
from activities.db.transitions import (
    cancel_at_once,
    end_operation,
    operation_changed,
    step_changed,
    step_rows,
)
from activities.db.types import utc_now
from workflows.contracts.operation import LedgerEntry, OperationResult, RecordedPreImage
from workflows.domain.environment import Overrides
from workflows.domain.failures import Failure
from workflows.domain.operations import (
    TERMINAL_STATES,
    Cleanup,
    Earlier,
    OperationKind,
    OperationState,
    PlannedStep,
    StepKind,
    StepState,
)
from workflows.domain.replay import Replay


@dataclass(frozen=True, slots=True)
class Begun:
    """An operation that began; `proceed` False: it has ended already, nothing is to be done."""

    proceed: bool
    environment: EnvironmentRecord
    operation: OperationRecord
    revision: RevisionRecord
    steps: tuple[PlannedStep, ...]
    earlier: dict[str, Earlier]
    replay: Replay | None
    touched: tuple[str, ...]
    """The loads that attempts before this one began."""
    overrides: Overrides


async def begin(session: AsyncSession, operation_id: str) -> Begun:
    """Move accepted to running; one that runs already is answered alike. Raises NotFound.

    An operation other than the delete, on an environment whose deletion was requested, is cancelled here:
    its workflow has got no further than this, so it has written nothing.
    """
    environment, operation = await locked_operation(session, operation_id)
    now = utc_now()
    if operation.state not in TERMINAL_STATES:
        if environment.delete_requested_at is not None and operation.kind is not OperationKind.DELETE:
            await cancel_at_once(session, environment, operation, "The environment is being deleted.", now)
            await events.announce(session, environment.id)
        elif operation.state is OperationState.ACCEPTED:
            operation.state = OperationState.RUNNING
            operation.started_at = now
            await operation_changed(session, environment, operation, await step_rows(session, operation.id))
            await events.announce(session, environment.id)
    await session.flush()
    earlier, replay = await _known(session, operation)
    return Begun(
        proceed=operation.state not in TERMINAL_STATES,
        environment=environment_record(environment),
        operation=operation_record(operation),
        revision=await revisions.get_revision(
            session, operation.organization_id, environment.id, operation.revision
        ),
        steps=tuple(_planned(step) for step in await step_rows(session, operation.id)),
        earlier=earlier,
        replay=replay,
        touched=tuple(await begun_loads(session, operation.retry_of)),
        overrides=(
            await environments.overrides(session, operation.organization_id, environment.id)
        ).model_copy(update={"stopped": operation.kind is OperationKind.STOP}),
    )


async def record(session: AsyncSession, entry: LedgerEntry) -> None:
    """Write step changes and their events, the pre-image (the first one holds), and marks. Raises NotFound.

    Changes of an operation that does not run are dropped; a repeated delivery changes nothing.
    """
    environment, operation = await locked_operation(session, entry.operation_id)
    if operation.state is not OperationState.RUNNING:
        return
    if entry.pre_image is not None and operation.pre_image is None:
        operation.pre_image = entry.pre_image.model_dump(mode="json")
    if entry.restarts:
        before = await environments.overrides(session, operation.organization_id, environment.id)
        marked = before.model_copy(update={"restarts": {**before.restarts, **entry.restarts}})
        await environments.replace_overrides(session, environment, marked)
    rows = await step_rows(session, operation.id)
    by_name = {row.name: row for row in rows}
    now = utc_now()
    changed = False
    for change in entry.changes:
        row = by_name.get(change.step)
        if row is None:
            raise NotFound("step", f"{operation.id}/{change.step}")
        if take_change(row, change, now):
            await step_changed(session, environment, row, rows)
            changed = True
    if changed:
        await events.announce(session, environment.id)
    await session.flush()


async def recorded_pre_image(session: AsyncSession, operation_id: str) -> RecordedPreImage:
    """Return what was there before the operation, with the Blueprint it was made from. Raises NotFound."""
    row = await session.get(Operation, operation_id)
    if row is None:
        raise NotFound("operation", operation_id)
    pre_image = operation_record(row).pre_image
    if pre_image is None or pre_image.revision is None:
        return RecordedPreImage(pre_image=pre_image)
    before = await revisions.get_revision(
        session, row.organization_id, row.environment_id, pre_image.revision
    )
    return RecordedPreImage(pre_image=pre_image, blueprint=before.blueprint)


async def finish(session: AsyncSession, result: OperationResult) -> OperationResult:
    """End an operation, unless it has ended; return the end that holds. Raises NotFound."""
    environment, operation = await locked_operation(session, result.operation_id)
    if operation.state not in TERMINAL_STATES:
        await _end(
            session, environment, operation, result.state, reason=result.failure, cleanup=result.cleanup
        )
    return _result(operation)


async def close_lost(session: AsyncSession, operation_id: str, reason: Failure) -> bool:
    """End a live operation whose workflow is gone as failed; False: it had ended already.

    Raises NotFound.
    """
    environment, operation = await locked_operation(session, operation_id)
    if operation.state in TERMINAL_STATES:
        return False
    await _end(session, environment, operation, OperationState.FAILED, reason=reason, cleanup=None)
    return True


async def mark_told(session: AsyncSession, operation_id: str, asked: int) -> None:
    """Note that the workflow was told all up to the request of number `asked`. Raises NotFound.

    What was asked since then stays to be told; a mark that comes late takes nothing back.
    """
    _, operation = await locked_operation(session, operation_id)
    operation.told = max(operation.told, asked)
    await session.flush()


async def _end(
    session: AsyncSession,
    environment: Environment,
    operation: Operation,
    state: OperationState,
    *,
    reason: Failure | None,
    cleanup: Cleanup | None,
) -> None:
    await end_operation(session, environment, operation, state, reason=reason, cleanup=cleanup, now=utc_now())
    await events.announce(session, environment.id)


async def _known(session: AsyncSession, operation: Operation) -> tuple[dict[str, Earlier], Replay | None]:
    """What an operation may skip, and of a replay in place what it is to run whatever is known.

    So too of another attempt at one into a new environment that loads data: these are not loaded again under
    what has started on them.
    """
    if operation.kind is not OperationKind.REPLAY:
        return await _earlier(session, operation), None
    steps = await step_rows(session, operation.id)
    loads = any(step.kind is StepKind.LOAD for step in steps)
    in_place = operation.change is not None
    if not in_place and not (loads and operation.retry_of is not None):
        return await _earlier(session, operation), None
    return await replay_basis(
        session,
        operation.environment_id,
        operation.replay_of or "",
        from_step=operation.from_step,
        retry_of=operation.retry_of,
        beyond=[step.name for step in steps if step.kind is StepKind.SERVICE] if loads and in_place else (),
    )


async def _earlier(session: AsyncSession, operation: Operation) -> dict[str, Earlier]:
    """What a retry may skip: by step, its last run in the chain of operations before, where that succeeded.

    The chain ends at an operation that was cleaned up after: what it and those before it made may be gone or
    put back. It ends too at one that succeeded: what it left does not work any more, or there were no repair.
    """
    earlier: dict[str, Earlier] = {}
    if operation.kind is OperationKind.RESTORE:
        return earlier  # it stops first what it would skip to start again
    decided: set[str] = set()
    before = operation.retry_of
    while before is not None:
        row = await session.get(Operation, before)
        if row is None or row.cleanup is not None or row.state is OperationState.SUCCEEDED:
            break
        for step in await step_rows(session, row.id):
            if step.name in decided or step.started_at is None:
                continue
            decided.add(step.name)
            uid = (step.output or {}).get("uid")
            if step.state is StepState.SUCCEEDED and isinstance(uid, str):
                earlier[step.name] = Earlier(input_hash=step.input_hash, uid=uid)
        before = row.retry_of
    return earlier


def _planned(step: Step) -> PlannedStep:
    return PlannedStep(
        name=step.name,
        kind=step.kind,
        service=step.service,
        depends_on=tuple(step.depends_on),
        input_hash=step.input_hash,
    )


def _result(operation: Operation) -> OperationResult:
    record_ = operation_record(operation)
    return OperationResult(
        operation_id=record_.id,
        state=record_.state,
        failure=record_.failure,
        cleanup=record_.cleanup,
        finished_at=record_.finished_at,
    )
