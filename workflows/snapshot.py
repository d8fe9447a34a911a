"""SnapshotEnvironment: takes an environment's configuration and data at one time."""

import asyncio
from collections.abc import Sequence
from typing import Final

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._aside import AsideFrame
from workflows._cluster import StepFailed, on_cluster, on_state
from workflows._options import (
    CAPTURE_ATTEMPT,
    CAPTURE_TOTAL,
    SHORT_STEP_TOTAL,
)
from workflows.contracts.operation import (
    CANCEL_SIGNAL,
    CancelRequest,
    OperationInput,
    OperationPlan,
    OperationResult,
)
from workflows.contracts.snapshot import (
    SNAPSHOT_ENVIRONMENT,
    Capture,
    CaptureTogether,
    CaptureVolumes,
    ComponentKeys,
    ComponentKeysWanted,
    Discard,
    Publish,
    SnapshotActivities,
    SnapshotLedgerActivities,
    Survey,
    Surveyed,
)
from workflows.domain import manifests
from workflows.domain.blueprint import Service
from workflows.domain.failures import FailureKind, failure
from workflows.domain.operations import Cleanup, Output, PlannedStep, StepKind
from workflows.domain.quiesce import quiesce_order
from workflows.domain.snapshot import (
    Captured,
    Component,
    Consistency,
    Engine,
    above,
    at_best,
    consistency,
    fallen_back,
    grade,
    reaches,
    scope,
)
from workflows.domain.snapshot_manifest import SnapshotManifest, SnapshotRun, StoredComponent
from workflows.domain.snapshot_size import SnapshotTooLarge, fitted_manifest

_HOLDS_VOLUMES: Final = "holds-volumes"
"""Patch: hooks hold services still for what the storage cuts, too. Snapshots that began before it did not."""
_EXPECTS_VOLUMES: Final = "expects-volumes"
"""Patch: that the storage will have something of a snapshot is written down before it has."""
_STORAGE_FAILS: Final = frozenset(
    {
        FailureKind.CONFIG_MISSING,
        FailureKind.FORBIDDEN,
        FailureKind.POLICY_DENIED,
        FailureKind.TIMEOUT,
        FailureKind.VOLUME_UNAVAILABLE,
    }
)
"""After which another engine is tried: they say nothing about the service or the cluster as a whole."""


