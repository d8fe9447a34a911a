"""SeedEnvironment: puts data into a running environment, once."""

import asyncio
from typing import assert_never

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._aside import AsideFrame
from workflows._cluster import StepFailed, on_cluster
from workflows._options import INIT_BUDGET, SEED_READY, SEED_TOTAL, SHORT_STEP, SHORT_STEP_TOTAL
from workflows.contracts.operation import (
    CANCEL_SIGNAL,
    CancelRequest,
    OperationInput,
    OperationPlan,
    OperationResult,
)
from workflows.contracts.seed import (
    SEED_ENVIRONMENT,
    SeedActivities,
    SeedByHttp,
    SeedByJob,
    SeedBySql,
    SeedDone,
)
from workflows.domain import manifests
from workflows.domain.environment import ObjectName
from workflows.domain.operations import Cleanup, Output, PlannedStep, StepKind
from workflows.domain.seeds import SeedRun, SeedType
from workflows.domain.seeds_http import tcp_port


@workflow.defn(name=SEED_ENVIRONMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class SeedEnvironment(AsideFrame):
    """Runs one seed, or a retry of one. What it put into the environment is not taken back."""

    @workflow.init
    def __init__(self, operation: OperationInput) -> None:
        super().__init__(operation)

    @workflow.run
    async def run(self, operation: OperationInput) -> OperationResult:  # noqa: ARG002 - taken by __init__
        """Run the operation to its end."""
        return await self.run_operation()

    @workflow.signal(name=CANCEL_SIGNAL)
    def cancel(self, request: CancelRequest) -> None:
        """Stop; there is nothing that `cleanup` could take back."""
        self.request_cancel(request)

    async def undo(self, plan: OperationPlan) -> Cleanup:
        """Say what may have been done: data are not taken back."""
        ran = tuple(
            f"{step.name}: it may have run"
            for step in plan.steps
            if step.kind is StepKind.SEED and self.begun(step.name)
        )
        return Cleanup(complete=not ran, not_undone=ran)

    async def _run_step(self, plan: OperationPlan, step: PlannedStep) -> None:
        if step.kind is not StepKind.SEED:
            await super()._run_step(plan, step)
            return
        run = plan.seed
        assert run is not None  # noqa: S101 - a seed is accepted with one
        await self.noted(step, lambda: self._seed(plan, step, run))

    async def _seed(self, plan: OperationPlan, step: PlannedStep, run: SeedRun) -> Output:
        match run.content.type:
            case SeedType.SQL:
                done = await self._run_sql(plan, step, run)
            case SeedType.SHELL | SeedType.JOB:
                done = await self._run_job(plan, step, run)
            case SeedType.HTTP:
                done = await self._send_http(plan, step, run)
            case _:
                assert_never(run.content.type)
        told: Output = {"outcome": str(done.outcome), "digest": run.digest}
        if run.package:
            told["package"] = run.package
        if done.job:
            told["job"] = done.job
        if done.key:
            told["idempotencyKey"] = done.key
            told["status"] = done.status
        return told

    async def _run_sql(self, plan: OperationPlan, step: PlannedStep, run: SeedRun) -> SeedDone:
        service = manifests.running_as(self._blueprint.service(run.service))
        store = service.store
        assert store is not None  # noqa: S101 - looked at when it was accepted
        return await on_cluster(
            SeedActivities.run_sql,
            SeedBySql(
                context=plan.context,
                run=run,
                store=store,
                workload=ObjectName(kind=manifests.workload_kind(service), name=service.name),
                ready_by=workflow.now() + SEED_READY,
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{_title(run)} in {service.name}: SQL",
            attempt_limit=INIT_BUDGET,
            total_limit=SEED_TOTAL,
        )

    async def _send_http(self, plan: OperationPlan, step: PlannedStep, run: SeedRun) -> SeedDone:
        service = manifests.running_as(self._blueprint.service(run.service))
        asked = run.content.http
        port = None if asked is None else tcp_port(service, asked.port)
        assert asked is not None  # noqa: S101 - looked at when it was accepted
        assert port is not None  # noqa: S101
        return await on_cluster(
            SeedActivities.send_http,
            SeedByHttp(
                context=plan.context,
                run=run,
                workload=ObjectName(kind=manifests.workload_kind(service), name=service.name),
                port=port.container_port,
                label=manifests.seed_label(run),
                ready_by=workflow.now() + SEED_READY,
            ),
            cluster=plan.context.cluster,
            step=step.name,
            summary=f"{_title(run)} to {service.name}: {asked.method}",
            attempt_limit=INIT_BUDGET,
            total_limit=SEED_TOTAL,
        )

    async def _run_job(self, plan: OperationPlan, step: PlannedStep, run: SeedRun) -> SeedDone:
        service = self._blueprint.service(run.service)
        request = SeedByJob(
            context=plan.context,
            run=run,
            label=manifests.seed_label(run),
            job=manifests.seed_job(
                plan.context, service, run, (run.first or plan.context.operation_id) if run.force else None
            ),
            own=manifests.seed_job(plan.context, service, run, plan.context.operation_id),
        )
        try:
            return await on_cluster(
                SeedActivities.run_job,
                request,
                cluster=plan.context.cluster,
                step=step.name,
                summary=f"{_title(run)} beside {service.name}: Job",
                attempt_limit=INIT_BUDGET,
                total_limit=SEED_TOTAL,
            )
        except (StepFailed, asyncio.CancelledError):
            # The operation ends here: nothing of it may go on writing.
            await self._stop_job(request, step)
            raise

    async def _stop_job(self, request: SeedByJob, step: PlannedStep) -> None:
        try:
            await on_cluster(
                SeedActivities.stop_job,
                request,
                cluster=request.context.cluster,
                step=step.name,
                summary="suspend the Job",
                attempt_limit=SHORT_STEP,
                total_limit=SHORT_STEP_TOTAL,
            )
        except StepFailed as failed:
            # The Job has a time limit of its own; why the step ended is worth more than this.
            workflow.logger.warning("the seed's Job could not be stopped: %s", failed.failure.message)


def _title(run: SeedRun) -> str:
    return f"seed {run.package}" if run.package else f"one-off seed of type {run.content.type}"
