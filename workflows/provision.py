"""ProvisionEnvironment: from a Blueprint to a running environment.

Namespace with guard rails, then secrets, then the services as a graph, then routing and a look at each
endpoint.
"""

from datetime import datetime, timedelta
from typing import assert_never

from pydantic import JsonValue
from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._cluster import StepFailed, on_cluster
from workflows._graph import run_graph
from workflows._operation import OperationFrame
from workflows._options import (
    ENDPOINTS_DEADLINE,
    INIT_BUDGET,
    SHORT_STEP,
    SHORT_STEP_TOTAL,
    UNDO_TOTAL,
)
from workflows.contracts.operation import (
    CANCEL_SIGNAL,
    CancelRequest,
    OperationInput,
    OperationPlan,
    OperationResult,
    PreImage,
)
from workflows.contracts.provision import (
    PROVISION_ENVIRONMENT,
    ApplySecrets,
    DeployService,
    InitScript,
    NamespacePrepared,
    PrepareNamespace,
    ProvisionActivities,
    ServiceDeployed,
    Undo,
    VerifyEndpoints,
)
from workflows.domain import manifests
from workflows.domain.blueprint import Blueprint, Condition, InitType, Service, ServiceKind
from workflows.domain.environment import ObjectIdentity
from workflows.domain.operations import Cleanup, Output, PlannedStep, StepChange, StepKind, StepState
from workflows.domain.readiness import Until


@workflow.defn(name=PROVISION_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class ProvisionEnvironment(OperationFrame):
    """Runs one provision, or a retry of one."""

    @workflow.init
    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)
        self._blueprint = Blueprint(name="unknown", services=())
        self._namespace: NamespacePrepared | None = None
        self._started: dict[str, bool] = {}
        self._deadlines: dict[str, datetime] = {}

    @workflow.run
    async def run(self, operation: OperationInput) -> OperationResult:  # noqa: ARG002 - taken by __init__
        """Run the operation to its end."""
        return await self.run_operation()

    @workflow.signal(name=CANCEL_SIGNAL)
    def cancel(self, request: CancelRequest) -> None:
        """Stop; with `cleanup`, undo."""
        self.request_cancel(request)

    async def steps(self, plan: OperationPlan) -> None:
        """Run the plan's graph."""
        self._blueprint = Blueprint.model_validate(plan.blueprint)
        await run_graph(
            [self._without_started_edges(step) for step in plan.steps],
            lambda step: self._run_step(plan, step),
        )

    async def undo(self, plan: OperationPlan) -> Cleanup:
        """Delete what was not there before, re-apply what was."""
        recorded = await self.ledger.pre_image()
        try:
            return await on_cluster(
                ProvisionActivities.undo,
                Undo(
                    context=plan.context.fenced_for_cleanup(),
                    pre_image=recorded.pre_image,
                    restore=self._restore(plan, recorded.pre_image, recorded.blueprint),
                ),
                cluster=plan.context.cluster,
                step="undo",
                summary=f"undo operation in {plan.context.namespace}",
                attempt_limit=UNDO_TOTAL,
                total_limit=UNDO_TOTAL,
            )
        except StepFailed as failed:
            return Cleanup(complete=False, left=(failed.failure.message,))

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
            case StepKind.CANCEL_RUNNING | StepKind.DELETE_NAMESPACE:
                raise AssertionError(f"{step.kind} is not a step of a provision")
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
                revision=context.revision if prepared.existed else None,
            )
        )
        return {"namespace": context.namespace, "uid": prepared.uid, "existed": prepared.existed}

    async def _apply_secrets(self, plan: OperationPlan, step: PlannedStep) -> Output:
        sealed = await self.ledger.seal_secrets()
        layout = manifests.secrets(self._blueprint)
        pull = manifests.pull_secrets(self._blueprint)
        request = ApplySecrets(
            context=plan.context,
            secrets={
                name: {key: sealed.values[secret] for key, secret in keys.items()}
                for name, keys in layout.items()
            },
            pull_secrets={name: sealed.registry_credentials[each] for name, each in pull.items()},
        )
        await on_cluster(
            ProvisionActivities.apply_secrets,
            request,
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{len(layout)} secrets, {len(pull)} pull secrets",
            attempt_limit=SHORT_STEP,
            total_limit=SHORT_STEP_TOTAL,
        )
        return {"secrets": len(layout), "pullSecrets": len(pull)}

    async def _service(self, plan: OperationPlan, step: PlannedStep) -> None:
        name = step.service or ""
        await self._await_started(name)
        if self._unchanged(plan, step):
            self._started[name] = True
            self.note(StepChange(step=step.name, state=StepState.SKIPPED), "unchanged and still there")
            return
        await self.noted(step, lambda: self._deploy(plan, step, name))

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
        init = None if until is Until.STARTED else _init(plan, manifests.running_as(service))
        return await on_cluster(
            ProvisionActivities.deploy_service,
            DeployService(
                context=plan.context,
                service=service.name,
                manifests=manifests.service(
                    plan.context, self._blueprint, service.name, plan.overrides, plan.secret_digests
                ),
                deadline=deadline,
                until=until,
                tolerate_restarts=service.startup.tolerate_restarts,
                init=init,
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{service.name}: {service.image} until {until}" + (", init" if init else ""),
            # The activity keeps the deadline itself, with the reason at hand; this bounds one that hangs.
            attempt_limit=timedelta(seconds=service.ready_timeout_seconds) + INIT_BUDGET,
        )

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

    def _restore(
        self, plan: OperationPlan, pre_image: PreImage | None, document: dict[str, JsonValue] | None
    ) -> tuple[manifests.Manifest, ...]:
        """Render what existed before this operation, from the revision that it was made from."""
        if pre_image is None or document is None or pre_image.revision is None:
            return ()
        before = Blueprint.model_validate(document)
        context = plan.context.fenced_for_cleanup().model_copy(update={"revision": pre_image.revision})
        rendered = [
            manifest
            for service in before.services
            for manifest in manifests.service(
                context, before, service.name, plan.overrides, plan.secret_digests
            )
        ]
        return tuple(manifest for manifest in rendered if _existed(manifest, pre_image.objects))


def _init(plan: OperationPlan, service: Service) -> InitScript | None:
    """Return a service's init as the cluster's worker takes it."""
    if service.init is None:
        return None
    key = f"{plan.context.environment_id}/{service.name}"
    match service.init.type:
        case InitType.SQL:
            return InitScript(key=key, sql=service.init.script, store=service.store)
        case InitType.SHELL:
            return InitScript(
                key=key, job=manifests.shell_job(plan.context, service, service.init.script, key)
            )
        case _:
            assert_never(service.init.type)


def _existed(manifest: manifests.Manifest, objects: tuple[ObjectIdentity, ...]) -> bool:
    metadata = manifest["metadata"]
    name = metadata["name"] if isinstance(metadata, dict) else None
    return any(each.kind == manifest["kind"] and each.name == name for each in objects)
