"""A service's init script, run once: by exec together with a marker row, or as a Job."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NoReturn, assert_never

from activities._readiness import Wait
from activities._step import fail
from clusters.errors import AlreadyExists, TimedOut
from clusters.gateway import Applied, Cluster, ExecResult
from clusters.objects import Manifest, ref_of
from workflows.contracts.provision import InitScript
from workflows.domain.failures import FailureKind, failure
from workflows.domain.init_sql import InitOutcome, InitScriptInvalid, outcome, sql_init
from workflows.domain.json_reading import mapping, text
from workflows.domain.readiness import Failed, Until
from workflows.domain.readiness_view import holds

EXEC_SECONDS: Final = 600.0
"""Longest run of a script; one in SQL is killed and rolled back after that."""

CONNECT_SECONDS: Final = 60.0
"""How long a database that is ready may go on refusing connections."""

OUTPUT_LIMIT: Final = 64 * 1024
QUOTED: Final = 300
"""Characters of a script's last words that stand in the failure's message."""


_SCRIPTS_FAULT: Final = frozenset({FailureKind.CRASH_LOOP, FailureKind.OUT_OF_MEMORY, FailureKind.TIMEOUT})
"""How a Job fails by its script; an image or a Secret that is missing is a fault of its own."""


async def run_init(cluster: Cluster, script: InitScript, workload: Applied, wait: Wait) -> None:
    """Run the script unless it has run; ends the activity with `hook_failed` when it fails."""
    wait.life.progress = "init"
    if script.job is not None:
        await _run_job(cluster, script.job, wait)
    else:
        await _run_sql(cluster, script, workload, wait)


async def _run_job(cluster: Cluster, manifest: Manifest, wait: Wait) -> None:
    """Create the Job, or find the one of an earlier attempt, and wait for its end."""
    try:
        job = await cluster.create(manifest)
    except AlreadyExists:
        live = await cluster.get(ref_of(manifest))
        if live is None:
            fail(failure(FailureKind.CONFLICT, "The init Job was deleted while it was waited for."))
        job = Applied(
            ref=ref_of(manifest),
            uid=text(live, "metadata", "uid"),
            resource_version=text(live, "metadata", "resourceVersion"),
            created=False,
            live=live,
        )
    created = datetime.fromisoformat(text(job.live, "metadata", "creationTimestamp"))
    # By the Job's own age: another attempt does not start its time anew.
    deadline = created + timedelta(seconds=EXEC_SECONDS)
    wait_for_job = replace(
        wait, deadline=deadline, applied_at=created, told=partial(_blame_script, wait.service)
    )
    await wait_for_job.until(Until.COMPLETED, job)


def _blame_script(service: str, verdict: Failed) -> Failed:
    """Tell of an init Job whose script failed as of a failed hook."""
    if verdict.kind not in _SCRIPTS_FAULT:
        return verdict
    said = f"The init script of {service} failed. {verdict.message}"
    return replace(verdict, kind=FailureKind.HOOK_FAILED, message=said)


async def _run_sql(cluster: Cluster, script: InitScript, workload: Applied, wait: Wait) -> None:
    source = script.sql or ""
    try:
        command = sql_init(script.store, source, script.key, hashlib.sha256(source.encode()).hexdigest())
    except InitScriptInvalid as error:
        fail(failure(FailureKind.BLUEPRINT_INVALID, f"The init script cannot be run: {error}."))
    pod = _ready_pod(wait, workload)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + CONNECT_SECONDS
    while True:
        try:
            result = await cluster.execute(
                wait.context.namespace,
                pod,
                command.command,
                container=wait.service,
                stdin=command.stdin,
                timeout=EXEC_SECONDS,
                output_limit=OUTPUT_LIMIT,
            )
        except TimedOut as error:
            said = error.stdout + error.stderr
            await _hook_failed(wait, pod, f"did not end within {EXEC_SECONDS:g} s", said)
        ended = outcome(result.exit_code, result.stdout)
        match ended:
            case InitOutcome.APPLIED | InitOutcome.ALREADY:
                return
            case InitOutcome.NOT_YET if loop.time() < give_up:
                await asyncio.sleep(0.25)
            case InitOutcome.NOT_YET:
                await _hook_failed(wait, pod, "found no database to connect to", _output(result))
            case InitOutcome.FAILED:
                await _hook_failed(wait, pod, f"failed with exit code {result.exit_code}", _output(result))
            case InitOutcome.HALF_DONE:
                await _hook_failed(
                    wait,
                    pod,
                    "was cut off by an earlier attempt, after statements that cannot be undone",
                    _output(result),
                )
            case _:
                assert_never(ended)


async def _hook_failed(wait: Wait, pod: str, how: str, output: bytes) -> NoReturn:
    """End the activity with what the script last said, its secrets taken out."""
    said, keys = await wait.evidence.of_output(
        wait.context,
        wait.service,
        pod=pod,
        container=wait.service,
        output=output.decode(errors="replace"),
    )
    last = " ".join(said.split())[-QUOTED:]
    fail(
        failure(
            FailureKind.HOOK_FAILED,
            f"The init script of {wait.service} {how}" + (f": {last}" if last else "."),
            evidence=keys,
        ),
        final=True,
    )


def _output(result: ExecResult) -> bytes:
    return result.stdout + result.stderr


def _ready_pod(wait: Wait, workload: Applied) -> str:
    """Return a pod of the service that is ready: init runs in one, however many there are."""
    selector = mapping(workload.live, "spec", "selector", "matchLabels")
    pods = wait.view.objects("Pod", labels={key: str(value) for key, value in selector.items()})
    ready = next((text(pod, "metadata", "name") for pod in pods if _is_ready(pod)), None)
    if ready is None:
        gone = f"The pod of {wait.service} went away before its init ran."
        fail(failure(FailureKind.CLUSTER_UNAVAILABLE, gone))
    return ready


def _is_ready(pod: Manifest) -> bool:
    return holds(pod, "Ready") and not text(pod, "metadata", "deletionTimestamp")
