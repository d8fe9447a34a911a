"""How many examples a property is tried on."""

import os
from typing import Final

from hypothesis import settings

_ONE_OF: Final = int(os.environ.get("PERDURE_EXAMPLES_ONE_OF", "1"))
"""`make test-fast` tries one of so many; every other run all of them."""
_FEWEST: Final = 10


def examples(count: int) -> settings:
    """Settings of a property that is tried on `count` examples, however long each takes."""
    return settings(max_examples=max(min(count, _FEWEST), count // _ONE_OF), deadline=None)
