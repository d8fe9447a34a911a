"""What all rendered objects share: labels, annotations, and the service as it really runs."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from workflows.domain import names
from workflows.domain.blueprint_models import (
    MockMode,
    Port,
    Probe,
    Probes,
    Protocol,
    Service,
    TcpProbe,
    Volume,
)
from workflows.domain.environment import EnvironmentContext
from workflows.domain.mirror import mock_volume, proxy_volumes

Manifest = dict[str, JsonValue]
"""One Kubernetes object as plain JSON, complete: what it leaves out, an apply takes away."""

LONGEST_LABEL: Final = 63
"""Longest DNS label and longest label value, in characters."""


def environment_labels(context: EnvironmentContext) -> dict[str, str]:
    """Labels of everything that belongs to an environment. The same for all its revisions."""
    return {
        names.MANAGED_BY: "perdure",
        names.INSTANCE: context.environment_name,
        names.ENVIRONMENT: context.environment_id,
        names.ORGANIZATION: context.organization_id,
        names.INSTALLATION: context.installation_id,
    }


def service_labels(context: EnvironmentContext, service_name: str) -> dict[str, str]:
    """Labels of everything that belongs to one service of an environment."""
    return {**environment_labels(context), names.NAME: service_name}


def selector_labels(context: EnvironmentContext, service_name: str) -> dict[str, str]:
    """The labels by which a service's pods are found. Selectors are immutable: never add to them."""
    return {names.INSTANCE: context.environment_name, names.NAME: service_name}


def environment_object(
    api_version: str, kind: str, name: str, context: EnvironmentContext, body: Mapping[str, JsonValue]
) -> Manifest:
    """An object of the environment as a whole, in its namespace; `body` is all beside metadata."""
    return _object(api_version, kind, name, context, environment_labels(context), body)


def service_object(
    api_version: str,
    kind: str,
    name: str,
    context: EnvironmentContext,
    service_name: str,
    body: Mapping[str, JsonValue],
) -> Manifest:
    """An object of one service; `body` is all beside metadata."""
    return _object(api_version, kind, name, context, service_labels(context, service_name), body)


def stamps(context: EnvironmentContext) -> dict[str, str]:
    """Annotations that say from which revision and under which fence an object was written.

    On the metadata of objects only: inside a pod template they would roll every pod at each operation.
    """
    return {names.REVISION: str(context.revision), names.FENCE: str(context.fence)}


def without_stamps(manifest: Manifest) -> Manifest:
    """The same manifest without the annotations of `stamps`: what it says, apart from when it was said."""
    metadata = manifest.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(annotations, dict):
        return manifest
    kept = {key: value for key, value in annotations.items() if key not in (names.REVISION, names.FENCE)}
    bare = {key: value for key, value in metadata.items() if key != "annotations"}
    return {**manifest, "metadata": {**bare, "annotations": kept} if kept else bare}


def shortened(label: str) -> str:
    """The label itself, or a 63 character form of a longer one, told apart by a digest."""
    if len(label) <= LONGEST_LABEL:
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{label[: LONGEST_LABEL - 9].rstrip('-')}-{digest}"


def running_as(service: Service) -> Service:
    """The service as it is rendered: itself, or the mock that replaces it.

    A replacing mock keeps the service's name, environment, secrets, resources and dependencies. What belongs
    to the image that it replaces (command, arguments, probes, volumes, init) is left out; when it has a
    port, it is ready as soon as that port takes connections. It is exposed when the service is.
    """
    mock = service.mock
    if mock is None or mock.mode is not MockMode.REPLACE:
        return service
    ports = mock.ports or service.ports
    exposure = service.exposure
    if exposure is not None and not any(exposure.port in (port.container_port, port.name) for port in ports):
        exposure = exposure.model_copy(update={"port": None})
    return service.model_copy(
        update={
            "image": mock.image,
            "ports": ports,
            "expose": exposure or False,
            "command": (),
            "args": (),
            "probes": Probes(readiness=mock_readiness(ports)),
            "volumes": (mock_volume(mock),) if mock.files else (),
            "init": None,
            "mock": None,
        }
    )


def mock_readiness(ports: Sequence[Port]) -> Probe | None:
    """How a mock is known to be ready: its first port takes connections; None when that is not TCP."""
    if not ports or ports[0].protocol is not Protocol.TCP:
        return None
    return Probe(tcp=TcpProbe(port=ports[0].container_port), period_seconds=1)


def reached_ports(service: Service) -> tuple[Port, ...]:
    """The ports under a service's name: its own, then those of the mock beside it."""
    mock = service.mock
    return service.ports if mock is None or mock.mode is not MockMode.SIDECAR else service.ports + mock.ports


def pod_volumes(service: Service) -> tuple[Volume, ...]:
    """Every volume of a service's pods: its own, the files of the mock beside it, and what a mirror needs."""
    mock = service.mock
    if mock is None or mock.mode is not MockMode.SIDECAR or not mock.files:
        return (*service.volumes, *proxy_volumes(service))
    return (*service.volumes, mock_volume(mock))


def _object(
    api_version: str,
    kind: str,
    name: str,
    context: EnvironmentContext,
    labels: Mapping[str, str],
    body: Mapping[str, JsonValue],
) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": context.namespace,
            "labels": {**labels},
            "annotations": {**stamps(context)},
        },
        **body,
    }
