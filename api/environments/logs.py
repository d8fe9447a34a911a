"""Recent log lines of an environment's pods, by time, without secret values."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fastapi import Request, Response
from pydantic import Field

from activities.db.records import EnvironmentRecord
from activities.db.repositories import environments, revisions
from activities.db.secret_material import secret_material
from api.envelope import ApiInput, answer_list
from api.environments.schemas import LogEntry
from api.environments.shapes import read_blueprint
from api.filters import Moment
from api.problems import ProblemError, ProblemField, RequestProblem
from api.state import AppState
from clusters.errors import Invalid, NotFound
from clusters.objects import Manifest
from workflows.domain.blueprint import Blueprint
from workflows.domain.json_reading import children, text
from workflows.domain.names import ENVIRONMENT, NAME
from workflows.domain.redaction import Redactor

if TYPE_CHECKING:
    from clusters.gateway import Cluster

NDJSON: Final = "application/x-ndjson"
MAX_LINES: Final = 5_000
_BYTES_PER_CONTAINER: Final = 256 * 1024
_AT_ONCE: Final = 16


class Selection(ApiInput):
    """Which lines are wanted."""

    service: str | None = Field(default=None, max_length=63, description="Only this service")
    tail: int = Field(default=200, ge=1, le=MAX_LINES, description="Last lines of each container")
    previous: bool = Field(default=False, description="Of the containers before their last restart")
    since: Moment | None = Field(default=None, description="Not older than this time")
    since_seconds: int | None = Field(default=None, ge=1, le=30 * 86_400, description="Not older than this")

    def age(self) -> int | None:
        """How old a line may be, in seconds; None: as old as there are."""
        if self.since is None:
            return self.since_seconds
        return max(1, int((datetime.now(UTC) - self.since).total_seconds()) + 1)


async def answer_logs(
    request: Request, state: AppState, organization_id: str, environment_id: str, selection: Selection
) -> Response:
    """Read the lines and answer as the client accepts. Raises NotFound, ProblemError and ClusterError."""
    async with state.database.reading() as session:
        record = await environments.get_environment(session, organization_id, environment_id)
        revision = await revisions.get_revision(session, organization_id, record.id, record.revision)
        blueprint = read_blueprint(revision.blueprint)
        check_service(blueprint, selection.service)
        material = await secret_material(
            session, organization_id, record.id, blueprint, state.master_keys, revision=record.revision
        )
    cluster = await state.clusters.get(record.cluster)
    entries = await read_entries(cluster, record, selection)
    redacted = await asyncio.to_thread(_redacted, entries, list(material.values.values()))
    if NDJSON in request.headers.get("accept", ""):
        return Response("".join(f"{entry.model_dump_json()}\n" for entry in redacted), media_type=NDJSON)
    return answer_list(request, redacted)


def check_service(blueprint: Blueprint, wanted: str | None) -> None:
    """Raise ProblemError when a service is wanted that the Blueprint does not have."""
    names = [service.name for service in blueprint.services]
    if wanted is not None and wanted not in names:
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "The environment has no such service.",
            errors=[
                ProblemField(
                    path="query.service", message="is not a service", suggestion=f"one of {', '.join(names)}"
                )
            ],
        )


async def read_entries(
    cluster: Cluster,
    record: EnvironmentRecord,
    selection: Selection,
    *,
    limit_bytes: int = _BYTES_PER_CONTAINER,
) -> list[LogEntry]:
    """Read the lines by time, at most so many bytes of each container; not redacted. Raises ClusterError."""
    labels = {ENVIRONMENT: record.id}
    if selection.service is not None:
        labels[NAME] = selection.service
    pods = await cluster.list("Pod", record.namespace, labels=labels)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def read(pod: Manifest, container: str) -> list[LogEntry]:
        async with turns:
            return await _container_log(cluster, record.namespace, pod, container, selection, limit_bytes)

    logs = await asyncio.gather(
        *(
            read(pod, text(container, "name"))
            for pod in pods.items
            for container in [*children(pod, "spec", "initContainers"), *children(pod, "spec", "containers")]
        )
    )
    return sorted((entry for log in logs for entry in log), key=lambda entry: entry.timestamp)


async def _container_log(
    cluster: Cluster, namespace: str, pod: Manifest, container: str, selection: Selection, limit_bytes: int
) -> list[LogEntry]:
    name = text(pod, "metadata", "name")
    try:
        log = await cluster.logs(
            namespace,
            name,
            container=container,
            previous=selection.previous,
            tail_lines=selection.tail,
            limit_bytes=limit_bytes,
            since_seconds=selection.age(),
            timestamps=True,
        )
    except (NotFound, Invalid):
        return []  # it has not started yet, had no earlier run, or is gone since it was listed
    service = text(pod, "metadata", "labels", NAME)
    entries = []
    for line in log.splitlines():
        timestamp, _, message = line.partition(" ")
        entries.append(
            LogEntry(service=service, pod=name, container=container, timestamp=timestamp, line=message)
        )
    return entries


def _redacted(entries: Iterable[LogEntry], values: Iterable[str]) -> list[LogEntry]:
    redactor = Redactor(values)
    return [entry.model_copy(update={"line": redactor.redact(entry.line)}) for entry in entries]
