"""What the operations on an environment's services share: the work of each kind of step, and the undo."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from temporalio import workflow

from workflows._cluster import StepFailed, on_cluster
from workflows._graph import run_graph
from workflows._ledger import UNDO
from workflows._operation import OperationFrame
from workflows._options import (
    ENDPOINTS_DEADLINE,
    INIT_BUDGET,
    SHORT_STEP,
    SHORT_STEP_TOTAL,
    STOP_DEADLINE,
    UNDO_TOTAL,
)
from workflows.contracts.operation import (
    OperationInput,
    OperationPlan,
    PreImage,
    RecordedPreImage,
    SealedSecrets,
)
from workflows.contracts.provision import (
    ApplySecrets,
    DeployService,
    InitScript,
    NamespacePrepared,
    PrepareNamespace,
    ProvisionActivities,
    Replacement,
    ServiceDeployed,
    Undo,
    VerifyEndpoints,
)
from workflows.contracts.stop import StopActivities, StopService
from workflows.contracts.update import RemoveService, UpdateActivities
from workflows.domain import manifests
from workflows.domain.blueprint import Blueprint, Condition, InitType, Service, ServiceKind
from workflows.domain.environment import EnvironmentContext, GuardRails, ObjectIdentity, Overrides
from workflows.domain.failures import FailureKind, failure
from workflows.domain.operations import (
    Cleanup,
    EnvironmentPhase,
    Output,
    PlannedStep,
    StepChange,
    StepKind,
    StepState,
)
from workflows.domain.plan import service_step
from workflows.domain.readiness import Until


class ServicesFrame(OperationFrame):
    """Brings services to the desired state, or away: what provision, update, stop, resume and scale share.

    The plan says which steps there are; here is what each kind of step does, and how all is taken back.
    """

    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)
        self._blueprint = Blueprint(name="unknown", services=())
        self._namespace: NamespacePrepared | None = None
        self._started: dict[str, bool] = {}

    async def steps(self, plan: OperationPlan) -> None:
        """Run the plan's graph."""
        self._blueprint = Blueprint.model_validate(plan.blueprint)
        planned = {step.service for step in plan.steps if step.kind is StepKind.SERVICE}
        # A service without a step in this plan runs as it is.
        self._started = {each.name: True for each in self._blueprint.services if each.name not in planned}
        await run_graph(
            [self._without_started_edges(step) for step in plan.steps],
            lambda step: self._run_step(plan, step),
        )

    async def undo(self, plan: OperationPlan) -> Cleanup:
        """Delete what was not there before, re-apply what was, and see it ready again if it was."""
        try:
            recorded = await self.ledger.pre_image()
            before = _before(plan, recorded)
            if before is not None:
                await self._restore_secrets(plan, before)
            cleanup = await on_cluster(
                ProvisionActivities.undo,
                Undo(
                    context=plan.context.fenced_for_cleanup(),
                    pre_image=recorded.pre_image,
                    restore=before.restore if before is not None else (),
                ),
                cluster=plan.context.cluster,
                step=UNDO,
                summary=f"undo operation in {plan.context.namespace}",
                attempt_limit=UNDO_TOTAL,
                total_limit=UNDO_TOTAL,
            )
        except StepFailed as failed:
            return Cleanup(complete=False, left=(failed.failure.message,))
        if plan.change is not None and recorded.pre_image is not None and before is None:
            gone = f"Namespace/{plan.context.namespace}: it was gone before the operation began"
            return Cleanup(complete=False, left=(*cleanup.left, gone))
        if before is None or plan.change is None:
            return cleanup
        left = (*cleanup.left, *await self._settle(plan, before))
        return Cleanup(complete=not left, left=left, not_undone=self._not_undone(plan, before))

    def _without_started_edges(self, step: PlannedStep) -> PlannedStep:
        """Drop edges that ask only for a start: `_await_started` waits for those, not the graph."""
        if step.service is None or step.kind is not StepKind.SERVICE:
            return step
        service = self._blueprint.service(step.service)
        started = {
            f"service/{name}"
            for name, dependency in service.depends_on.items()
            if dependency.condition is Condition.STARTED
        }
        return step.model_copy(
            update={"depends_on": tuple(name for name in step.depends_on if name not in started)}
        )

    async def _run_step(self, plan: OperationPlan, step: PlannedStep) -> None:
        match step.kind:
            case StepKind.NAMESPACE:
                await self.noted(step, lambda: self._prepare_namespace(plan, step))
            case StepKind.SECRETS:
                await self.noted(step, lambda: self._apply_secrets(plan, step))
            case StepKind.SERVICE:
                await self._service(plan, step)
            case StepKind.ENDPOINTS:
                await self.noted(step, lambda: self._verify_endpoints(plan, step))
            case StepKind.STOP_SERVICE:
                await self.noted(step, lambda: self._stop(plan, step))
            case StepKind.REMOVE_SERVICE:
                await self.noted(step, lambda: self._remove(plan, step))
            case StepKind.CANCEL_RUNNING | StepKind.DELETE_NAMESPACE:
                raise AssertionError(f"{step.kind} is a step of a delete")
            case (
                StepKind.SEED
                | StepKind.SURVEY
                | StepKind.CAPTURE
                | StepKind.PUBLISH
                | StepKind.CHECK
                | StepKind.CLAIM
                | StepKind.LOAD
            ):
                raise AssertionError(f"{step.kind} is a step of a workflow of its own")
            case _:
                assert_never(step.kind)

    async def _prepare_namespace(self, plan: OperationPlan, step: PlannedStep) -> Output:
        context = plan.context
        prepared = await on_cluster(
            ProvisionActivities.prepare_namespace,
            PrepareNamespace(
                context=context,
                namespace=manifests.namespace(context),
                guard_rails=manifests.guard_rails(context, plan.guard_rails, self._blueprint),
            ),
            cluster=context.cluster,
            step=step.name,
            summary=f"namespace {context.namespace} with guard rails",
            attempt_limit=SHORT_STEP,
            total_limit=SHORT_STEP_TOTAL,
        )
        self._namespace = prepared
        # Before the first service is written, the ledger has to know what an undo goes back to.
        await self.ledger.note_pre_image(
            PreImage(
                namespace_existed=prepared.existed,
                objects=prepared.objects,
                revision=_revision_before(plan) if prepared.existed else None,
            )
        )
        if plan.change is not None and not prepared.existed and self._relies_on_more(plan):
            raise StepFailed(
                failure(
                    FailureKind.CONFLICT,
                    f"Namespace {context.namespace} was gone, and with it services that this operation does "
                    "not make: update the environment, which now makes all of them anew.",
                    step=step.name,
                )
            )
        return {"namespace": context.namespace, "uid": prepared.uid, "existed": prepared.existed}

    def _relies_on_more(self, plan: OperationPlan) -> bool:
        """Whether there are services in the Blueprint that have no step here, since they run already."""
        planned = {step.service for step in plan.steps}
        return any(service.name not in planned for service in self._blueprint.services)

    async def _apply_secrets(self, plan: OperationPlan, step: PlannedStep) -> Output:
        sealed = await self.ledger.seal_secrets(step.name)
        request = _sealed(plan.context, self._blueprint, sealed, step.name)
        await self._write_secrets(request, step.name)
        return {"secrets": len(request.secrets), "pullSecrets": len(request.pull_secrets)}

    async def _write_secrets(self, request: ApplySecrets, step: str) -> None:
        await on_cluster(
            ProvisionActivities.apply_secrets,
            request,
            cluster=request.context.cluster,
            step=step,
            summary=f"{len(request.secrets)} secrets, {len(request.pull_secrets)} pull secrets",
            attempt_limit=SHORT_STEP,
            total_limit=SHORT_STEP_TOTAL,
        )

    async def _service(self, plan: OperationPlan, step: PlannedStep) -> None:
        name = step.service or ""
        await self._await_started(name)
        if self._unchanged(plan, step):
            self._started[name] = True
            self.skip(plan, step, "unchanged and still there")
            return
        await self.noted(step, lambda: self._deploy(plan, step, name))

    def skip(self, plan: OperationPlan, step: PlannedStep, reason: str) -> None:
        """Note that a step is skipped, with what it goes on relying on: a later operation may skip it too."""
        earlier = plan.earlier.get(step.name)
        output: Output = {"reason": reason}
        if earlier is not None:
            output["uid"] = earlier.uid
        self.note(StepChange(step=step.name, state=StepState.SKIPPED, output=output), reason)

    async def _await_started(self, name: str) -> None:
        """Wait for the dependencies that have to be started only."""
        wanted = [
            dependency
            for dependency, how in self._blueprint.service(name).depends_on.items()
            if how.condition is Condition.STARTED
        ]
        if wanted:
            await workflow.wait_condition(lambda: all(self._started.get(each) for each in wanted))

    def _unchanged(self, plan: OperationPlan, step: PlannedStep) -> bool:
        """Whether an earlier operation did this step with the same input and its object still exists."""
        earlier = plan.earlier.get(step.name)
        if earlier is None or self._namespace is None or earlier.input_hash != step.input_hash:
            return False
        return any(existing.uid == earlier.uid for existing in self._namespace.objects)

    async def _deploy(self, plan: OperationPlan, step: PlannedStep, name: str) -> Output:
        service = self._blueprint.service(name)
        deadline = workflow.now() + timedelta(seconds=service.ready_timeout_seconds)
        awaited_started = any(
            name in other.depends_on and other.depends_on[name].condition is Condition.STARTED
            for other in self._blueprint.services
        )
        if awaited_started:
            await self._deploy_until(plan, step, Until.STARTED, deadline)
        self._started[name] = True
        until = Until.COMPLETED if service.kind is ServiceKind.JOB else Until.READY
        deployed = await self._deploy_until(plan, step, until, deadline)
        return {
            "uid": deployed.workload.uid,
            "workload": deployed.workload.title,
            "ready": deployed.ready,
            "restarts": deployed.restarts,
        }

    async def _deploy_until(
        self, plan: OperationPlan, step: PlannedStep, until: Until, deadline: datetime
    ) -> ServiceDeployed:
        service = self._blueprint.service(step.service or "")
        init = None if until is Until.STARTED else self._init(plan, manifests.running_as(service))
        return await on_cluster(
            ProvisionActivities.deploy_service,
            DeployService(
                context=plan.context,
                service=service.name,
                manifests=manifests.service(
                    plan.context,
                    self._blueprint,
                    service.name,
                    self._overrides(plan),
                    plan.secret_digests,
                    plan.guard_rails,
                ),
                deadline=deadline,
                until=until,
                tolerate_restarts=service.startup.tolerate_restarts,
                init=init,
                replacement=self._replacement(plan, service),
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{service.name}: {service.image} until {until}" + (", init" if init else ""),
            # The activity keeps the deadline itself, with the reason at hand; this bounds one that hangs.
            attempt_limit=timedelta(seconds=service.ready_timeout_seconds) + INIT_BUDGET,
        )

    def _init(self, plan: OperationPlan, service: Service) -> InitScript | None:
        """What is run when a service is ready, once; nothing of it ran before its data were captured."""
        if service.name in plan.overrides.loaded:
            return None
        return init_script(plan, service)

    def _overrides(self, plan: OperationPlan) -> Overrides:
        """What is laid over the Blueprint when a service is deployed."""
        return plan.overrides

    def _replacement(self, plan: OperationPlan, service: Service) -> Replacement | None:
        """Whether a service's workload is deleted and made anew."""
        return _replacement(plan, service.name)

    async def _verify_endpoints(self, plan: OperationPlan, step: PlannedStep) -> Output:
        exposed = manifests.exposed_services(self._blueprint)
        await on_cluster(
            ProvisionActivities.verify_endpoints,
            VerifyEndpoints(
                context=plan.context,
                manifests=manifests.routing(plan.context, self._blueprint, plan.guard_rails),
                services=exposed,
                deadline=workflow.now() + ENDPOINTS_DEADLINE,
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"routing and endpoints of {', '.join(exposed)}"[:180],
            attempt_limit=ENDPOINTS_DEADLINE + SHORT_STEP,
            total_limit=SHORT_STEP_TOTAL,
        )
        return {**manifests.endpoint_urls(plan.context, self._blueprint, plan.guard_rails)}

    async def _stop(self, plan: OperationPlan, step: PlannedStep) -> Output:
        name = step.service or ""
        await on_cluster(
            StopActivities.stop_service,
            StopService(
                context=plan.context,
                service=name,
                manifests=manifests.service(
                    plan.context,
                    self._blueprint,
                    name,
                    plan.overrides,
                    plan.secret_digests,
                    plan.guard_rails,
                ),
                deadline=workflow.now() + STOP_DEADLINE,
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{name}: to no pods, volumes stay",
            attempt_limit=STOP_DEADLINE + SHORT_STEP,
        )
        return {"replicas": 0}

    async def _remove(self, plan: OperationPlan, step: PlannedStep) -> Output:
        name = step.service or ""
        objects = plan.change.obsolete.get(name, ()) if plan.change is not None else ()
        await on_cluster(
            UpdateActivities.remove_service,
            RemoveService(
                context=plan.context,
                service=name,
                objects=objects,
                leaves=all(service.name != name for service in self._blueprint.services),
                deadline=workflow.now() + STOP_DEADLINE,
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{name}: remove {', '.join(f'{each.kind}/{each.name}' for each in objects)}"[:180],
            attempt_limit=STOP_DEADLINE + SHORT_STEP,
        )
        return {"removed": len(objects)}

    async def _restore_secrets(self, plan: OperationPlan, before: "_Before") -> None:
        """Put back the values that the revision before used; only what an update changed needs that."""
        if plan.change is None or plan.change.revision == plan.context.revision:
            return
        sealed = await self.ledger.seal_secrets(UNDO, plan.change.revision)
        request = _sealed(before.context, before.blueprint, sealed, UNDO)
        if request.secrets or request.pull_secrets:
            await self._write_secrets(request, UNDO)

    async def _settle(self, plan: OperationPlan, before: "_Before") -> tuple[str, ...]:
        """Wait until what was put back runs as it did; say what does not."""
        awaited = [
            service
            for service in before.blueprint.services
            if service.name in before.touched
            and (before.ready or _replacement(plan, service.name) is not None)
        ]
        failures = await asyncio.gather(*(self._settle_service(plan, before, each) for each in awaited))
        return tuple(each for each in failures if each)

    async def _settle_service(self, plan: OperationPlan, before: "_Before", service: Service) -> str:
        limit = timedelta(seconds=service.ready_timeout_seconds)
        try:
            await on_cluster(
                ProvisionActivities.deploy_service,
                DeployService(
                    context=before.context,
                    service=service.name,
                    manifests=before.rendered(service.name),
                    deadline=workflow.now() + limit,
                    until=Until.COMPLETED if service.kind is ServiceKind.JOB else Until.READY,
                    tolerate_restarts=service.startup.tolerate_restarts,
                    replacement=_replacement(plan, service.name, only=plan.context.revision),
                ),
                cluster=before.context.cluster,
                step=UNDO,
                summary=f"{service.name}: back to revision {before.context.revision}",
                attempt_limit=limit + SHORT_STEP,
            )
        except StepFailed as failed:
            return f"service/{service.name}: {failed.failure.message}"
        return ""

    def _not_undone(self, plan: OperationPlan, before: "_Before") -> tuple[str, ...]:
        """The steps on data that stay done: scripts that may have run in services that stay, lost volumes."""
        old = {service.name: service for service in before.blueprint.services}
        scripts = [
            f"service/{each.name}: its init script may have run"
            for each in self._blueprint.services
            if each.init is not None
            and each.name in old
            and each.init != old[each.name].init
            and (self.begun(service_step(each.name)) or service_step(each.name) in plan.earlier)
        ]
        replaced = plan.change.replaced if plan.change is not None else {}
        volumes = [
            f"service/{name}: volume {volume} was made anew"
            for name, lost in replaced.items()
            for volume in lost
            if self.begun(service_step(name)) or service_step(name) in plan.earlier
        ]
        return (*scripts, *volumes)


@dataclass(frozen=True)
class _Before:
    """What was there before an operation, to be put back under the fence of the clean-up."""

    context: EnvironmentContext
    blueprint: Blueprint
    overrides: Overrides
    secret_digests: dict[str, str]
    rails: GuardRails
    touched: frozenset[str]
    """The services that the operation has steps for."""
    ready: bool
    """Whether the environment ran."""
    restore: tuple[manifests.Manifest, ...]
    """What existed of the touched services and can be applied over what is there now."""

    def rendered(self, service: str) -> tuple[manifests.Manifest, ...]:
        """All objects of a service as they were."""
        return manifests.service(
            self.context, self.blueprint, service, self.overrides, self.secret_digests, self.rails
        )


def _before(plan: OperationPlan, recorded: RecordedPreImage) -> _Before | None:
    """What an undo goes back to; None when nothing was there, or nothing was written."""
    pre_image, document = recorded.pre_image, recorded.blueprint
    if pre_image is None or document is None or pre_image.revision is None:
        return None
    change = plan.change
    blueprint = Blueprint.model_validate(document)
    touched = frozenset(step.service for step in plan.steps if step.service is not None)
    before = _Before(
        context=plan.context.fenced_for_cleanup().model_copy(update={"revision": pre_image.revision}),
        blueprint=blueprint,
        overrides=plan.overrides if change is None else change.overrides,
        secret_digests=plan.secret_digests if change is None else recorded.secret_digests,
        rails=plan.guard_rails,
        touched=touched,
        ready=change is not None and change.phase is EnvironmentPhase.RUNNING,
        restore=(),
    )
    rendered = [
        manifest
        for service in blueprint.services
        if change is None or (service.name in touched and service.name not in change.replaced)
        for manifest in before.rendered(service.name)
    ]
    if change is not None:
        rendered += manifests.routing(before.context, blueprint, plan.guard_rails)
    return replace(before, restore=tuple(each for each in rendered if _existed(each, pre_image.objects)))


def _revision_before(plan: OperationPlan) -> int:
    return plan.context.revision if plan.change is None else plan.change.revision


def _replacement(plan: OperationPlan, service: str, *, only: int | None = None) -> Replacement | None:
    volumes = None if plan.change is None else plan.change.replaced.get(service)
    return None if volumes is None else Replacement(volumes=volumes, revision=only)


def _sealed(
    context: EnvironmentContext, blueprint: Blueprint, sealed: SealedSecrets, step: str
) -> ApplySecrets:
    """Lay the values out; raises `StepFailed` when one that the Blueprint needs exists no more."""
    layout = manifests.secrets(blueprint)
    pull = manifests.pull_secrets(blueprint)
    missing = [name for name in manifests.secret_names(blueprint) if name not in sealed.values]
    missing += [name for name in pull.values() if name not in sealed.registry_credentials]
    if missing:
        message = f"The environment uses secrets that exist no more: {', '.join(missing)}."
        raise StepFailed(failure(FailureKind.CONFIG_MISSING, message, step=step))
    return ApplySecrets(
        context=context,
        secrets={
            name: {key: sealed.values[secret] for key, secret in keys.items()}
            for name, keys in layout.items()
        },
        pull_secrets={name: sealed.registry_credentials[each] for name, each in pull.items()},
    )


def init_script(plan: OperationPlan, service: Service, *, anew: bool = False) -> InitScript | None:
    """Return a service's init as the cluster's worker takes it; `anew`: once more, once in this operation."""
    if service.init is None:
        return None
    key = f"{plan.context.environment_id}/{service.name}"
    run = f"{key}/{plan.context.operation_id}" if anew else ""
    match service.init.type:
        case InitType.SQL if manifests.desired_replicas(service, plan.overrides) == 0:
            # There is no pod to run it in; it runs when there is one again.
            return None
        case InitType.SQL:
            return InitScript(key=key, sql=service.init.script, store=service.store, run=run)
        case InitType.SHELL:
            return InitScript(
                key=key, job=manifests.shell_job(plan.context, service, service.init.script, run or key)
            )
        case _:
            assert_never(service.init.type)


def _existed(manifest: manifests.Manifest, objects: tuple[ObjectIdentity, ...]) -> bool:
    metadata = manifest["metadata"]
    name = metadata["name"] if isinstance(metadata, dict) else None
    return any(each.kind == manifest["kind"] and each.name == name for each in objects)
