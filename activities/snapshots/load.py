"""RestoreEnvironment in the cluster: what is stored is opened and streamed into pods.

Loading replaces what is there, and can be done again from the beginning: an attempt that was cut has to be.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity

from activities._evidence import EvidenceCollector
from activities._step import Life, alive, application_error, fail, reports_failures
from activities.secrets import Opener
from activities.snapshots import lending
from activities.snapshots._transfer import STREAM_SECONDS, store_failures, tool_in
from activities.snapshots.csi_objects import PATIENCE, Patience
from activities.snapshots.dumping import dump_broken, dump_of
from activities.snapshots.facts import ContentBroken, Observer, facts_of, observer_of
from activities.snapshots.facts.tar import MOST_MEMBERS, MembersObserver
from activities.snapshots.facts.written import Differing, differing, named
from activities.snapshots.masking import masked
from activities.snapshots.masking_survey import faults_of, masked_sizes, masking_key_of, surveyed
from activities.snapshots.meter import Meter
from activities.snapshots.parts import await_pods, parts_in, start_anew
from activities.snapshots.stored import content_of
from activities.storage.objects import ObjectStore
from clusters.gateway import Cluster
from clusters.objects import ObjectRef
from workflows.contracts.restore import (
    CheckLoadable,
    Load,
    Loaded,
    MaskingSurveyed,
    Proof,
    Provide,
    Release,
    RestoreActivities,
    SurveyMasking,
)
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import FailureKind, failure
from workflows.domain.masking import DumpUnreadable, MaskingRefused
from workflows.domain.snapshot import kept_in
from workflows.domain.snapshot_dump import KEPT_AS_FILES, Part, stored_parts
from workflows.domain.snapshot_facts import MOST_DIFFERENCES, Facts, incomparable
from workflows.domain.snapshot_facts import differences as differences_of
from workflows.domain.snapshot_manifest import StoredPart, stream_name
from workflows.domain.transfer import TransferKind

_READY: Final = timedelta(minutes=5)
"""How long a load waits for the pods that it is for: they have just been made."""
_LOOKS: Final = 2
"""How often a file has to be found wrong: one that was written while it was read has another time then."""

_Measured = dict[tuple[int, str], Facts]


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a stored part goes."""

    store: DataStore
    pod: str
    stored: StoredPart
    part: Part


@dataclass(frozen=True, slots=True)
class _Dumped:
    """What is dumped once more."""

    store: DataStore
    pod: str
    ordinal: int
    part: Part


