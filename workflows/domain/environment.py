"""What every write to a cluster has to know about the environment that it is for."""

from collections.abc import Collection
from typing import Final

from workflows.domain.failures import WireModel

MIRROR_IMAGE: Final = (
    "nginx:1.30.6-alpine@sha256:0e52bd054126cdc040b1276c0af347aeb02a41b9cfe305d6094767ac30e97949"
)
"""The proxy of `mock.mode: mirror` where nothing else is said: the official image, by its digest."""


class EnvironmentContext(WireModel):
    """Whose objects these are, and under which fence they are written. Identifies; holds no contents."""

    environment_id: str
    environment_name: str
    organization_id: str
    installation_id: str
    operation_id: str
    cluster: str
    namespace: str
    revision: int
    fence: int

    def fenced_for_cleanup(self) -> "EnvironmentContext":
        """Return the same context one fence higher: for the undo of this operation."""
        return self.model_copy(update={"fence": self.fence + 1})


class GuardRails(WireModel):
    """Limits around one environment's namespace, from its organisation's plan and the cluster's settings."""

    quota: dict[str, str] = {}
    """`spec.hard` of the ResourceQuota; empty: no ResourceQuota."""
    default_requests: dict[str, str] = {"cpu": "10m", "memory": "32Mi"}
    """What a container that names no requests gets (LimitRange)."""
    default_limits: dict[str, str] = {}
    """What a container that names no limits gets (LimitRange); empty: none."""
    ingress_namespace: str | None = None
    """Namespace of the ingress controller: may reach exposed ports. None: no such rule."""
    ingress_class: str | None = None
    """IngressClass for exposed services; None: the cluster has none, they are reached through the proxy."""
    base_domain: str = "perdure.localhost"
    """Exposed services without a host of their own are served at `<service>-<namespace>.<base domain>`."""
    mirror_image: str = MIRROR_IMAGE
    """An nginx, which copies requests to the mocks that want it (`mock.mode: mirror`)."""
    blocked_egress: tuple[str, ...] = (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
    )
    """Ranges that pods may not reach, save the environment itself and DNS: nodes, metadata services."""

    def on_top_of(self, others: "GuardRails") -> "GuardRails":
        """Return the others with the fields that were set here in the place of theirs."""
        return others.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})


class Overrides(WireModel):
    """Recorded changes on top of a revision; desired state = revision + overrides."""

    replicas: dict[str, int] = {}
    """By service: replicas that were set by scale."""
    restarts: dict[str, str] = {}
    """By service: id of the operation that last restarted it."""
    loaded: dict[str, str] = {}
    """By service: id of the snapshot that its data came from. Its init is not run: it ran before that."""
    stopped: bool = False
    """No service has pods; the numbers in `replicas` are kept for the resume."""

    def of(self, services: Collection[str]) -> "Overrides":
        """Return what of this concerns the services of a Blueprint."""
        return self.model_copy(
            update={
                "replicas": {name: count for name, count in self.replicas.items() if name in services},
                "restarts": {name: mark for name, mark in self.restarts.items() if name in services},
                "loaded": {name: snapshot for name, snapshot in self.loaded.items() if name in services},
            }
        )


class ObjectName(WireModel):
    """One object in an environment's namespace, whichever bears the name."""

    kind: str
    name: str


class ObjectIdentity(WireModel):
    """One object in an environment's namespace."""

    kind: str
    name: str
    uid: str

    @property
    def title(self) -> str:
        """Return `Kind/name`."""
        return f"{self.kind}/{self.name}"
