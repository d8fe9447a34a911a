"""How many examples a property is tried on, and how many rows a table's test."""

import os
from collections.abc import Sequence
from typing import Final, TypeVar

from hypothesis import settings

_ONE_OF: Final = int(os.environ.get("PERDURE_EXAMPLES_ONE_OF", "1"))
"""`make test-fast` tries one of so many; every other run all of them."""
_FEWEST: Final = 10

Row = TypeVar("Row")


def examples(count: int) -> settings:
    """Settings of a property that is tried on `count` examples, however long each takes."""
    return settings(max_examples=max(min(count, _FEWEST), count // _ONE_OF), deadline=None)


def some(rows: Sequence[Row]) -> Sequence[Row]:
    """Rows of a long table, spread over it: in `make test-fast` one of so many, otherwise all."""
    return rows[::_ONE_OF]
