"""The paths whose histories are kept: each is a plan, a cluster that answers so, and what the user does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import WorkflowHandle

from tests.helpers.fake_activities import FakeCluster, delete_plan, fails, provision_plan
from workflows.contracts.delete import DELETE_ENVIRONMENT, FORCE_SIGNAL
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, Earlier, OperationPlan
from workflows.contracts.provision import PROVISION_ENVIRONMENT
from workflows.contracts.reconcile import RECONCILE_OPERATIONS
from workflows.contracts.sweep import SWEEP_ENVIRONMENTS
from workflows.domain.environment import ObjectIdentity
from workflows.domain.failures import Blocker, FailureKind
from workflows.domain.operations import OnFailure

Act = Callable[[WorkflowHandle[Any, Any], FakeCluster], Awaitable[None]]

SHOP: dict[str, dict[str, object]] = {
    "db": {
        "image": "registry.test/postgres:16",
        "secrets": [{"name": "db-password", "envKey": "POSTGRES_PASSWORD", "value": "auto-generated"}],
        "volumes": [{"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}],
        "init": {"type": "sql", "script": "create table t(id int)"},
    },
    "api": {"dependsOn": ["db"], "ports": [{"containerPort": 8080}], "expose": True},
    "worker": {"dependsOn": {"api": {"condition": "started"}}},
}
HELD = (Blocker(object="ConfigMap/a", finalizers=("x.test/hold",)),)


async def nothing(_handle: WorkflowHandle[Any, Any], _cluster: FakeCluster) -> None:
    """Let it run."""


async def cancel_with_cleanup(handle: WorkflowHandle[Any, Any], cluster: FakeCluster) -> None:
    """Cancel once a service waits."""
    await cluster.reached.wait()
    await handle.signal(CANCEL_SIGNAL, CancelRequest(cleanup=True, reason="wrong branch"))


async def cancel_in_the_ui(handle: WorkflowHandle[Any, Any], cluster: FakeCluster) -> None:
    """Cancel as an operator does in the Temporal UI."""
    await cluster.reached.wait()
    await handle.cancel()


async def force(handle: WorkflowHandle[Any, Any], cluster: FakeCluster) -> None:
    """Force a delete once it waits for what holds the namespace."""
    await cluster.reached.wait()
    await handle.signal(FORCE_SIGNAL)


@dataclass(frozen=True)
class Path:
    """One path through a workflow."""

    name: str
    workflow: str
    plan: Callable[[], OperationPlan]
    cluster: Callable[[], FakeCluster] = field(default=FakeCluster)
    act: Act = nothing


def _retry() -> OperationPlan:
    plan = provision_plan(SHOP)
    return plan.model_copy(update={"earlier": {"service/db": Earlier(input_hash="", uid="db-uid")}})


PATHS = (
    Path("reconcile", RECONCILE_OPERATIONS, delete_plan),
    Path("sweep", SWEEP_ENVIRONMENTS, delete_plan),
    Path("provision_succeeded", PROVISION_ENVIRONMENT, lambda: provision_plan(SHOP)),
    Path(
        "provision_failed",
        PROVISION_ENVIRONMENT,
        lambda: provision_plan(SHOP),
        lambda: FakeCluster(failing={"api": fails(FailureKind.CRASH_LOOP)}),
    ),
    Path(
        "provision_rolled_back",
        PROVISION_ENVIRONMENT,
        lambda: provision_plan(SHOP, on_failure=OnFailure.ROLLBACK),
        lambda: FakeCluster(failing={"db": fails(FailureKind.IMAGE_UNAVAILABLE)}),
    ),
    Path(
        "provision_cancelled_with_cleanup",
        PROVISION_ENVIRONMENT,
        lambda: provision_plan(SHOP),
        lambda: FakeCluster(hanging={"db"}),
        cancel_with_cleanup,
    ),
    Path(
        "provision_cancelled_in_the_ui",
        PROVISION_ENVIRONMENT,
        lambda: provision_plan(SHOP),
        lambda: FakeCluster(hanging={"db"}),
        cancel_in_the_ui,
    ),
    Path(
        "provision_retried",
        PROVISION_ENVIRONMENT,
        _retry,
        lambda: FakeCluster(existing=(ObjectIdentity(kind="StatefulSet", name="db", uid="db-uid"),)),
    ),
    Path("delete_succeeded", DELETE_ENVIRONMENT, delete_plan),
    Path(
        "delete_held_by_a_finalizer",
        DELETE_ENVIRONMENT,
        delete_plan,
        lambda: FakeCluster(blockers=[HELD, ()]),
    ),
    Path(
        "delete_forced_while_held",
        DELETE_ENVIRONMENT,
        delete_plan,
        lambda: FakeCluster(held=HELD),
        force,
    ),
)
