"""Status of environments, read live: at most once in two seconds for each, however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from activities.db.engine import Database
from activities.db.errors import DomainError
from activities.db.records import Condition, EnvironmentRecord, OperationRecord, StepRecord
from activities.db.repositories import environments, operations, revisions
from activities.db.restored import gone_from, say_data_are_gone
from api.clusters import Clusters
from api.environments.pods import ServiceState
from api.environments.reading import Presence, Reading, read_cluster
from api.environments.schemas import StatusOut
from api.environments.shapes import (
    conditions_out,
    environment_fields,
    in_its_phase,
    read_blueprint,
    services_out,
)
from api.operations.shapes import blocker_out
from api.readings import Readings
from api.settings import ApiSettings
from clusters.errors import ClusterError, Forbidden
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import Overrides
from workflows.domain.failures import FAILURES, FailureKind
from workflows.domain.operations import SETTLED_PHASES, EnvironmentPhase, OperationKind, StepState

CLUSTER_SECONDS: Final = 5.0
"""A status answer waits for the cluster no longer than this."""
_MOST_CACHED: Final = 5_000
_READ_LIVE: Final = frozenset({EnvironmentPhase.RUNNING, EnvironmentPhase.DEGRADED})
"""Phases that follow from what is seen; all others are an operation's to set."""
_NAMESPACE_MISSING: Final = "NamespaceMissing"

_log = structlog.get_logger("perdure.api.status")


@dataclass(frozen=True, slots=True)
class Known:
    """What the database says about an environment."""

    record: EnvironmentRecord
    blueprint: Blueprint
    overrides: Overrides
    operation: OperationRecord | None
    steps: tuple[StepRecord, ...]


class LiveStatus:
    """The status of environments, cached and with one reading in flight for each."""

    def __init__(self, settings: ApiSettings, database: Database, clusters: Clusters) -> None:
        self._settings = settings
        self._database = database
        self._clusters = clusters
        self._readings: Readings[tuple[str, str], StatusOut] = Readings(
            settings.status_cache_seconds, _MOST_CACHED
        )

    async def status(self, organization_id: str, environment_id: str) -> StatusOut:
        """Return the status of an organisation's environment. Raises NotFound."""
        key = (organization_id, environment_id)
        return await self._readings.get(key, lambda: self._read(*key))

    def forget(self, organization_id: str, environment_id: str) -> None:
        """Drop what is cached: an operation has just been accepted."""
        self._readings.forget((organization_id, environment_id))

    async def _read(self, organization_id: str, environment_id: str) -> StatusOut:
        known = await read_known(self._database, organization_id, environment_id)
        reading = await self._ask_cluster(known)
        phase = live_phase(known.record.phase, reading)
        record = known.record
        gone = _data_gone(known, reading)
        if gone or _is_news(record, phase, reading):
            record = await self._write_back(record, phase, reading, gone)
        return _status_out(self._settings, known, record, phase, reading)

    async def _ask_cluster(self, known: Known) -> Reading:
        record = known.record
        if record.phase is EnvironmentPhase.DELETED:
            return Reading(Presence.ABSENT)
        try:
            async with asyncio.timeout(CLUSTER_SECONDS):
                cluster = await self._clusters.get(record.cluster)
                return await read_cluster(cluster, record, known.blueprint, known.overrides)
        except (ClusterError, TimeoutError) as error:
            _log.warning("cluster_unreadable", cluster=record.cluster, error=type(error).__name__)
            refused = isinstance(error, Forbidden)
            return Reading(
                Presence.UNREACHABLE,
                trouble=FailureKind.FORBIDDEN if refused else FailureKind.CLUSTER_UNAVAILABLE,
            )

    async def _write_back(
        self,
        record: EnvironmentRecord,
        phase: EnvironmentPhase,
        reading: Reading,
        gone: Collection[str],
    ) -> EnvironmentRecord:
        """Note a phase that was seen, and the services whose restored data are gone.

        Not while an operation is live: then it is the operation's to set.
        """
        try:
            async with self._database.transaction() as session:
                current = await environments.get_environment(session, record.organization_id, record.id)
                live = await operations.live(session, record.organization_id, record.id)
                if live or current.phase is not record.phase:
                    return current
                if gone:
                    await say_data_are_gone(session, record, gone, _why_gone(reading), datetime.now(UTC))
                condition = _ready_condition(record, reading) if _is_news(record, phase, reading) else None
                return await environments.update_phase(
                    session, record.organization_id, record.id, phase, condition
                )
        except DomainError:
            return record


async def read_known(database: Database, organization_id: str, environment_id: str) -> Known:
    """Read what the database says about an environment. Raises NotFound."""
    async with database.reading() as session:
        record = await environments.get_environment(session, organization_id, environment_id)
        revision = await revisions.get_revision(session, organization_id, record.id, record.revision)
        overrides = in_its_phase(record, await environments.overrides(session, organization_id, record.id))
        operation = (await operations.latest(session, organization_id, [record.id])).get(record.id)
        steps: tuple[StepRecord, ...] = ()
        if operation is not None and not operation.ended:
            steps = await operations.steps(session, organization_id, operation.id)
    return Known(record, read_blueprint(revision.blueprint), overrides, operation, steps)


