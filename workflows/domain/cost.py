"""What an environment costs by its requests and volumes: an estimate over a rate card, no bill."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from workflows.domain.blueprint import Blueprint, MockMode, Service, ServiceKind, VolumeType
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.manifests import desired_replicas
from workflows.domain.manifests_common import running_as
from workflows.domain.manifests_workload import DEFAULT_CLAIM_SIZE
from workflows.domain.mirror import CONTAINER, PROXY_REQUESTS, mirror_of, mock_name, mock_service
from workflows.domain.quantity import parse_quantity

HOURS_PER_MONTH: Final = 730
_GIB: Final = 2**30
_MICRO: Final = Decimal("0.000001")


class RateCard(BaseModel):
    """Prices of what is asked for. The default is an example, nobody's price list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str = Field(default="USD", pattern="^[A-Z]{3}$")
    cpu_core_hour: Decimal = Field(default=Decimal("0.032"), ge=0)
    memory_gib_hour: Decimal = Field(default=Decimal("0.0043"), ge=0)
    storage_gib_month: Decimal = Field(default=Decimal("0.10"), ge=0)


class ServiceCost(BaseModel):
    """What one service asks for over all its replicas, and what that costs."""

    model_config = ConfigDict(frozen=True)

    service: str
    replicas: int
    volumes: int
    cpu_cores: Decimal
    memory_bytes: int
    storage_bytes: int
    per_hour: Decimal
    per_month: Decimal


class CostEstimate(BaseModel):
    """The sum over all services; amounts in `currency`, to a millionth."""

    model_config = ConfigDict(frozen=True)

    currency: str
    per_hour: Decimal
    per_month: Decimal
    services: tuple[ServiceCost, ...]
    assumed: tuple[str, ...]


def estimate_cost(
    blueprint: Blueprint, overrides: Overrides, rails: GuardRails, rates: RateCard, *, stopped: bool = False
) -> CostEstimate:
    """Estimate what an environment costs while it stands as it is.

    A `stopped` one has no pods and keeps its volumes. Jobs run once and are left out. Mocks count: one in the
    service's pods, and the proxy of a mirror, with the service; one with pods of its own by its own name.
    """
    services = _with_mocks(blueprint)
    exact = [_service(service, overrides, rails, rates, stopped) for service in services]
    assumed = [
        f"a month has {HOURS_PER_MONTH} hours",
        "CPU and memory count as requested, not as used; limits beyond requests cost nothing",
        f"CPU {rates.cpu_core_hour} {rates.currency} per core and hour, memory {rates.memory_gib_hour} "
        f"per GiB and hour, volumes {rates.storage_gib_month} per GiB and month",
    ]
    defaulted = [
        name
        for service in services
        if service.kind is ServiceKind.SERVICE
        for name, asked in _containers(service)
        if asked["cpu"] is None or asked["memory"] is None
    ]
    if defaulted:
        assumed.append(f"the namespace's default requests for: {', '.join(defaulted)}")
    jobs = [each.name for each in blueprint.services if each.kind is ServiceKind.JOB]
    if jobs:
        assumed.append(f"jobs run once and are not counted: {', '.join(jobs)}")
    if stopped:
        assumed.append("the environment is stopped: only its volumes cost")
    assumed.append(
        "volumes that scaling down left behind, traffic and what is outside the cluster are left out"
    )
    return CostEstimate(
        currency=rates.currency,
        per_hour=_amount(sum((hour for _, hour in exact), Fraction(0))),
        per_month=_amount(sum((hour for _, hour in exact), Fraction(0)) * HOURS_PER_MONTH),
        services=tuple(cost for cost, _ in exact),
        assumed=tuple(assumed),
    )


def _service(
    service: Service, overrides: Overrides, rails: GuardRails, rates: RateCard, stopped: bool
) -> tuple[ServiceCost, Fraction]:
    is_job = service.kind is ServiceKind.JOB
    replicas = 0 if stopped or is_job else desired_replicas(service, overrides)
    # A stopped or scaled-down service keeps the volumes that its replicas had.
    volumes = _volumes(service) if not is_job else []
    holders = max(replicas, service.replicas)
    cpu, memory = (replicas * _asked(service, what, rails) for what in ("cpu", "memory"))
    storage = holders * sum(volumes, Fraction(0))
    per_hour = (
        cpu * Fraction(rates.cpu_core_hour)
        + memory / _GIB * Fraction(rates.memory_gib_hour)
        + storage / _GIB * Fraction(rates.storage_gib_month) / HOURS_PER_MONTH
    )
    cost = ServiceCost(
        service=service.name,
        replicas=replicas,
        volumes=holders * len(volumes),
        cpu_cores=_amount(cpu),
        memory_bytes=round(memory),
        storage_bytes=round(storage),
        per_hour=_amount(per_hour),
        per_month=_amount(per_hour * HOURS_PER_MONTH),
    )
    return cost, per_hour


def _with_mocks(blueprint: Blueprint) -> list[Service]:
    """The services, and each mock that has pods of its own."""
    return [
        one for service in blueprint.services for one in (service, mock_service(service)) if one is not None
    ]


def _containers(service: Service) -> list[tuple[str, Mapping[str, str | None]]]:
    """The containers of one pod, and what each asks for; nothing where the namespace's default holds.

    A limit without a request is the request, as the cluster has it.
    """
    wanted = service.resources
    own = {"cpu": wanted.cpu or wanted.limits.cpu, "memory": wanted.memory or wanted.limits.memory}
    containers: list[tuple[str, Mapping[str, str | None]]] = [(service.name, own)]
    if mirror_of(service) is not None:
        containers.append((CONTAINER, PROXY_REQUESTS))
    elif service.mock is not None and service.mock.mode is MockMode.SIDECAR:
        containers.append((mock_name(service.name), {"cpu": None, "memory": None}))
    return containers


def _asked(service: Service, what: str, rails: GuardRails) -> Fraction:
    """What one pod asks for, by the defaults of its namespace where a container does not say."""
    amounts = [asked[what] or rails.default_requests.get(what) for _, asked in _containers(service)]
    return sum(map(_quantity, amounts), Fraction(0))


def _volumes(service: Service) -> list[Fraction]:
    return [
        parse_quantity(volume.size or DEFAULT_CLAIM_SIZE)
        for volume in running_as(service).volumes
        if volume.type is VolumeType.PVC
    ]


def _quantity(text: str | None) -> Fraction:
    return Fraction(0) if text is None else parse_quantity(text)


def _amount(exact: Fraction) -> Decimal:
    return (Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(_MICRO, ROUND_HALF_UP)
