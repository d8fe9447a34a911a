"""A Blueprint becomes a running environment on the real cluster, and goes away again."""

import pytest

from tests.e2e.conftest import TINY
from tests.helpers.stack import Stack

pytestmark = pytest.mark.cluster


def test_one_service_runs_and_is_deleted(stack: Stack, name: str) -> None:
    made = stack.create(
        {"name": name, "services": {"web": {"image": TINY, "ports": [{"containerPort": 8080}]}}}
    )
    operation = made.succeeded()
    assert [step["state"] for step in operation["steps"]] == ["succeeded", "succeeded"]
    status = made.status()
    assert status["phase"] == "running"
    deleted = made.delete()
    deleted.succeeded()
    assert not stack.namespace_exists(made.namespace)
