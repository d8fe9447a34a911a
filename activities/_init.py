"""A service's init script, run once: by exec together with a marker row, or as a Job."""

import hashlib

from activities._once import await_job, create_or_find, ready_pod, run_sql
from activities._readiness import Wait
from activities._step import fail
from clusters.gateway import Applied, Cluster
from workflows.contracts.provision import InitScript
from workflows.domain.failures import FailureKind, failure
from workflows.domain.init_sql import InitScriptInvalid, Mark, sql_init


async def run_init(cluster: Cluster, script: InitScript, workload: Applied, wait: Wait) -> None:
    """Run the script unless it has run; ends the activity with `hook_failed` when it fails."""
    wait.life.progress = "init"
    title = f"The init script of {wait.service}"
    if script.job is not None:
        await await_job(await create_or_find(cluster, script.job), wait, title)
        return
    source = script.sql or ""
    digest = hashlib.sha256(source.encode()).hexdigest()
    mark = Mark(script.key, digest, run=script.run or None, anew=bool(script.run))
    try:
        command = sql_init(script.store, source, mark)
    except InitScriptInvalid as error:
        fail(failure(FailureKind.BLUEPRINT_INVALID, f"The init script cannot be run: {error}."))
    pod = ready_pod(wait, workload.live)
    if pod is None:
        gone = f"The pod of {wait.service} went away before its init ran."
        fail(failure(FailureKind.CLUSTER_UNAVAILABLE, gone))
    await run_sql(cluster, command, pod, wait, title)
