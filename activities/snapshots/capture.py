"""SnapshotEnvironment in the cluster: data are streamed out of pods, sealed, into the object store.

Every activity here may run twice, at the same time as its twin, or be cut off anywhere. Each attempt at a
component writes below a prefix of its own, under keys of its own; what no manifest names is removed before
one is written, or with the whole snapshot.
"""

import asyncio
import base64
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity

from activities._evidence import EvidenceCollector
from activities._step import Life, alive, fail, reports_failures
from activities.secrets import Opener
from activities.snapshots import frames
from activities.snapshots._transfer import STREAM_SECONDS, progress_of, store_failures, tool_failed
from activities.snapshots.archive import Archive, seal_into
from activities.snapshots.facts import ContentBroken, observed, observer_of
from activities.snapshots.frames import ComponentKey
from activities.snapshots.parts import await_pods, parts_in
from activities.storage.objects import ObjectStore
from activities.storage.streams import StoredStream
from clusters.errors import CommandFailed
from clusters.gateway import Cluster
from workflows.contracts.snapshot import (
    Capture,
    Discard,
    Publish,
    SnapshotActivities,
    Survey,
    Surveyed,
)
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import children, text
from workflows.domain.names import ENVIRONMENT
from workflows.domain.snapshot import Captured, EngineImpossible, grade, plan_components
from workflows.domain.snapshot_dump import Part
from workflows.domain.snapshot_facts import Facts
from workflows.domain.snapshot_manifest import (
    StoredComponent,
    StoredPart,
    manifest_key,
    snapshot_prefix,
    stream_name,
)

_READY: Final = timedelta(seconds=60)
"""How long a capture waits for the pods that it is of."""


