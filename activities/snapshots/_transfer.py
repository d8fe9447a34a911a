"""What capturing and loading share: what went wrong, told as failures."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final, NoReturn

from activities._evidence import EvidenceCollector
from activities._step import application_error
from activities.snapshots.frames import SealBroken
from activities.storage.objects import ObjectNotFound, StoreUnavailable
from activities.storage.streams import StreamDamaged
from clusters.errors import CommandFailed
from clusters.objects import ObjectRef
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import text

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


async def tool_failed(
    evidence: EvidenceCollector,
    context: EnvironmentContext,
    service: str,
    pod: str,
    what: str,
    failed: CommandFailed,
) -> NoReturn:
    """End the activity with what a store's tool last said, its secrets taken out, and no more than fits.

    A tool that was killed because its pod went away says nothing about the tool: that is tried again.
    """
    live = await evidence.cluster.get(ObjectRef("Pod", pod, context.namespace))
    if live is None or text(live, "metadata", "deletionTimestamp"):
        raise application_error(
            failure(FailureKind.CLUSTER_UNAVAILABLE, f"{what} was cut off: pod {pod} went away.")
        ) from failed
    said, keys = await evidence.of_output(
        context, service, pod=pod, container=service, output=failed.stderr.decode(errors="replace")
    )
    last = " ".join(said.split())[-_QUOTED:]
    message = f"{what} ended with status {failed.exit_code}" + (f": {last}" if last else ".")
    raise application_error(
        failure(FailureKind.TRANSFER_FAILED, message, evidence=keys), final=True
    ) from failed