@dataclass(frozen=True, slots=True)
class ClusterRestore(RestoreActivities):
    """The activities of a restore, on one cluster."""

    cluster: Cluster
    opener: Opener
    objects: ObjectStore
    turn: asyncio.Semaphore
    """One stream at a time in a process."""
    patience: Patience = PATIENCE

    @activity.defn(name="snapshot.provide")
    @reports_failures
    async def provide(self, request: Provide) -> None:
        """See `RestoreActivities`."""
        async with alive() as life:
            await lending.provide(self.cluster.fenced(life.lease), request, self.patience)

    @activity.defn(name="snapshot.settle")
    @reports_failures
    async def settle(self, request: Provide) -> None:
        """See `RestoreActivities`."""
        async with alive() as life:
            await lending.settle(self.cluster.fenced(life.lease), request, self.patience)

    @activity.defn(name="snapshot.release")
    @reports_failures
    async def release(self, request: Release) -> None:
        """See `RestoreActivities`."""
        async with alive() as life:
            await lending.release(self.cluster.fenced(life.lease), request)

    @activity.defn(name="snapshot.check")
    @reports_failures
    async def check(self, request: CheckLoadable) -> None:
        """See `RestoreActivities`."""
        async with alive() as life, self.turn, store_failures():
            meter = Meter(life, TransferKind.READ, request.stored.component.plain_bytes)
            for part in request.stored.component.parts:
                content = content_of(
                    self.objects, self.opener, request.snapshot_id, request.stored, part, meter=meter
                )
                async with contextlib.aclosing(content):
                    async for _ in content:
                        pass

    @activity.defn(name="snapshot.survey_masking")
    @reports_failures
    async def survey_masking(self, request: SurveyMasking) -> MaskingSurveyed:
        """See `RestoreActivities`."""
        stored, service = request.stored, request.stored.component.service
        async with alive() as life, self.turn:
            meter = Meter(life, TransferKind.MEASURE, stored.component.plain_bytes)
            try:
                sizes = await masked_sizes(
                    self.objects, self.opener, request.snapshot_id, stored, request.rules, meter=meter
                )
            except (MaskingRefused, DumpUnreadable) as refused:
                faults = faults_of(service, refused)
            else:
                return MaskingSurveyed(sizes=sizes)
            evidence = EvidenceCollector(self.cluster, self.objects)
            kept = await evidence.of_faults(request.context, service, faults)
        return surveyed(faults, kept)

    @activity.defn(name="snapshot.load")
    @reports_failures
    async def load(self, request: Load) -> Loaded:
        """See `RestoreActivities`."""
        component, context = request.stored.component, request.context
        store = component.store
        assert store is not None  # noqa: S101 - what keeps nothing is not loaded
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            pods = await await_pods(cluster, context, request.service, datetime.now(UTC) + _READY)
            targets = _targets(request, store, pods)
            # Others stream while pods are waited for.
            async with self.turn:
                # Looked at before: what goes into another that takes its place meanwhile is not called whole.
                kept = await self._kept_in(cluster, request, targets)
                sizes = await self._sizes(request, life)
                meter = Meter(life, TransferKind.LOAD, component.plain_bytes)
                for target, size in zip(targets, sizes, strict=True):
                    await self._load(request, cluster, meter, target, size)
            if store in KEPT_AS_FILES and not request.proved:
                # Its processes hold files open that are there no more.
                await start_anew(cluster, context, request.service, pods, datetime.now(UTC) + _READY)
        return Loaded(parts=len(component.parts), plain_bytes=component.plain_bytes, kept_in=kept)

    @activity.defn(name="snapshot.prove")
    @reports_failures
    async def prove(self, request: Load) -> Proof:
        """See `RestoreActivities`."""
        component, context = request.stored.component, request.context
        store = component.store
        assert store is not None  # noqa: S101 - what keeps nothing is not loaded
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            pods = await await_pods(cluster, context, request.service, datetime.now(UTC) + _READY)
            async with self.turn:
                # How long the dump of what was loaded is depends on what is there now.
                meter = Meter(life, TransferKind.PROVE)
                measured = await self._measured(request, cluster, meter, store, pods)
                proofs = [
                    _compared(part, measured.get((part.ordinal, part.subject))) for part in component.parts
                ]
                if store in KEPT_AS_FILES:
                    for at, target in enumerate(_targets(request, store, pods)):
                        if proofs[at].differences and target.stored.facts is not None:
                            proofs[at] = await self._looked_into(request, cluster, meter, target)
        return Proof(
            differences=tuple(line for each in proofs for line in each.differences),
            untold=tuple(line for each in proofs for line in each.untold),
            written=tuple(line for each in proofs for line in each.written),
            compared=len(proofs),
        )

    async def _looked_into(self, request: Load, cluster: Cluster, meter: Meter, target: _Target) -> Proof:
        """Say which of a volume's files that differ came so, and which were written since."""
        stored, subject = target.stored, target.stored.subject
        captured = MembersObserver()
        content = self._content(request, target, meter)
        async with store_failures(), contextlib.aclosing(content):
            await facts_of(content, captured)
        at = request.stored.component.captured_at
        taken = 0.0 if at is None else at.timestamp()
        of = _Dumped(target.store, target.pod, stored.ordinal, target.part)
        wrong: frozenset[bytes] | None = None
        for _ in range(_LOOKS):
            found = MembersObserver()
            proof = _compared(stored, await self._facts(request, cluster, meter, of, found))
            if not proof.differences:  # what differed was taken away again
                return proof
            if not captured.complete or not found.complete:
                why = f"more than {MOST_MEMBERS} files, of which some differ"
                return Proof(untold=(f"{subject}: {why}",))
            seen = await asyncio.to_thread(differing, captured.members, found.members, taken)
            if seen == Differing():  # it is nothing that one file has: how many names they share
                return proof
            wrong = seen.came_wrong if wrong is None else wrong & seen.came_wrong
            if not wrong:
                break
        return _told(subject, wrong or frozenset(), seen)

    async def _measured(
        self, request: Load, cluster: Cluster, meter: Meter, store: DataStore, pods: Sequence[str]
    ) -> _Measured:
        """Read all that is there now, by ordinal and subject."""
        measured: _Measured = {}
        evidence = EvidenceCollector(self.cluster, self.objects)
        for ordinal, pod in enumerate(pods):
            # What cannot be dumped is none of what was restored.
            for part in await parts_in(
                cluster, evidence, request.context, pod, request.service, store, all_of_it=False
            ):
                measured[ordinal, part.subject] = await self._facts(
                    request,
                    cluster,
                    meter,
                    _Dumped(store, pod, ordinal, part),
                    observer_of(store, part.key),
                )
        return measured

    async def _facts(
        self, request: Load, cluster: Cluster, meter: Meter, of: _Dumped, observer: Observer
    ) -> Facts:
        service, part = request.service.name, of.part
        evidence = EvidenceCollector(self.cluster, self.objects)
        name = stream_name(service, part.key, of.ordinal)
        async with (
            dump_of(cluster, evidence, request.context, service, of.pod, part) as output,
            contextlib.aclosing(meter.counting(service, name, output)) as counted,
        ):
            try:
                return await facts_of(counted, observer)
            except ContentBroken as broken:
                dump_broken(service, part, broken)

    async def _kept_in(self, cluster: Cluster, request: Load, targets: Sequence[_Target]) -> tuple[str, ...]:
        """Return what alone keeps the data that are loaded; nothing where that is a volume."""
        if request.service.stateful:
            return ()
        names = sorted({target.pod for target in targets})
        refs = [ObjectRef("Pod", name, request.context.namespace) for name in names]
        live = [await cluster.get(ref) for ref in refs]
        return tuple(kept_in(pod, request.service) for pod in live if pod is not None)

    async def _sizes(self, request: Load, life: Life) -> Sequence[int]:
        """Return how many bytes of each part are fed; ends the activity if it cannot be masked."""
        component, rules = request.stored.component, request.masking
        if rules is None:
            return [part.plain_bytes for part in component.parts]
        if request.masked_sizes is not None:
            return request.masked_sizes
        # An operation that was accepted before rules were surveyed in a step of their own.
        meter = Meter(life, TransferKind.MEASURE, component.plain_bytes)
        with _masking_failures(request.service.name):
            return await masked_sizes(
                self.objects, self.opener, request.snapshot_id, request.stored, rules, meter=meter
            )

    async def _load(self, request: Load, cluster: Cluster, meter: Meter, target: _Target, size: int) -> None:
        service = request.service.name
        content = self._content(request, target, meter)
        source = content
        if request.masking is not None:
            key = masking_key_of(self.opener, request.stored)
            source = masked(target.store, target.part, request.masking, key, content)
        evidence = EvidenceCollector(self.cluster, self.objects)
        what = f"Loading {service} ({target.stored.subject})"
        async with (
            tool_in(evidence, request.context, service, target.pod, what, loads=True),
            store_failures(),
            contextlib.aclosing(content),
            contextlib.aclosing(source),
        ):
            with _masking_failures(service):
                await cluster.feed(
                    request.context.namespace,
                    target.pod,
                    target.part.restore,
                    source,
                    size=size,
                    container=service,
                    timeout=STREAM_SECONDS,
                )

    def _content(self, request: Load, target: _Target, meter: Meter) -> AsyncGenerator[bytes]:
        """Return a part's content as it was captured."""
        return content_of(
            self.objects, self.opener, request.snapshot_id, request.stored, target.stored, meter=meter
        )


