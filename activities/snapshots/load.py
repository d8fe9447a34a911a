"""RestoreEnvironment in the cluster: what is stored is opened and streamed into pods.

Loading replaces what is there, and can be done again from the beginning: an attempt that was cut has to be.
"""

import asyncio
import base64
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity

from activities._evidence import EvidenceCollector
from activities._step import Life, alive, fail, reports_failures
from activities.secrets import Opener
from activities.snapshots import frames
from activities.snapshots._transfer import STREAM_SECONDS, progress_of, store_failures, tool_failed
from activities.snapshots.archive import Archive, opened
from activities.snapshots.facts import ContentBroken, facts_of, observer_of
from activities.snapshots.frames import FileKey
from activities.snapshots.parts import await_pods, parts_in
from activities.snapshots.sealing import Digests
from activities.storage.objects import ObjectStore
from activities.storage.streams import StoredStream
from clusters.errors import CommandFailed
from clusters.gateway import Cluster
from workflows.contracts.restore import Load, Loaded, Proof, RestoreActivities
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import FailureKind, failure
from workflows.domain.snapshot_dump import Part, stored_parts
from workflows.domain.snapshot_facts import Facts
from workflows.domain.snapshot_facts import differences as differences_of
from workflows.domain.snapshot_manifest import StoredPart, stream_name

_READY: Final = timedelta(minutes=5)
"""How long a load waits for the pods that it is for: they have just been made."""


@dataclass(frozen=True, slots=True)
class ClusterRestore(RestoreActivities):
    """The activities of a restore, on one cluster."""

    cluster: Cluster
    opener: Opener
    objects: ObjectStore
    turn: asyncio.Semaphore
    """One stream at a time in a process."""

    @activity.defn(name="snapshot.load")
    @reports_failures
    async def load(self, request: Load) -> Loaded:
        """See `RestoreActivities`."""
        component, context = request.stored.component, request.context
        store = component.store
        assert store is not None  # noqa: S101 - what keeps nothing is not loaded
        async with alive() as life, self.turn:
            cluster = self.cluster.fenced(life.lease)
            async with cluster.view(context.namespace) as view:
                pods = await await_pods(cluster, view, context, request.service, datetime.now(UTC) + _READY)
            for part in component.parts:
                if part.ordinal >= len(pods):
                    message = f"{component.service} has {len(pods)} pods, and there is data of more."
                    fail(failure(FailureKind.CONFLICT, message))
                subjects = [each.subject for each in component.parts if each.ordinal == part.ordinal]
                known = {each.key: each for each in stored_parts(store, request.service, subjects)}
                if part.key not in known:
                    message = f"{component.service} has no place for {part.subject} any more."
                    fail(failure(FailureKind.CONFLICT, message))
                await self._load(request, cluster, life, pods[part.ordinal], part, known[part.key])
        return Loaded(
            parts=len(component.parts), plain_bytes=sum(part.plain_bytes for part in component.parts)
        )

    @activity.defn(name="snapshot.prove")
    @reports_failures
    async def prove(self, request: Load) -> Proof:
        """See `RestoreActivities`."""
        component, context = request.stored.component, request.context
        store = component.store
        assert store is not None  # noqa: S101 - what keeps nothing is not loaded
        measured: dict[tuple[int, str], Facts] = {}
        async with alive() as life, self.turn:
            cluster = self.cluster.fenced(life.lease)
            async with cluster.view(context.namespace) as view:
                pods = await await_pods(cluster, view, context, request.service, datetime.now(UTC) + _READY)
            for ordinal, pod in enumerate(pods):
                for part in await parts_in(cluster, context, pod, request.service, store):
                    life.progress = f"{component.service}: {part.subject}"
                    measured[ordinal, part.subject] = await self._measured(request, cluster, pod, part, store)
        differences: list[str] = []
        for stored in component.parts:
            found = measured.get((stored.ordinal, stored.subject))
            if stored.facts is None or found is None:
                differences.append(f"{stored.subject} is not there, or nothing was recorded of it")
            else:
                differences += [f"{stored.subject}: {each}" for each in differences_of(stored.facts, found)]
        return Proof(differences=tuple(differences), compared=len(component.parts))

    async def _measured(
        self, request: Load, cluster: Cluster, pod: str, part: Part, store: DataStore
    ) -> Facts:
        service = request.service.name
        try:
            async with cluster.output_of(
                request.context.namespace, pod, part.dump, container=service, timeout=STREAM_SECONDS
            ) as output:
                return await facts_of(output, observer_of(store, part.key))
        except ContentBroken as broken:
            message = f"The dump of {service} ({part.subject}) is not a whole one: {broken}."
            fail(failure(FailureKind.TRANSFER_FAILED, message), final=True)
        except CommandFailed as failed:
            evidence = EvidenceCollector(self.cluster, self.objects)
            what = f"The dump of {service} ({part.subject})"
            await tool_failed(evidence, request.context, service, pod, what, failed)

    async def _load(
        self, request: Load, cluster: Cluster, life: Life, pod: str, stored: StoredPart, part: Part
    ) -> None:
        service = request.service.name
        name = stream_name(service, stored.key, stored.ordinal)
        key = FileKey(
            base64.b64decode(self.opener.open(request.stored.keys[stored.prefix])),
            base64.b64decode(stored.header),
        )
        content = opened(
            self.objects,
            archive_of(stored),
            key=key,
            component=frames.Component(request.snapshot_id, name),
            progress=progress_of(life, name),
        )
        try:
            async with store_failures(), contextlib.aclosing(content):
                await cluster.feed(
                    request.context.namespace,
                    pod,
                    part.restore,
                    content,
                    size=stored.plain_bytes,
                    container=service,
                    timeout=STREAM_SECONDS,
                )
        except CommandFailed as failed:
            evidence = EvidenceCollector(self.cluster, self.objects)
            what = f"Loading {service} ({stored.subject})"
            await tool_failed(evidence, request.context, service, pod, what, failed)


def archive_of(part: StoredPart) -> Archive:
    """Return a stored part as the streams know it."""
    return Archive(
        StoredStream(part.prefix, part.stored_bytes, part.part_bytes),
        Digests(
            plain_bytes=part.plain_bytes,
            plain_sha256=part.plain_sha256,
            stored_bytes=part.stored_bytes,
            stored_sha256=part.stored_sha256,
        ),
    )
