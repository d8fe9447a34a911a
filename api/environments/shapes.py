"""From records of environments to what the API answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from activities.db import planning
from activities.db.records import Condition, EnvironmentRecord, JsonObject, OperationRecord
from api.environments.pods import ServiceLive, desired_pods
from api.environments.schemas import ConditionOut, EnvironmentOut, ServiceOut
from api.operations.schemas import FieldChangeOut, ServiceChangeOut
from api.operations.shapes import operation_out
from api.problems import ProblemField
from api.settings import ApiSettings
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import EnvironmentContext, Overrides
from workflows.domain.errors import FieldError
from workflows.domain.manifests import endpoint_urls
from workflows.domain.operations import EnvironmentPhase
from workflows.domain.update import ServiceChange

WITHOUT_PODS: Final = frozenset({EnvironmentPhase.STOPPING, EnvironmentPhase.STOPPED})
"""Phases in which there should be no pods, whatever revision and overrides say."""


def read_blueprint(document: JsonObject) -> Blueprint:
    """Read a stored Blueprint back: it was checked when it was accepted."""
    return Blueprint.model_validate(document)


def context_of(record: EnvironmentRecord) -> EnvironmentContext:
    """Whose objects these are, for names only: nothing is written under it."""
    return planning.context_of(record, "", revision=record.revision, fence=0)


def in_its_phase(record: EnvironmentRecord, overrides: Overrides) -> Overrides:
    """Return what was recorded on top of the revision, stopped when the environment is, or is about to be."""
    return overrides.model_copy(update={"stopped": record.phase in WITHOUT_PODS})


def services_out(
    record: EnvironmentRecord,
    blueprint: Blueprint,
    *,
    overrides: Overrides,
    live: Mapping[str, ServiceLive] | None = None,
) -> list[ServiceOut]:
    """Shape the services; what the cluster said goes over what Blueprint and overrides say."""
    overrides = in_its_phase(record, overrides)
    urls = endpoint_urls(context_of(record), blueprint, record.guard_rails)
    services = []
    for service in blueprint.services:
        seen = (live or {}).get(service.name)
        endpoints = [urls[service.name]] if service.name in urls else []
        services.append(
            ServiceOut(
                name=service.name,
                kind=service.kind,
                image=seen.image if seen else service.image,
                replicas=seen.desired if seen else desired_pods(service, overrides),
                ready=seen.ready if seen else None,
                restarts=seen.restarts if seen else None,
                state=seen.state if seen else None,
                reason=seen.reason if seen else None,
                message=seen.message if seen else None,
                endpoints=endpoints,
            )
        )
    return services


def environment_fields(
    settings: ApiSettings, record: EnvironmentRecord, operation: OperationRecord | None
) -> dict[str, object]:
    """All of an environment but its services."""
    return {
        "id": record.id,
        "name": record.name,
        "description": record.description,
        "organization_id": record.organization_id,
        "cluster": record.cluster,
        "namespace": record.namespace,
        "status": record.phase,
        "conditions": conditions_out(record.conditions),
        "revision": record.revision,
        "plan": record.plan,
        "operation": (
            operation_out(settings, operation, environment_name=record.name) if operation else None
        ),
        "auto_shutdown_enabled": record.auto_shutdown_enabled,
        "auto_shutdown_delay_minutes": record.auto_shutdown_delay_minutes,
        "auto_shutdown_unmeasured": record.auto_shutdown_unmeasured,
        "ttl_minutes": record.ttl_minutes,
        "expires_at": record.expires_at,
        "last_active_at": record.last_active_at,
        "protected": record.protected,
        "labels": record.labels,
        "version": record.version,
        "created_by": record.created_by,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def environment_out(
    settings: ApiSettings,
    record: EnvironmentRecord,
    services: Sequence[ServiceOut],
    *,
    operation: OperationRecord | None = None,
) -> EnvironmentOut:
    """Shape an environment."""
    fields = environment_fields(settings, record, operation)
    return EnvironmentOut.model_validate({**fields, "services": services})


def service_changes_out(changes: Iterable[ServiceChange]) -> list[ServiceChangeOut]:
    """Shape what an update does to each service."""
    return [
        ServiceChangeOut(
            service=change.service,
            effect=change.effect,
            fields=[
                FieldChangeOut(field=each.field, before=each.before, after=each.after)
                for each in change.fields
            ],
            reason=change.reason or None,
            lost_volumes=list(change.lost_volumes),
        )
        for change in changes
    ]


def conditions_out(conditions: Iterable[Condition]) -> list[ConditionOut]:
    """Shape conditions."""
    return [
        ConditionOut(
            type=each.type, status=each.status, reason=each.reason, message=each.message, since=each.since
        )
        for each in conditions
    ]


def field_problems(errors: Iterable[FieldError]) -> list[ProblemField]:
    """Shape the faults of a document."""
    return [
        ProblemField(path=error.field, message=error.message, suggestion=error.suggestion, code=error.code)
        for error in errors
    ]
