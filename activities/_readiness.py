"""Waiting for a workload: one shared view of the namespace, judged anew at each change, failing fast."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn, assert_never

from activities._evidence import EvidenceCollector
from activities._step import Life, fail
from clusters.gateway import Applied
from clusters.objects import Manifest
from clusters.view import NamespaceView
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import number, text
from workflows.domain.names import NAME
from workflows.domain.readiness import (
    Failed,
    FailFast,
    Ready,
    ServiceView,
    Until,
    Waiting,
    WorkloadKind,
    at_deadline,
)

LOOK_SECONDS: Final = 5.0
"""Look again this often even when nothing changes."""

_ALSO_WATCHED: Final = ("Event", "LimitRange", "PersistentVolumeClaim")


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for the workloads of one service, until `deadline`."""

    context: EnvironmentContext
    service: str
    view: NamespaceView
    life: Life
    evidence: EvidenceCollector
    deadline: datetime
    applied_at: datetime
    """When the first attempt began: what happened since counts, whichever attempt was there to see it."""
    tolerate_restarts: int = 0
    told: Callable[[Failed], Failed] = lambda verdict: verdict
    """How a failure is told: a wait on behalf of something else names that."""

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; negative after it."""
        return (self.deadline - datetime.now(UTC)).total_seconds()

    async def until(self, until: Until, workload: Applied) -> Ready:
        """Return when the workload got that far; ends the activity with the failure otherwise.

        After the deadline it looks once more before it gives up: a worker that was dead meanwhile has not
        seen that all went well.
        """
        await self.view.synced()
        await asyncio.gather(*(self.view.include(kind) for kind in _ALSO_WATCHED))
        judge = FailFast()
        while True:
            version = self.view.version
            seen = self._snapshot(until, workload)
            verdict = judge.observe(seen)
            match verdict:
                case Ready():
                    return verdict
                case Failed():
                    await self.fail(verdict)
                case Waiting(message=message, recheck=recheck):
                    self.life.progress = message
                    if self.remaining <= 0:
                        await self._give_up(seen)
                    limit = LOOK_SECONDS if recheck is None else min(recheck, LOOK_SECONDS)
                    await self.view.changed(
                        version,
                        timeout=max(min(limit, self.remaining), 0.01),
                        labels={NAME: self.service},
                    )
                case _:
                    assert_never(verdict)

    async def fail(self, verdict: Failed) -> NoReturn:
        """End the activity with the verdict, its evidence gathered first."""
        verdict = self.told(verdict)
        pod = self.view.get("Pod", verdict.pod) if verdict.pod else None
        keys = await self.evidence.of_pod(
            self.context,
            self.service,
            pod=verdict.pod,
            uid=text(pod, "metadata", "uid") if pod is not None else None,
            container=verdict.container,
        )
        fail(failure(verdict.kind, verdict.message, evidence=keys, ran=verdict.ran), final=True)

    async def _give_up(self, seen: ServiceView) -> NoReturn:
        outage = self.view.outage
        if outage is not None:
            fail(
                failure(
                    FailureKind.CLUSTER_UNAVAILABLE,
                    f"The cluster has not answered for {outage:.0f} s, and the deadline has passed.",
                ),
                final=True,
            )
        await self.fail(at_deadline(seen))

    def _snapshot(self, until: Until, workload: Applied) -> ServiceView:
        live = self.view.get(workload.ref.kind, workload.ref.name)
        return ServiceView(
            kind=WorkloadKind(workload.ref.kind),
            workload=live if live is not None and _is(live, workload) else None,
            now=datetime.now(UTC),
            applied_at=self.applied_at,
            until=until,
            generation=0
            if workload.ref.kind == WorkloadKind.JOB
            else number(workload.live, "metadata", "generation") or 0,
            tolerate_restarts=self.tolerate_restarts,
            pods=self.view.objects("Pod"),
            replica_sets=self.view.objects("ReplicaSet"),
            quotas=self.view.objects("ResourceQuota"),
            limit_ranges=self.view.objects("LimitRange"),
            claims=self.view.objects("PersistentVolumeClaim"),
            events=self.view.objects("Event"),
        )


def _is(live: Manifest, workload: Applied) -> bool:
    return text(live, "metadata", "uid") == workload.uid
