"""What `make bench` says about its bars; measuring is its own business."""

from typing import Any

import pytest

from bench.lists import verdict


def measured(overall: float, **lists: float) -> dict[str, Any]:
    """The result of a walk through lists, as far as the bar looks at it."""
    return {
        "p99Milliseconds": overall,
        "lists": {kind: {"p99Milliseconds": each} for kind, each in lists.items()},
    }


@pytest.mark.parametrize(
    ("result", "says", "worst"),
    [
        (measured(40.0, newest=30.0, label=99.9), "pass", "label"),
        (measured(40.0, newest=30.0, label=100.0), "fail", "label"),
        (measured(101.5, newest=30.0), "fail", "all"),
    ],
)
def test_the_slowest_kind_of_list_decides_over_the_bar(result: dict[str, Any], says: str, worst: str) -> None:
    found = verdict(result)
    assert (found["verdict"], found["worst"], found["barMilliseconds"]) == (says, worst, 100.0)
