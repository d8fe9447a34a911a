"""Rate limits, with a clock of the test's own."""

from dataclasses import dataclass

import pytest

from api.limits import WINDOW_SECONDS, Limits, RateLimit, network
from api.problems import ProblemError


@dataclass
class Clock:
    """A clock that is set."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_quota_is_for_a_window() -> None:
    clock = Clock()
    limit = RateLimit("key", 3, clock=clock)
    assert [limit.spend("a").left for _ in range(3)] == [2, 1, 0]
    clock.now += 10
    spent = limit.spend("a")
    assert (spent.within, spent.left, spent.seconds) == (False, 0, WINDOW_SECONDS - 10)
    assert limit.spend("b").within
    clock.now += WINDOW_SECONDS - 10
    assert limit.spend("a").left == 2
    assert limit.headers(limit.look("a")) == {
        "RateLimit-Policy": '"key";q=3;w=60',
        "RateLimit": '"key";r=2;t=60',
    }


def test_memory_is_bounded_and_ended_windows_go() -> None:
    clock = Clock()
    limit = RateLimit("key", 3, clock=clock, most=10)
    for number in range(1000):
        limit.spend(str(number))
        assert len(limit) <= 10
    clock.now += WINDOW_SECONDS
    limit.spend("one")
    assert len(limit) == 1


def test_beyond_the_limit_the_answer_says_when_to_come_back() -> None:
    clock = Clock()
    limits = Limits(1, 2, clock=clock)
    assert limits.spend("key_1")["RateLimit"] == '"key";r=0;t=60'
    clock.now += 20.5
    with pytest.raises(ProblemError) as refused:
        limits.spend("key_1")
    assert refused.value.status == 429
    assert refused.value.headers["Retry-After"] == "40"
    assert Limits(0, 0).spend("key_1") == {}


def test_addresses_are_counted_by_their_network() -> None:
    limits = Limits(0, 2, clock=Clock())
    for last in ("1", "2"):
        limits.refuse_guesses(f"2001:db8::{last}")
        limits.wrong_key(f"2001:db8::{last}")
    with pytest.raises(ProblemError):
        limits.refuse_guesses("2001:db8::3")
    limits.refuse_guesses("2001:db8:0:1::1")
    assert network("192.0.2.7") == "192.0.2.7"
    assert network("somewhere") == "somewhere"
