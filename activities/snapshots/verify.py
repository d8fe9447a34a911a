"""VerifySnapshot in the store: nothing here changes anything, and each look can be repeated."""

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass

from temporalio import activity

from activities._step import Life, alive, reports_failures
from activities.secrets import Opener
from activities.snapshots import csi
from activities.snapshots._transfer import progress_of, store_failures
from activities.snapshots.facts import ContentBroken, facts_of, observer_of, readable
from activities.snapshots.frames import SealBroken
from activities.snapshots.stored import archive_of, content_of
from activities.storage.objects import ObjectStore
from activities.storage.streams import StreamDamaged, reading
from clusters.gateway import Cluster
from workflows.contracts.verify import Checked, CheckReadable, CheckStored, VerifyActivities
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_manifest import StoredPart, stream_name
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
            checks = [
                Check(
                    level=VerifyLevel.STORED,
                    subject=stream_name(service, part.key, part.ordinal),
                    ok=not fault,
                    message=fault,
                )
                for part in request.component.parts
                for fault in (await self._stored(part, life),)
            ]
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
            for part in component.parts:
                name = stream_name(component.service, part.key, part.ordinal)
                fault = await self._unreadable(request, part, store, life)
                checks.append(Check(level=VerifyLevel.READABLE, subject=name, ok=not fault, message=fault))
        return Checked(checks=tuple(checks))

    async def _stored(self, part: StoredPart, life: Life) -> str:
        """Say what is wrong with the objects of a stream; empty: nothing."""
        told = progress_of(life, part.prefix)
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
        self, request: CheckReadable, part: StoredPart, store: DataStore, life: Life
    ) -> str:
        """Say why a stream cannot be read, or what it holds that was not recorded; empty: neither."""
        content = content_of(self.objects, self.opener, request.snapshot_id, request.stored, part, life=life)
        try:
            observer = observer_of(store, part.key)
            async with contextlib.aclosing(content):
                if part.facts is not None:
                    return "; ".join(await readable(content, observer, part.facts))
                await facts_of(content, observer)
        except (SealBroken, StreamDamaged, ContentBroken) as broken:
            return str(broken)
        return "nothing was recorded of what it holds"
