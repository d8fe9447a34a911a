"""Every workflow that a control worker serves."""

from typing import Final

from workflows.delete import DeleteEnvironment
from workflows.provision import ProvisionEnvironment
from workflows.reconcile import ReconcileOperations

WORKFLOWS: Final[tuple[type, ...]] = (ProvisionEnvironment, DeleteEnvironment, ReconcileOperations)
