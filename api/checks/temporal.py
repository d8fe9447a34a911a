"""Checks of Temporal: server, namespace, search attributes, schedules, and who serves the queues."""

from __future__ import annotations

import asyncio
from typing import Final

from activities.temporal import QueueState, TemporalSetup
from activities.version import VERSION, worker_of
from api.checks.schemas import CheckOut, fail, ok, warn
from api.state import AppState
from workflows.contracts.queues import CONTROL_QUEUE, cluster_queue
from workflows.domain.wording import listed

_START = "Start a control worker: it sets up what is missing."
_SHOWN: Final = 5


async def temporal(state: AppState) -> list[CheckOut]:
    """Look at the server and the queues. Raises TemporalError when it does not answer."""
    found = await state.starter.setup()
    namespace = state.settings.temporal_namespace
    checks = [ok("temporal", f"server {found.version} answers")]
    if not found.namespace_found:
        remedy = f"Make it with `temporal operator namespace create -n {namespace}`, or set the right one."
        return [*checks, fail("temporal/namespace", f"there is no namespace {namespace!r}", remedy)]
    names = (CONTROL_QUEUE, *(cluster_queue(cluster) for cluster in sorted(state.settings.all_clusters)))
    queues = await asyncio.gather(*(state.starter.queue(name) for name in names))
    return [
        *checks,
        ok("temporal/namespace", f"{namespace!r} is there"),
        _attributes(found),
        *_schedules(found),
        *(_queue(each) for each in queues),
    ]


def _attributes(found: TemporalSetup) -> CheckOut:
    name = "temporal/search-attributes"
    if found.missing_attributes:
        return fail(name, f"missing: {', '.join(found.missing_attributes)}", _START)
    return ok(name, "all are registered")


def _schedules(found: TemporalSetup) -> list[CheckOut]:
    checks: list[CheckOut] = []
    for schedule, paused in found.schedules.items():
        name = f"temporal/schedule/{schedule}"
        if paused is None:
            checks.append(fail(name, "is not there", _START))
        elif paused:
            remedy = (
                f"Unpause it: `temporal schedule toggle --schedule-id {schedule} --unpause --reason ...`."
            )
            checks.append(warn(name, "is paused", remedy))
        else:
            checks.append(ok(name, "runs"))
    return checks


def _queue(queue: QueueState) -> CheckOut:
    name = f"temporal/queue/{queue.name}"
    if not queue.workers:
        return fail(
            name,
            "no worker has asked for work in the last five minutes; operations are accepted and wait",
            "Start a worker for it (`python -m worker`, PERDURE_ROLES) and look at its log.",
        )
    found = [worker_of(each) for each in queue.workers]
    waiting = f"{queue.backlog if queue.backlog is not None else '?'} tasks wait"
    others = [f"{place} ({version or 'does not say'})" for place, version in found if version != VERSION]
    if others:
        return warn(
            name,
            f"{len(found)} workers, {waiting}; not of the API's version {VERSION}: {listed(others, _SHOWN)}",
            "Run API and workers of one version (docs/operating.md, Rolling out). "
            "One that was stopped is listed for five minutes.",
        )
    places = listed([place for place, _ in found], _SHOWN)
    return ok(name, f"{len(found)} workers of version {VERSION}, {waiting}: {places}")
