"""Activities without a world behind them, by the same interfaces: workflow tests script and read them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio import activity
from temporalio.exceptions import ApplicationError

from tests.helpers.contexts import CONTEXT
from tests.helpers.plans import SNAPSHOT_ID, blueprint_of
from workflows.contracts.delete import (
    DeleteActivities,
    DeleteNamespace,
    NamespaceDeleted,
    RunningCancelled,
)
from workflows.contracts.operation import (
    LedgerActivities,
    LedgerEntry,
    OperationInput,
    OperationPlan,
    OperationResult,
    PreImage,
    RecordedPreImage,
    SealedSecrets,
    SealSecrets,
)
from workflows.contracts.provision import (
    ApplySecrets,
    DeployService,
    NamespacePrepared,
    PrepareNamespace,
    ProvisionActivities,
    ServiceDeployed,
    Undo,
    VerifyEndpoints,
)
from workflows.contracts.reconcile import ReconcileActivities, Reconciled
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
from workflows.contracts.seed import SeedActivities, SeedByHttp, SeedByJob, SeedBySql, SeedDone
from workflows.contracts.snapshot import (
    Capture,
    CapturedTogether,
    CaptureTogether,
    CaptureVolumes,
    ComponentKeys,
    ComponentKeysWanted,
    Discard,
    Loadable,
    Publish,
    SealedComponentKey,
    SnapshotActivities,
    SnapshotLedgerActivities,
    StreamKeysWanted,
    Survey,
    Surveyed,
    Windows,
)
from workflows.contracts.stop import StopActivities, StopService
from workflows.contracts.sweep import SweepActivities, SweepPage, SweepPosition, Swept
from workflows.contracts.sweep_snapshots import (
    AtStorage,
    KeptByStorage,
    SnapshotsSwept,
    SnapshotSweepActivities,
    Standing,
)
from workflows.contracts.update import RemoveService, UpdateActivities
from workflows.contracts.verify import (
    Checked,
    CheckReadable,
    CheckStored,
    LoadableWanted,
    OperationEnded,
    OperationWanted,
    Trial,
    VerificationInput,
    VerificationPlan,
    VerificationResult,
    VerifyActivities,
    VerifyControlActivities,
)
from workflows.domain.blueprint_models import DataStore
from workflows.domain.environment import (
    EnvironmentContext,
    ObjectIdentity,
)
from workflows.domain.errors import FieldError
from workflows.domain.failures import FAILURES, Blocker, Failure, FailureKind, failure
from workflows.domain.operations import (
    Cleanup,
    StepState,
)
from workflows.domain.readiness import Until
from workflows.domain.seeds import SeedOutcome
from workflows.domain.snapshot import (
    NO_STORAGE,
    Captured,
    Component,
    Engine,
    Storage,
    grade,
    plan_components,
)
from workflows.domain.snapshot_manifest import (
    SnapshotManifest,
    StoredComponent,
    StoredPart,
    StoredVolume,
)
from workflows.domain.verification import Check, VerifyLevel


@dataclass
class FakeSnapshotLedger(SnapshotLedgerActivities):
    """Gives keys that are none, and keeps what was described."""

    described: list[SnapshotManifest] = field(default_factory=list)
    asked: list[StreamKeysWanted | ComponentKeysWanted] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    kept: frozenset[str] = frozenset()
    """Services whose volumes the storage keeps."""

    @activity.defn(name="snapshot.component_keys")
    async def component_keys(self, request: ComponentKeysWanted) -> ComponentKeys:
        self.asked.append(request)
        made = {name: SealedComponentKey(body="Ym9keQ==", key=f"key of {name}") for name in request.services}
        return ComponentKeys(keys=made)

    @activity.defn(name="snapshot.stream_keys")
    async def stream_keys(self, request: StreamKeysWanted) -> Loadable:
        self.asked.append(request)
        component = Component(service=request.service, store=DataStore.POSTGRES, engine=Engine.EXEC_DUMP)
        stored = stored_as(component)
        if request.service in self.kept:
            volume = StoredVolume(volume="data", driver="csi.test", handle="handle", content="content")
            stored = stored.model_copy(update={"engine": Engine.CSI, "parts": (), "volumes": (volume,)})
        # One that is asked for later may be another: the organisation's key was changed meanwhile.
        key = f"key {len(self.asked)}" if request.masked else ""
        return Loadable(component=stored, keys={part.prefix: "key" for part in stored.parts}, masking_key=key)

    @activity.defn(name="snapshot.expect_volumes")
    async def expect_volumes(self, snapshot_id: str) -> None:
        self.expected.append(snapshot_id)

    @activity.defn(name="snapshot.describe")
    async def describe(self, manifest: SnapshotManifest) -> None:
        self.described.append(manifest)


def stored_as(component: Component) -> StoredComponent:
    """Return a component as it was captured, in one stream or as one volume."""
    volume = StoredVolume(volume="data", driver="fast.csi", handle="h-1", content="snapcontent-1")
    part = StoredPart(
        key="all",
        subject="all",
        prefix=f"snapshots/org/{SNAPSHOT_ID}/{component.service}/all",
        part_bytes=8_388_608,
        header="aGVhZGVy",
        plain_bytes=4096,
        plain_sha256="0" * 64,
        stored_bytes=1024,
        stored_sha256="1" * 64,
    )
    return StoredComponent(
        service=component.service,
        store=component.store,
        engine=component.engine,
        consistency=grade(Captured(component)),
        captured_at=datetime(2026, 1, 1, tzinfo=UTC),
        parts=() if component.by_storage else (part,),
        volumes=(volume,) if component.by_storage else (),
    )


@dataclass
class FakeVerification(VerifyControlActivities):
    """A verification of two services, and an environment that it restores into."""

    level: VerifyLevel = VerifyLevel.STORED
    cluster: str = ""
    over: bool = False
    beside_fault: str = ""
    """What is wrong with the manifest in the store."""
    beside_failing: Failure | None = None
    """Why that cannot be told."""
    unopened: Failure | None = None
    """Why the keys of what is stored cannot be had."""
    refused: str = ""
    """Why there is no environment to restore into."""
    restored: Failure | None = None
    """Why the restore failed."""
    told: str = ""
    """What it has to say when it did not."""
    hanging: bool = False
    """The restore does not end."""
    calls: list[str] = field(default_factory=list)
    ended: VerificationResult | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name="verify.begin")
    async def begin(self, request: VerificationInput) -> VerificationPlan:
        if self.over:
            return VerificationPlan(proceed=False)
        stores = {"db": (DataStore.POSTGRES, Engine.EXEC_DUMP), "files": (DataStore.FILES, Engine.LIVE_COPY)}
        return VerificationPlan(
            proceed=True,
            snapshot_id=SNAPSHOT_ID,
            organization_id="org_1",
            cluster=self.cluster,
            level=self.level,
            components=tuple(
                stored_as(Component(service=service, store=store, engine=engine))
                for service, (store, engine) in stores.items()
            ),
            beside=True,
        )

    @activity.defn(name="verify.beside")
    async def beside(self, request: VerificationInput) -> Checked:
        self.calls.append("beside")
        if self.beside_failing is not None:
            raise _scripted(self.beside_failing, final=True)
        fault = self.beside_fault
        check = Check(level=VerifyLevel.STORED, subject="manifest.json", ok=not fault, message=fault)
        return Checked(checks=(check,))

    @activity.defn(name="verify.loadable")
    async def loadable(self, request: LoadableWanted) -> Loadable:
        if self.unopened is not None:
            raise _scripted(self.unopened, final=True)
        stored = stored_as(
            Component(service=request.service, store=DataStore.POSTGRES, engine=Engine.EXEC_DUMP)
        )
        return Loadable(component=stored, keys={part.prefix: "key" for part in stored.parts})

    @activity.defn(name="verify.restore")
    async def restore(self, request: VerificationInput) -> Trial:
        self.calls.append("restore")
        return Trial(refused=self.refused) if self.refused else Trial(operation_id="op_restore")

    @activity.defn(name="verify.await_operation")
    async def await_operation(self, request: OperationWanted) -> OperationEnded:
        self.calls.append(f"await {request.operation_id}")
        if request.operation_id != "op_restore":
            return OperationEnded()
        self.reached.set()
        while self.hanging:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        return OperationEnded(failure=self.restored, told=self.told)

    @activity.defn(name="verify.remove")
    async def remove(self, request: VerificationInput) -> Trial:
        self.calls.append("remove")
        return Trial() if self.refused else Trial(operation_id="op_delete")

    @activity.defn(name="verify.finish")
    async def finish(self, result: VerificationResult) -> VerificationResult:
        self.ended = self.ended or result
        return self.ended


@dataclass
class FakeSnapshotSweep(SnapshotSweepActivities):
    """Finds something to do everywhere; `kept`: snapshots of which the cluster keeps volumes."""

    kept: tuple[str, ...] = ()
    cluster: str = ""
    forgotten: list[str] = field(default_factory=list)
    standing: list[Standing] = field(default_factory=list)

    @activity.defn(name="snapshots.take_due")
    async def take_due(self) -> SnapshotsSwept:
        return SnapshotsSwept(taken=1)

    @activity.defn(name="snapshots.expire")
    async def expire(self) -> SnapshotsSwept:
        return SnapshotsSwept(expired=2)

    @activity.defn(name="snapshots.start_verifications")
    async def start_verifications(self) -> SnapshotsSwept:
        return SnapshotsSwept(started=1)

    @activity.defn(name="snapshots.at_storage")
    async def at_storage(self) -> KeptByStorage:
        return KeptByStorage(
            snapshots=tuple(
                AtStorage(cluster=self.cluster, discard=Discard(context=CONTEXT, snapshot_id=each))
                for each in self.kept
            )
        )

    @activity.defn(name="snapshots.forget_volumes")
    async def forget_volumes(self, snapshot_id: str) -> None:
        self.forgotten.append(snapshot_id)

    @activity.defn(name="snapshots.note_standing")
    async def note_standing(self, standing: Standing) -> None:
        self.standing.append(standing)

    @activity.defn(name="snapshots.remove")
    async def remove(self) -> SnapshotsSwept:
        return SnapshotsSwept(removed=3)

    @activity.defn(name="snapshots.remove_orphans")
    async def remove_orphans(self) -> SnapshotsSwept:
        return SnapshotsSwept(orphans=4)


@dataclass
class FakeLedger(LedgerActivities):
    """Keeps what the workflow writes, in order."""

    plan: OperationPlan
    entries: list[LedgerEntry] = field(default_factory=list)
    ended: OperationResult | None = None
    recorded: PreImage | None = None
    record_failures: int = 0
    before: Mapping[str, Mapping[str, object]] | None = None
    """The services of the revision to go back to; None: those of the plan."""
    sealed_for: list[int | None] = field(default_factory=list)
    """For which revisions the secrets were sealed."""
    without_secrets: bool = False
    """The values of all secrets are gone."""
    without_key_at: frozenset[str] = frozenset()
    """The activities that find no key for what is stored."""
    snapshots: FakeSnapshotLedger = field(default_factory=FakeSnapshotLedger)
    verification: FakeVerification = field(default_factory=FakeVerification)
    snapshot_sweep: FakeSnapshotSweep = field(default_factory=FakeSnapshotSweep)

    @activity.defn(name="operation.begin")
    async def begin(self, operation: OperationInput) -> OperationPlan:
        self._open("begin")
        return self.plan

    @activity.defn(name="operation.record")
    async def record(self, entry: LedgerEntry) -> None:
        if self.record_failures:
            self.record_failures -= 1
            raise ConnectionError("the database is away")
        self.entries.append(entry)
        self.recorded = entry.pre_image or self.recorded

    @activity.defn(name="operation.pre_image")
    async def pre_image(self, operation: OperationInput) -> RecordedPreImage:
        self._open("pre_image")
        blueprint = self.plan.blueprint
        if self.before is not None:
            blueprint = blueprint_of(self.before).model_dump(mode="json", by_alias=True)
        return RecordedPreImage(pre_image=self.recorded, blueprint=blueprint)

    @activity.defn(name="operation.seal_secrets")
    async def seal_secrets(self, request: SealSecrets) -> SealedSecrets:
        self._open("seal_secrets")
        self.sealed_for.append(request.revision)
        return SealedSecrets(values={} if self.without_secrets else {"db-password": "c2VhbGVk"})

    @activity.defn(name="operation.finish")
    async def finish(self, result: OperationResult) -> OperationResult:
        self.ended = self.ended or result
        return self.ended

    def _open(self, name: str) -> None:
        if name in self.without_key_at:
            raise _scripted(fails(FailureKind.KEY_UNAVAILABLE), final=True)

    def states(self, step: str) -> list[StepState]:
        """Return the states that a step went through."""
        return [change.state for entry in self.entries for change in entry.changes if change.step == step]


class FakeReconcile(ReconcileActivities):
    """Finds two live operations, of which one was not started."""

    @activity.defn(name="operation.reconcile")
    async def reconcile(self) -> Reconciled:
        return Reconciled(examined=2, started=1)


class FakeSweep(SweepActivities):
    """Finds two pages of environments that are due, and some old history."""

    @activity.defn(name="sweep.page")
    async def sweep_page(self, page: SweepPage) -> Swept:
        if page.after is not None:
            return Swept(looked_at=1, stopped=1)
        following = SweepPosition(at=datetime(2026, 1, 1, tzinfo=UTC), environment_id="env_2")
        return Swept(looked_at=2, warned=1, busy=1, following=following)

    @activity.defn(name="sweep.history")
    async def forget_history(self) -> Swept:
        return Swept(forgotten=7)


@dataclass
class FakeCluster(
    ProvisionActivities,
    DeleteActivities,
    StopActivities,
    UpdateActivities,
    SeedActivities,
    SnapshotActivities,
    RestoreActivities,
    VerifyActivities,
):
    """Answers at once, unless told to fail or to hang until cancelled."""

    failing: dict[str, Failure] = field(default_factory=dict)
    failing_once: dict[str, Failure] = field(default_factory=dict)
    """By service or activity: raised in place of an answer."""
    hanging: set[str] = field(default_factory=set)
    """Services that wait until they are cancelled, or taken out of here."""
    existing: tuple[ObjectIdentity, ...] = ()
    blockers: list[tuple[Blocker, ...]] = field(default_factory=list)
    """What each call to delete the namespace finds; then it is gone."""
    held: tuple[Blocker, ...] = ()
    """What holds the namespace until foreign finalizers are taken off; known already, it is waited for."""
    stop: asyncio.Event | None = None
    """What hangs ends only with this, when it is cancelled."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[str] = field(default_factory=list)
    requests: dict[str, object] = field(default_factory=dict)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    left: tuple[str, ...] = ()
    manifest_only: frozenset[str] = frozenset()
    """Services of which nothing can be captured but how they are configured."""
    lost_windows: Windows = field(default_factory=Windows)
    """What is known of the windows before the one that came to its end; `windows_before`: how many."""
    windows_before: int = 0
    kept_in: tuple[str, ...] = ()
    """What keeps what is loaded, where no volume does."""
    storage: Storage = NO_STORAGE
    """What the cluster's storage can do."""
    differences: tuple[str, ...] = ()
    """How what was loaded differs from what was captured."""
    untold: tuple[str, ...] = ()
    """Why that cannot be told of some of it."""
    written: tuple[str, ...] = ()
    """What was written to files since."""
    captured: Mapping[str, StoredComponent] = field(default_factory=dict)
    """By service, what is captured of it in place of one stream."""
    damaged: Mapping[str, str] = field(default_factory=dict)
    """What looks at the store find, by call."""
    unfit: Mapping[str, Sequence[FieldError]] = field(default_factory=dict)
    """What of the rules for masking does not fit, by service."""

    @activity.defn(name="environment.prepare_namespace")
    async def prepare_namespace(self, request: PrepareNamespace) -> NamespacePrepared:
        await self._call("namespace", request)
        return NamespacePrepared(uid="ns-uid", existed=bool(self.existing), objects=self.existing)

    @activity.defn(name="environment.apply_secrets")
    async def apply_secrets(self, request: ApplySecrets) -> None:
        await self._call(f"{_back(request.context)}secrets", request)

    @activity.defn(name="service.deploy")
    async def deploy_service(self, request: DeployService) -> ServiceDeployed:
        started = request.until is Until.STARTED
        name = f"{_back(request.context)}{request.service}"
        await self._call(f"{name}:started" if started else name, request)
        return ServiceDeployed(
            workload=ObjectIdentity(kind="Deployment", name=request.service, uid=f"{request.service}-uid"),
            ready=1,
            restarts=0,
            seconds=0.1,
        )

    @activity.defn(name="environment.verify_endpoints")
    async def verify_endpoints(self, request: VerifyEndpoints) -> None:
        await self._call("endpoints", request)

    @activity.defn(name="environment.undo")
    async def undo(self, request: Undo) -> Cleanup:
        await self._call("undo", request)
        return Cleanup(complete=not self.left, left=self.left)

    @activity.defn(name="service.stop")
    async def stop_service(self, request: StopService) -> None:
        await self._call(f"stop {request.service}", request)

    @activity.defn(name="service.remove")
    async def remove_service(self, request: RemoveService) -> None:
        await self._call(f"remove {request.service}", request)

    @activity.defn(name="seed.run_sql")
    async def run_sql(self, request: SeedBySql) -> SeedDone:
        await self._call("seed", request)
        return SeedDone(outcome=SeedOutcome.APPLIED)

    @activity.defn(name="seed.run_job")
    async def run_job(self, request: SeedByJob) -> SeedDone:
        await self._call("seed", request)
        return SeedDone(outcome=SeedOutcome.ALREADY, job="db-seed-1")

    @activity.defn(name="seed.send_http")
    async def send_http(self, request: SeedByHttp) -> SeedDone:
        await self._call("seed", request)
        return SeedDone(outcome=SeedOutcome.APPLIED, status=201, key="6e0c8f0e-key")

    @activity.defn(name="seed.stop_job")
    async def stop_job(self, request: SeedByJob) -> None:
        await self._call("stop job", request)

    @activity.defn(name="snapshot.survey")
    async def survey(self, request: Survey) -> Surveyed:
        await self._call("survey", request)
        none = {"engine": Engine.MANIFEST_ONLY}
        chosen = plan_components(request.services, self.storage)
        return Surveyed(
            components=tuple(
                each.model_copy(update=none) if each.service in self.manifest_only else each
                for each in chosen
            ),
            images={each.service: f"registry.test/{each.service}@sha256:{'0' * 64}" for each in chosen},
        )

    @activity.defn(name="snapshot.capture")
    async def capture(self, request: Capture) -> StoredComponent:
        await self._call(f"capture {request.component.service}", request)
        return self.captured.get(request.component.service) or stored_as(request.component)

    @activity.defn(name="snapshot.capture_volumes")
    async def capture_volumes(self, request: CaptureVolumes) -> StoredComponent:
        await self._call(f"cut {request.component.service}", request)
        return stored_as(request.component)

    @activity.defn(name="snapshot.publish")
    async def publish(self, request: Publish) -> None:
        await self._call("publish", request)

    @activity.defn(name="snapshot.discard")
    async def discard(self, request: Discard) -> None:
        await self._call("discard", request)

    @activity.defn(name="snapshot.check")
    async def check(self, request: CheckLoadable) -> None:
        await self._call(f"check {request.stored.component.service}", request)

    @activity.defn(name="snapshot.survey_masking")
    async def survey_masking(self, request: SurveyMasking) -> MaskingSurveyed:
        service = request.stored.component.service
        await self._call(f"survey {service}", request)
        faults = tuple(self.unfit.get(service, ()))
        if faults:
            return MaskingSurveyed(faults=faults, evidence=(f"evidence of {service}",))
        return MaskingSurveyed(sizes=(5000,))

    @activity.defn(name="snapshot.load")
    async def load(self, request: Load) -> Loaded:
        await self._call(f"load {request.service.name}", request)
        return Loaded(parts=1, plain_bytes=4096, kept_in=self.kept_in)

    @activity.defn(name="snapshot.capture_together")
    async def capture_together(self, request: CaptureTogether) -> CapturedTogether:
        await self._call("capture together", request)
        return CapturedTogether(
            components=tuple(
                stored_as(each).model_copy(update={"quiesced": True, "window": 1})
                for each in [
                    *(wanted.component for wanted in request.captures),
                    *(wanted.component for wanted in request.volumes),
                ]
            ),
            frozen_ms={each.name: 120 for each in request.quiesced},
            lost=self.lost_windows,
            windows=1 + self.windows_before,
        )

    @activity.defn(name="snapshot.provide")
    async def provide(self, request: Provide) -> None:
        await self._call(f"provide {request.service.name}", request)

    @activity.defn(name="snapshot.settle")
    async def settle(self, request: Provide) -> None:
        await self._call(f"settle {request.service.name}", request)

    @activity.defn(name="snapshot.release")
    async def release(self, request: Release) -> None:
        await self._call("release", request)

    @activity.defn(name="snapshot.prove")
    async def prove(self, request: Load) -> Proof:
        await self._call(f"prove {request.service.name}", request)
        return Proof(differences=self.differences, untold=self.untold, written=self.written, compared=1)

    @activity.defn(name="verify.stored")
    async def stored(self, request: CheckStored) -> Checked:
        return await self._looked(VerifyLevel.STORED, "stored", request.component, request)

    @activity.defn(name="verify.readable")
    async def readable(self, request: CheckReadable) -> Checked:
        return await self._looked(VerifyLevel.READABLE, "readable", request.stored.component, request)

    async def _looked(
        self, level: VerifyLevel, what: str, component: StoredComponent, request: object
    ) -> Checked:
        name = f"{what} {component.service}"
        await self._call(name, request)
        fault = self.damaged.get(name, "")
        checks = tuple(
            Check(level=level, subject=f"{component.service}/{part.key}", ok=not fault, message=fault)
            for part in component.parts
        )
        return Checked(checks=checks)

    @activity.defn(name="environment.cancel_running")
    async def cancel_running(self, operation: OperationInput) -> RunningCancelled:
        await self._call("cancel_running", operation)
        return RunningCancelled()

    @activity.defn(name="environment.delete_namespace")
    async def delete_namespace(self, request: DeleteNamespace) -> NamespaceDeleted:
        await self._call("delete_namespace", request)
        if self.held and not request.release_finalizers:
            if request.known_blockers == self.held:
                await self._hang(lambda: True)
            return NamespaceDeleted(gone=False, blocked_by=self.held)
        if self.blockers:
            return NamespaceDeleted(gone=False, blocked_by=self.blockers.pop(0))
        return NamespaceDeleted(gone=True)

    async def _call(self, name: str, request: object) -> None:
        self.calls.append(name)
        self.requests[name] = request
        if name in self.failing:
            raise _scripted(self.failing[name])
        if name in self.failing_once:
            raise _scripted(self.failing_once.pop(name))
        if name in self.hanging:
            await self._hang(lambda: name in self.hanging)

    async def _hang(self, holds: Callable[[], bool]) -> None:
        self.reached.set()
        try:
            while holds():
                activity.heartbeat()
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.stopping.set()
            if self.stop is not None:
                await asyncio.wait_for(self.stop.wait(), 20)
            raise


def _scripted(reason: Failure, *, final: bool = False) -> ApplicationError:
    again = FAILURES[reason.kind].retryable and not final
    return ApplicationError(reason.message, reason, type=reason.kind, non_retryable=not again)


def _back(context: EnvironmentContext) -> str:
    """What is written under the fence of a clean-up puts something back."""
    return "back to " if context.fence > CONTEXT.fence else ""


def fails(kind: FailureKind, message: str = "as scripted") -> Failure:
    """Return a failure to script."""
    return failure(kind, message)
