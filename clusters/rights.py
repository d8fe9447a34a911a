"""The rights that our account needs: one list for `doctor` and for the tests of deploy/cluster.

Keys are (API group, resource): `pods/exec` is a subresource, `clusterroles/=name` one object by its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clusters.objects import Manifest

Rights = Mapping[tuple[str, str], frozenset[str]]
"""By (API group, resource): verbs."""

_NAME: Final = "/="
_READ: Final = frozenset({"get", "list"})
_SEEN: Final = _READ | {"watch"}
_WRITTEN: Final = _SEEN | {"create", "update", "patch", "delete"}

EVERYWHERE: Final[Rights] = {
    ("", "namespaces"): _SEEN | {"create", "patch", "delete"},
    ("rbac.authorization.k8s.io", "rolebindings"): _READ | {"create", "patch"},
    ("rbac.authorization.k8s.io", "clusterroles/=perdure-environment"): frozenset({"bind"}),
    ("storage.k8s.io", "storageclasses"): _READ,
    ("networking.k8s.io", "ingressclasses"): _READ,
    ("snapshot.storage.k8s.io", "volumesnapshotclasses"): _READ,
    ("groupsnapshot.storage.k8s.io", "volumegroupsnapshotclasses"): _READ,
    ("snapshot.storage.k8s.io", "volumesnapshotcontents"): _READ | {"create", "patch", "delete"},
    ("groupsnapshot.storage.k8s.io", "volumegroupsnapshotcontents"): _READ | {"patch", "delete"},
    ("gateway.networking.k8s.io", "gatewayclasses"): _READ,
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): _READ,
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): _READ,
}
"""In the whole cluster."""

IN_ENVIRONMENTS: Final[Rights] = {
    **{
        ("", resource): _WRITTEN
        for resource in (
            *("services", "configmaps", "secrets", "serviceaccounts", "persistentvolumeclaims"),
            *("resourcequotas", "limitranges"),
        )
    },
    ("apps", "deployments"): _WRITTEN,
    ("apps", "statefulsets"): _WRITTEN,
    ("batch", "jobs"): _WRITTEN,
    ("networking.k8s.io", "networkpolicies"): _WRITTEN,
    ("networking.k8s.io", "ingresses"): _WRITTEN,
    ("gateway.networking.k8s.io", "httproutes"): _WRITTEN,
    ("snapshot.storage.k8s.io", "volumesnapshots"): _READ | {"create", "patch", "delete"},
    ("groupsnapshot.storage.k8s.io", "volumegroupsnapshots"): _READ | {"create", "patch", "delete"},
    ("apps", "replicasets"): _SEEN,
    ("discovery.k8s.io", "endpointslices"): _SEEN,
    ("", "events"): _SEEN,
    ("events.k8s.io", "events"): _SEEN,
    ("", "pods"): _SEEN | {"delete"},
    ("", "pods/log"): frozenset({"get"}),
    ("", "pods/exec"): frozenset({"create", "get"}),
    ("", "pods/portforward"): frozenset({"create", "get"}),
    ("", "services/proxy"): frozenset({"create", "get", "update", "patch", "delete"}),
    ("metrics.k8s.io", "pods"): _READ,
}
"""In the namespace of an environment, by the RoleBinding there."""


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that may be done. `resource` as in the tables above."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        resource = self.resource.replace(_NAME, "/")
        return f"{self.verb} {resource}{f'.{self.group}' if self.group else ''}"

    def attributes(self, namespace: str | None) -> Manifest:
        """Return what a SelfSubjectAccessReview asks: in a namespace, or in all of them."""
        resource, named, name = self.resource.partition(_NAME)
        resource, _, subresource = resource.partition("/")
        asked: Manifest = {"verb": self.verb, "group": self.group, "resource": resource}
        if subresource:
            asked["subresource"] = subresource
        if named:
            asked["name"] = name
        if namespace is not None:
            asked["namespace"] = namespace
        return asked


def rights(table: Rights) -> tuple[Right, ...]:
    """Return every single right of a table."""
    return tuple(
        Right(verb, group, resource) for (group, resource), verbs in table.items() for verb in sorted(verbs)
    )
