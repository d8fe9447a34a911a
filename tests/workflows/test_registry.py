"""What every workflow declares: its name, and what becomes of its runs when the code changes."""

import ast
import inspect

import pytest
from temporalio import workflow
from temporalio.testing import WorkflowEnvironment

from tests.helpers.fake_activities import FakeCluster, FakeLedger
from tests.helpers.plans import delete_plan
from tests.workflows.conftest import serving_control
from worker import runner
from workflows.registry import WORKFLOWS


def declared(definition: type) -> dict[str, str]:
    """Return what stands in a class's `@workflow.defn(...)`, by keyword: a default is no declaration."""
    [parsed] = ast.parse(inspect.getsource(definition)).body
    assert isinstance(parsed, ast.ClassDef)
    [call] = [each for each in parsed.decorator_list if isinstance(each, ast.Call)]
    assert ast.unparse(call.func) == "workflow.defn"
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is not None}


@pytest.mark.parametrize("definition", WORKFLOWS)
def test_every_workflow_has_a_name_and_upgrades_by_itself(definition: type) -> None:
    found = declared(definition)
    assert "name" in found
    assert found["versioning_behavior"] == "VersioningBehavior.AUTO_UPGRADE"


@workflow.defn(name="Undeclared")
class Undeclared:
    """A workflow without a behaviour."""

    @workflow.run
    async def run(self) -> None: ...


@pytest.mark.asyncio(loop_scope="session")
async def test_a_workflow_without_a_behaviour_stops_the_worker_at_its_start(
    temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "WORKFLOWS", (*WORKFLOWS, Undeclared))
    with pytest.raises(ValueError, match="Undeclared must specify a versioning behavior"):
        async with serving_control(temporal.client, "undeclared", FakeLedger(delete_plan()), FakeCluster()):
            pass
