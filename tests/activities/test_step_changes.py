"""The order of a step's states: late and repeated changes do no harm, whatever their order."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.db.step_changes import take_change
from activities.db.tables import Step
from workflows.domain.failures import Blocker, FailureKind, failure
from workflows.domain.operations import TERMINAL_STEP_STATES, StepChange, StepKind, StepState

S = StepState
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=9)


def step() -> Step:
    return Step(
        operation_id="op_1",
        name="service/api",
        organization_id="org_1",
        position=0,
        kind=StepKind.SERVICE,
        state=S.PENDING,
    )


def change(state: StepState, attempt: int | None = None, **more: object) -> StepChange:
    return StepChange.model_validate({"step": "service/api", "state": state, "attempt": attempt, **more})


def test_a_step_runs_and_ends() -> None:
    row = step()
    assert take_change(row, change(S.RUNNING), NOW)
    assert (row.state, row.attempt, row.started_at, row.finished_at) == (S.RUNNING, 1, NOW, None)
    assert take_change(row, change(S.SUCCEEDED, output={"uid": "u1"}), LATER)
    assert (row.state, row.output, row.started_at, row.finished_at) == (
        S.SUCCEEDED,
        {"uid": "u1"},
        NOW,
        LATER,
    )


@pytest.mark.parametrize("end", sorted(TERMINAL_STEP_STATES))
@pytest.mark.parametrize("late", sorted(StepState))
def test_an_end_is_left_by_a_new_attempt_only(end: StepState, late: StepState) -> None:
    row = step()
    take_change(row, change(S.RUNNING), NOW)
    take_change(row, change(end), NOW)
    assert not take_change(row, change(late), LATER)
    assert row.state is end
    assert take_change(row, change(S.RUNNING, attempt=2), LATER)
    assert (row.state, row.attempt, row.started_at, row.finished_at) == (S.RUNNING, 2, LATER, None)


def test_a_failure_goes_with_its_attempt() -> None:
    row = step()
    take_change(row, change(S.FAILED, failure=failure(FailureKind.CRASH_LOOP, "exits")), NOW)
    assert row.failure is not None
    take_change(row, change(S.RUNNING, attempt=2), LATER)
    assert row.failure is None


def test_a_skipped_step_never_started() -> None:
    row = step()
    assert take_change(row, change(S.SKIPPED), NOW)
    assert (row.started_at, row.finished_at) == (None, NOW)


def test_a_running_step_gains_output_and_shows_what_holds_it() -> None:
    row = step()
    held = [Blocker(object="Pod/a", finalizers=("x/y",))]
    take_change(row, change(S.RUNNING), NOW)
    assert take_change(row, change(S.RUNNING, blocked_by=held), NOW)
    assert not take_change(row, change(S.RUNNING, blocked_by=held), NOW)
    assert row.blocked_by == [{"object": "Pod/a", "finalizers": ["x/y"]}]
    assert take_change(row, change(S.RUNNING, blocked_by=[]), NOW)
    assert take_change(row, change(S.RUNNING, output={"uid": "u1"}), NOW)
    assert not take_change(row, change(S.RUNNING, output={"uid": "u2"}), NOW)
    assert row.output == {"uid": "u1"}
    take_change(row, change(S.RUNNING, blocked_by=held), NOW)
    take_change(row, change(S.SUCCEEDED), NOW)
    assert row.blocked_by == []


CHANGES = st.builds(
    change, st.sampled_from(sorted(StepState)), st.one_of(st.none(), st.integers(min_value=1, max_value=3))
)


@given(st.lists(CHANGES, max_size=12))
def test_a_second_delivery_of_all_of_it_changes_nothing(changes: list[StepChange]) -> None:
    row = step()
    for each in changes:
        take_change(row, each, NOW)
    before = row.model_dump()
    # Changes without an attempt belong to the current one, and so may be new again after a later attempt.
    assert not any(take_change(row, each, LATER) for each in changes if each.attempt is not None)
    assert row.model_dump() == before


@given(st.lists(CHANGES, max_size=12))
def test_a_step_never_goes_back(changes: list[StepChange]) -> None:
    row = step()
    rank = {S.PENDING: 0, S.RUNNING: 1}
    place = (0, 0)
    for each in changes:
        take_change(row, each, NOW)
        now = (row.attempt, rank.get(row.state, 2))
        assert now >= place
        place = now
