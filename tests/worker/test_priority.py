"""Worker and development server step back, whether a session is theirs alone or not."""

import os
import subprocess
import sys

import pytest

from worker.priority import NICE

pytestmark = pytest.mark.slow
PROGRAM = """
import os
from pathlib import Path
from worker.priority import step_back

def of_group():
    group = Path("/proc/self/autogroup")
    # Empty where sharing out goes by control groups instead.
    text = group.read_text() if group.exists() else ""
    return text.split()[-1] if text else "none"

before = of_group()
step_back()
print(os.nice(0), before, of_group())
"""


@pytest.mark.parametrize("own_session", [True, False])
def test_stepping_back(own_session: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=own_session,
    )
    own, before, after = done.stdout.split()
    assert int(own) == min(os.nice(0) + NICE, 19)
    assert after == (str(NICE) if own_session and before != "none" else before)
