"""VerifySnapshot in the store: nothing here changes anything, and each look can be repeated."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from temporalio import activity

from activities._step import alive, reports_failures
from activities.secrets import Opener
from activities.snapshots import csi
from activities.snapshots._transfer import store_failures
from activities.snapshots.facts import ContentBroken, facts_of, observer_of, readable
from activities.snapshots.frames import SealBroken
from activities.snapshots.meter import Meter
from activities.snapshots.stored import archive_of, content_of
from activities.storage.objects import ObjectStore
from activities.storage.streams import StreamDamaged, reading
from clusters.gateway import Cluster
from workflows.contracts.verify import Checked, CheckReadable, CheckStored, VerifyActivities
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_manifest import StoredPart, stream_name
from workflows.domain.transfer import TransferKind
from workflows.domain.verification import Check, VerifyLevel


@dataclass(frozen=True, slots=True)
class ClusterVerify(VerifyActivities):
    """The looks at what is stored, by a worker that has a cluster's key."""

    cluster: Cluster
    opener: Opener
    objects: ObjectStore
    turn: asyncio.Semaphore
    """One stream at a time in a process."""

    @activity.defn(name="verify.stored")
    @reports_failures
    async def stored(self, request: CheckStored) -> Checked:
        """See `VerifyActivities`."""
        service = request.component.service
        async with alive() as life, self.turn, store_failures():
            meter = Meter(life, TransferKind.CHECK, request.component.stored_bytes)
            checks: list[Check] = []
            for part in request.component.parts:
                name = stream_name(service, part.key, part.ordinal)
                fault = await self._stored(part, meter.stream(service, name))
                checks.append(Check(level=VerifyLevel.STORED, subject=name, ok=not fault, message=fault))
            for volume in request.component.volumes:
                fault = await csi.fault_of(self.cluster, volume)
                checks.append(
                    Check(
                        level=VerifyLevel.STORED,
                        subject=f"{service}/{volume.volume}-{volume.ordinal}",
                        ok=not fault,
                        message=fault,
                    )
                )
        return Checked(checks=tuple(checks))

    @activity.defn(name="verify.readable")
    @reports_failures
    async def readable(self, request: CheckReadable) -> Checked:
        """See `VerifyActivities`."""
        component = request.stored.component
        store = component.store
        assert store is not None  # noqa: S101 - what keeps nothing has no streams
        checks: list[Check] = []
        async with alive() as life, self.turn, store_failures():
            meter = Meter(life, TransferKind.READ, component.plain_bytes)
            for part in component.parts:
                name = stream_name(component.service, part.key, part.ordinal)
                fault = await self._unreadable(request, part, store, meter)
                checks.append(Check(level=VerifyLevel.READABLE, subject=name, ok=not fault, message=fault))
        return Checked(checks=tuple(checks))

    async def _stored(self, part: StoredPart, told: Callable[[int], None]) -> str:
        """Say what is wrong with the objects of a stream; empty: nothing."""
        sha256, size = hashlib.sha256(), 0
        try:
            async with contextlib.aclosing(reading(self.objects, archive_of(part).stream)) as stored:
                async for data in stored:
                    await asyncio.to_thread(sha256.update, data)
                    size += len(data)
                    told(size)
        except StreamDamaged as damaged:
            return str(damaged)
        if sha256.hexdigest() != part.stored_sha256:
            return f"{size} bytes with another digest than was stored"
        return ""

    async def _unreadable(
        self, request: CheckReadable, part: StoredPart, store: DataStore, meter: Meter
    ) -> str:
        """Say why a stream cannot be read, or what it holds that was not recorded; empty: neither."""
        content = content_of(
            self.objects, self.opener, request.snapshot_id, request.stored, part, meter=meter
        )
        try:
            observer = observer_of(store, part.key)
            async with contextlib.aclosing(content):
                if part.facts is not None:
                    return "; ".join(await readable(content, observer, part.facts))
                await facts_of(content, observer)
        except (SealBroken, StreamDamaged, ContentBroken) as broken:
            return str(broken)
        return "nothing was recorded of what it holds"
