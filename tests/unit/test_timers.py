"""When environments are announced to end, sleep and go."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.domain.operations import EnvironmentPhase
from workflows.domain.timers import Due, Timer, TimerAction, Timers, due, earliest_expiry, next_look

START = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN = Timers(
    phase=EnvironmentPhase.RUNNING,
    created_at=START,
    last_active_at=START,
    expires_at=None,
    protected=False,
    auto_shutdown_enabled=False,
    auto_shutdown_delay=timedelta(minutes=30),
    measured=True,
)
IDLE = replace(PLAIN, auto_shutdown_enabled=True)
SHORT_LIVED = replace(PLAIN, expires_at=START + timedelta(days=1))


def after(**parts: float) -> datetime:
    return START + timedelta(**parts)


def warned(timers: Timers, found: Due) -> Timers:
    if found.timer is Timer.EXPIRY:
        return replace(timers, expiry_warned_for=found.at)
    return replace(timers, idle_warned_for=found.at)


def test_without_timers_nothing_is_ever_due() -> None:
    assert next_look(PLAIN) is None
    assert due(PLAIN, after(days=1000)) is None


def test_an_idle_environment_is_announced_and_then_stopped() -> None:
    assert next_look(IDLE) == after(minutes=25)
    assert due(IDLE, after(minutes=24)) is None
    announcement = due(IDLE, after(minutes=25))
    assert announcement == Due(TimerAction.WARN, Timer.IDLE, after(minutes=30))
    told = warned(IDLE, announcement)
    assert due(told, after(minutes=29)) is None
    assert due(told, after(minutes=30)) == Due(TimerAction.STOP, Timer.IDLE, after(minutes=30))


def test_use_after_the_announcement_starts_it_anew() -> None:
    told = replace(IDLE, idle_warned_for=after(minutes=30), last_active_at=after(minutes=29))
    assert due(told, after(minutes=31)) is None
    assert next_look(told) == after(minutes=54)


@pytest.mark.parametrize(
    "awake",
    [
        {"measured": False},
        {"protected": True},
        {"phase": EnvironmentPhase.STOPPED},
        {"phase": EnvironmentPhase.ERROR},
        {"auto_shutdown_enabled": False},
    ],
)
def test_what_is_not_put_to_sleep(awake: dict[str, object]) -> None:
    assert next_look(replace(IDLE, **awake)) is None  # type: ignore[arg-type]


def test_expiry_is_announced_an_hour_before_and_extending_announces_again() -> None:
    announcement = due(SHORT_LIVED, after(hours=23))
    assert announcement == Due(TimerAction.WARN, Timer.EXPIRY, after(days=1))
    told = warned(SHORT_LIVED, announcement)
    assert due(told, after(hours=23.5)) is None
    assert due(told, after(days=1)) == Due(TimerAction.DELETE, Timer.EXPIRY, after(days=1))
    extended = replace(told, expires_at=after(days=2))
    assert due(extended, after(days=1)) is None
    assert due(extended, after(hours=47)) == Due(TimerAction.WARN, Timer.EXPIRY, after(days=2))


def test_a_stopped_environment_expires_all_the_same() -> None:
    stopped = replace(SHORT_LIVED, phase=EnvironmentPhase.STOPPED, expiry_warned_for=SHORT_LIVED.expires_at)
    found = due(stopped, after(days=3))
    assert found is not None
    assert found.action is TimerAction.DELETE


def test_a_deletion_goes_before_a_shutdown() -> None:
    both = replace(
        SHORT_LIVED,
        auto_shutdown_enabled=True,
        expiry_warned_for=SHORT_LIVED.expires_at,
        idle_warned_for=after(minutes=30),
    )
    found = due(both, after(days=2))
    assert found is not None
    assert found.action is TimerAction.DELETE


_MINUTES = st.integers(0, 10_000)


@given(
    ttl=st.none() | st.integers(1, 10_000),
    delay=st.integers(1, 10_000),
    active=_MINUTES,
    enabled=st.booleans(),
    jumps=st.lists(st.integers(-500, 5_000), max_size=20),
)
def test_nothing_ends_without_a_word_whatever_the_clock_does(
    ttl: int | None, delay: int, active: int, enabled: bool, jumps: list[int]
) -> None:
    """The clock may jump either way: an end is done only after its own announcement, and never twice."""
    timers = replace(
        PLAIN,
        expires_at=None if ttl is None else after(minutes=ttl),
        auto_shutdown_enabled=enabled,
        auto_shutdown_delay=timedelta(minutes=delay),
        last_active_at=after(minutes=active),
    )
    now, announced = START, set()
    for jump in jumps:
        now += timedelta(minutes=jump)
        found = due(timers, now)
        looked = next_look(timers)
        assert (found is not None) == (looked is not None and looked <= now)
        if found is None:
            continue
        if found.action is TimerAction.WARN:
            assert (found.timer, found.at) not in announced
            announced.add((found.timer, found.at))
            timers = warned(timers, found)
        else:
            assert (found.timer, found.at) in announced
            assert found.at <= now
            break


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=900)))
def test_the_earliest_end_is_announced_now_and_due_only_then(age: timedelta) -> None:
    now = START + age
    ends = replace(PLAIN, expires_at=earliest_expiry(START, now))
    announced = next_look(ends)
    assert announced is not None
    assert abs(announced - now) < timedelta(milliseconds=1)
    found = due(ends, announced)
    assert found is not None
    assert found.action is TimerAction.WARN
