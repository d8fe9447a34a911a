"""One service as Kubernetes objects: ConfigMap, Services, and Deployment, StatefulSet or Job."""

import hashlib
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from workflows.domain.blueprint_models import (
    Blueprint,
    Port,
    Service,
    ServiceKind,
    Volume,
    VolumeType,
)
from workflows.domain.environment import EnvironmentContext, GuardRails, Overrides
from workflows.domain.manifests_common import (
    Manifest,
    environment_labels,
    pod_volumes,
    reached_ports,
    running_as,
    selector_labels,
    service_labels,
    service_object,
)
from workflows.domain.manifests_pod import container, file_keys, pod_spec, pod_template
from workflows.domain.mirror import mock_service, pod_port

DEFAULT_CLAIM_SIZE: Final = "1Gi"
"""Of a persistent volume whose Blueprint names no size."""
PROVEN_SECONDS: Final = 3
"""A pod without a probe counts when it has run for so long: one that crashes at once is not ready."""
INIT_COMPONENT: Final = "init"
_NO_RAILS: Final = GuardRails()
COMPONENT: Final = "app.kubernetes.io/component"
_NOTHING: Final[Mapping[str, JsonValue]] = {}


def service(
    context: EnvironmentContext,
    blueprint: Blueprint,
    service_name: str,
    overrides: Overrides,
    secret_digests: Mapping[str, str] | None = None,
    rails: GuardRails = _NO_RAILS,
) -> tuple[Manifest, ...]:
    """All objects of one service in apply order; the last is its workload. KeyError without that service.

    Before them are those of a mock with pods of its own.

    `secret_digests`: secret name -> keyed digest of its value; those in use mark the pod template, so that a
    new value starts new pods.
    """
    running = running_as(blueprint.service(service_name))
    digests = secret_digests or {}
    mock = mock_service(running)
    return (
        *(_mock(context, mock, service_name, overrides, rails) if mock is not None else ()),
        *_config_map(context, running),
        *_services(context, running),
        _workload(context, running, overrides, digests, rails),
    )


def _mock(
    context: EnvironmentContext, mock: Service, service_name: str, overrides: Overrides, rails: GuardRails
) -> tuple[Manifest, ...]:
    """The objects of a mock with pods of its own: one pod, which stops and restarts with the service's."""
    mark = overrides.restarts.get(service_name)
    own = Overrides(stopped=overrides.stopped, restarts={mock.name: mark} if mark is not None else {})
    return (
        *_config_map(context, mock),
        *_services(context, mock),
        _workload(context, mock, own, {}, rails),
    )


def desired_replicas(service: Service, overrides: Overrides) -> int:
    """How many pods there should be: none when stopped, else what scale set or the Blueprint says."""
    return 0 if overrides.stopped else overrides.replicas.get(service.name, service.replicas)


def workload_kind(service: Service) -> str:
    """`Deployment`, `StatefulSet` or `Job`: what the service is rendered as."""
    running = running_as(service)
    if running.kind is ServiceKind.JOB:
        return "Job"
    return "StatefulSet" if running.stateful else "Deployment"


def headless_name(service_name: str) -> str:
    """Name of the Service that gives each pod of a StatefulSet a name of its own."""
    return f"{service_name}-headless"


def claim_name(volume: str, service_name: str, ordinal: int) -> str:
    """Name that the controller of a StatefulSet gives the claim of a volume for one of its pods."""
    return f"{volume}-{service_name}-{ordinal}"


def shell_job(context: EnvironmentContext, service: Service, script: str, key: str) -> Manifest:
    """A Job that runs a shell init script once, with the service's image, environment and inline files.

    Its name follows from key and script, so that the cluster remembers it over worker deaths. Create it,
    and when it is there already wait for it: never apply it anew, its template is immutable.
    """
    digest = hashlib.sha256(f"{key}\n{script}".encode()).hexdigest()[:10]
    plain = beside(service, command=("/bin/sh", "-c", script))
    return once_job(context, plain, f"{plain.name[:40].rstrip('-')}-init-{digest}", INIT_COMPONENT)


def beside(service: Service, **changed: object) -> Service:
    """The service as a process beside its own: no ports, no probes, and of the volumes the files alone."""
    running = running_as(service)
    visible = tuple(volume for volume in running.volumes if volume.type is VolumeType.FILES)
    bare = {"command": (), "args": (), "ports": (), "probes": type(running.probes)(), "mock": None}
    return running.model_copy(update={**bare, "volumes": visible, **changed})


