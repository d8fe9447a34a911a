"""Running a script once: by exec together with a mark in the database, or as a Job that the cluster keeps."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NoReturn, assert_never

from activities._readiness import LOOK_SECONDS, Wait
from activities._step import fail
from clusters.errors import AlreadyExists, TimedOut
from clusters.gateway import Applied, Cluster, ExecResult
from clusters.objects import Manifest, ObjectRef, ref_of
from workflows.domain.environment import ObjectName
from workflows.domain.failures import FailureKind, failure
from workflows.domain.init_sql import InitCommand, InitOutcome, outcome
from workflows.domain.json_reading import mapping, text
from workflows.domain.names import NAME
from workflows.domain.readiness import Failed, Until
from workflows.domain.readiness_view import holds

RUN_SECONDS: Final = 600.0
"""Longest run of a script; one in SQL is killed and rolled back after that."""

CONNECT_SECONDS: Final = 60.0
"""How long a database that is ready may go on refusing connections."""

OUTPUT_LIMIT: Final = 64 * 1024
QUOTED: Final = 300
"""Characters of a script's last words that stand in the failure's message."""


_SCRIPTS_FAULT: Final = frozenset({FailureKind.CRASH_LOOP, FailureKind.OUT_OF_MEMORY, FailureKind.TIMEOUT})
"""How a Job fails by its script; an image or a Secret that is missing is a fault of its own."""


async def create_or_find(cluster: Cluster, manifest: Manifest) -> Applied:
    """Create the Job, or return the one that an earlier attempt or operation made."""
    try:
        return await cluster.create(manifest)
    except AlreadyExists:
        live = await cluster.get(ref_of(manifest))
    if live is None:
        name = text(manifest, "metadata", "name")
        fail(failure(FailureKind.CONFLICT, f"Job {name} was deleted while it was waited for."))
    return as_found(live)


def as_found(live: Manifest) -> Applied:
    """Return a live object as one that was not written now."""
    return Applied(
        ref=ref_of(live),
        uid=text(live, "metadata", "uid"),
        resource_version=text(live, "metadata", "resourceVersion"),
        created=False,
        live=live,
    )


async def await_job(job: Applied, wait: Wait, title: str) -> None:
    """Wait for the Job's end; ends the activity when it fails, with `hook_failed` when its script does.

    `title`: what the Job runs, as people are told.
    """
    created = datetime.fromisoformat(text(job.live, "metadata", "creationTimestamp"))
    # By the Job's own age: another attempt does not start its time anew.
    deadline = created + timedelta(seconds=RUN_SECONDS)
    waiting = replace(wait, deadline=deadline, applied_at=created, told=partial(_blame_script, title))
    await waiting.until(Until.COMPLETED, job)


async def run_sql(cluster: Cluster, command: InitCommand, pod: str, wait: Wait, title: str) -> InitOutcome:
    """Run the command in a pod until it is `APPLIED` or `ALREADY`; ends the activity when it fails."""
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
                timeout=RUN_SECONDS,
                output_limit=OUTPUT_LIMIT,
            )
        except TimedOut as error:
            said = error.stdout + error.stderr
            await _hook_failed(wait, pod, f"{title} did not end within {RUN_SECONDS:g} s", said)
        ended = outcome(result.exit_code, result.stdout)
        match ended:
            case InitOutcome.APPLIED | InitOutcome.ALREADY:
                return ended
            case InitOutcome.NOT_YET if loop.time() < give_up:
                await asyncio.sleep(0.25)
            case InitOutcome.NOT_YET:
                await _hook_failed(wait, pod, f"{title} found no database to connect to", _output(result))
            case InitOutcome.FAILED:
                # The client of MySQL and MariaDB is one of a pipe, whose end says nothing of it.
                code = f" with exit code {result.exit_code}" if result.exit_code else ""
                how = f"{title} failed{code}"
                await _hook_failed(wait, pod, how, _output(result))
            case InitOutcome.HALF_DONE:
                how = f"{title} was cut off by an earlier attempt, after statements that cannot be undone"
                await _hook_failed(wait, pod, how, _output(result))
            case _:
                assert_never(ended)


async def await_ready_pod(cluster: Cluster, wait: Wait, workload: ObjectName) -> str:
    """Wait for a ready pod of the workload; a time-out when there is none at the deadline."""
    await wait.view.synced()
    while True:
        version = wait.view.version
        live = await cluster.get(ObjectRef(workload.kind, workload.name, wait.context.namespace))
        pod = None if live is None else ready_pod(wait, live)
        if pod is not None:
            return pod
        if wait.remaining <= 0:
            message = f"No pod of {wait.service} is ready: there is nowhere to run the seed."
            fail(failure(FailureKind.TIMEOUT, message), final=True)
        await wait.view.changed(
            version, timeout=max(min(wait.remaining, LOOK_SECONDS), 0.01), labels={NAME: wait.service}
        )


def ready_pod(wait: Wait, workload: Manifest) -> str | None:
    """Return a pod of the workload that is ready: one runs in one, however many there are."""
    selector = mapping(workload, "spec", "selector", "matchLabels")
    pods = wait.view.objects("Pod", labels={key: str(value) for key, value in selector.items()})
    return next((text(pod, "metadata", "name") for pod in pods if _is_ready(pod)), None)


def _is_ready(pod: Manifest) -> bool:
    return holds(pod, "Ready") and not text(pod, "metadata", "deletionTimestamp")


def _blame_script(title: str, verdict: Failed) -> Failed:
    """Tell of a Job whose script failed as of a failed hook."""
    if verdict.kind not in _SCRIPTS_FAULT:
        return verdict
    return replace(verdict, kind=FailureKind.HOOK_FAILED, message=f"{title} failed. {verdict.message}")


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
    message = how + (f": {last}" if last else ".")
    fail(failure(FailureKind.HOOK_FAILED, message, evidence=keys), final=True)


def _output(result: ExecResult) -> bytes:
    return result.stdout + result.stderr
