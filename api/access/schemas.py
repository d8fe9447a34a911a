"""Access to services, and what is measured of them, as the API answers it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import Field

from api.envelope import ApiModel


class Answers(StrEnum):
    """Whether something answers, as far as it was seen."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


class EndpointOut(ApiModel):
    """How one port of a service is reached."""

    service: str
    port: int
    port_name: str | None = None
    exposed: bool = Field(description="Whether the Blueprint exposes this port to the outside")
    url: str | None = Field(
        default=None, description="Address from outside, where the cluster has an ingress class"
    )
    proxy: str | None = Field(
        default=None, description="Path of this API that leads to it (absent for ports that are not TCP)"
    )
    internal: str = Field(description="Host and port inside the cluster")
    answers: Answers = Field(
        description="`true`: an HTTP request was answered through the cluster just now; `false`: it was not, "
        "or no pod is ready; `unknown`: nobody asked, or asking was not possible"
    )
    reason: str = Field(description="What `answers` rests on")
    http_status: int | None = Field(default=None, description="Status of the answer, when there was one")
    latency_ms: float | None = Field(
        default=None, description="Until the answer began, cluster's way included"
    )


class EndpointsOut(ApiModel):
    """The ports of an environment's services."""

    endpoints: list[EndpointOut]
    checked_at: datetime


class ContainerMetrics(ApiModel):
    """What one container used lately."""

    container: str
    cpu_cores: float
    memory_bytes: int


class PodMetrics(ApiModel):
    """What one pod used lately: the sum over its containers."""

    pod: str
    cpu_cores: float
    memory_bytes: int
    window_seconds: float | None = Field(default=None, description="Over how long the CPU was measured")
    measured_at: datetime | None = None
    containers: list[ContainerMetrics]

    @classmethod
    def of(
        cls,
        pod: str,
        containers: list[ContainerMetrics],
        *,
        window_seconds: float | None,
        measured_at: datetime | None,
    ) -> Self:
        """Add up the containers of a pod."""
        return cls(
            pod=pod,
            cpu_cores=round(sum(each.cpu_cores for each in containers), 6),
            memory_bytes=sum(each.memory_bytes for each in containers),
            window_seconds=window_seconds,
            measured_at=measured_at,
            containers=containers,
        )


class UnmeasuredPod(ApiModel):
    """A pod without figures."""

    pod: str
    container: str | None = Field(default=None, description="Which of its containers has none")
    reason: str


class ServiceMetrics(ApiModel):
    """What a service used lately. Sums are absent when nothing was measured: absent is not zero."""

    service: str
    cpu_cores: float | None = None
    memory_bytes: int | None = None
    pods: list[PodMetrics]
    unmeasured: list[UnmeasuredPod] = Field(
        default_factory=list, description="Pods that are not in the sums, and why; they may use something"
    )
    reason: str | None = Field(default=None, description="Why nothing was measured")


class MetricsOut(ApiModel):
    """CPU and memory of an environment's services."""

    available: bool
    source: str | None = Field(
        default=None,
        description="`metrics.k8s.io`; `cgroup`: containers were asked for what their cgroups count",
    )
    reason: str | None = Field(default=None, description="Why there are none")
    services: list[ServiceMetrics]


class GrowthOut(ApiModel):
    """How a volume grows: the line between its first and last sample, at least a minute apart."""

    known: bool
    bytes_per_day: int | None = None
    since: datetime | None = None
    samples: int
    reason: str | None = None


class VolumeStats(ApiModel):
    """One volume of a data store."""

    claim: str
    service: str
    volume: str
    mount_path: str
    phase: str = Field(description="Of the claim: `Bound`, `Pending`, `Lost`")
    requested_bytes: int | None = None
    capacity_bytes: int | None = Field(default=None, description="What the claim was given")
    used_bytes: int | None = Field(default=None, description="Absent when it could not be measured")
    method: str | None = Field(
        default=None,
        description="`df`: the filesystem is the volume's own; `du`: the volume shares a filesystem, so its "
        "files were added up",
    )
    reason: str | None = Field(default=None, description="Why the used bytes are absent")
    growth: GrowthOut


class StoreStatsOut(ApiModel):
    """The data stores of an environment."""

    stores: list[StoreOut]
    measured_at: datetime


class StoreOut(ApiModel):
    """One service that keeps data."""

    service: str
    store: str
    volumes: list[VolumeStats] = Field(description="Empty: what it keeps goes with its pods")


class ServiceCostOut(ApiModel):
    """What one service costs."""

    service: str
    replicas: int
    volumes: int
    cpu_cores: float
    memory_bytes: int
    storage_bytes: int
    per_hour: str
    per_month: str


class CostOut(ApiModel):
    """An estimate of what an environment costs. Amounts are decimal texts in `currency`."""

    currency: str
    per_hour: str
    per_month: str
    services: list[ServiceCostOut]
    assumed: list[str] = Field(description="What the estimate stands on")


StoreStatsOut.model_rebuild()
