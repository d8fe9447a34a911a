"""VerifySnapshot: what its activities are asked, and what they answer."""

from typing import Final

from temporalio import activity

from workflows.contracts.snapshot import Loadable
from workflows.domain.failures import Failure, WireModel
from workflows.domain.snapshot_manifest import StoredComponent
from workflows.domain.verification import Check, VerificationState, VerifyLevel

VERIFY_SNAPSHOT: Final = "VerifySnapshot"


class VerificationInput(WireModel):
    """Input of the workflow: the id under which everything else is found."""

    verification_id: str


class VerificationPlan(WireModel):
    """What is to be verified; `proceed` False: it is over already."""

    proceed: bool
    snapshot_id: str = ""
    organization_id: str = ""
    cluster: str = ""
    level: VerifyLevel = VerifyLevel.STORED
    components: tuple[StoredComponent, ...] = ()
    """Those that have data in the store."""
    beside: bool = False
    """Whether what lies beside the data is looked at, too. Verifications that began before this do not."""


class LoadableWanted(WireModel):
    """Ask for the keys of a stored component."""

    verification_id: str
    service: str


class CheckStored(WireModel):
    """Look at the objects of one component."""

    snapshot_id: str
    component: StoredComponent


class CheckReadable(WireModel):
    """Open the streams of one component and read them to their end."""

    snapshot_id: str
    stored: Loadable


class Checked(WireModel):
    """What was found."""

    checks: tuple[Check, ...]


class Trial(WireModel):
    """The environment that a snapshot is restored into; `refused`: why there is none."""

    operation_id: str = ""
    refused: str = ""


class OperationWanted(WireModel):
    """Wait for the end of an operation."""

    operation_id: str


class OperationEnded(WireModel):
    """How it ended; `failure` None: well. `told`: what its steps have to say all the same."""

    failure: Failure | None = None
    told: str = ""


class VerificationResult(WireModel):
    """How a verification ended; also the workflow's result."""

    verification_id: str
    state: VerificationState
    checks: tuple[Check, ...] = ()


class VerifyControlActivities:
    """What a verification needs of Perdure's own state; in `activities.snapshots.verification`."""

    @activity.defn(name="verify.begin")
    async def begin(self, request: VerificationInput) -> VerificationPlan:
        """Return what is to be verified."""
        raise NotImplementedError

    @activity.defn(name="verify.beside")
    async def beside(self, request: VerificationInput) -> Checked:
        """Compare the store's copy of the manifest, and look for objects that the manifest does not name."""
        raise NotImplementedError

    @activity.defn(name="verify.loadable")
    async def loadable(self, request: LoadableWanted) -> Loadable:
        """Open the keys of a stored component, sealed for the cluster."""
        raise NotImplementedError

    @activity.defn(name="verify.restore")
    async def restore(self, request: VerificationInput) -> Trial:
        """Accept the restore into an environment of its own, once."""
        raise NotImplementedError

    @activity.defn(name="verify.await_operation")
    async def await_operation(self, request: OperationWanted) -> OperationEnded:
        """Return when the operation has ended."""
        raise NotImplementedError

    @activity.defn(name="verify.remove")
    async def remove(self, request: VerificationInput) -> Trial:
        """Accept the deletion of the environment, once; no operation when there is none any more."""
        raise NotImplementedError

    @activity.defn(name="verify.finish")
    async def finish(self, result: VerificationResult) -> VerificationResult:
        """Write how it ended (the first end wins), and that the snapshot was proved."""
        raise NotImplementedError


class VerifyActivities:
    """What is looked at in the store; in `activities.snapshots.verify`, run on a cluster's queue."""

    @activity.defn(name="verify.stored")
    async def stored(self, request: CheckStored) -> Checked:
        """Compare sizes and digests of every object with the manifest."""
        raise NotImplementedError

    @activity.defn(name="verify.readable")
    async def readable(self, request: CheckReadable) -> Checked:
        """Open and read every stream, and compare what it holds with what was recorded."""
        raise NotImplementedError