@workflow.defn(name=SNAPSHOT_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class SnapshotEnvironment(AsideFrame):
    """Takes one snapshot. It can be used once the operation has succeeded, and not before.

    An attempt at a component that is lost is repeated as a whole, under another prefix; whatever the
    manifest does not name in the end is removed before it is written.
    """

    @workflow.init
    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)
        self._surveyed = Surveyed(components=())
        self._components: tuple[Component, ...] = ()
        self._fallen: dict[str, tuple[Engine, str]] = {}
        self._keys = ComponentKeys(keys={})
        self._stored: dict[str, StoredComponent] = {}
        self._quiesced: tuple[Service, ...] = ()
        self._longest_frozen_ms: int | None = None
        self._unmeasured = 0
        self._turn = asyncio.Lock()

    @workflow.run
    async def run(self, operation: OperationInput) -> OperationResult:  # noqa: ARG002 - taken by __init__
        """Run the operation to its end."""
        return await self.run_operation()

    @workflow.signal(name=CANCEL_SIGNAL)
    def cancel(self, request: CancelRequest) -> None:
        """Stop; what was stored goes, with or without `cleanup`."""
        self.request_cancel(request)

    async def steps(self, plan: OperationPlan) -> None:
        """Run the plan's graph; an end before the last step leaves nothing in the store."""
        try:
            await super().steps(plan)
        except (StepFailed, asyncio.CancelledError):
            await self._discard(plan)
            raise

    async def undo(self, plan: OperationPlan) -> Cleanup:  # noqa: ARG002 - as every operation's
        """Nothing was changed, and what was stored is gone already."""
        return Cleanup(complete=True)

    async def _run_step(self, plan: OperationPlan, step: PlannedStep) -> None:
        match step.kind:
            case StepKind.SURVEY:
                await self.noted(step, lambda: self._survey(plan, step))
            case StepKind.CAPTURE:
                # One after the other: each stream takes its share of a worker's memory.
                async with self._turn:
                    await self.noted(step, lambda: self._capture(plan, step))
            case StepKind.PUBLISH:
                await self.noted(step, lambda: self._publish(plan, step))
            case _:
                await super()._run_step(plan, step)

    async def _survey(self, plan: OperationPlan, step: PlannedStep) -> Output:
        run = _run(plan)
        self._surveyed = await on_cluster(
            SnapshotActivities.survey,
            Survey(
                context=plan.context,
                services=tuple(manifests.running_as(each) for each in self._blueprint.services),
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"what {plan.context.namespace} is made of",
            # It may wait for pods.
            attempt_limit=SHORT_STEP_TOTAL,
            total_limit=SHORT_STEP_TOTAL,
        )
        self._quiesced = tuple(manifests.running_as(each) for each in quiesce_order(self._blueprint))
        self._components = above(self._surveyed.components, run.floor, self._hooked)
        _check_floor(run, at_best(self._components, self._hooked), step, "can be")
        await self._ask_for_keys(plan, step)
        if any(each.by_storage for each in self._components) and workflow.patched(_EXPECTS_VOLUMES):
            await on_state(
                SnapshotLedgerActivities.expect_volumes,
                run.snapshot_id,
                step=step.name,
                summary="the storage will have something of it",
            )
        chosen: Output = {each.service: str(each.engine) for each in self._components}
        if self._surveyed.unread:
            # No service has a name with upper case letters.
            chosen["storageNotRead"] = ", ".join(self._surveyed.unread)
        return chosen

    async def _capture(self, plan: OperationPlan, step: PlannedStep) -> Output:
        component = self._component(step)
        if component.engine is Engine.MANIFEST_ONLY:
            # It keeps data, and nobody can take it: the whole is no better than that.
            graded = grade(Captured(component))
            return {"engine": str(component.engine), "consistency": str(graded), "parts": 0, "storedBytes": 0}
        while component.service not in self._stored:
            try:
                await self._take(plan, step, component)
            except StepFailed as failed:
                # What cannot be had otherwise fails here.
                self._fall_back(plan, step, component, failed)
                await self._ask_for_keys(plan, step)
                component = self._component(step)
        return self._captured_output(self._stored[component.service])

    def _captured_output(self, stored: StoredComponent) -> Output:
        output: Output = {"engine": str(stored.engine), "consistency": str(stored.consistency)}
        if stored.volumes:
            output["volumes"] = len(stored.volumes)
        else:
            output |= {"parts": len(stored.parts), "storedBytes": stored.stored_bytes}
        if self._longest_frozen_ms is not None:
            output["longestFrozenMs"] = self._longest_frozen_ms
        if self._unmeasured:
            output["windowsNotMeasured"] = self._unmeasured
        if stored.instead_of is not None:
            output |= {"insteadOf": str(stored.instead_of), "because": stored.because}
        return output

    async def _take(self, plan: OperationPlan, step: PlannedStep, component: Component) -> None:
        if component.by_storage and not self._holds_volumes:
            await self._capture_volumes(plan, step, component)
        elif self._quiesced:
            await self._capture_together(plan, step)
        else:
            await self._capture_alone(plan, step, component)

    @property
    def _hooked(self) -> frozenset[str]:
        """The services that hooks hold still."""
        return frozenset(each.name for each in self._quiesced)

    @property
    def _holds_volumes(self) -> bool:
        """Whether services are held still while the storage cuts, too."""
        return bool(self._quiesced) and workflow.patched(_HOLDS_VOLUMES)

    def _fall_back(
        self, plan: OperationPlan, step: PlannedStep, component: Component, failed: StepFailed
    ) -> None:
        """Choose other engines after what the storage could not do; raises when there is none.

        What was to be cut in one window, or in one group, changes together.
        """
        cut = [
            each
            for each in self._components
            if each.by_storage
            and each.service not in self._stored
            and (
                self._holds_volumes
                or each is component
                or each.engine is component.engine is Engine.CSI_GROUP
            )
        ]
        if not cut or failed.failure.kind not in _STORAGE_FAILS:
            raise failed
        floor = _run(plan).floor
        others = {each.service: fallen_back(each, floor, self._hooked) for each in cut}
        missing = [each for each in cut if others[each.service] is None]
        if missing:
            raise _no_other(missing, failed, floor, step)
        for each in cut:
            before = self._fallen.get(each.service)
            because = failed.failure.message if before is None else f"{before[1]} {failed.failure.message}"
            self._fallen[each.service] = (each.engine if before is None else before[0], because)
        self._components = tuple(others.get(each.service) or each for each in self._components)

    async def _ask_for_keys(self, plan: OperationPlan, step: PlannedStep) -> None:
        """Have keys for what will be streamed, once."""
        wanted = tuple(
            each.service for each in self._components if each.streams and each.service not in self._keys.keys
        )
        if not wanted:
            return
        made = await on_state(
            SnapshotLedgerActivities.component_keys,
            ComponentKeysWanted(
                operation_id=self.operation.operation_id,
                snapshot_id=_run(plan).snapshot_id,
                services=wanted,
            ),
            step=step.name,
            summary="keys for what will be stored",
        )
        self._keys = ComponentKeys(keys={**self._keys.keys, **made.keys})

    def _keep(self, stored: StoredComponent) -> None:
        """Keep what was captured, with what it is instead of."""
        fallen = self._fallen.get(stored.service)
        if fallen is not None:
            stored = stored.model_copy(update={"instead_of": fallen[0], "because": fallen[1]})
        self._stored[stored.service] = stored

    async def _capture_alone(self, plan: OperationPlan, step: PlannedStep, component: Component) -> None:
        self._keep(
            await on_cluster(
                SnapshotActivities.capture,
                self._wanted(plan, component),
                cluster=plan.context.cluster,
                step=step.name,
                summary=f"{component.service}: {component.store} by {component.engine}",
                attempt_limit=CAPTURE_ATTEMPT,
                total_limit=CAPTURE_TOTAL,
            )
        )

    async def _capture_together(self, plan: OperationPlan, step: PlannedStep) -> None:
        """Take all data in one window; the first of the steps does it for the others."""
        streamed = [each for each in self._components if each.streams]
        cut = [each for each in self._components if each.by_storage and self._holds_volumes]
        held = ", ".join(each.name for each in self._quiesced)
        taking = ", ".join(each.service for each in (*streamed, *cut))
        try:
            taken = await on_cluster(
                SnapshotActivities.capture_together,
                CaptureTogether(
                    captures=tuple(self._wanted(plan, each) for each in streamed),
                    quiesced=self._quiesced,
                    volumes=tuple(self._wanted_volumes(plan, each) for each in cut),
                ),
                cluster=plan.context.cluster,
                step=step.name,
                summary=f"{taking} while {held} is held still"[:180],
                attempt_limit=CAPTURE_ATTEMPT,
                total_limit=CAPTURE_TOTAL,
            )
        except StepFailed:
            self._unmeasured += 1
            raise
        measured = (*taken.frozen_ms.values(), *taken.lost.longest_ms.values())
        self._longest_frozen_ms = max(measured, default=None)
        self._unmeasured += taken.windows - 1 - len(taken.lost.longest_ms)
        for each in taken.components:
            self._keep(each)

    def _wanted(self, plan: OperationPlan, component: Component) -> Capture:
        return Capture(
            context=plan.context,
            snapshot_id=_run(plan).snapshot_id,
            service=manifests.running_as(self._blueprint.service(component.service)),
            component=component,
            key=self._keys.keys[component.service],
            besides=sum(len(each.parts) for each in self._stored.values()),
        )

    def _wanted_volumes(self, plan: OperationPlan, component: Component) -> CaptureVolumes:
        return CaptureVolumes(
            context=plan.context,
            snapshot_id=_run(plan).snapshot_id,
            service=manifests.running_as(self._blueprint.service(component.service)),
            component=component,
        )

    async def _capture_volumes(self, plan: OperationPlan, step: PlannedStep, component: Component) -> None:
        self._keep(
            await on_cluster(
                SnapshotActivities.capture_volumes,
                self._wanted_volumes(plan, component),
                cluster=plan.context.cluster,
                step=step.name,
                summary=f"{component.service}: volumes by {component.engine}",
                attempt_limit=CAPTURE_ATTEMPT,
                total_limit=CAPTURE_TOTAL,
            )
        )

    async def _publish(self, plan: OperationPlan, step: PlannedStep) -> Output:
        run = _run(plan)
        captured = tuple(self._captured(each) for each in self._components)
        reached = consistency(captured)
        _check_floor(run, reached, step, "was")
        context = plan.context
        described = SnapshotManifest(
            snapshot_id=run.snapshot_id,
            organization_id=context.organization_id,
            environment_id=context.environment_id,
            environment_name=context.environment_name,
            revision=context.revision,
            blueprint=plan.blueprint,
            overrides=plan.overrides,
            images=self._surveyed.images,
            consistency=reached,
            scope=scope(captured),
            components=tuple(self._described(each) for each in captured),
        )
        try:
            manifest = fitted_manifest(described)
        except SnapshotTooLarge as fault:
            message = f"The snapshot is too large: {fault}."
            raise StepFailed(failure(FailureKind.CONFLICT, message, step=step.name)) from fault
        await on_cluster(
            SnapshotActivities.publish,
            Publish(context=context, manifest=manifest),
            cluster=context.cluster,
            step=step.name,
            summary=f"manifest: {reached}, {manifest.scope}",
            attempt_limit=SHORT_STEP_TOTAL,
            total_limit=2 * SHORT_STEP_TOTAL,
        )
        await on_state(
            SnapshotLedgerActivities.describe,
            manifest,
            step=step.name,
            summary=f"{run.snapshot_id}: {reached}",
        )
        return {
            "snapshot": run.snapshot_id,
            "consistency": str(reached),
            "scope": str(manifest.scope),
            "storedBytes": manifest.stored_bytes,
        }

    async def _discard(self, plan: OperationPlan) -> None:
        run = _run(plan)
        try:
            await on_cluster(
                SnapshotActivities.discard,
                Discard(context=plan.context, snapshot_id=run.snapshot_id),
                cluster=plan.context.cluster,
                step="discard",
                summary="remove what was stored",
                attempt_limit=SHORT_STEP_TOTAL,
                total_limit=SHORT_STEP_TOTAL,
            )
        except StepFailed as failed:
            # Whoever looks for orphans finds it by its prefix; why the operation ended is worth more.
            workflow.logger.warning("what was stored could not be removed: %s", failed.failure.message)

    def _component(self, step: PlannedStep) -> Component:
        return next(each for each in self._components if each.service == step.service)

    def _captured(self, component: Component) -> Captured:
        stored = self._stored.get(component.service)
        return Captured(
            component,
            window=None if stored is None else stored.window,
            quiesced=stored is not None and stored.quiesced,
            points=1 if stored is None else stored.points,
        )

    def _described(self, captured: Captured) -> StoredComponent:
        component = captured.component
        stored = self._stored.get(component.service)
        if stored is not None:
            return stored
        return StoredComponent(
            service=component.service,
            store=component.store,
            engine=component.engine,
            consistency=grade(captured),
        )


def _run(plan: OperationPlan) -> SnapshotRun:
    assert plan.snapshot is not None  # noqa: S101 - it is accepted with one
    return plan.snapshot


def _check_floor(run: SnapshotRun, reached: Consistency, step: PlannedStep, tense: str) -> None:
    if run.floor is not None and not reaches(reached, run.floor):
        raise StepFailed(
            failure(
                FailureKind.SNAPSHOT_BELOW_FLOOR,
                f"{reached} is what {tense} reached, and {run.floor} at least was asked for.",
                step=step.name,
            )
        )


def _no_other(
    components: Sequence[Component], failed: StepFailed, floor: Consistency | None, step: PlannedStep
) -> StepFailed:
    """Return why nothing else is tried: nothing else may be, or it would not be good enough."""
    if floor is None or not all(each.otherwise for each in components):
        return failed
    names = ", ".join(each.service for each in components)
    tried = " or ".join(sorted({str(engine) for each in components for engine in each.otherwise}))
    return StepFailed(
        failure(
            FailureKind.SNAPSHOT_BELOW_FLOOR,
            f"{failed.failure.message} Taking {names} by {tried} instead would be below {floor}, "
            "which was asked for.",
            step=step.name,
        )
    )
