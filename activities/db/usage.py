"""What an environment counts for against its organisation's caps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from sqlalchemy import bindparam, func
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import table_of
from activities.db.errors import CapExceeded
from activities.db.records import Caps
from activities.db.tables import Environment
from workflows.domain.blueprint import Blueprint, Service, VolumeType
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.manifests_workload import DEFAULT_CLAIM_SIZE
from workflows.domain.quantity import parse_quantity

_TABLE: Final = table_of(Environment)
_SUMS: Final = select(
    func.count(),
    func.coalesce(func.sum(_TABLE.c.cpu_millis), 0),
    func.coalesce(func.sum(_TABLE.c.memory_bytes), 0),
    func.coalesce(func.sum(_TABLE.c.storage_bytes), 0),
).where(_TABLE.c.organization_id == bindparam("organization_id"), _TABLE.c.deleted_at.is_(None))


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over all replicas: CPU requests in thousandths of a core, memory requests and volumes in bytes."""

    environments: int = 0
    cpu_millis: int = 0
    memory_bytes: int = 0
    storage_bytes: int = 0

    def without(self, other: "Usage") -> "Usage":
        """Return what is left when `other`, a part of this, is given up."""
        return Usage(
            self.environments - other.environments,
            self.cpu_millis - other.cpu_millis,
            self.memory_bytes - other.memory_bytes,
            self.storage_bytes - other.storage_bytes,
        )

    def amount(self, cap: str) -> int:
        """Return the part that counts against a cap of this name."""
        return {
            "environments": self.environments,
            "cpu": self.cpu_millis,
            "memory": self.memory_bytes,
            "storage": self.storage_bytes,
        }[cap]

    def written(self) -> Caps:
        """Return it in the form of the caps that would just allow it."""
        return Caps(
            environments=self.environments,
            cpu=_cores(self.cpu_millis),
            memory=_mebibytes(self.memory_bytes),
            storage=_mebibytes(self.storage_bytes),
        )


NOTHING: Final = Usage()
_NO_OVERRIDES: Final = Overrides()


def usage_of(blueprint: Blueprint, guard_rails: GuardRails, overrides: Overrides = _NO_OVERRIDES) -> Usage:
    """Return what a Blueprint asks for. A service without requests counts with its namespace's defaults.

    A stopped environment counts as one that runs: it must be able to be resumed.
    """
    cpu = memory = storage = Fraction(0)
    for service in blueprint.services:
        resources = service.resources
        replicas = overrides.replicas.get(service.name, service.replicas)
        cpu += replicas * _quantity(
            resources.cpu or resources.limits.cpu or guard_rails.default_requests.get("cpu")
        )
        memory += replicas * _quantity(
            resources.memory or resources.limits.memory or guard_rails.default_requests.get("memory")
        )
        storage += replicas * _storage(service)
    return Usage(
        environments=1,
        cpu_millis=math.ceil(cpu * 1000),
        memory_bytes=math.ceil(memory),
        storage_bytes=math.ceil(storage),
    )


def counted(environment: Environment) -> Usage:
    """Return what an environment's row counts for now."""
    return Usage(1, environment.cpu_millis, environment.memory_bytes, environment.storage_bytes)


def count(environment: Environment, usage: Usage) -> None:
    """Let a locked environment's row count for this much."""
    environment.cpu_millis = usage.cpu_millis
    environment.memory_bytes = usage.memory_bytes
    environment.storage_bytes = usage.storage_bytes


async def used_by(session: AsyncSession, organization_id: str) -> Usage:
    """Return what the organisation's environments count for; deleted ones count for nothing."""
    sums = (await session.exec(_SUMS, params={"organization_id": organization_id})).one()
    environments, cpu, memory, storage = sums
    return Usage(int(environments), int(cpu), int(memory), int(storage))


def exceeded(caps: Caps, used: Usage, asked: Usage) -> tuple[CapExceeded, ...]:
    """Return every cap that `asked` on top of `used` would break. The caller has the organisation locked."""
    faults: list[CapExceeded] = []
    if caps.environments is not None and used.environments + asked.environments > caps.environments:
        faults.append(
            CapExceeded(
                "environments",
                limit=str(caps.environments),
                used=str(used.environments),
                asked=str(asked.environments),
            )
        )
    amounts: tuple[tuple[str, str | None, int, int, int, Callable[[int], str]], ...] = (
        ("cpu", caps.cpu, 1000, used.cpu_millis, asked.cpu_millis, _cores),
        ("memory", caps.memory, 1, used.memory_bytes, asked.memory_bytes, _mebibytes),
        ("storage", caps.storage, 1, used.storage_bytes, asked.storage_bytes, _mebibytes),
    )
    for name, limit, unit, before, more, shown in amounts:
        if limit is not None and before + more > parse_quantity(limit) * unit:
            faults.append(CapExceeded(name, limit=limit, used=shown(before), asked=shown(more)))
    return tuple(faults)


def _storage(service: Service) -> Fraction:
    sizes = (volume.size or DEFAULT_CLAIM_SIZE for volume in service.volumes if volume.type is VolumeType.PVC)
    return sum((parse_quantity(size) for size in sizes), Fraction(0))


def _quantity(text: str | None) -> Fraction:
    return Fraction(0) if text is None else parse_quantity(text)


def _cores(millis: int) -> str:
    return f"{millis}m"


def _mebibytes(amount: int) -> str:
    return f"{math.ceil(amount / 2**20)}Mi"
