"""What capturing and loading share: what went wrong, told as failures."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from activities._evidence import EvidenceCollector
from activities._step import application_error
from activities.snapshots.frames import SealBroken
from activities.storage.objects import ObjectNotFound, StoreUnavailable
from activities.storage.streams import StreamDamaged
from clusters.errors import CommandFailed
from clusters.objects import Manifest, ObjectRef
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import text
from workflows.domain.load_words import without_content

STREAM_SECONDS: Final = 12 * 3600.0
"""Longest that one command in a pod may take."""
_QUOTED: Final = 300


@contextlib.asynccontextmanager
async def store_failures() -> AsyncIterator[None]:
    """Tell of a store that does not do what it should; its client has tried again for a while already."""
    try:
        yield
    except (StreamDamaged, SealBroken) as fault:
        raise application_error(failure(FailureKind.SNAPSHOT_CORRUPT, f"{fault}.")) from fault
    except (StoreUnavailable, ObjectNotFound) as fault:
        message = f"The object store: {fault}."
        raise application_error(failure(FailureKind.STORE_UNAVAILABLE, message), final=True) from fault


@contextlib.asynccontextmanager
async def tool_in(
    evidence: EvidenceCollector,
    context: EnvironmentContext,
    service: str,
    pod: str,
    what: str,
    *,
    loads: bool = False,
) -> AsyncIterator[None]:
    """Run a store's tool in the body; one that fails ends the activity.

    What it last said is told, its secrets taken out, and no more than fits; what it quotes too if it `loads`
    data. A tool that was killed because its pod went away says nothing about the tool: that is tried again.
    Another pod may have taken its name.
    """
    ref = ObjectRef("Pod", pod, context.namespace)
    first = _stays(await evidence.cluster.get(ref))
    try:
        yield
    except CommandFailed as failed:
        if not first or _stays(await evidence.cluster.get(ref)) != first:
            message = f"{what} was cut off: pod {pod} went away."
            raise application_error(failure(FailureKind.CLUSTER_UNAVAILABLE, message)) from failed
        output = failed.stderr.decode(errors="replace")
        if loads:
            output = without_content(output)
        said, keys = await evidence.of_output(context, service, pod=pod, container=service, output=output)
        last = " ".join(said.split())[-_QUOTED:]
        message = f"{what} ended with status {failed.exit_code}" + (f": {last}" if last else ".")
        raise application_error(
            failure(FailureKind.TRANSFER_FAILED, message, evidence=keys), final=True
        ) from failed


def _stays(pod: Manifest | None) -> str:
    """Return the UID of a pod that is there and not about to go, else nothing."""
    return "" if pod is None or text(pod, "metadata", "deletionTimestamp") else text(pod, "metadata", "uid")
