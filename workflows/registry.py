"""Every workflow that a control worker serves."""

from typing import Final

from workflows.delete import DeleteEnvironment
from workflows.free_storage import FreeStorage
from workflows.provision import ProvisionEnvironment
from workflows.reconcile import ReconcileOperations
from workflows.replay import ReplayEnvironment
from workflows.restart import RestartService
from workflows.restore import RestoreEnvironment
from workflows.resume import ResumeEnvironment
from workflows.scale import ScaleService
from workflows.seed import SeedEnvironment
from workflows.snapshot import SnapshotEnvironment
from workflows.stop import StopEnvironment
from workflows.sweep import SweepEnvironments
from workflows.sweep_snapshots import SweepSnapshots
from workflows.update import UpdateEnvironment
from workflows.verify import VerifySnapshot

WORKFLOWS: Final[tuple[type, ...]] = (
    ProvisionEnvironment,
    UpdateEnvironment,
    StopEnvironment,
    ResumeEnvironment,
    ScaleService,
    RestartService,
    SeedEnvironment,
    SnapshotEnvironment,
    RestoreEnvironment,
    ReplayEnvironment,
    DeleteEnvironment,
    ReconcileOperations,
    SweepEnvironments,
    SweepSnapshots,
    FreeStorage,
    VerifySnapshot,
)
