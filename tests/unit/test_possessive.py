"""Groups that are repeated for good take the same in every Python."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.domain.possessive import any_number, one_or_more

BODIES = ("ab?c", "a|bc", "ab|a+c|b(?!c)", "'[^']*'|a")
"""Some of which fail halfway: a Python before 3.11.5 went on from there."""


def taken(body: str, text: str) -> int:
    """Where as many as there are of a body end, one after the other, each taken for good."""
    one, at = re.compile(body), 0
    while found := one.match(text, at):
        at = found.end()
    return at


@pytest.mark.parametrize("body", BODIES)
@given(text=st.text("abc'", max_size=12))
def test_what_is_repeated_ends_where_one_after_the_other_does(body: str, text: str) -> None:
    end = taken(body, text)
    found = re.match(any_number(body), text)
    assert found is not None
    assert found.end() == end
    at_least_one = re.match(one_or_more(body), text)
    assert (at_least_one.end() if at_least_one else 0) == end


def test_nothing_is_given_back() -> None:
    assert re.match(any_number("ab?c") + "abc", "abcabc") is None
    assert re.match(one_or_more("a") + "a", "aaa") is None
    assert re.match(one_or_more("ab?") + "b", "ab") is None


def test_what_failed_halfway_is_not_passed_over() -> None:
    assert re.match(any_number("ab?c") + "a", "acab") is not None
