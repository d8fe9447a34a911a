"""How exposed services are reached from outside."""

from typing import Final

from workflows.domain.blueprint_models import Blueprint, Service
from workflows.domain.environment import EnvironmentContext, GuardRails
from workflows.domain.manifests_common import Manifest, running_as, service_object, shortened

PROXY: Final = "proxy"
"""Endpoint of a service that only the API's service proxy reaches."""


def exposed_services(blueprint: Blueprint) -> tuple[str, ...]:
    """Names of the services that are exposed, in the Blueprint's order."""
    return tuple(
        service.name for service in blueprint.services if running_as(service).exposed_port is not None
    )


def routing(context: EnvironmentContext, blueprint: Blueprint, rails: GuardRails) -> tuple[Manifest, ...]:
    """One Ingress per exposed service; none where the cluster has no ingress class."""
    if rails.ingress_class is None:
        return ()
    return tuple(
        _ingress(context, running_as(blueprint.service(name)), rails, rails.ingress_class)
        for name in exposed_services(blueprint)
    )


def endpoint_urls(context: EnvironmentContext, blueprint: Blueprint, rails: GuardRails) -> dict[str, str]:
    """By exposed service: `http://host/path`, or `proxy` where the cluster has no ingress class."""
    urls = {}
    for name in exposed_services(blueprint):
        service = blueprint.service(name)
        exposure = service.exposure
        path = exposure.path if exposure is not None else "/"
        urls[name] = (
            PROXY if rails.ingress_class is None else f"http://{_host(context, service, rails)}{path}"
        )
    return urls


def _host(context: EnvironmentContext, service: Service, rails: GuardRails) -> str:
    exposure = service.exposure
    if exposure is not None and exposure.host is not None:
        return exposure.host
    return f"{shortened(f'{service.name}-{context.namespace}')}.{rails.base_domain}"


def _ingress(
    context: EnvironmentContext, service: Service, rails: GuardRails, ingress_class: str
) -> Manifest:
    port, exposure = service.exposed_port, service.exposure
    if port is None or exposure is None:
        raise ValueError(f"service {service.name} is not exposed")
    return service_object(
        "networking.k8s.io/v1",
        "Ingress",
        service.name,
        context,
        service.name,
        {
            "spec": {
                "ingressClassName": ingress_class,
                "rules": [
                    {
                        "host": _host(context, service, rails),
                        "http": {
                            "paths": [
                                {
                                    "path": exposure.path,
                                    "pathType": "Prefix",
                                    "backend": {
                                        "service": {
                                            "name": service.name,
                                            "port": {"number": port.container_port},
                                        }
                                    },
                                }
                            ]
                        },
                    }
                ],
            }
        },
    )
