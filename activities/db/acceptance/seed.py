"""Accepting a seed: what puts data into a running environment, once."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import Accepted, accept, changeable, refuse_phases
from activities.db.errors import SeedInvalid
from activities.db.inserts import Asked
from activities.db.records import Actor
from activities.db.repositories import secrets, seed_packages
from activities.db.repositories.revisions import current_blueprint
from activities.db.repositories.seed_runs import add_run
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, Protocol, Service, ServiceKind
from workflows.domain.errors import FieldError
from workflows.domain.init_sql import sql_fault
from workflows.domain.manifests import running_as, secret_names
from workflows.domain.operations import EnvironmentPhase, OperationKind
from workflows.domain.plan import digest, plan_seed
from workflows.domain.seeds import (
    SeedContent,
    SeedRun,
    SeedType,
    content_faults,
    fill_sql,
    run_key,
    run_values,
)
from workflows.domain.seeds_http import HttpRequest, tcp_port, value_faults

_SEEDABLE = frozenset({EnvironmentPhase.RUNNING, EnvironmentPhase.DEGRADED})


@dataclass(frozen=True, slots=True)
class PackageChoice:
    """A published package; `version` None: the newest."""

    name: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class SeedWish:
    """What is asked for: a package, or a seed of its own; `given`: values by parameter, not looked at yet."""

    seed: PackageChoice | SeedContent
    service: str | None
    given: Mapping[str, object]
    force: bool = False


async def seed_environment(
    session: AsyncSession, actor: Actor, environment_id: str, wish: SeedWish, *, keys: MasterKeys
) -> Accepted:
    """Accept that a seed is run, once for its content, parameters and service in this environment.

    Whether it has run before is known to the cluster alone: the operation finds out, and says so.
    Raises NotFound (also for the package), AlreadyDeleted, Deleting, Busy, NotApplicable unless it runs, or
    SeedInvalid, which lists all that does not fit.
    """
    environment = await changeable(session, actor, environment_id)
    content, package = wish.seed, ""
    if isinstance(content, PackageChoice):
        found = await seed_packages.get_package(session, actor.organization_id, content.name, content.version)
        content, package = found.content, f"{found.name}@{found.version}"
    refuse_phases(
        environment, "a seed needs an environment that runs", *(frozenset(EnvironmentPhase) - _SEEDABLE)
    )
    blueprint = await current_blueprint(session, environment)
    run = _run(blueprint, environment.id, content, package, wish)
    key = await secrets.data_key(session, environment.organization_id, keys)
    told = digest(key.hash_key(), run.model_dump(mode="json", include={"key", "digest", "service"}))
    accepted = await accept(
        session,
        actor,
        environment,
        Asked(OperationKind.SEED),
        plan_seed(run.service, told),
        audit=(
            "environment.seed",
            {"service": run.service, "seed": package or None, "digest": run.digest, "force": run.force},
        ),
    )
    await add_run(session, environment.organization_id, accepted.operation.id, run)
    return accepted


def _run(
    blueprint: Blueprint, environment_id: str, content: SeedContent, package: str, wish: SeedWish
) -> SeedRun:
    """What is run, with all values checked. Raises SeedInvalid."""
    values, references, faults = run_values(content.parameters, wish.given, secret_names(blueprint))
    places = [*content_faults(content), *faults]
    name = wish.service or content.service
    service = next((each for each in blueprint.services if each.name == name), None)
    if service is None:
        known = f"known: {', '.join(each.name for each in blueprint.services)}"
        message = "is required: the package names none" if name is None else "there is no such service"
        places.append(FieldError(path=("service",), message=message, suggestion=known))
    elif content.type is SeedType.SQL and not places:
        places += _sql_faults(service, content.script or "", values, references)
    elif content.http is not None and not places:
        places += _http_faults(service, content.http, values)
    if places:
        raise SeedInvalid(tuple(_as_asked(each, wish) for each in places))
    chosen = {**values, **references}
    return SeedRun(
        content=content,
        service=name or "",
        package=package,
        digest=content.digest,
        values=values,
        secrets=references,
        key=run_key(environment_id, name or "", content.digest, chosen),
        force=wish.force,
    )


def _as_asked(fault: FieldError, wish: SeedWish) -> FieldError:
    """Return the fault with its place as the request spells it; a seed of its own is given `secrets`."""
    if isinstance(wish.seed, PackageChoice) or fault.path[:1] != ("parameters",):
        return fault
    return fault.model_copy(update={"path": ("secrets", *fault.path[1:])})


def _sql_faults(
    service: Service, script: str, values: Mapping[str, str | int | bool], references: Mapping[str, str]
) -> list[FieldError]:
    running = running_as(service)
    if service.kind is ServiceKind.JOB:
        return [_is_job(service, "SQL could be run in")]
    filled = fill_sql(running.store, script, values, dict.fromkeys(references, ""))
    fault = sql_fault(running.store, filled.script)
    return (
        []
        if fault is None
        else [FieldError(path=("script",), message=fault.reason, suggestion=fault.way_out)]
    )


def _http_faults(
    service: Service, request: HttpRequest, values: Mapping[str, str | int | bool]
) -> list[FieldError]:
    if service.kind is ServiceKind.JOB:
        return [_is_job(service, "a request could be sent to")]
    running = running_as(service)
    faults = [*value_faults(request, values)]
    if tcp_port(running, request.port) is None:
        declared = ", ".join(
            str(port.container_port) for port in running.ports if port.protocol is Protocol.TCP
        )
        message = f"{service.name} declares no such TCP port"
        place = ("http", "port")
        faults.append(FieldError(path=place, message=message, suggestion=f"declared: {declared or 'none'}"))
    return faults


def _is_job(service: Service, what: str) -> FieldError:
    return FieldError(path=("service",), message=f"{service.name} is a job: it has no pod that {what}")
