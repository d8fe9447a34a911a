"""A mock that gets a copy of each HTTP request (`mock.mode: mirror`), and the proxy that makes the copies.

The proxy is a sidecar in the service's pods. The mock has pods of its own: in the service's, one that does
not run would keep the whole pod from being ready.
"""

from typing import Final

from pydantic import JsonValue

from workflows.domain.blueprint_models import (
    MOCK_MOUNT_PATH,
    MOCK_VOLUME,
    Mock,
    MockMode,
    Port,
    Protocol,
    Scheme,
    Service,
    Volume,
    VolumeType,
)
from workflows.domain.mirror_proxy import CONFIGURATION_FILE, configuration, start_script

MIRROR_VOLUME: Final = "perdure-mirror"
"""Name of the volume with the proxy's configuration."""
SCRATCH_VOLUME: Final = "perdure-mirror-tmp"
"""Name of the volume with the proxy's sockets and what it finds out at its start."""
CONTAINER: Final = "perdure-mirror"
"""Name of the proxy's container."""
PROXY_REQUESTS: Final = {"cpu": "10m", "memory": "32Mi"}
"""What the proxy asks for."""
NO_HTTP_PORT: Final = "no port of this service is known to speak HTTP, and only HTTP can be copied"
NO_HTTP_HINT: Final = "name it: ports: [{containerPort: 8080, name: http}]"

_MOUNT: Final = "/etc/perdure/mirror"
_DISTANCE: Final = 10_000
_HIGHEST_PUSHED_UP: Final = 65_535 - _DISTANCE
_NOBODY: Final = 65_534


def mirror_of(service: Service) -> Mock | None:
    """The service's mock when requests are copied to it, else None."""
    mock = service.mock
    return mock if mock is not None and mock.mode is MockMode.MIRROR else None


def speaks_http(service: Service, port: Port) -> bool:
    """Whether the Blueprint says that a port speaks HTTP without TLS.

    It does by the port's name (`http`, `http-...`), by an HTTP probe, or by the port being exposed.
    """
    if port.protocol is not Protocol.TCP:
        return False
    probes = (service.probes.readiness, service.probes.liveness, service.probes.startup)
    checks = [each.http for each in probes if each is not None and each.http is not None]
    schemes = {check.scheme for check in checks if service.find_port(check.port) == port}
    if Scheme.HTTPS in schemes:
        return False
    named = port.name is not None and (port.name == "http" or port.name.startswith("http-"))
    return named or Scheme.HTTP in schemes or port == service.exposed_port


def mirrored_ports(service: Service) -> tuple[Port, ...]:
    """The ports whose requests are copied; none without a mirror."""
    if mirror_of(service) is None:
        return ()
    return tuple(port for port in service.ports if speaks_http(service, port))


def proxy_port(container_port: int) -> int:
    """Where in a pod the proxy listens for a port. It follows from the port alone: no update moves it."""
    up = container_port <= _HIGHEST_PUSHED_UP
    return container_port + _DISTANCE if up else container_port - _DISTANCE


def pod_port(service: Service, port: Port) -> int:
    """Where in a pod requests for a port of the service go: to the proxy, when they are copied."""
    return proxy_port(port.container_port) if port in mirrored_ports(service) else port.container_port


def mock_name(service_name: str) -> str:
    """Name of the mock's workload and Service."""
    return f"{service_name}-mock"


def mock_service(service: Service) -> Service | None:
    """The mock as a service of its own; None without a mirror.

    Without ports of its own it has those that are copied. It gets neither environment nor secrets.
    """
    mock = mirror_of(service)
    if mock is None:
        return None
    return Service(
        name=mock_name(service.name),
        image=mock.image,
        image_pull_secrets=service.image_pull_secrets,
        ports=mock.ports or mirrored_ports(service),
        volumes=(mock_volume(mock),) if mock.files else (),
    )


def mock_volume(mock: Mock) -> Volume:
    """The volume with a mock's files."""
    return Volume(name=MOCK_VOLUME, mount_path=MOCK_MOUNT_PATH, type=VolumeType.FILES, files=mock.files)


def proxy_volumes(service: Service) -> tuple[Volume, ...]:
    """What the proxy mounts, beside the volumes of the service; none without a mirror."""
    mock = mirror_of(service)
    if mock is None:
        return ()
    ways = {
        port.container_port: (proxy_port(port.container_port), _copied_to(mock, port))
        for port in mirrored_ports(service)
    }
    files = {CONFIGURATION_FILE: configuration(ways)}
    return (
        Volume(name=MIRROR_VOLUME, mount_path=_MOUNT, type=VolumeType.FILES, files=files),
        Volume(name=SCRATCH_VOLUME, mount_path="/tmp", type=VolumeType.EMPTY_DIR),  # noqa: S108 - a mount
    )


def proxy_container(service: Service, namespace: str, image: str) -> dict[str, JsonValue]:
    """The proxy as a sidecar: it runs before the application starts and until it has ended."""
    script = start_script(namespace, mock_name(service.name), f"{_MOUNT}/{CONFIGURATION_FILE}")
    ports: list[JsonValue] = [
        {"containerPort": proxy_port(port.container_port), "protocol": "TCP"}
        for port in mirrored_ports(service)
    ]
    return {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "command": ["/bin/sh", "-c", script],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": ports,
        # No limit of CPU: it would slow the service down.
        "resources": {"requests": {**PROXY_REQUESTS}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [
            {"name": volume.name, "mountPath": volume.mount_path} for volume in proxy_volumes(service)
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": _NOBODY,
            "runAsGroup": _NOBODY,
        },
    }


def _copied_to(mock: Mock, port: Port) -> int:
    """The mock's port for the copies of a port: the same, else its first."""
    numbers = [each.container_port for each in mock.ports if each.protocol is Protocol.TCP]
    return port.container_port if not numbers or port.container_port in numbers else numbers[0]