def live_phase(phase: EnvironmentPhase, reading: Reading) -> EnvironmentPhase:
    """The phase by what was seen: running while every service is ready, else degraded."""
    if phase not in _READ_LIVE or not reading.reachable:
        return phase
    if reading.presence is Presence.ABSENT:
        return EnvironmentPhase.DEGRADED
    whole = all(service.state is ServiceState.READY for service in reading.services.values())
    return EnvironmentPhase.RUNNING if whole else EnvironmentPhase.DEGRADED


def _is_news(record: EnvironmentRecord, phase: EnvironmentPhase, reading: Reading) -> bool:
    """Whether what was seen is to be written back: another phase, or degraded for another reason."""
    if phase is not record.phase:
        return True
    if phase is not EnvironmentPhase.DEGRADED or not reading.reachable:
        return False
    known = next((each.reason for each in record.conditions if each.type == environments.READY), None)
    return known != _ready_condition(record, reading).reason


def _data_gone(known: Known, reading: Reading) -> tuple[str, ...]:
    """The services whose restored data are gone; none while that is an operation's to say."""
    busy = known.operation is not None and not known.operation.ended
    if busy or known.record.delete_requested_at is not None or not reading.reachable:
        return ()
    places = None if reading.presence is Presence.ABSENT else reading.kept_in
    return gone_from(known.record, known.overrides.loaded, places)


def _why_gone(reading: Reading) -> str:
    if reading.presence is Presence.ABSENT:
        return "whose namespace is gone"
    return "whose pods were replaced or ended (not by an operation)"


def _ready_condition(record: EnvironmentRecord, reading: Reading) -> Condition:
    status, reason, message = "True", "ServicesReady", "every service is ready"
    if reading.presence is Presence.ABSENT:
        status, reason, message = "False", _NAMESPACE_MISSING, _without_namespace(record)
    elif troubled := _troubled(reading):
        status, reason, message = "False", "ServicesNotReady", f"not ready: {', '.join(troubled)}"
    return Condition(
        type=environments.READY, status=status, reason=reason, message=message, since=datetime.now(UTC)
    )


def _without_namespace(record: EnvironmentRecord) -> str:
    return (
        f"The cluster has no namespace {record.namespace} of this environment (any more): "
        f"`perdure env retry {record.name}` makes it again."
    )


def _troubled(reading: Reading) -> list[str]:
    return [name for name, service in reading.services.items() if service.state is not ServiceState.READY]


def _status_out(
    settings: ApiSettings,
    known: Known,
    record: EnvironmentRecord,
    phase: EnvironmentPhase,
    reading: Reading,
) -> StatusOut:
    reason, message = _reason(record, known.operation, phase, reading)
    running = [step.name for step in known.steps if step.state is StepState.RUNNING]
    live_operation = known.operation is not None and not known.operation.ended
    return StatusOut.model_validate(
        {
            **environment_fields(settings, record, known.operation),
            "status": phase,
            "conditions": conditions_out(record.conditions),
            "services": services_out(
                record, known.blueprint, overrides=known.overrides, live=reading.services
            ),
            "terminal": phase in SETTLED_PHASES and not live_operation,
            "phase": ", ".join(running) or phase.value,
            "reason": reason,
            "message": message,
            "blocked_by": [blocker_out(blocker) for blocker in reading.blocked_by],
            "cluster_reachable": reading.reachable,
            "observed_at": datetime.now(UTC),
        }
    )


def _reason(
    record: EnvironmentRecord, operation: OperationRecord | None, phase: EnvironmentPhase, reading: Reading
) -> tuple[str | None, str | None]:
    if reading.trouble is not None:
        return reading.trouble.value, FAILURES[reading.trouble].help
    if reading.blocked_by:
        return "blocked", "; ".join(blocker.object for blocker in reading.blocked_by)
    if operation is not None and operation.failure is not None and phase not in _READ_LIVE:
        return operation.failure.kind.value, operation.failure.message
    if phase is EnvironmentPhase.DEGRADED:
        return _why_degraded(record, reading)
    if operation is not None and operation.kind is OperationKind.DELETE and not operation.ended:
        return "deleting", None
    return None, None


def _why_degraded(record: EnvironmentRecord, reading: Reading) -> tuple[str | None, str | None]:
    if reading.presence is Presence.ABSENT:
        return _NAMESPACE_MISSING, _without_namespace(record)
    troubled = _troubled(reading)
    if not troubled:
        return None, None
    service = reading.services[troubled[0]]
    return service.reason, f"{troubled[0]}: {service.message or service.reason}"
