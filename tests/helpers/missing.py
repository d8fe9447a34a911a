"""What a test needs and this machine does not have."""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test, which says why; in CI it fails, where a skip would hide that it never ran."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
