"""How a step's row takes a change: an order of states that makes late and repeated deliveries harmless.

Changes may come twice, and an old one after a newer one (a twin of the writer on another worker). A step only
ever goes up in the order (attempt, rank of the state), where pending < running < any terminal state. So

- a terminal state is left only by a higher attempt; of two terminal states of one attempt the first holds;
- no change leads back to pending: a new attempt begins with running;
- a change without an attempt belongs to the step's current one (the first, if it never ran);
- while running, `output` only gains keys, and `blocked_by` is what was said last;
- a change that does not go up changes nothing, and gives no event.
"""

from datetime import datetime
from typing import Final

from pydantic import JsonValue

from activities.db.tables import Step
from workflows.domain.operations import TERMINAL_STEP_STATES, StepChange, StepState

_RANKS: Final = {StepState.PENDING: 0, StepState.RUNNING: 1} | dict.fromkeys(TERMINAL_STEP_STATES, 2)


def take_change(row: Step, change: StepChange, now: datetime) -> bool:
    """Apply a change to a step's row; return whether anything changed."""
    attempt = max(row.attempt, 1) if change.attempt is None else change.attempt
    if change.state is StepState.PENDING:
        return False
    before, after = (row.attempt, _RANKS[row.state]), (attempt, _RANKS[change.state])
    if after < before:
        return False
    if after == before:
        return row.state is StepState.RUNNING and _add(row, change)
    _move(row, change, attempt, now)
    return True


def cancel_step(row: Step, now: datetime) -> None:
    """End a step that has not ended because its operation has."""
    row.state = StepState.CANCELLED
    row.finished_at = now
    row.blocked_by = []


def _move(row: Step, change: StepChange, attempt: int, now: datetime) -> None:
    ended = change.state in TERMINAL_STEP_STATES
    if attempt > row.attempt and row.attempt > 0:
        row.started_at = None
        row.output = None
    row.attempt = attempt
    row.state = change.state
    if row.started_at is None and change.state in _RAN:
        row.started_at = now
    row.finished_at = now if ended else None
    if change.output is not None:
        row.output = {**(row.output or {}), **change.output}
    row.failure = None if change.failure is None else change.failure.model_dump(mode="json")
    row.blocked_by = [] if ended else _blockers(change)


def _add(row: Step, change: StepChange) -> bool:
    output = {**(change.output or {}), **(row.output or {})}
    blocked_by = row.blocked_by if change.blocked_by is None else _blockers(change)
    if output == (row.output or {}) and blocked_by == row.blocked_by:
        return False
    row.output = output or None
    row.blocked_by = blocked_by
    return True


def _blockers(change: StepChange) -> list[dict[str, JsonValue]]:
    return [blocker.model_dump(mode="json") for blocker in change.blocked_by or ()]


_RAN: Final = frozenset({StepState.RUNNING, StepState.SUCCEEDED, StepState.FAILED})
"""States that a step has only once it ran; it may be skipped or cancelled without."""
