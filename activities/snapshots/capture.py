"""SnapshotEnvironment in the cluster: data are streamed out of pods, sealed, into the object store.

Every activity here may run twice, at the same time as its twin, or be cut off anywhere. Each attempt at a
component writes below a prefix of its own, under keys of its own; what no manifest names is removed before
one is written, or with the whole snapshot.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity

from activities._evidence import EvidenceCollector
from activities._step import Life, alive, fail, reports_failures
from activities.secrets import Opener
from activities.snapshots import csi, csi_removal
from activities.snapshots._transfer import store_failures
from activities.snapshots.csi_objects import PATIENCE, Patience
from activities.snapshots.meter import Meter
from activities.snapshots.ownership import sign
from activities.snapshots.part_streams import Source, Transfer, begun
from activities.snapshots.parts import await_pods, check_mariadb, parts_in
from activities.storage.objects import ObjectStore
from clusters.freezing import BUDGET, Hold
from clusters.gateway import Cluster
from clusters.storage import storage_of
from workflows.contracts.snapshot import (
    Capture,
    CapturedTogether,
    CaptureTogether,
    CaptureVolumes,
    Discard,
    Publish,
    SnapshotActivities,
    Survey,
    Surveyed,
    Windows,
)
from workflows.domain.blueprint_models import DataStore
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import children, text
from workflows.domain.names import ENVIRONMENT, NAME
from workflows.domain.snapshot import (
    Captured,
    Component,
    Engine,
    EngineImpossible,
    grade,
    plan_components,
)
from workflows.domain.snapshot_manifest import (
    StoredComponent,
    StoredPart,
    manifest_key,
    snapshot_prefix,
)
from workflows.domain.snapshot_size import SnapshotTooLarge, check_streams, fitted
from workflows.domain.transfer import TransferKind

_READY: Final = timedelta(seconds=60)
"""How long a capture waits for the pods that it is of."""
_CUT_SHARE: Final = 0.8
"""Of the time for which all are held still: a storage that has not cut by then is told as slow, before the
pods thaw by themselves and only that is known."""


@dataclass(frozen=True, slots=True)
class _CapturedHeld:
    """What was captured while services were held still, at `at`; `asked`: what the storage has cut."""

    at: datetime
    asked: list[csi.Asked]
    stored: list[tuple[Source, StoredPart]]
    frozen_ms: dict[str, int]


@dataclass(frozen=True, slots=True)
class ClusterSnapshot(SnapshotActivities):
    """The activities of a snapshot, on one cluster."""

    cluster: Cluster
    opener: Opener
    objects: ObjectStore
    turn: asyncio.Semaphore
    """One stream at a time in a process."""
    patience: Patience = PATIENCE

    @activity.defn(name="snapshot.survey")
    @reports_failures
    async def survey(self, request: Survey) -> Surveyed:
        """See `SnapshotActivities`."""
        async with alive():
            try:
                found = await storage_of(self.cluster)
                components = plan_components(request.services, found.storage)
            except EngineImpossible as impossible:
                fail(failure(FailureKind.BLUEPRINT_INVALID, f"{impossible}."))
            await self._check_servers(request, components)
            return Surveyed(
                components=components,
                images=await self._images(request.context),
                unread=found.unread,
            )

    @activity.defn(name="snapshot.capture")
    @reports_failures
    async def capture(self, request: Capture) -> StoredComponent:
        """See `SnapshotActivities`."""
        component = request.component
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            meter = Meter(life, TransferKind.CAPTURE)
            transfer = Transfer(cluster, self.opener, self.objects, meter)
            sources = await self._sources(cluster, request)
            with _size_failures():
                check_streams(component.service, len(sources), request.besides)
            stored: list[StoredPart] = []
            # Others stream while pods are waited for.
            async with self.turn:
                began = datetime.now(UTC)
                for source in sources:
                    async with transfer.output_of(source) as output:
                        stored.append(await transfer.store(source, output))
        captured = StoredComponent(
            service=component.service,
            store=component.store,
            engine=component.engine,
            consistency=grade(Captured(component)),
            captured_at=began,
            parts=tuple(stored),
        )
        with _size_failures():
            return fitted([captured])[0]

    @activity.defn(name="snapshot.capture_together")
    @reports_failures
    async def capture_together(self, request: CaptureTogether) -> CapturedTogether:
        """See `SnapshotActivities`. A second attempt is another window, for all of them."""
        window = activity.info().attempt
        async with alive() as life:
            life.known = lost = _windows_before()
            cluster = self.cluster.fenced(life.lease)
            holds = await self._holds(cluster, request)
            sources = [each for wanted in request.captures for each in await self._sources(cluster, wanted)]
            with _size_failures():
                check_streams(", ".join(each.service.name for each in request.captures), len(sources), 0)
            # Others stream while pods are waited for.
            async with self.turn:
                held = await self._held(cluster, life, request, window, holds, sources)
            life.progress = "waiting for the storage"
            kept = await asyncio.gather(*(csi.keep(cluster, each, self.patience) for each in held.asked))
        quiesced = {each.name for each in request.quiesced}
        components = [
            StoredComponent(
                service=wanted.service.name,
                store=wanted.component.store,
                engine=wanted.component.engine,
                consistency=grade(Captured(wanted.component)),
                captured_at=held.at,
                parts=tuple(part for source, part in held.stored if source.request is wanted),
            )
            for wanted in request.captures
        ]
        graded = [
            _in_window(each, window, quiesced=each.service in quiesced)
            if each.service in quiesced or each.engine is not Engine.LIVE_COPY
            else each
            for each in (*components, *kept)
        ]
        with _size_failures():
            return CapturedTogether(
                components=fitted(graded), frozen_ms=held.frozen_ms, lost=lost, windows=window
            )

    async def _held(
        self,
        cluster: Cluster,
        life: Life,
        request: CaptureTogether,
        window: int,
        holds: Sequence[Hold],
        sources: Sequence[Source],
    ) -> _CapturedHeld:
        """Fix all points while the services are held still, let them go, and store what is streamed."""
        transfer = Transfer(cluster, self.opener, self.objects, Meter(life, TransferKind.CAPTURE))
        quiesced = {each.name for each in request.quiesced}
        async with AsyncExitStack() as streams:
            under_way: list[tuple[Source, AsyncIterator[bytes]]] = []
            stored: list[tuple[Source, StoredPart]] = []
            life.progress = "holding still"
            async with cluster.all_frozen(holds) as freezes:
                at = datetime.now(UTC)
                # The storage cuts while the dumps begin.
                asked = [await csi.ask(cluster, each, window) for each in request.volumes]
                for source in sources:
                    if source.request.component.engine is Engine.EXEC_DUMP:
                        # Its point is fixed before its first bytes come; the rest can wait.
                        output = await streams.enter_async_context(transfer.output_of(source))
                        under_way.append((source, await begun(output)))
                copied = [each for each in sources if each.request.component.engine is Engine.LIVE_COPY]
                for source in copied:
                    if source.request.service.name in quiesced:
                        # Files have no point but that of their copy.
                        stored.append(await _copied(transfer, source))
                within = timedelta(
                    seconds=min((each.hold.holding_seconds for each in freezes), default=BUDGET)
                )
                for each in asked:
                    await csi.cut(cluster, each, within - (datetime.now(UTC) - at), self.patience)
            frozen = {each.hold.pod: each.frozen_ms or 0 for each in freezes}
            life.known = Windows(
                longest_ms={**_windows_before().longest_ms, window: max(frozen.values(), default=0)}
            )
            # What follows takes long, and may be cut at any time.
            life.beat()
            for source, output in under_way:
                stored.append((source, await transfer.store(source, output)))
            for source in copied:
                if source.request.service.name not in quiesced:
                    # Nobody holds these still: they are of no point, whenever they are copied.
                    stored.append(await _copied(transfer, source))
        return _CapturedHeld(at, asked, stored, frozen)

    async def _holds(self, cluster: Cluster, request: CaptureTogether) -> list[Hold]:
        """Return the containers to be held still, in the order in which that is done."""
        context = request.context
        holds: list[Hold] = []
        for service in request.quiesced:
            deadline = datetime.now(UTC) + _READY
            pods = await await_pods(cluster, context, service, deadline, each=True)
            hooks = service.snapshot
            holds += [
                Hold(
                    namespace=context.namespace,
                    pod=pod,
                    quiesce=hooks.quiesce,
                    thaw=hooks.thaw,
                    container=service.name,
                    seconds=hooks.quiesce_seconds,
                )
                for pod in pods
            ]
        return holds

    async def _sources(self, cluster: Cluster, request: Capture) -> list[Source]:
        """Return the streams that a service's data is made of."""
        store = request.component.store
        assert store is not None  # noqa: S101 - what keeps nothing is not captured
        context, service = request.context, request.service
        pods = await await_pods(cluster, context, service, datetime.now(UTC) + _READY)
        evidence = EvidenceCollector(self.cluster, self.objects)
        return [
            Source(request, store, pod, ordinal, part)
            for ordinal, pod in enumerate(pods)
            for part in await parts_in(cluster, evidence, context, pod, service, store)
        ]

    @activity.defn(name="snapshot.capture_volumes")
    @reports_failures
    async def capture_volumes(self, request: CaptureVolumes) -> StoredComponent:
        """See `SnapshotActivities`."""
        async with alive() as life:
            return await csi.capture_volumes(self.cluster.fenced(life.lease), request, self.patience)

    @activity.defn(name="snapshot.publish")
    @reports_failures
    async def publish(self, request: Publish) -> None:
        """See `SnapshotActivities`."""
        manifest = request.manifest
        prefix = snapshot_prefix(manifest.organization_id, manifest.snapshot_id)
        named = {part.prefix: part for each in manifest.components for part in each.parts}
        async with alive() as life, store_failures():
            await csi.check_kept(self.cluster, manifest.volumes)
            # By name: what a killed process had not finished is in no list of objects.
            for attempt in await self._attempts(prefix):
                if attempt not in named:
                    await self.objects.delete_below(attempt)
            await self.objects.delete_unfinished(prefix)
            there = dict.fromkeys(named, 0)
            for of in named:
                async for found in self.objects.objects_below(of):
                    there[of] += found.size
            for of, part in named.items():
                if there[of] != part.stored_bytes:
                    message = f"{there[of]} bytes of {of} are in the store, {part.stored_bytes} were written."
                    fail(failure(FailureKind.SNAPSHOT_CORRUPT, message))
            # What has no streams has not been signed yet.
            await sign(self.objects, request.context, manifest.snapshot_id)
            key = manifest_key(manifest.organization_id, manifest.snapshot_id)
            await self.objects.put_json(key, manifest.model_dump(mode="json"))
            if manifest.volumes or any(each.instead_of for each in manifest.components):
                cluster = self.cluster.fenced(life.lease)
                await csi_removal.release(cluster, request.context, manifest, self.patience)

    @activity.defn(name="snapshot.discard")
    @reports_failures
    async def discard(self, request: Discard) -> None:
        """See `SnapshotActivities`."""
        async with alive() as life, store_failures():
            await self.objects.delete_below(
                snapshot_prefix(request.context.organization_id, request.snapshot_id)
            )
            cluster = self.cluster.fenced(life.lease)
            await csi_removal.discard(cluster, request.context, request.snapshot_id, self.patience)

    async def _check_servers(self, request: Survey, components: Sequence[Component]) -> None:
        """Refuse what would break its dump, before anything is held still for it."""
        services = {each.name: each for each in request.services}
        evidence = EvidenceCollector(self.cluster, self.objects)
        for each in components:
            if each.store is DataStore.MYSQL and each.engine is Engine.EXEC_DUMP:
                service = services[each.service]
                deadline = datetime.now(UTC) + _READY
                pods = await await_pods(self.cluster, request.context, service, deadline)
                await check_mariadb(self.cluster, evidence, request.context, pods[0], service)

    async def _attempts(self, prefix: str) -> list[str]:
        """Return where attempts have stored something: `<prefix>/<service>/<part>/<attempt>`."""
        found = [prefix]
        for _ in range(3):
            found = [f"{each}/{name}" for each in found for name in await self.objects.names_below(each)]
        return found

    async def _images(self, context: EnvironmentContext) -> dict[str, str]:
        """Return by service the image that runs, by digest, where the cluster says so.

        Pods of its init and its seeds have a container of that name, too, which may be of an older image:
        they do not bear the service's label.
        """
        pods = await self.cluster.list("Pod", context.namespace, labels={ENVIRONMENT: context.environment_id})
        found: dict[str, str] = {}
        for pod in pods.items:
            service = text(pod, "metadata", "labels", NAME)
            for status in children(pod, "status", "containerStatuses"):
                image = text(status, "imageID")
                if text(status, "name") == service and "@sha256:" in image:
                    found[service] = image
        return found


@contextmanager
def _size_failures() -> Iterator[None]:
    """Tell of a snapshot that is too large; another attempt finds as much."""
    try:
        yield
    except SnapshotTooLarge as fault:
        fail(failure(FailureKind.CONFLICT, f"The snapshot is too large: {fault}."), final=True)


def _windows_before() -> Windows:
    """Return what the attempts before this one measured, as far as they could tell it."""
    told = activity.info().heartbeat_details
    return Windows() if len(told) < 2 else Windows.model_validate(told[1])


async def _copied(transfer: Transfer, source: Source) -> tuple[Source, StoredPart]:
    async with transfer.output_of(source) as output:
        return source, await transfer.store(source, output)


def _in_window(stored: StoredComponent, window: int, *, quiesced: bool) -> StoredComponent:
    """Say of a component what the window makes of it."""
    component = Component(service=stored.service, store=stored.store, engine=stored.engine)
    reached = grade(Captured(component, window=window, quiesced=quiesced))
    return stored.model_copy(update={"consistency": reached, "window": window, "quiesced": quiesced})
