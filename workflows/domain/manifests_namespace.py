"""An environment's namespace and what guards it: rights, quota, limits, network policies, service account."""

from ipaddress import ip_network
from typing import Final

from pydantic import JsonValue

from workflows.domain import names
from workflows.domain.blueprint_models import Blueprint, Port, Service
from workflows.domain.environment import EnvironmentContext, GuardRails
from workflows.domain.manifests_common import (
    Manifest,
    environment_labels,
    environment_object,
    running_as,
    selector_labels,
    service_object,
    stamps,
)
from workflows.domain.mirror import pod_port

SYSTEM_NAMESPACE: Final = "perdure-system"
"""Where the product itself runs."""
SYSTEM_ACCOUNT: Final = "perdure"
"""The service account whose rights are bound in each environment's namespace."""
POD_ACCOUNT: Final = "environment"
"""The service account of all pods of an environment; it may do nothing."""
_DNS_PORT: Final = 53


def namespace(context: EnvironmentContext) -> Manifest:
    """The Namespace, with its fence. The annotation CREATED_BY is not part of it: only a create sets it."""
    labels = {
        **environment_labels(context),
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "latest",
        "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "latest",
    }
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": context.namespace,
            "labels": {**labels},
            "annotations": {**stamps(context)},
        },
    }


def guard_rails(context: EnvironmentContext, rails: GuardRails, blueprint: Blueprint) -> tuple[Manifest, ...]:
    """All that stands in the namespace before the first secret, in apply order.

    The RoleBinding comes first: the rights to write the others come from it.
    """
    return (
        _role_binding(context),
        *_limits(context, rails),
        environment_object(
            "v1", "ServiceAccount", POD_ACCOUNT, context, {"automountServiceAccountToken": False}
        ),
        *_network_policies(context, rails, blueprint),
    )


def _role_binding(context: EnvironmentContext) -> Manifest:
    return environment_object(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "perdure",
        context,
        {
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": names.ENVIRONMENT_ROLE,
            },
            "subjects": [{"kind": "ServiceAccount", "name": SYSTEM_ACCOUNT, "namespace": SYSTEM_NAMESPACE}],
        },
    )


def _limits(context: EnvironmentContext, rails: GuardRails) -> list[Manifest]:
    made: list[Manifest] = []
    if rails.quota:
        made.append(
            environment_object(
                "v1", "ResourceQuota", "environment", context, {"spec": {"hard": {**rails.quota}}}
            )
        )
    if rails.default_requests or rails.default_limits:
        item: dict[str, JsonValue] = {"type": "Container"}
        if rails.default_requests:
            item["defaultRequest"] = {**rails.default_requests}
        if rails.default_limits:
            item["default"] = {**rails.default_limits}
        made.append(
            environment_object("v1", "LimitRange", "environment", context, {"spec": {"limits": [item]}})
        )
    return made


def _network_policies(context: EnvironmentContext, rails: GuardRails, blueprint: Blueprint) -> list[Manifest]:
    everywhere: dict[str, JsonValue] = {"podSelector": {}}
    policies = [
        _policy(context, "default-deny", {"podSelector": {}, "policyTypes": ["Ingress"]}),
        _policy(
            context,
            "allow-environment",
            {
                "podSelector": {},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [everywhere]}],
                "egress": [{"to": [everywhere]}],
            },
        ),
        # No `to`: the cluster's DNS may be a pod, a node's cache or, on the embedded node, the host itself.
        _policy(
            context,
            "allow-dns",
            {
                "podSelector": {},
                "policyTypes": ["Egress"],
                "egress": [
                    {
                        "ports": [
                            {"protocol": "UDP", "port": _DNS_PORT},
                            {"protocol": "TCP", "port": _DNS_PORT},
                        ]
                    }
                ],
            },
        ),
        _policy(
            context,
            "allow-public",
            {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": _public(rails)}]},
        ),
    ]
    if rails.ingress_namespace is not None:
        for written in blueprint.services:
            service = running_as(written)
            port = service.exposed_port
            if port is not None:
                policies.append(_from_ingress(context, service, port, rails.ingress_namespace))
    return policies


def _policy(context: EnvironmentContext, name: str, spec: dict[str, JsonValue]) -> Manifest:
    return environment_object("networking.k8s.io/v1", "NetworkPolicy", name, context, {"spec": spec})


def _from_ingress(
    context: EnvironmentContext, service: Service, port: Port, ingress_namespace: str
) -> Manifest:
    # The proxy of a mirror is one way more: while it comes or goes there are pods with it and without it.
    numbers = dict.fromkeys((port.container_port, pod_port(service, port)))
    return service_object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        f"allow-ingress-{service.name}",
        context,
        service.name,
        {
            "spec": {
                "podSelector": {"matchLabels": {**selector_labels(context, service.name)}},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchLabels": {"kubernetes.io/metadata.name": ingress_namespace}
                                }
                            }
                        ],
                        "ports": [{"protocol": port.protocol.value, "port": number} for number in numbers],
                    }
                ],
            }
        },
    )


def _public(rails: GuardRails) -> list[JsonValue]:
    """Every address of both families but what is blocked; unique-local and link-local IPv6 always are."""
    blocked = {4: list[str](), 6: ["fc00::/7", "fe80::/10"]}
    for cidr in rails.blocked_egress:
        family = blocked[ip_network(cidr, strict=False).version]
        if cidr not in family:
            family.append(cidr)
    return [
        {"ipBlock": {"cidr": "0.0.0.0/0", **({"except": [*blocked[4]]} if blocked[4] else {})}},
        {"ipBlock": {"cidr": "::/0", "except": [*blocked[6]]}},
    ]
