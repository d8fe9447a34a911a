"""Kubernetes objects as plain dicts: the kinds that we use, where they are served, how to read into them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue

from clusters.errors import Invalid, NotServed
from workflows.domain.environment import ObjectIdentity
from workflows.domain.json_reading import mapping, text

Manifest = dict[str, JsonValue]
"""One object as the API server reads and writes it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a kind is served. `group` is empty for the core group."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Return what `apiVersion` says in a manifest of this kind."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_path(self) -> str:
        """Return the path under which the group and version are served (discovery)."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Return the path of one object, or of the collection without `name`.

        A namespaced kind without `namespace` gives the collection over all namespaces.
        """
        path = self.group_path
        if self.namespaced and namespace:
            path += f"/namespaces/{quote(namespace, safe='')}"
        path += f"/{self.plural}"
        if name is not None:
            path += f"/{quote(name, safe='')}"
        return f"{path}/{subresource}" if subresource else path


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Name of one object; `namespace` is None for cluster-scoped kinds."""

    kind: str
    name: str
    namespace: str | None = None

    @property
    def title(self) -> str:
        """Return `Kind/name`."""
        return f"{self.kind}/{self.name}"


_SNAPSHOTS: Final = "snapshot.storage.k8s.io"
_GROUPS: Final = "groupsnapshot.storage.k8s.io"

KINDS: Final[dict[str, Kind]] = {
    kind.kind: kind
    for kind in (
        Kind("Namespace", "", "v1", "namespaces", namespaced=False),
        Kind("Node", "", "v1", "nodes", namespaced=False),
        Kind("PersistentVolume", "", "v1", "persistentvolumes", namespaced=False),
        Kind("ConfigMap", "", "v1", "configmaps"),
        Kind("Endpoints", "", "v1", "endpoints"),
        Kind("Event", "", "v1", "events"),
        Kind("LimitRange", "", "v1", "limitranges"),
        Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
        Kind("Pod", "", "v1", "pods"),
        Kind("ResourceQuota", "", "v1", "resourcequotas"),
        Kind("Secret", "", "v1", "secrets"),
        Kind("Service", "", "v1", "services"),
        Kind("ServiceAccount", "", "v1", "serviceaccounts"),
        Kind("DaemonSet", "apps", "v1", "daemonsets"),
        Kind("Deployment", "apps", "v1", "deployments"),
        Kind("ReplicaSet", "apps", "v1", "replicasets"),
        Kind("StatefulSet", "apps", "v1", "statefulsets"),
        Kind("CronJob", "batch", "v1", "cronjobs"),
        Kind("Job", "batch", "v1", "jobs"),
        Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
        Kind("Ingress", "networking.k8s.io", "v1", "ingresses"),
        Kind("IngressClass", "networking.k8s.io", "v1", "ingressclasses", namespaced=False),
        Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
        Kind("Gateway", "gateway.networking.k8s.io", "v1", "gateways"),
        Kind("GatewayClass", "gateway.networking.k8s.io", "v1", "gatewayclasses", namespaced=False),
        Kind("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes"),
        Kind("PodMetrics", "metrics.k8s.io", "v1beta1", "pods"),
        Kind("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings"),
        Kind(
            "ValidatingAdmissionPolicy",
            "admissionregistration.k8s.io",
            "v1",
            "validatingadmissionpolicies",
            namespaced=False,
        ),
        Kind(
            "ValidatingAdmissionPolicyBinding",
            "admissionregistration.k8s.io",
            "v1",
            "validatingadmissionpolicybindings",
            namespaced=False,
        ),
        Kind("StorageClass", "storage.k8s.io", "v1", "storageclasses", namespaced=False),
        Kind("VolumeSnapshot", _SNAPSHOTS, "v1", "volumesnapshots"),
        Kind("VolumeSnapshotClass", _SNAPSHOTS, "v1", "volumesnapshotclasses", namespaced=False),
        Kind("VolumeSnapshotContent", _SNAPSHOTS, "v1", "volumesnapshotcontents", namespaced=False),
        Kind("VolumeGroupSnapshot", _GROUPS, "v1beta2", "volumegroupsnapshots"),
        Kind("VolumeGroupSnapshotClass", _GROUPS, "v1beta2", "volumegroupsnapshotclasses", namespaced=False),
        Kind(
            "VolumeGroupSnapshotContent", _GROUPS, "v1beta2", "volumegroupsnapshotcontents", namespaced=False
        ),
    )
}
"""The kinds that we use. A path never needs discovery."""

OURS: Final[tuple[str, ...]] = (
    "ConfigMap",
    "LimitRange",
    "PersistentVolumeClaim",
    "ResourceQuota",
    "Secret",
    "Service",
    "ServiceAccount",
    "Deployment",
    "StatefulSet",
    "Job",
    "Ingress",
    "NetworkPolicy",
    "HTTPRoute",
    "RoleBinding",
)
"""The namespaced kinds that an environment is made of: what an inventory looks through.

Snapshots of volumes are no part of it: what an operation did not find beforehand its undo deletes.
"""


def kind_of(name: str) -> Kind:
    """Return where `name` is served; NotServed for a kind that is not in the registry."""
    try:
        return KINDS[name]
    except KeyError as error:
        raise NotServed(f"kind {name!r} is not known to the gateway") from error


def ref_of(manifest: Mapping[str, JsonValue]) -> ObjectRef:
    """Return the name of the object that a manifest describes; Invalid when kind or name are missing."""
    kind, name = text(manifest, "kind"), text(manifest, "metadata", "name")
    if not kind or not name:
        raise Invalid("a manifest needs kind and metadata.name", (("metadata.name", "required"),))
    return ObjectRef(kind, name, text(manifest, "metadata", "namespace") or None)


def identity_of(manifest: Mapping[str, JsonValue], kind: str) -> ObjectIdentity:
    """Return the identity of a live object. Items of a list do not repeat their kind, so it is given."""
    return ObjectIdentity(
        kind=kind, name=text(manifest, "metadata", "name"), uid=text(manifest, "metadata", "uid")
    )


def selector(labels: Mapping[str, str] | None) -> str:
    """Return labels as an equality-based selector, `a=b,c=d`."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def matches(manifest: Mapping[str, JsonValue], labels: Mapping[str, str] | None) -> bool:
    """Return whether the object carries all of `labels`."""
    if not labels:
        return True
    present = mapping(manifest, "metadata", "labels")
    return all(present.get(key) == value for key, value in labels.items())
