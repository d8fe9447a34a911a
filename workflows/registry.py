"""Every workflow that a control worker serves."""

from typing import Final

from workflows.delete import DeleteEnvironment
from workflows.provision import ProvisionEnvironment
from workflows.reconcile import ReconcileOperations
from workflows.replay import ReplayEnvironment
from workflows.restart import RestartService
from workflows.resume import ResumeEnvironment
from workflows.scale import ScaleService
from workflows.seed import SeedEnvironment
from workflows.stop import StopEnvironment
from workflows.sweep import SweepEnvironments
from workflows.update import UpdateEnvironment

WORKFLOWS: Final[tuple[type, ...]] = (
    ProvisionEnvironment,
    UpdateEnvironment,
    StopEnvironment,
    ResumeEnvironment,
    ScaleService,
    RestartService,
    SeedEnvironment,
    ReplayEnvironment,
    DeleteEnvironment,
    ReconcileOperations,
    SweepEnvironments,
)