def _compared(stored: StoredPart, found: Facts | None) -> Proof:
    """Compare what was recorded of one part with what was measured."""
    subject = stored.subject
    if stored.facts is None or found is None:
        return Proof(differences=(f"{subject} is not there, or nothing was recorded of it",))
    if reason := incomparable(stored.facts, found):
        return Proof(untold=(f"{subject}: {reason}",))
    return Proof(differences=tuple(f"{subject}: {each}" for each in differences_of(stored.facts, found)))


def _told(subject: str, wrong: Set[bytes], seen: Differing) -> Proof:
    """Say it of one volume: what came wrong, of what that cannot be told, and what was written since."""
    differences = [f"{subject}: {named(path)} is not as it was captured" for path in sorted(wrong)]
    if len(differences) > MOST_DIFFERENCES:
        differences[MOST_DIFFERENCES:] = [f"{subject}: and {len(wrong) - MOST_DIFFERENCES} files more"]
    untold = f"{subject}: {len(seen.open)} files differ, and their times do not tell since when"
    return Proof(
        differences=tuple(differences),
        untold=(untold,) if seen.open else (),
        written=(f"{subject}: {seen}",) if str(seen) else (),
    )


def _targets(request: Load, store: DataStore, pods: Sequence[str]) -> list[_Target]:
    """Return where each stored part goes; ends the activity when there is no place for one."""
    component = request.stored.component
    known: dict[int, dict[str, Part]] = {}
    for ordinal in {part.ordinal for part in component.parts}:
        if ordinal >= len(pods):
            message = f"{component.service} has {len(pods)} pods, and there is data of more."
            fail(failure(FailureKind.CONFLICT, message))
        subjects = {part.key: part.subject for part in component.parts if part.ordinal == ordinal}
        known[ordinal] = {part.key: part for part in stored_parts(store, request.service, subjects)}
    targets: list[_Target] = []
    for stored in component.parts:
        part = known[stored.ordinal].get(stored.key)
        if part is None:
            message = f"{component.service} has no place for {stored.subject} any more."
            fail(failure(FailureKind.CONFLICT, message))
        targets.append(_Target(store, pods[stored.ordinal], stored, part))
    return targets


@contextlib.contextmanager
def _masking_failures(service: str) -> Iterator[None]:
    try:
        yield
    except MaskingRefused as refused:
        message = f"The masking of {service} does not fit its data: {refused}."
        raise application_error(failure(FailureKind.MASKING_INVALID, message), final=True) from refused
    except DumpUnreadable as unreadable:
        message = f"The dump of {service} cannot be masked: {unreadable}."
        raise application_error(failure(FailureKind.SNAPSHOT_CORRUPT, message)) from unreadable