def once_job(
    context: EnvironmentContext,
    plain: Service,
    name: str,
    component: str,
    spec: Mapping[str, JsonValue] = _NOTHING,
) -> Manifest:
    """A Job that runs what `beside` gave, never twice: no restart, no second pod.

    Its pods do not carry the service's name label, or the Service would send them traffic. `spec`: more of
    the Job's own spec.
    """
    labels = {**environment_labels(context), COMPONENT: component}
    template: dict[str, JsonValue] = {
        "metadata": {"labels": {**labels}},
        "spec": {**pod_spec(plain, restart_policy="Never"), "containers": [container(plain)]},
    }
    once: dict[str, JsonValue] = {"backoffLimit": 0, "completions": 1, "parallelism": 1}
    return service_object(
        "batch/v1", "Job", name, context, plain.name, {"spec": {**once, **spec, "template": template}}
    )


def _config_map(context: EnvironmentContext, service: Service) -> list[Manifest]:
    keys = file_keys(service)
    if not keys:
        return []
    data: dict[str, JsonValue] = {
        keys[volume.name, path]: text
        for volume in pod_volumes(service)
        for path, text in volume.files.items()
    }
    return [service_object("v1", "ConfigMap", service.name, context, service.name, {"data": data})]


def claim_spec(volume: Volume) -> dict[str, JsonValue]:
    """What a claim of a volume asks for."""
    spec: dict[str, JsonValue] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": volume.size or DEFAULT_CLAIM_SIZE}},
    }
    if volume.storage_class is not None:
        spec["storageClassName"] = volume.storage_class
    return spec


def _services(context: EnvironmentContext, service: Service) -> list[Manifest]:
    ports = reached_ports(service)
    if not ports or service.kind is ServiceKind.JOB:
        return []
    spec: dict[str, JsonValue] = {
        "selector": {**selector_labels(context, service.name)},
        "ports": [_service_port(service, port) for port in ports],
    }
    made = [
        service_object(
            "v1", "Service", service.name, context, service.name, {"spec": {"type": "ClusterIP", **spec}}
        )
    ]
    if service.stateful:
        # Peers of a cluster have to find each other before they are ready.
        headless: dict[str, JsonValue] = {**spec, "clusterIP": "None", "publishNotReadyAddresses": True}
        made.append(
            service_object(
                "v1", "Service", headless_name(service.name), context, service.name, {"spec": headless}
            )
        )
    return made


def _service_port(service: Service, port: Port) -> dict[str, JsonValue]:
    return {
        "name": port.label,
        "port": port.container_port,
        "targetPort": pod_port(service, port),
        "protocol": port.protocol.value,
    }


def _workload(
    context: EnvironmentContext,
    service: Service,
    overrides: Overrides,
    digests: Mapping[str, str],
    rails: GuardRails,
) -> Manifest:
    replicas = desired_replicas(service, overrides)
    restart = overrides.restarts.get(service.name)
    template = pod_template(context, service, digests, mirror_image=rails.mirror_image, restart=restart)
    if service.kind is ServiceKind.JOB:
        return _job(context, service, replicas, template)
    common: dict[str, JsonValue] = {
        "replicas": replicas,
        "minReadySeconds": 0 if _vouched_for(service) else PROVEN_SECONDS,
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": {**selector_labels(context, service.name)}},
        "template": template,
    }
    if service.stateful:
        return _stateful_set(context, service, common)
    spec: dict[str, JsonValue] = {
        **common,
        "progressDeadlineSeconds": service.ready_timeout_seconds,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
        },
    }
    return service_object("apps/v1", "Deployment", service.name, context, service.name, {"spec": spec})


def _vouched_for(service: Service) -> bool:
    """Whether a probe says when the service is ready: else it is, to Kubernetes, the moment it starts."""
    return service.probes.readiness is not None or service.probes.startup is not None


def _stateful_set(context: EnvironmentContext, service: Service, common: dict[str, JsonValue]) -> Manifest:
    # Claim templates are immutable: nothing in them may change from one operation to the next.
    claims: list[JsonValue] = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": volume.name, "labels": {**service_labels(context, service.name)}},
            "spec": claim_spec(volume),
        }
        for volume in service.volumes
        if volume.type is VolumeType.PVC
    ]
    spec: dict[str, JsonValue] = {
        **common,
        "serviceName": headless_name(service.name),
        # Parallel also lets a corrected template replace a pod that never became ready.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "volumeClaimTemplates": claims,
    }
    return service_object("apps/v1", "StatefulSet", service.name, context, service.name, {"spec": spec})


def _job(
    context: EnvironmentContext, service: Service, replicas: int, template: dict[str, JsonValue]
) -> Manifest:
    spec: dict[str, JsonValue] = {
        # Stopping a Job suspends it: its template and completions are immutable.
        "suspend": replicas == 0,
        "backoffLimit": service.startup.tolerate_restarts,
        "completions": 1,
        "parallelism": 1,
        "template": {**template, "spec": pod_spec(service, restart_policy="Never")},
    }
    return service_object("batch/v1", "Job", service.name, context, service.name, {"spec": spec})
