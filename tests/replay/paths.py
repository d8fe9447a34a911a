"""The paths whose histories are kept: each is a plan, a cluster that answers so, and what the user does."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import WorkflowHandle

from tests.helpers.fake_activities import (
    FakeCluster,
    FakeSnapshotLedger,
    FakeSnapshotSweep,
    FakeVerification,
    fails,
)
from tests.helpers.plans import (
    change_plan,
    delete_plan,
    loading_replay_plan,
    objects_of,
    provision_plan,
    restore_plan,
    seed_plan,
    snapshot_plan,
    stop_plan,
    update_plan,
)
from workflows.contracts.delete import DELETE_ENVIRONMENT, FORCE_SIGNAL
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest, OperationPlan
from workflows.contracts.provision import PROVISION_ENVIRONMENT
from workflows.contracts.reconcile import RECONCILE_OPERATIONS
from workflows.contracts.replay import REPLAY_ENVIRONMENT
from workflows.contracts.restart import RESTART_SERVICE
from workflows.contracts.restore import RESTORE_ENVIRONMENT
from workflows.contracts.resume import RESUME_ENVIRONMENT
from workflows.contracts.scale import SCALE_SERVICE
from workflows.contracts.seed import SEED_ENVIRONMENT
from workflows.contracts.snapshot import SNAPSHOT_ENVIRONMENT
from workflows.contracts.stop import STOP_ENVIRONMENT
from workflows.contracts.sweep import SWEEP_ENVIRONMENTS
from workflows.contracts.sweep_snapshots import FREE_STORAGE, SWEEP_SNAPSHOTS
from workflows.contracts.update import UPDATE_ENVIRONMENT
from workflows.contracts.verify import VERIFY_SNAPSHOT
from workflows.domain.environment import ObjectIdentity, ObjectName, Overrides
from workflows.domain.errors import FieldError
from workflows.domain.failures import Blocker, FailureKind
from workflows.domain.operations import Earlier, EnvironmentPhase, OnFailure
from workflows.domain.replay import Replay
from workflows.domain.seeds import SeedContent, SeedType
from workflows.domain.seeds_http import HttpRequest
from workflows.domain.snapshot import Consistency, Storage
from workflows.domain.verification import VerifyLevel

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
LATER: dict[str, dict[str, object]] = {
    "db": {**SHOP["db"], "volumes": [], "allowReplace": True},
    "api": {**SHOP["api"], "env": {"A": "1"}},
}
"""What SHOP becomes: `db` loses its volume and is replaced, `api` changes in place, `worker` goes."""
OLD = {"old": (ObjectName(kind="Deployment", name="old"),)}
SEEDED: dict[str, dict[str, object]] = {"db": {"image": "registry.test/postgres:16"}}
STORES: dict[str, dict[str, object]] = {
    **SHOP,
    "files": {"volumes": [{"name": "docs", "mountPath": "/docs", "type": "pvc", "size": "1Gi"}]},
    "docs": {"image": "registry.test/mongo:7"},
}
"""A shop with all kinds of data: dumped, copied, and one that nobody can take."""
LOADED = ("db", "files")
_HALF = ("service/db", "load/db", "service/files")
"""What a first attempt was over with that failed while it loaded the files."""
HOOKED: dict[str, dict[str, object]] = {
    **STORES,
    "api": {**SHOP["api"], "snapshot": {"quiesce": ["hold"], "thaw": ["go"]}},
}
"""The same, held still by hooks."""
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
    before: Mapping[str, Mapping[str, object]] | None = None
    """The services of the revision to go back to; None: those of the plan."""
    without_key_at: frozenset[str] = frozenset()
    """The activities of the ledger that find no key for what is stored."""
    snapshots: Callable[[], FakeSnapshotLedger] = field(default=FakeSnapshotLedger)
    verification: Callable[[], FakeVerification] = field(default=FakeVerification)
    snapshot_sweep: Callable[[], FakeSnapshotSweep] = field(default=FakeSnapshotSweep)


def _running(failing: Mapping[str, FailureKind] | None = None, *hanging: str) -> Callable[[], FakeCluster]:
    """Return what makes a cluster in which SHOP is there."""
    scripted = {name: fails(kind) for name, kind in (failing or {}).items()}
    return lambda: FakeCluster(existing=objects_of(SHOP), failing=dict(scripted), hanging=set(hanging))


def _update(**changes: object) -> OperationPlan:
    return update_plan(SHOP, LATER, **changes)  # type: ignore[arg-type]


def _update_again() -> OperationPlan:
    return _update(earlier={"service/api": Earlier(input_hash="", uid="deployment-api")})


def _one_service(overrides: Overrides) -> OperationPlan:
    return change_plan(SHOP, only="api", overrides=overrides, on_failure=OnFailure.ROLLBACK)


def _resume() -> OperationPlan:
    return change_plan(SHOP, phase=EnvironmentPhase.STOPPED)


def _http_seed() -> OperationPlan:
    seed = SeedContent(type=SeedType.HTTP, http=HttpRequest(path="/visits", body={"who": "ada"}))
    return seed_plan({"web": {"ports": [{"containerPort": 8080}]}}, seed, "web")


def _seed(kind: SeedType) -> Callable[[], OperationPlan]:
    return lambda: seed_plan(SEEDED, SeedContent(type=kind, script="select 1"), "db")


def _standing(failing: Mapping[str, FailureKind] | None = None, *hanging: str) -> Callable[[], FakeCluster]:
    """Return what makes a cluster in which STORES are there."""
    scripted = {name: fails(kind) for name, kind in (failing or {}).items()}
    return lambda: FakeCluster(existing=objects_of(STORES), failing=dict(scripted), hanging=set(hanging))


def _held(failing: Mapping[str, FailureKind] | None = None, *hanging: str) -> Callable[[], FakeCluster]:
    """Return what makes a cluster in which HOOKED are there."""
    scripted = {name: fails(kind) for name, kind in (failing or {}).items()}
    return lambda: FakeCluster(existing=objects_of(HOOKED), failing=dict(scripted), hanging=set(hanging))


def _cut(failing: Mapping[str, FailureKind] | None = None) -> Callable[[], FakeCluster]:
    """Return what makes a cluster whose storage takes snapshots, in which STORES are there."""
    scripted = {name: fails(kind) for name, kind in (failing or {}).items()}
    storage = Storage(drivers={None: "fast.csi"}, snapshots=frozenset({"fast.csi"}))
    return lambda: FakeCluster(existing=objects_of(STORES), failing=dict(scripted), storage=storage)


def _verify(level: VerifyLevel, **changes: Any) -> Callable[[], FakeVerification]:
    return lambda: FakeVerification(level=level, **changes)


def _restore_again() -> OperationPlan:
    """A restore as new whose first attempt had made its services already."""
    return restore_plan(STORES, LOADED, standing=False)


def _replay(*done: str, changed: str = "api", from_step: str | None = None) -> OperationPlan:
    """Return the plan of a replay in place of the provision of SHOP, since when a service has changed."""
    plan = change_plan(SHOP)
    uids = {"db": "statefulset-db"}
    earlier = {
        step.name: Earlier(
            input_hash="other" if step.service == changed else "",
            uid=uids.get(step.service, f"deployment-{step.service}"),
        )
        for step in plan.steps
        if step.service is not None
    }
    recorded = tuple(step.name for step in plan.steps)
    replay = Replay(from_step=from_step, recorded=recorded, done=done)
    return plan.model_copy(update={"earlier": earlier, "replay": replay})


def _replay_again() -> OperationPlan:
    plan = _replay("service/db", changed="", from_step="service/db")
    return plan.model_copy(update={"earlier": {"service/db": plan.earlier["service/db"]}})


def _retry() -> OperationPlan:
    plan = provision_plan(SHOP)
    return plan.model_copy(update={"earlier": {"service/db": Earlier(input_hash="", uid="db-uid")}})


PATHS = (
    Path("reconcile", RECONCILE_OPERATIONS, delete_plan),
    Path("sweep", SWEEP_ENVIRONMENTS, delete_plan),
    Path("provision_succeeded", PROVISION_ENVIRONMENT, lambda: provision_plan(SHOP)),
    Path(
        "provision_without_key",
        PROVISION_ENVIRONMENT,
        lambda: provision_plan(SHOP),
        without_key_at=frozenset({"begin"}),
    ),
    Path(
        "provision_without_key_for_secrets",
        PROVISION_ENVIRONMENT,
        lambda: provision_plan(SHOP),
        without_key_at=frozenset({"seal_secrets"}),
    ),
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
    Path("update_succeeded", UPDATE_ENVIRONMENT, _update, _running(), before=SHOP),
    Path(
        "update_rolled_back",
        UPDATE_ENVIRONMENT,
        _update,
        _running({"api": FailureKind.CRASH_LOOP}),
        before=SHOP,
    ),
    Path(
        "update_not_rolled_back",
        UPDATE_ENVIRONMENT,
        _update,
        _running({"api": FailureKind.CRASH_LOOP, "back to db": FailureKind.IMAGE_UNAVAILABLE}),
        before=SHOP,
    ),
    Path(
        "update_failed",
        UPDATE_ENVIRONMENT,
        lambda: _update(on_failure=OnFailure.KEEP),
        _running({"db": FailureKind.CRASH_LOOP}),
        before=SHOP,
    ),
    Path(
        "update_cancelled_with_cleanup",
        UPDATE_ENVIRONMENT,
        _update,
        _running(None, "api"),
        cancel_with_cleanup,
        before=SHOP,
    ),
    Path(
        "update_cancelled_in_the_ui",
        UPDATE_ENVIRONMENT,
        _update,
        _running(None, "remove worker"),
        cancel_in_the_ui,
        before=SHOP,
    ),
    Path("update_retried", UPDATE_ENVIRONMENT, _update_again, _running(), before=SHOP),
    Path(
        "update_without_its_namespace",
        UPDATE_ENVIRONMENT,
        lambda: update_plan(SHOP, {**SHOP, "worker": {}}),
        before=SHOP,
    ),
    Path("stop_succeeded", STOP_ENVIRONMENT, lambda: stop_plan(SHOP, OLD), _running()),
    Path(
        "stop_failed", STOP_ENVIRONMENT, lambda: stop_plan(SHOP), _running({"stop api": FailureKind.TIMEOUT})
    ),
    Path(
        "stop_cancelled_with_cleanup",
        STOP_ENVIRONMENT,
        lambda: stop_plan(SHOP),
        _running(None, "stop api"),
        cancel_with_cleanup,
    ),
    Path("resume_succeeded", RESUME_ENVIRONMENT, _resume, _running()),
    Path("resume_failed", RESUME_ENVIRONMENT, _resume, _running({"api": FailureKind.CRASH_LOOP})),
    Path(
        "resume_cancelled_with_cleanup",
        RESUME_ENVIRONMENT,
        _resume,
        _running(None, "api"),
        cancel_with_cleanup,
    ),
    Path(
        "scale_succeeded",
        SCALE_SERVICE,
        lambda: _one_service(Overrides(replicas={"api": 3})),
        _running(),
    ),
    Path(
        "scale_rolled_back",
        SCALE_SERVICE,
        lambda: _one_service(Overrides(replicas={"api": 3})),
        _running({"api": FailureKind.UNSCHEDULABLE}),
    ),
    Path(
        "restart_succeeded",
        RESTART_SERVICE,
        lambda: _one_service(Overrides(restarts={"api": "mark"})),
        _running(),
    ),
    Path(
        "restart_cancelled_with_cleanup",
        RESTART_SERVICE,
        lambda: _one_service(Overrides(restarts={"api": "mark"})),
        _running(None, "api"),
        cancel_with_cleanup,
    ),
    Path("replay_succeeded", REPLAY_ENVIRONMENT, _replay, _running()),
    Path(
        "replay_from_a_step", REPLAY_ENVIRONMENT, lambda: _replay(changed="", from_step="secrets"), _running()
    ),
    Path("replay_failed", REPLAY_ENVIRONMENT, _replay, _running({"api": FailureKind.CRASH_LOOP})),
    Path(
        "replay_cancelled_with_cleanup",
        REPLAY_ENVIRONMENT,
        _replay,
        _running(None, "api"),
        cancel_with_cleanup,
    ),
    Path("replay_cancelled_in_the_ui", REPLAY_ENVIRONMENT, _replay, _running(None, "api"), cancel_in_the_ui),
    Path("replay_retried", REPLAY_ENVIRONMENT, _replay_again, _running()),
    Path("replay_without_its_namespace", REPLAY_ENVIRONMENT, _replay),
    Path("replay_into_a_new_environment", REPLAY_ENVIRONMENT, lambda: provision_plan(SHOP)),
    Path(
        "replay_into_a_new_environment_rolled_back",
        REPLAY_ENVIRONMENT,
        lambda: provision_plan(SHOP, on_failure=OnFailure.ROLLBACK),
        lambda: FakeCluster(failing={"db": fails(FailureKind.IMAGE_UNAVAILABLE)}),
    ),
    Path(
        "replay_from_a_snapshot",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED),
        _standing(),
    ),
    Path(
        "replay_from_a_snapshot_with_init",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED, init=True),
        _standing(),
    ),
    Path(
        "replay_from_a_snapshot_failed_in_a_load",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED),
        _standing({"load db": FailureKind.SNAPSHOT_CORRUPT}),
    ),
    Path(
        "replay_from_a_snapshot_cancelled_with_cleanup",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED),
        _standing(None, "load files"),
        cancel_with_cleanup,
    ),
    Path(
        "replay_from_a_snapshot_cancelled_in_the_ui",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED),
        _standing(None, "load files"),
        cancel_in_the_ui,
    ),
    Path(
        "replay_from_a_snapshot_retried",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED, *_HALF, attempted=("load/db", "load/files")),
        _standing(),
    ),
    Path(
        "replay_from_a_snapshot_into_a_new_environment",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED, new=True),
    ),
    Path(
        "replay_from_a_snapshot_into_a_new_environment_retried",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED, *_HALF, attempted=("load/db", "load/files"), new=True),
        _standing(),
    ),
    Path(
        "replay_from_a_snapshot_that_the_storage_keeps",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED, claimed=LOADED, new=True),
        snapshots=lambda: FakeSnapshotLedger(kept=frozenset(LOADED)),
    ),
    Path(
        "replay_from_a_snapshot_that_the_storage_keeps_cancelled_with_cleanup",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(STORES, LOADED, claimed=LOADED, new=True),
        lambda: FakeCluster(hanging={"settle db"}),
        cancel_with_cleanup,
        snapshots=lambda: FakeSnapshotLedger(kept=frozenset(LOADED)),
    ),
    Path("seed_by_sql", SEED_ENVIRONMENT, _seed(SeedType.SQL), _running()),
    Path(
        "seed_by_sql_failed",
        SEED_ENVIRONMENT,
        _seed(SeedType.SQL),
        _running({"seed": FailureKind.HOOK_FAILED}),
    ),
    Path("seed_by_job", SEED_ENVIRONMENT, _seed(SeedType.SHELL), _running()),
    Path(
        "seed_by_job_failed",
        SEED_ENVIRONMENT,
        _seed(SeedType.SHELL),
        _running({"seed": FailureKind.HOOK_FAILED}),
    ),
    Path(
        "seed_by_job_cancelled_with_cleanup",
        SEED_ENVIRONMENT,
        _seed(SeedType.SHELL),
        _running(None, "seed"),
        cancel_with_cleanup,
    ),
    Path(
        "seed_by_job_cancelled_in_the_ui",
        SEED_ENVIRONMENT,
        _seed(SeedType.SHELL),
        _running(None, "seed"),
        cancel_in_the_ui,
    ),
    Path("seed_by_http", SEED_ENVIRONMENT, _http_seed, _running()),
    Path("seed_without_its_namespace", SEED_ENVIRONMENT, _seed(SeedType.SQL)),
    Path("snapshot_succeeded", SNAPSHOT_ENVIRONMENT, lambda: snapshot_plan(STORES), _standing()),
    Path(
        "snapshot_below_its_floor",
        SNAPSHOT_ENVIRONMENT,
        lambda: snapshot_plan(STORES, floor=Consistency.APPLICATION),
        _standing(),
    ),
    Path(
        "snapshot_failed_and_discarded",
        SNAPSHOT_ENVIRONMENT,
        lambda: snapshot_plan(STORES),
        _standing({"capture files": FailureKind.TRANSFER_FAILED}),
    ),
    Path(
        "snapshot_failed_and_not_discarded",
        SNAPSHOT_ENVIRONMENT,
        lambda: snapshot_plan(STORES),
        _standing({"publish": FailureKind.SNAPSHOT_CORRUPT, "discard": FailureKind.TRANSFER_FAILED}),
    ),
    Path(
        "snapshot_cancelled_with_cleanup",
        SNAPSHOT_ENVIRONMENT,
        lambda: snapshot_plan(STORES),
        _standing(None, "capture db"),
        cancel_with_cleanup,
    ),
    Path(
        "snapshot_cancelled_in_the_ui",
        SNAPSHOT_ENVIRONMENT,
        lambda: snapshot_plan(STORES),
        _standing(None, "capture db"),
        cancel_in_the_ui,
    ),
    Path("snapshot_without_its_namespace", SNAPSHOT_ENVIRONMENT, lambda: snapshot_plan(STORES)),
    Path("restore_new", RESTORE_ENVIRONMENT, lambda: restore_plan(STORES, LOADED, standing=False)),
    Path(
        "restore_in_place",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=True),
        _standing(),
        before=STORES,
    ),
    Path(
        "restore_in_place_of_what_cannot_be_read",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=True),
        _standing({"check db": FailureKind.SNAPSHOT_CORRUPT}),
    ),
    Path(
        "restore_in_place_checked",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=True),
        _standing(),
    ),
    Path(
        "restore_failed_in_a_load",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=False),
        lambda: FakeCluster(failing={"load db": fails(FailureKind.SNAPSHOT_CORRUPT)}),
    ),
    Path(
        "restore_new_cancelled_with_cleanup",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=False),
        lambda: FakeCluster(hanging={"load db"}),
        cancel_with_cleanup,
    ),
    Path(
        "restore_in_place_cancelled_with_cleanup",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=True),
        _standing(None, "load db"),
        cancel_with_cleanup,
        before=STORES,
    ),
    Path(
        "restore_in_place_retried_and_cancelled_before_a_load",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=True, touched=("load/db",)),
        _standing(None, "check files"),
        cancel_with_cleanup,
        before=STORES,
    ),
    Path(
        "restore_masked",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=True, masked=("db",)),
        _standing(),
        before=STORES,
    ),
    Path(
        "restore_masked_by_rules_that_do_not_fit",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=False, masked=LOADED),
        lambda: FakeCluster(
            unfit={name: [FieldError(path=("services", name), message="unfit")] for name in LOADED}
        ),
    ),
    Path(
        "replay_from_a_snapshot_masked_retried",
        REPLAY_ENVIRONMENT,
        lambda: loading_replay_plan(
            STORES, LOADED, *_HALF, attempted=("load/db", "load/files"), masked=LOADED
        ),
        _standing(),
    ),
    Path("restore_retried", RESTORE_ENVIRONMENT, _restore_again, _standing()),
    Path("snapshot_with_hooks", SNAPSHOT_ENVIRONMENT, lambda: snapshot_plan(HOOKED), _held()),
    Path(
        "snapshot_with_hooks_failed",
        SNAPSHOT_ENVIRONMENT,
        lambda: snapshot_plan(HOOKED),
        _held({"capture together": FailureKind.HOOK_FAILED}),
    ),
    Path(
        "snapshot_with_hooks_cancelled_in_the_ui",
        SNAPSHOT_ENVIRONMENT,
        lambda: snapshot_plan(HOOKED),
        _held(None, "capture together"),
        cancel_in_the_ui,
    ),
    Path("snapshot_by_the_storage", SNAPSHOT_ENVIRONMENT, lambda: snapshot_plan(STORES), _cut()),
    Path(
        "snapshot_by_the_storage_fallen_back",
        SNAPSHOT_ENVIRONMENT,
        lambda: snapshot_plan(STORES),
        _cut({"cut files": FailureKind.VOLUME_UNAVAILABLE}),
    ),
    Path(
        "snapshot_by_the_storage_failed",
        SNAPSHOT_ENVIRONMENT,
        lambda: snapshot_plan(STORES),
        _cut({"cut files": FailureKind.CONFLICT}),
    ),
    Path("snapshot_by_the_storage_with_hooks", SNAPSHOT_ENVIRONMENT, lambda: snapshot_plan(HOOKED), _cut()),
    Path(
        "restore_proved",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=False, prove=True),
    ),
    Path(
        "restore_with_init",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=False, init=True),
    ),
    Path(
        "restore_that_cannot_be_told",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=False, prove=True),
        lambda: FakeCluster(untold=("files writes to its files meanwhile",)),
    ),
    Path(
        "restore_not_what_was_captured",
        RESTORE_ENVIRONMENT,
        lambda: restore_plan(STORES, LOADED, standing=False, prove=True),
        lambda: FakeCluster(differences=("table t: 2 rows recorded, 1 found",)),
    ),
    Path("verify_stored", VERIFY_SNAPSHOT, delete_plan),
    Path("verify_restored", VERIFY_SNAPSHOT, delete_plan, verification=_verify(VerifyLevel.RESTORED)),
    Path(
        "verify_failed_beside_the_data",
        VERIFY_SNAPSHOT,
        delete_plan,
        verification=_verify(VerifyLevel.RESTORED, beside_fault="it is missing"),
    ),
    Path("verify_passed_beside_the_data", VERIFY_SNAPSHOT, delete_plan),
    Path(
        "verify_failed_at_what_is_stored",
        VERIFY_SNAPSHOT,
        delete_plan,
        lambda: FakeCluster(damaged={"stored db": "part 0 is not there"}),
        verification=_verify(VerifyLevel.RESTORED),
    ),
    Path(
        "verify_aborted_by_a_cluster",
        VERIFY_SNAPSHOT,
        delete_plan,
        lambda: FakeCluster(failing={"readable files": fails(FailureKind.FORBIDDEN)}),
        verification=_verify(VerifyLevel.READABLE),
    ),
    Path(
        "verify_failed_at_its_keys",
        VERIFY_SNAPSHOT,
        delete_plan,
        verification=_verify(VerifyLevel.READABLE, unopened=fails(FailureKind.SNAPSHOT_CORRUPT)),
    ),
    Path(
        "verify_restore_refused",
        VERIFY_SNAPSHOT,
        delete_plan,
        verification=_verify(VerifyLevel.RESTORED, refused="10 environments are allowed"),
    ),
    Path(
        "verify_restore_failed",
        VERIFY_SNAPSHOT,
        delete_plan,
        verification=_verify(VerifyLevel.RESTORED, restored=fails(FailureKind.SNAPSHOT_CORRUPT)),
    ),
    Path(
        "verify_cancelled_while_it_looks",
        VERIFY_SNAPSHOT,
        delete_plan,
        lambda: FakeCluster(hanging={"stored db"}),
        cancel_in_the_ui,
    ),
    Path(
        "verify_cancelled_while_it_restores",
        VERIFY_SNAPSHOT,
        delete_plan,
        act=cancel_in_the_ui,
        verification=_verify(VerifyLevel.RESTORED, hanging=True),
    ),
    Path(
        "verify_over_already", VERIFY_SNAPSHOT, delete_plan, verification=lambda: FakeVerification(over=True)
    ),
    Path("sweep_snapshots", SWEEP_SNAPSHOTS, delete_plan),
    Path(
        "sweep_snapshots_kept_by_a_cluster",
        SWEEP_SNAPSHOTS,
        delete_plan,
        snapshot_sweep=lambda: FakeSnapshotSweep(kept=("snap_a",)),
    ),
    Path(
        "sweep_snapshots_refused_by_a_cluster",
        SWEEP_SNAPSHOTS,
        delete_plan,
        lambda: FakeCluster(failing={"discard": fails(FailureKind.FORBIDDEN)}),
        snapshot_sweep=lambda: FakeSnapshotSweep(kept=("snap_a",)),
    ),
    Path(
        "sweep_snapshots_told_what_stands",
        SWEEP_SNAPSHOTS,
        delete_plan,
        lambda: FakeCluster(failing={"discard": fails(FailureKind.TIMEOUT)}),
        snapshot_sweep=lambda: FakeSnapshotSweep(kept=("snap_a",)),
    ),
    Path("sweep_snapshots_without_storage", SWEEP_SNAPSHOTS, delete_plan),
    Path(
        "free_storage",
        FREE_STORAGE,
        delete_plan,
        snapshot_sweep=lambda: FakeSnapshotSweep(kept=("snap_a", "snap_b")),
    ),
    Path(
        "free_storage_refused",
        FREE_STORAGE,
        delete_plan,
        lambda: FakeCluster(failing={"discard": fails(FailureKind.FORBIDDEN)}),
        snapshot_sweep=lambda: FakeSnapshotSweep(kept=("snap_a", "snap_b")),
    ),
    Path(
        "free_storage_of_a_cluster_that_is_away",
        FREE_STORAGE,
        delete_plan,
        lambda: FakeCluster(failing={"discard": fails(FailureKind.TIMEOUT)}),
        snapshot_sweep=lambda: FakeSnapshotSweep(kept=("snap_a", "snap_b")),
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
