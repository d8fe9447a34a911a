"""One stream of a component on its way out of a pod and into the store."""

import asyncio
import base64
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from activities._evidence import EvidenceCollector
from activities.secrets import Opener
from activities.snapshots import frames
from activities.snapshots._transfer import store_failures
from activities.snapshots.archive import seal_into
from activities.snapshots.dumping import dump_broken, dump_of
from activities.snapshots.facts import ContentBroken, observed, observer_of
from activities.snapshots.frames import ComponentKey
from activities.snapshots.meter import Meter
from activities.snapshots.ownership import sign
from activities.snapshots.stored import part_of
from activities.storage.objects import ObjectStore
from clusters.gateway import Cluster
from workflows.contracts.snapshot import Capture
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_dump import Part
from workflows.domain.snapshot_manifest import StoredPart, snapshot_prefix, stream_name


@dataclass(frozen=True, slots=True)
class Source:
    """Where a stream comes from: a part of a service's data, in the pod of this ordinal."""

    request: Capture
    store: DataStore
    pod: str
    ordinal: int
    part: Part

    @property
    def name(self) -> str:
        """The name of the stream in the snapshot."""
        return stream_name(self.request.service.name, self.part.key, self.ordinal)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Streams parts into the store, for one attempt at an activity."""

    cluster: Cluster
    opener: Opener
    objects: ObjectStore
    meter: Meter

    @asynccontextmanager
    async def output_of(self, source: Source) -> AsyncIterator[AsyncIterator[bytes]]:
        """Run the dump of a part; a tool that fails, or a store that does, ends the activity."""
        request = source.request
        evidence = EvidenceCollector(self.cluster, self.objects)
        async with (
            store_failures(),
            dump_of(
                self.cluster, evidence, request.context, request.service.name, source.pod, source.part
            ) as output,
        ):
            yield output

    async def store(self, source: Source, output: AsyncIterator[bytes]) -> StoredPart:
        """Seal a part's stream into the store, under a prefix and a key of this attempt alone."""
        request, part = source.request, source.part
        key = ComponentKey(
            base64.b64decode(self.opener.open(request.key.key)), base64.b64decode(request.key.body)
        ).stream_key()
        await sign(self.objects, request.context, request.snapshot_id)
        prefix = snapshot_prefix(request.context.organization_id, request.snapshot_id)
        observer = observer_of(source.store, part.key)
        archive = await seal_into(
            self.objects,
            f"{prefix}/{source.name}/{secrets.token_hex(8)}",
            observed(output, observer),
            key=key,
            component=frames.Component(request.snapshot_id, source.name),
            progress=self.meter.stream(request.service.name, source.name),
        )
        try:
            facts = await asyncio.to_thread(observer.facts)
        except ContentBroken as broken:
            dump_broken(request.service.name, part, broken)
        return part_of(archive, key, of=part.key, subject=part.subject, ordinal=source.ordinal, facts=facts)


async def begun(output: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Wait for a stream's first bytes, or its end; return the whole of it."""
    first = await anext(output, b"")

    async def whole() -> AsyncGenerator[bytes]:
        if first:
            yield first
        async for piece in output:
            yield piece

    return whole()
