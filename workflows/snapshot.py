"""SnapshotEnvironment: takes an environment's configuration and data at one time."""

import asyncio

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._aside import AsideFrame
from workflows._cluster import StepFailed, on_cluster
from workflows._options import (
    CAPTURE_ATTEMPT,
    CAPTURE_TOTAL,
    LEDGER_RETRY,
    LEDGER_TIMEOUT,
    SHORT_STEP,
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
from workflows.domain.failures import FailureKind, failure
from workflows.domain.operations import Cleanup, Output, PlannedStep, StepKind
from workflows.domain.snapshot import (
    Captured,
    Component,
    Consistency,
    at_best,
    consistency,
    grade,
    reaches,
    scope,
)
from workflows.domain.snapshot_manifest import SnapshotManifest, SnapshotRun, StoredComponent


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
        self._keys = ComponentKeys(keys={})
        self._stored: dict[str, StoredComponent] = {}
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
            attempt_limit=SHORT_STEP,
            total_limit=SHORT_STEP_TOTAL,
        )
        best = at_best(self._surveyed.components)
        _check_floor(run, best, step, "can be")
        streamed = tuple(each.service for each in self._surveyed.components if each.streams)
        if streamed:
            self._keys = await workflow.execute_local_activity_method(
                SnapshotLedgerActivities.component_keys,
                ComponentKeysWanted(
                    operation_id=self.operation.operation_id, snapshot_id=run.snapshot_id, services=streamed
                ),
                start_to_close_timeout=LEDGER_TIMEOUT,
                retry_policy=LEDGER_RETRY,
                summary="keys for what will be stored",
            )
        return {each.service: str(each.engine) for each in self._surveyed.components}

    async def _capture(self, plan: OperationPlan, step: PlannedStep) -> Output:
        component = self._component(step)
        stored = await on_cluster(
            SnapshotActivities.capture,
            Capture(
                context=plan.context,
                snapshot_id=_run(plan).snapshot_id,
                service=manifests.running_as(self._blueprint.service(component.service)),
                component=component,
                key=self._keys.keys[component.service],
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{component.service}: {component.store} by {component.engine}",
            attempt_limit=CAPTURE_ATTEMPT,
            total_limit=CAPTURE_TOTAL,
        )
        self._stored[component.service] = stored
        return {
            "engine": str(stored.engine),
            "consistency": str(stored.consistency),
            "parts": len(stored.parts),
            "storedBytes": stored.stored_bytes,
        }

    async def _publish(self, plan: OperationPlan, step: PlannedStep) -> Output:
        run = _run(plan)
        captured = tuple(self._captured(each) for each in self._surveyed.components)
        reached = consistency(captured)
        _check_floor(run, reached, step, "was")
        context = plan.context
        manifest = SnapshotManifest(
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
        await on_cluster(
            SnapshotActivities.publish,
            Publish(context=context, manifest=manifest),
            cluster=context.cluster,
            step=step.name,
            summary=f"manifest: {reached}, {manifest.scope}",
            attempt_limit=SHORT_STEP_TOTAL,
            total_limit=2 * SHORT_STEP_TOTAL,
        )
        await workflow.execute_local_activity_method(
            SnapshotLedgerActivities.describe,
            manifest,
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
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
        return next(each for each in self._surveyed.components if each.service == step.service)

    def _captured(self, component: Component) -> Captured:
        stored = self._stored.get(component.service)
        return Captured(
            component,
            window=None if stored is None else stored.window,
            quiesced=stored is not None and stored.quiesced,
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
