"""When an environment goes to sleep or is deleted by itself, and when that is announced.

Idleness is counted from signals that are measured: operations, and requests through the service proxy. What
is reached past us, by an ingress, may be in use without our seeing it: it stays awake unless the user says
otherwise.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from workflows.domain.operations import EnvironmentPhase

EXPIRY_NOTICE: Final = timedelta(hours=1)
"""A deletion is announced this long before, or a tenth of its time when that is shorter."""

_NOTICE_PART: Final = 10

SHUTDOWN_NOTICE: Final = timedelta(minutes=5)
"""A shutdown is announced this long before, or a fifth of its delay when that is shorter."""

_AWAKE: Final = frozenset({EnvironmentPhase.RUNNING, EnvironmentPhase.DEGRADED})


class Timer(StrEnum):
    """What runs out."""

    EXPIRY = "expiry"
    """The environment's time to live: it is deleted."""
    IDLE = "idle"
    """Nobody has used it for its delay: it is stopped."""


class TimerAction(StrEnum):
    """What is due."""

    WARN = "warn"
    STOP = "stop"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Timers:
    """What an environment's timers go by. Times are aware; `..._warned_for` are ends that were announced."""

    phase: EnvironmentPhase
    created_at: datetime
    last_active_at: datetime
    expires_at: datetime | None
    protected: bool
    auto_shutdown_enabled: bool
    auto_shutdown_delay: timedelta
    measured: bool
    """Whether every way in is one that we see; or the user said that the others do not count."""
    expiry_warned_for: datetime | None = None
    idle_warned_for: datetime | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done, for which timer, which ends at `at`."""

    action: TimerAction
    timer: Timer
    at: datetime


def due(timers: Timers, now: datetime) -> Due | None:
    """What is due now; an end goes before an announcement, a deletion before a shutdown."""
    found = [each for each in _upcoming(timers) if _moment(timers, each) <= now]
    order = (TimerAction.DELETE, TimerAction.STOP, TimerAction.WARN)
    return min(found, key=lambda each: order.index(each.action), default=None)


def next_look(timers: Timers) -> datetime | None:
    """When something will be due, as things stand; None: nothing will."""
    return min((_moment(timers, each) for each in _upcoming(timers)), default=None)


def earliest_expiry(created_at: datetime, now: datetime) -> datetime:
    """The first end that can still be announced as long before as ends are."""
    return now + min(EXPIRY_NOTICE, (now - created_at) / (_NOTICE_PART - 1))


def idle_at(timers: Timers) -> datetime:
    """When the environment will have been idle for its delay, if nobody uses it until then."""
    return timers.last_active_at + timers.auto_shutdown_delay


def _upcoming(timers: Timers) -> list[Due]:
    """The next thing of each timer: its announcement while that has not been made, else its end."""
    if timers.protected:
        return []
    upcoming: list[Due] = []
    if timers.expires_at is not None:
        announced = timers.expiry_warned_for == timers.expires_at
        action = TimerAction.DELETE if announced else TimerAction.WARN
        upcoming.append(Due(action, Timer.EXPIRY, timers.expires_at))
    if timers.auto_shutdown_enabled and timers.measured and timers.phase in _AWAKE:
        at = idle_at(timers)
        announced = timers.idle_warned_for == at
        upcoming.append(Due(TimerAction.STOP if announced else TimerAction.WARN, Timer.IDLE, at))
    return upcoming


def _moment(timers: Timers, upcoming: Due) -> datetime:
    if upcoming.action is not TimerAction.WARN:
        return upcoming.at
    if upcoming.timer is Timer.EXPIRY:
        return upcoming.at - min(EXPIRY_NOTICE, (upcoming.at - timers.created_at) / _NOTICE_PART)
    return upcoming.at - min(SHUTDOWN_NOTICE, timers.auto_shutdown_delay / 5)
