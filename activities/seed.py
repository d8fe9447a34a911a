"""SeedEnvironment in the cluster: SQL in a pod of the service, a request to one, everything else as a Job.

Every activity here may run twice, at the same time as its twin, or be cut off anywhere. For SQL the mark in
the database itself says whether it has run, and which operation did it; for a Job that is the Job, for a
request its record (`activities._seed_http`).
"""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from temporalio import activity

from activities._evidence import EvidenceCollector
from activities._once import as_found, await_job, await_ready_pod, create_or_find, run_sql
from activities._readiness import Wait
from activities._seed_http import HttpSeed
from activities._step import Life, alive, fail, reports_failures
from activities.storage.objects import ObjectStore
from clusters.fencing import fence_of
from clusters.gateway import Applied, Cluster
from clusters.objects import Manifest, ObjectRef, ref_of
from clusters.view import NamespaceView
from workflows.contracts.seed import SeedActivities, SeedByHttp, SeedByJob, SeedBySql, SeedDone
from workflows.domain import manifests
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.init_sql import InitOutcome, InitScriptInvalid, Mark, sql_init
from workflows.domain.json_reading import mapping, text
from workflows.domain.manifests_secrets import SECRET_KEY
from workflows.domain.names import SEED
from workflows.domain.readiness_view import holds
from workflows.domain.seeds import SeedOutcome, SeedRun, fill_sql

_RUN_AGAIN: Final = "Retry it, or run it with force, when it may run again"


@dataclass(frozen=True, slots=True)
class ClusterSeed(SeedActivities):
    """The activities of a seed, on one cluster."""

    cluster: Cluster
    objects: ObjectStore

    @activity.defn(name="seed.run_sql")
    @reports_failures
    async def run_sql(self, request: SeedBySql) -> SeedDone:
        """See `SeedActivities`. Secrets are read in the cluster, and go nowhere but into the pod."""
        context, run = request.context, request.run
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            filled = fill_sql(
                request.store, run.content.script or "", run.values, await _secrets(cluster, context, run)
            )
            mark = Mark(
                run.key, run.digest, run=f"{run.key}/{run.first or context.operation_id}", anew=run.force
            )
            try:
                command = sql_init(request.store, filled.script, mark, filled.before)
            except InitScriptInvalid as error:
                fail(failure(FailureKind.BLUEPRINT_INVALID, f"The seed cannot be run: {error}."))
            async with cluster.view(context.namespace) as view:
                wait = self._wait(context, run, view, life, request.ready_by)
                pod = await await_ready_pod(cluster, wait, request.workload)
                life.progress = "seed"
                ended = await run_sql(cluster, command, pod, wait, _title(run))
        return SeedDone(outcome=SeedOutcome.ALREADY if ended is InitOutcome.ALREADY else SeedOutcome.APPLIED)

    @activity.defn(name="seed.run_job")
    @reports_failures
    async def run_job(self, request: SeedByJob) -> SeedDone:
        """See `SeedActivities`. A second attempt finds the Job of the first, and goes on waiting."""
        context, run = request.context, request.run
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            job = await _job(cluster, request)
            name, own = job.ref.name, fence_of(job.live) == context.fence
            if not own and _succeeded(job.live):
                return SeedDone(outcome=SeedOutcome.ALREADY, job=name)
            if not own and (how := _came_to_nothing(job.live)):
                fail(
                    failure(
                        FailureKind.HOOK_FAILED,
                        f"{_title(run)} {how} when it was run before (Job {name}), and may have done a part "
                        f"of its work. {_RUN_AGAIN}.",
                    ),
                    final=True,
                )
            life.progress = "seed"
            async with cluster.view(context.namespace) as view:
                await await_job(job, self._wait(context, run, view, life, datetime.now(UTC)), _title(run))
        return SeedDone(outcome=SeedOutcome.APPLIED if own else SeedOutcome.ALREADY, job=name)

    @activity.defn(name="seed.send_http")
    @reports_failures
    async def send_http(self, request: SeedByHttp) -> SeedDone:
        """See `SeedActivities`. Secrets are read in the cluster, and go nowhere but to the service."""
        context, run = request.context, request.run
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            async with cluster.view(context.namespace) as view:
                wait = self._wait(context, run, view, life, request.ready_by)
                values = await _secrets(cluster, context, run)
                return await HttpSeed(cluster, request, wait, values, _title(run)).send_once()

    @activity.defn(name="seed.stop_job")
    @reports_failures
    async def stop_job(self, request: SeedByJob) -> None:
        """See `SeedActivities`. What this operation did not make, or what has ended, is left alone."""
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            for job in (request.job, request.own):
                live = await cluster.get(ref_of(job))
                if live is None or fence_of(live) != request.context.fence or _ended(live):
                    continue
                await cluster.apply({**job, "spec": {**mapping(job, "spec"), "suspend": True}})

    def _wait(
        self, context: EnvironmentContext, run: SeedRun, view: NamespaceView, life: Life, deadline: datetime
    ) -> Wait:
        return Wait(
            context=context,
            service=run.service,
            view=view,
            life=life,
            evidence=EvidenceCollector(self.cluster, self.objects),
            deadline=deadline,
            applied_at=activity.info().scheduled_time,
        )


async def _secrets(cluster: Cluster, context: EnvironmentContext, run: SeedRun) -> dict[str, str]:
    """Read the values of the secrets that the run's parameters name."""
    values: dict[str, str] = {}
    for parameter, name in run.secrets.items():
        live = await cluster.get(ObjectRef("Secret", manifests.secret_object_name(name), context.namespace))
        encoded = text(live, "data", SECRET_KEY) if live is not None else None
        if encoded is None:
            message = f"The environment's secret {name} is not in the cluster: update the environment."
            fail(failure(FailureKind.CONFIG_MISSING, message), final=True)
        values[parameter] = base64.b64decode(encoded).decode()
    return values


async def _job(cluster: Cluster, request: SeedByJob) -> Applied:
    """Return the Job that tells of this run: one that is there, or a new one.

    Without force one that has succeeded counts, whichever it is; a retry makes its own beside one that came
    to nothing.
    """
    listing = await cluster.list("Job", request.context.namespace, labels={SEED: request.label})
    # One that this operation made comes first: it is what an earlier attempt began.
    ours = [each for each in listing.items if fence_of(each) == request.context.fence]
    succeeded = [] if request.run.force else [each for each in listing.items if _succeeded(each)]
    for live in (*ours, *succeeded):
        return as_found(live)
    found = await create_or_find(cluster, request.job)
    ran_before = fence_of(found.live) != request.context.fence
    if request.run.first is not None and ran_before and _came_to_nothing(found.live):
        return await create_or_find(cluster, request.own)
    return found


def _succeeded(job: Manifest) -> bool:
    return holds(job, "Complete")


def _ended(job: Manifest) -> bool:
    return holds(job, "Complete") or holds(job, "Failed")


def _came_to_nothing(job: Manifest) -> str:
    """How a Job ended without success; empty while it may yet succeed, or has."""
    if holds(job, "Failed"):
        return "failed"
    return "was stopped" if not _ended(job) and mapping(job, "spec").get("suspend") is True else ""


def _title(run: SeedRun) -> str:
    what = f"Seed {run.package}" if run.package else "The seed"
    return f"{what} of {run.service}"
