"""Worker and development server step back, whether a session is theirs alone or not."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker.priority import NICE

pytestmark = pytest.mark.slow
AUTOGROUP = Path("/proc/self/autogroup")
PROGRAM = f"""
import os, pathlib
from worker.priority import step_back
before = os.nice(0)
step_back()
group = pathlib.Path({str(AUTOGROUP)!r})
print(os.nice(0) - before, group.read_text().split()[-1] if group.exists() else "")
"""


@pytest.mark.parametrize("own_session", [True, False])
def test_stepping_back(own_session: bool) -> None:
    before = AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else ""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=own_session,
    )
    expected = str(NICE) if own_session and before else before
    assert done.stdout.split(" ") == [str(NICE), f"{expected}\n"]
