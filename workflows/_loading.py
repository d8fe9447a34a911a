"""Bringing a snapshot's data into services: what a restore and a replay from a snapshot share."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow

from workflows._cluster import StepFailed, on_cluster, on_state
from workflows._options import CAPTURE_ATTEMPT, CAPTURE_TOTAL, SHORT_STEP_TOTAL
from workflows._services import ServicesFrame, init_script
from workflows.contracts.operation import OperationInput, OperationPlan
from workflows.contracts.provision import InitScript
from workflows.contracts.restore import (
    WRITTEN_SINCE,
    CheckLoadable,
    Load,
    MaskingSurveyed,
    Proof,
    Provide,
    Release,
    RestoreActivities,
    SurveyMasking,
)
from workflows.contracts.snapshot import Loadable, SnapshotLedgerActivities, StreamKeysWanted
from workflows.domain import manifests
from workflows.domain.blueprint_models import Service
from workflows.domain.failures import MESSAGE_LIMIT, FailureKind, failure
from workflows.domain.masking import ServiceMasking, misfits_told
from workflows.domain.operations import Cleanup, Output, PlannedStep, StepKind
from workflows.domain.readiness import Until
from workflows.domain.snapshot_manifest import StoredComponent


@dataclass(frozen=True, slots=True)
class _Measured:
    """How many bytes each stored part of a service has when it is masked with this (sealed) key."""

    key: str
    sizes: tuple[int, ...]


class LoadingFrame(ServicesFrame):
    """Loads data before what depends on it starts, where the plan has steps for that.

    Data are not taken back.
    """

    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)
        self._filled: set[str] = set()
        """The services whose data are there."""
        self._measured: dict[str, _Measured] = {}
        """What the survey of the rules has found, by service; none where an operation has no such step."""

    async def undo(self, plan: OperationPlan) -> Cleanup:
        """Take a new environment away; of one that stands say what was loaded, and let it run.

        What an attempt before this one began to load stays so as well.
        """
        cleanup = await super().undo(plan)
        if any(step.kind is StepKind.CLAIM and self.begun(step.name) for step in plan.steps):
            await self._release(plan)
        loaded = tuple(
            f"{step.name}: its data may be replaced, in part or whole"
            for step in plan.steps
            if step.kind is StepKind.LOAD and (self.begun(step.name) or step.name in plan.touched)
        )
        if plan.change is None or not loaded:
            return cleanup
        return cleanup.model_copy(update={"complete": False, "not_undone": (*cleanup.not_undone, *loaded)})

    async def _release(self, plan: OperationPlan) -> None:
        assert plan.snapshot is not None  # noqa: S101 - it is accepted with one
        try:
            await on_cluster(
                RestoreActivities.release,
                Release(context=plan.context.fenced_for_cleanup(), snapshot_id=plan.snapshot.snapshot_id),
                cluster=plan.context.cluster,
                step="release",
                summary="remove what lent snapshots of volumes",
                attempt_limit=SHORT_STEP_TOTAL,
                total_limit=SHORT_STEP_TOTAL,
            )
        except StepFailed as failed:
            # Names of snapshots that stay where they are: nothing is lost or kept by them.
            workflow.logger.warning("what lent snapshots could not be removed: %s", failed.failure.message)

    async def _run_step(self, plan: OperationPlan, step: PlannedStep) -> None:
        match step.kind:
            case StepKind.CHECK if step.service is None:
                await self.noted(step, lambda: self._survey_masking(plan, step))
            case StepKind.CHECK:
                await self.noted(step, lambda: self._check(plan, step))
            case StepKind.CLAIM:
                await self.noted(step, lambda: self._claim(plan, step))
            case StepKind.LOAD:
                await self.noted(step, lambda: self._fill(plan, step))
            case StepKind.STOP_SERVICE:
                stopped = plan.overrides.model_copy(update={"stopped": True})
                await super()._run_step(plan.model_copy(update={"overrides": stopped}), step)
            case _:
                await super()._run_step(plan, step)

    def runs(self, step: PlannedStep) -> bool:  # noqa: ARG002 - of what is decided by others
        """Whether a step is done here; all are."""
        return True

    async def _fill(self, plan: OperationPlan, step: PlannedStep) -> Output:
        """Load the data; then, if that was asked for, run init over them, before anything depends on them."""
        output = await self._load(plan, step)
        service = self._blueprint.service(step.service or "")
        self._filled.add(service.name)
        if self._init(plan, manifests.running_as(service)) is None:
            return output
        deadline = workflow.now() + timedelta(seconds=service.ready_timeout_seconds)
        await self._deploy_until(plan, step, Until.READY, deadline)
        return {**output, "init": True}

    def _init(self, plan: OperationPlan, service: Service) -> InitScript | None:
        if service.name not in self._filled:
            return super()._init(plan, service)
        asked = plan.snapshot is not None and plan.snapshot.init
        return init_script(plan, service, anew=True) if asked else None

    async def _check(self, plan: OperationPlan, step: PlannedStep) -> Output:
        assert plan.snapshot is not None  # noqa: S101 - it is accepted with one
        stored = await self._stored(plan, step)
        await on_cluster(
            RestoreActivities.check,
            CheckLoadable(snapshot_id=plan.snapshot.snapshot_id, stored=stored),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{step.service}: can all of it be read?",
            attempt_limit=CAPTURE_ATTEMPT,
            total_limit=CAPTURE_TOTAL,
        )
        return {"plainBytes": stored.component.plain_bytes}

    async def _survey_masking(self, plan: OperationPlan, step: PlannedStep) -> Output:
        """See of all services that are loaded whether their rules fit; StepFailed with all that do not."""
        found: dict[str, MaskingSurveyed] = {}
        for load in plan.steps:
            name = load.service or ""
            rules = _rules(plan, name)
            if load.kind is StepKind.LOAD and rules is not None and self.runs(load):
                found[name] = await self._surveyed(plan, step.model_copy(update={"service": name}), rules)
        unfit = {name: each for name, each in found.items() if each.faults}
        if unfit:
            message, all_told = misfits_told(
                [each.faults for each in unfit.values()],
                more=sum(each.more for each in unfit.values()),
                limit=MESSAGE_LIMIT,
            )
            kept = () if all_told else tuple(key for each in unfit.values() for key in each.evidence)
            reason = failure(FailureKind.MASKING_INVALID, message, step=step.name, evidence=kept)
            raise StepFailed(reason)
        return {"services": len(found)}

    async def _surveyed(
        self, plan: OperationPlan, step: PlannedStep, rules: ServiceMasking
    ) -> MaskingSurveyed:
        """Survey one service; `step` is of that."""
        assert plan.snapshot is not None  # noqa: S101 - it is accepted with one
        name = step.service or ""
        stored = await self._stored(plan, step)
        surveyed = await on_cluster(
            RestoreActivities.survey_masking,
            SurveyMasking(
                context=plan.context, snapshot_id=plan.snapshot.snapshot_id, stored=stored, rules=rules
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{name}: do the rules fit what is stored?",
            attempt_limit=CAPTURE_ATTEMPT,
            total_limit=CAPTURE_TOTAL,
        )
        self._measured[name] = _Measured(stored.masking_key, surveyed.sizes)
        return surveyed

    async def _claim(self, plan: OperationPlan, step: PlannedStep) -> Output:
        stored = await self._stored(plan, step)
        await self._with_volumes(RestoreActivities.provide, plan, step, stored.component)
        return {"volumes": len(stored.component.volumes)}

    async def _with_volumes(
        self,
        activity: Callable[[Any, Provide], Coroutine[Any, Any, None]],
        plan: OperationPlan,
        step: PlannedStep,
        component: StoredComponent,
    ) -> None:
        assert plan.snapshot is not None  # noqa: S101 - it is accepted with one
        await on_cluster(
            activity,
            Provide(
                context=plan.context,
                snapshot_id=plan.snapshot.snapshot_id,
                service=manifests.running_as(self._blueprint.service(component.service)),
                volumes=component.volumes,
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{component.service}: {len(component.volumes)} volumes from {component.engine}",
            attempt_limit=CAPTURE_ATTEMPT,
            total_limit=CAPTURE_TOTAL,
        )

    async def _stored(self, plan: OperationPlan, step: PlannedStep) -> Loadable:
        assert plan.snapshot is not None  # noqa: S101 - it is accepted with one
        name = step.service or ""
        return await on_state(
            SnapshotLedgerActivities.stream_keys,
            StreamKeysWanted(
                operation_id=self.operation.operation_id,
                snapshot_id=plan.snapshot.snapshot_id,
                service=name,
                masked=_rules(plan, name) is not None,
            ),
            step=step.name,
            summary=f"keys of what is stored of {name}",
        )

    async def _load(self, plan: OperationPlan, step: PlannedStep) -> Output:
        assert plan.snapshot is not None  # noqa: S101 - it is accepted with one
        name, snapshot_id = step.service or "", plan.snapshot.snapshot_id
        stored = await self._stored(plan, step)
        component = stored.component
        if component.volumes:
            await self._with_volumes(RestoreActivities.settle, plan, step, component)
            return {"snapshot": snapshot_id, "volumes": len(component.volumes)}
        measured = self._measured.get(name)
        if measured is not None:
            # The key that it was measured with: under another one, values may be of other lengths.
            stored = stored.model_copy(update={"masking_key": measured.key})
        request = Load(
            context=plan.context,
            snapshot_id=snapshot_id,
            service=manifests.running_as(self._blueprint.service(name)),
            stored=stored,
            masking=_rules(plan, name),
            masked_sizes=None if measured is None else measured.sizes,
            proved=plan.snapshot.prove,
        )
        loaded = await on_cluster(
            RestoreActivities.load,
            request,
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{name}: {component.store} from {snapshot_id}" + (", masked" if request.masking else ""),
            attempt_limit=CAPTURE_ATTEMPT,
            total_limit=CAPTURE_TOTAL,
        )
        output: Output = {
            "snapshot": snapshot_id,
            "parts": loaded.parts,
            "plainBytes": loaded.plain_bytes,
        }
        if loaded.kept_in:
            output["keptIn"] = " ".join(loaded.kept_in)
        if plan.snapshot.prove:
            proof = await self._prove(plan, step, request)
            output["proved"] = proof.compared
            if proof.written:
                output[WRITTEN_SINCE] = "; ".join(proof.written)[:MESSAGE_LIMIT]
        return output

    async def _prove(self, plan: OperationPlan, step: PlannedStep, request: Load) -> Proof:
        """Return what was found to be the same once more; StepFailed when something was not."""
        proof = await on_cluster(
            RestoreActivities.prove,
            request,
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{request.service.name}: is it what was captured?",
            attempt_limit=CAPTURE_ATTEMPT,
            total_limit=CAPTURE_TOTAL,
        )
        if proof.differences:
            told = "; ".join(proof.differences)
            message = f"{request.service.name} is not what was captured: {told}"
            raise StepFailed(failure(FailureKind.SNAPSHOT_CORRUPT, message, step=step.name))
        if proof.untold:
            told = "; ".join(proof.untold)
            message = f"Whether {request.service.name} is what was captured cannot be told: {told}"
            raise StepFailed(failure(FailureKind.CONFLICT, message, step=step.name))
        return proof


def _rules(plan: OperationPlan, service: str) -> ServiceMasking | None:
    """Return what is masked of a service; None: nothing."""
    masking = None if plan.snapshot is None else plan.snapshot.masking
    return None if masking is None else masking.services.get(service)
