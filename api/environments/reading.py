"""What a cluster says about an environment: its pods, or that its namespace is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from activities.db.records import EnvironmentRecord
from api.environments.pods import ServiceLive, kept_in_pods, services_live
from clusters.errors import Forbidden, NotFound
from clusters.objects import Manifest, ObjectRef
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import Overrides
from workflows.domain.failures import Blocker, FailureKind
from workflows.domain.json_reading import mapping, text
from workflows.domain.names import ENVIRONMENT, belongs_to
from workflows.domain.operations import EnvironmentPhase

if TYPE_CHECKING:
    from clusters.gateway import Cluster

_WORKLOADS: Final = ("Deployment", "StatefulSet", "Job")


class Presence(StrEnum):
    """Whether there was something to read."""

    ANSWERS = "answers"
    ABSENT = "absent"
    """The cluster answers, and has no namespace of this environment: no pods, for certain."""
    UNREACHABLE = "unreachable"
    """Nothing is known: no answer, or the pods of a namespace that is there may not be read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the cluster said, or why it could not be read."""

    presence: Presence
    services: Mapping[str, ServiceLive] = field(default_factory=dict)
    kept_in: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By service: what `snapshot.kept_in` says of its pods, where no volume keeps its data."""
    blocked_by: tuple[Blocker, ...] = ()
    trouble: FailureKind | None = None
    """Set exactly when it is unreachable."""

    @property
    def reachable(self) -> bool:
        """Whether the services are as the cluster has them."""
        return self.presence is not Presence.UNREACHABLE


async def read_cluster(
    cluster: Cluster, record: EnvironmentRecord, blueprint: Blueprint, overrides: Overrides
) -> Reading:
    """Read an environment's services, and while it is deleted what holds that up. Raises ClusterError."""
    pods = await _pods(cluster, record)
    blockers: tuple[Blocker, ...] = ()
    if record.phase is EnvironmentPhase.DELETING:
        blockers = await cluster.blockers(record.namespace)
    return Reading(
        Presence.ABSENT if pods is None else Presence.ANSWERS,
        services_live(blueprint, overrides, pods or ()),
        kept_in_pods(blueprint, pods or ()),
        blockers,
    )


async def read_workloads(cluster: Cluster, record: EnvironmentRecord) -> frozenset[str]:
    """Return the UIDs of an environment's workloads; none without its namespace. Raises ClusterError."""
    if not await _has_namespace(cluster, record):
        return frozenset()
    kinds = (cluster.list(kind, record.namespace, labels={ENVIRONMENT: record.id}) for kind in _WORKLOADS)
    return frozenset(
        text(each, "metadata", "uid") for listing in await asyncio.gather(*kinds) for each in listing.items
    )


async def _pods(cluster: Cluster, record: EnvironmentRecord) -> tuple[Manifest, ...] | None:
    """The environment's pods; None: its namespace is not there. Raises ClusterError."""
    try:
        pods = (await cluster.list("Pod", record.namespace, labels={ENVIRONMENT: record.id})).items
    except (NotFound, Forbidden):
        # Our rights come from a RoleBinding inside the namespace: when it is gone, a list may be refused too.
        if await _has_namespace(cluster, record):
            raise
        return None
    # With rights in the whole cluster, the list of a namespace that is not there is merely empty.
    return pods if pods or await _has_namespace(cluster, record) else None


async def _has_namespace(cluster: Cluster, record: EnvironmentRecord) -> bool:
    """Whether the environment's own namespace is there and is to stay."""
    live = await cluster.get(ObjectRef("Namespace", record.namespace))
    if live is None or text(live, "metadata", "deletionTimestamp"):
        return False
    return belongs_to(mapping(live, "metadata", "labels"), record.id, record.installation_id)
