"""RestoreEnvironment: brings a snapshot's data into an environment."""

from typing import Final

from temporalio import activity

from workflows.contracts.snapshot import Loadable
from workflows.domain.blueprint_models import Service
from workflows.domain.environment import EnvironmentContext
from workflows.domain.errors import FieldError
from workflows.domain.failures import WireModel
from workflows.domain.masking import ServiceMasking
from workflows.domain.snapshot_manifest import StoredVolume

RESTORE_ENVIRONMENT: Final = "RestoreEnvironment"
WRITTEN_SINCE: Final = "writtenSince"
"""In the output of a load that was proved: `Proof.written`."""


class Load(WireModel):
    """Replace the data of one service by what is stored."""

    context: EnvironmentContext
    snapshot_id: str
    service: Service
    stored: Loadable
    masking: ServiceMasking | None = None
    """What is hidden on the way."""
    masked_sizes: tuple[int, ...] | None = None
    """Bytes of each stored part as it is masked, if they have been surveyed already (`MaskingSurveyed`)."""
    proved: bool = False
    """What was loaded is compared next: its service is to change nothing by starting anew."""


class Loaded(WireModel):
    """How much it was; of a service without a volume, in which pods or containers it is now."""

    parts: int
    plain_bytes: int
    kept_in: tuple[str, ...] = ()


class CheckLoadable(WireModel):
    """See whether all that is stored of one service can be opened and read."""

    snapshot_id: str
    stored: Loadable


class SurveyMasking(WireModel):
    """See whether the rules for one service fit all that is stored of it."""

    context: EnvironmentContext
    snapshot_id: str
    stored: Loadable
    rules: ServiceMasking


class MaskingSurveyed(WireModel):
    """What came of it: `sizes`, bytes of each stored part as it is masked; none when there are faults."""

    sizes: tuple[int, ...] = ()
    faults: tuple[FieldError, ...] = ()
    """The first of them, their places as in the rules of the restore."""
    more: int = 0
    """Faults that are not listed."""
    evidence: tuple[str, ...] = ()
    """Where all of them are kept."""


class Provide(WireModel):
    """Make the claims of one service, filled from what the storage keeps."""

    context: EnvironmentContext
    snapshot_id: str
    service: Service
    volumes: tuple[StoredVolume, ...]


class Release(WireModel):
    """Remove what lends the storage's snapshots to an environment; of one service, or of all."""

    context: EnvironmentContext
    snapshot_id: str
    service: str | None = None


class Proof(WireModel):
    """How what was loaded differs from what was captured, in words; empty: it is the same."""

    differences: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    """Why it cannot be told of some of it whether it is the same."""
    written: tuple[str, ...] = ()
    """Of files: how many and which of each volume were written since they were restored, and not compared."""
    compared: int = 0
    """Streams that were read again."""


class RestoreActivities:
    """A restore as its workflow sees it; in `activities.snapshots.load`, run on the cluster's queue."""

    @activity.defn(name="snapshot.provide")
    async def provide(self, request: Provide) -> None:
        """Make a service's claims before it is there. A second attempt finds them, or makes the rest."""
        raise NotImplementedError

    @activity.defn(name="snapshot.settle")
    async def settle(self, request: Provide) -> None:
        """Wait until the claims have their volumes, then remove what lent the snapshots to them."""
        raise NotImplementedError

    @activity.defn(name="snapshot.release")
    async def release(self, request: Release) -> None:
        """Remove what lends snapshots to an environment that is given up; twice does no harm."""
        raise NotImplementedError

    @activity.defn(name="snapshot.check")
    async def check(self, request: CheckLoadable) -> None:
        """Read a stored component to its end, and nothing else; a failure when that cannot be done."""
        raise NotImplementedError

    @activity.defn(name="snapshot.survey_masking")
    async def survey_masking(self, request: SurveyMasking) -> MaskingSurveyed:
        """Mask a stored component to its end for nothing, and return all that does not fit."""
        raise NotImplementedError

    @activity.defn(name="snapshot.load")
    async def load(self, request: Load) -> Loaded:
        """Stream a stored component into the service's pods. A second attempt begins from the beginning."""
        raise NotImplementedError

    @activity.defn(name="snapshot.prove")
    async def prove(self, request: Load) -> Proof:
        """Dump what was loaded once more, into nothing, and compare what it holds with what was recorded."""
        raise NotImplementedError
