"""A dump in a pod, for whoever stores it or measures it: what went wrong is told alike."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from activities._evidence import EvidenceCollector
from activities._step import fail
from activities.snapshots._transfer import STREAM_SECONDS, tool_in
from activities.snapshots.facts import ContentBroken
from clusters.gateway import Cluster
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.snapshot_dump import Part


@asynccontextmanager
async def dump_of(
    cluster: Cluster,
    evidence: EvidenceCollector,
    context: EnvironmentContext,
    service: str,
    pod: str,
    part: Part,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Run the dump of a part and hand out what it writes; a tool that fails ends the activity."""
    async with (
        tool_in(evidence, context, service, pod, _title(service, part)),
        cluster.output_of(
            context.namespace, pod, part.dump, container=service, timeout=STREAM_SECONDS
        ) as output,
    ):
        yield output


def dump_broken(service: str, part: Part, broken: ContentBroken) -> NoReturn:
    """End the activity: the tool ended well, and what it wrote is not a whole dump."""
    message = f"{_title(service, part)} is not a whole one: {broken}."
    fail(failure(FailureKind.TRANSFER_FAILED, message), final=True)


def _title(service: str, part: Part) -> str:
    return f"The dump of {service} ({part.subject})"