@dataclass(frozen=True, slots=True)
class ClusterSnapshot(SnapshotActivities):
    """The activities of a snapshot, on one cluster."""

    cluster: Cluster
    opener: Opener
    objects: ObjectStore
    turn: asyncio.Semaphore
    """One stream at a time in a process."""

    @activity.defn(name="snapshot.survey")
    @reports_failures
    async def survey(self, request: Survey) -> Surveyed:
        """See `SnapshotActivities`."""
        async with alive():
            try:
                components = plan_components(request.services)
            except EngineImpossible as impossible:
                fail(failure(FailureKind.BLUEPRINT_INVALID, f"{impossible}."))
            return Surveyed(components=components, images=await self._images(request.context))

    @activity.defn(name="snapshot.capture")
    @reports_failures
    async def capture(self, request: Capture) -> StoredComponent:
        """See `SnapshotActivities`."""
        component, context = request.component, request.context
        store = component.store
        assert store is not None  # noqa: S101 - what keeps nothing is not captured
        async with alive() as life, self.turn:
            cluster = self.cluster.fenced(life.lease)
            async with cluster.view(context.namespace) as view:
                pods = await await_pods(cluster, view, context, request.service, datetime.now(UTC) + _READY)
            began = datetime.now(UTC)
            stored = [
                await self._store(request, cluster, life, pod, part, ordinal)
                for ordinal, pod in enumerate(pods)
                for part in await parts_in(cluster, context, pod, request.service, store)
            ]
        return StoredComponent(
            service=component.service,
            store=store,
            engine=component.engine,
            consistency=grade(Captured(component)),
            captured_at=began,
            parts=tuple(stored),
        )

    @activity.defn(name="snapshot.publish")
    @reports_failures
    async def publish(self, request: Publish) -> None:
        """See `SnapshotActivities`."""
        manifest = request.manifest
        prefix = snapshot_prefix(manifest.organization_id, manifest.snapshot_id)
        named = {part.prefix: part for each in manifest.components for part in each.parts}
        async with alive(), store_failures():
            # By their names, not their objects: what a killed process had not finished is in no list of objects.
            for attempt in await self._attempts(prefix):
                if attempt not in named:
                    await self.objects.delete_below(attempt)
            there = dict.fromkeys(named, 0)
            for of in named:
                async for found in self.objects.objects_below(of):
                    there[of] += found.size
            for of, part in named.items():
                if there[of] != part.stored_bytes:
                    message = f"{there[of]} bytes of {of} are in the store, {part.stored_bytes} were written."
                    fail(failure(FailureKind.SNAPSHOT_CORRUPT, message))
            key = manifest_key(manifest.organization_id, manifest.snapshot_id)
            await self.objects.put_json(key, manifest.model_dump(mode="json"))

    @activity.defn(name="snapshot.discard")
    @reports_failures
    async def discard(self, request: Discard) -> None:
        """See `SnapshotActivities`."""
        async with alive(), store_failures():
            await self.objects.delete_below(
                snapshot_prefix(request.context.organization_id, request.snapshot_id)
            )

    async def _attempts(self, prefix: str) -> list[str]:
        """Return where attempts have stored something: `<prefix>/<service>/<part>/<attempt>`."""
        found = [prefix]
        for _ in range(3):
            found = [f"{each}/{name}" for each in found for name in await self.objects.names_below(each)]
        return found

    async def _store(
        self, request: Capture, cluster: Cluster, life: Life, pod: str, part: Part, ordinal: int
    ) -> StoredPart:
        """Stream one part into the store and return what it is there."""
        service = request.service.name
        name = stream_name(service, part.key, ordinal)
        prefix = snapshot_prefix(request.context.organization_id, request.snapshot_id)
        key = ComponentKey(
            base64.b64decode(self.opener.open(request.key.key)), base64.b64decode(request.key.body)
        ).stream_key()
        component = frames.Component(request.snapshot_id, name)
        store = request.component.store
        assert store is not None  # noqa: S101 - what keeps nothing is not captured
        observer = observer_of(store, part.key)
        try:
            async with (
                store_failures(),
                cluster.output_of(
                    request.context.namespace,
                    pod,
                    part.dump,
                    container=service,
                    timeout=STREAM_SECONDS,
                ) as output,
            ):
                archive = await seal_into(
                    self.objects,
                    f"{prefix}/{name}/{secrets.token_hex(8)}",
                    observed(output, observer),
                    key=key,
                    component=component,
                    progress=progress_of(life, name),
                )
        except CommandFailed as failed:
            what = f"The dump of {service} ({part.subject})"
            evidence = EvidenceCollector(self.cluster, self.objects)
            await tool_failed(evidence, request.context, service, pod, what, failed)
        try:
            facts = await asyncio.to_thread(observer.facts)
        except ContentBroken as broken:
            message = f"The dump of {service} ({part.subject}) is not a whole one: {broken}."
            fail(failure(FailureKind.TRANSFER_FAILED, message), final=True)
        return _stored_part(part, ordinal, archive, key.header, facts)

    async def _images(self, context: EnvironmentContext) -> dict[str, str]:
        """Return by service the image that runs, by digest, where the cluster says so."""
        pods = await self.cluster.list("Pod", context.namespace, labels={ENVIRONMENT: context.environment_id})
        found: dict[str, str] = {}
        for pod in pods.items:
            for status in children(pod, "status", "containerStatuses"):
                image = text(status, "imageID")
                if "@sha256:" in image:
                    found[text(status, "name")] = image
        return found


def _stored_part(part: Part, ordinal: int, archive: Archive, header: bytes, facts: Facts) -> StoredPart:
    stream: StoredStream = archive.stream
    return StoredPart(
        key=part.key,
        subject=part.subject,
        ordinal=ordinal,
        prefix=stream.prefix,
        part_bytes=stream.part_bytes,
        header=base64.b64encode(header).decode(),
        plain_bytes=archive.digests.plain_bytes,
        plain_sha256=archive.digests.plain_sha256,
        stored_bytes=archive.digests.stored_bytes,
        stored_sha256=archive.digests.stored_sha256,
        facts=facts,
    )
