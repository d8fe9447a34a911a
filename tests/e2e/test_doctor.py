"""`perdure doctor` against everything real: nothing is found where nothing is wrong, and what is wrong is."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.support import idle
from tests.helpers.stack import ROOT, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def doctor(stack: Stack) -> tuple[int, dict[str, Any]]:
    """Exit code, and the checks by name."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "doctor", "-o", "json"],
        env={
            **stack.environment,
            "PERDURE_URL": str(stack.client.base_url),
            "PERDURE_API_KEY": stack.client.headers["Authorization"].removeprefix("Bearer "),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, {each["name"]: each for each in json.loads(done.stdout)["checks"]}


def test_a_whole_stack_is_well(stack: Stack, name: str) -> None:
    """Also the rights in a namespace, and that the fence holds there, which take one that is there."""
    stack.create({"name": name, "services": {"web": idle()}}).succeeded()
    code, found = doctor(stack)
    # What a cluster may lack is a warning.
    assert {each["name"]: each["message"] for each in found.values() if each["status"] == "fail"} == {}
    assert code == 0
    assert found["cluster/local/fencing"]["message"] == "the policy is installed and refuses late writes"
    assert found["cluster/local/rights/environments"]["status"] == "ok"


def test_without_temporal(stack: Stack) -> None:
    stack.temporal.kill()
    code, found = doctor(stack)
    assert (code, found["temporal"]["status"]) == (1, "fail")
    assert found["cluster/local"]["status"] == "ok"
    stack.start_temporal()
    eventually(lambda: doctor(stack)[1]["temporal"]["status"] == "ok", "Temporal is found again", within=60)
