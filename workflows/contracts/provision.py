"""ProvisionEnvironment: what its activities on the cluster are asked, and what they answer."""

from datetime import datetime
from typing import Final

from pydantic import JsonValue
from temporalio import activity

from workflows.contracts.operation import PreImage
from workflows.domain.blueprint_models import DataStore
from workflows.domain.environment import EnvironmentContext, ObjectIdentity
from workflows.domain.failures import WireModel
from workflows.domain.operations import Cleanup
from workflows.domain.readiness import Until

PROVISION_ENVIRONMENT: Final = "ProvisionEnvironment"


class PrepareNamespace(WireModel):
    """Make the namespace with its guard rails, and put the operation's fence on it."""

    context: EnvironmentContext
    namespace: dict[str, JsonValue]
    guard_rails: tuple[dict[str, JsonValue], ...]


class NamespacePrepared(WireModel):
    """`existed`: before this operation's first attempt. `objects`: ours that were there before it."""

    uid: str
    existed: bool
    objects: tuple[ObjectIdentity, ...] = ()


class ApplySecrets(WireModel):
    """Write the environment's Secrets from sealed values."""

    context: EnvironmentContext
    secrets: dict[str, dict[str, str]] = {}
    """Kubernetes Secret name -> key -> sealed value."""
    pull_secrets: dict[str, str] = {}
    """Kubernetes Secret name -> sealed `.dockerconfigjson`."""


class InitScript(WireModel):
    """A service's init, run once: SQL in the service's own pod, or a Job that the cluster remembers.

    Exactly one of `sql` and `job` is given. `key` is the marker of the run: environment id and service name.
    """

    key: str
    sql: str | None = None
    store: DataStore | None = None
    """Which database `sql` is for."""
    job: dict[str, JsonValue] | None = None
    run: str = ""
    """Of `sql`: a marker of this run alone, which runs it although it has run before; empty: it runs once."""


class Replacement(WireModel):
    """Delete the workload that is there first, and the claims of these volumes with their data."""

    volumes: tuple[str, ...] = ()
    revision: int | None = None
    """Replace what bears this revision alone (an undo); None: whatever bears another than the new one."""
    again: bool = False
    """Replace whatever an earlier operation wrote, of any revision: the fence that it bears tells."""


class DeployService(WireModel):
    """Apply one service, wait until it got as far as `until`, then run its init."""

    context: EnvironmentContext
    service: str
    manifests: tuple[dict[str, JsonValue], ...]
    deadline: datetime
    """Absolute, so that a second attempt does not start it anew."""
    until: Until = Until.READY
    tolerate_restarts: int = 0
    init: InitScript | None = None
    replacement: Replacement | None = None


class ServiceDeployed(WireModel):
    """The workload that runs now. `seconds`: from the first apply of this attempt."""

    workload: ObjectIdentity
    ready: int
    restarts: int
    seconds: float


class VerifyEndpoints(WireModel):
    """Apply routing and see that each exposed service has something behind it."""

    context: EnvironmentContext
    manifests: tuple[dict[str, JsonValue], ...]
    services: tuple[str, ...]
    deadline: datetime


class Undo(WireModel):
    """Take back what an operation made; `restore` is what existed before, rendered anew."""

    context: EnvironmentContext
    """Fenced one higher than the operation's own writes."""
    pre_image: PreImage | None
    """None: it was never recorded, so the operation wrote no more than the namespace."""
    restore: tuple[dict[str, JsonValue], ...] = ()


class ProvisionActivities:
    """Provision as its workflow sees it; in `activities.provision`, run on the cluster's queue."""

    @activity.defn(name="environment.prepare_namespace")
    async def prepare_namespace(self, request: PrepareNamespace) -> NamespacePrepared:
        """Create or take up the namespace; refuses one that is not ours (conflict)."""
        raise NotImplementedError

    @activity.defn(name="environment.apply_secrets")
    async def apply_secrets(self, request: ApplySecrets) -> None:
        """Open the sealed values and write them as Secrets."""
        raise NotImplementedError

    @activity.defn(name="service.deploy")
    async def deploy_service(self, request: DeployService) -> ServiceDeployed:
        """Apply, wait, init. Fails fast with kind and evidence."""
        raise NotImplementedError

    @activity.defn(name="environment.verify_endpoints")
    async def verify_endpoints(self, request: VerifyEndpoints) -> None:
        """Apply routing objects and wait for a ready endpoint behind each exposed service."""
        raise NotImplementedError

    @activity.defn(name="environment.undo")
    async def undo(self, request: Undo) -> Cleanup:
        """Delete what was absent before (by UID), re-apply what was there; say what is left."""
        raise NotImplementedError
