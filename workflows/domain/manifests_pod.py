"""The pod template of a service: containers, environment, probes, volumes."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from workflows.domain import names
from workflows.domain.blueprint_models import MockMode, Port, Probe, Service, Volume, VolumeType
from workflows.domain.environment import EnvironmentContext
from workflows.domain.manifests_common import mock_readiness, pod_volumes, service_labels
from workflows.domain.manifests_namespace import POD_ACCOUNT
from workflows.domain.manifests_secrets import SECRET_KEY, pull_secret_object_name, secret_object_name
from workflows.domain.mirror import mirror_of, mock_volume, proxy_container

SECRETS_ANNOTATION: Final = "perdure.dev/secrets"
"""On pod templates: digest of the keyed digests of the secrets in use. A new value rolls the pods."""
FILES_ANNOTATION: Final = "perdure.dev/files"
"""On pod templates: digest of the inline files. Processes read their configuration at the start only."""
_REFERENCE: Final = re.compile(r"\$\$|\$\(([A-Za-z_.][A-Za-z0-9_.-]*)\)")
_UNFIT_FOR_KEY: Final = re.compile(r"[^-._a-zA-Z0-9]")


def pod_template(
    context: EnvironmentContext,
    service: Service,
    secret_digests: Mapping[str, str],
    *,
    mirror_image: str,
    restart: str | None = None,
) -> dict[str, JsonValue]:
    """The pod template. Nothing in it depends on revision, fence or operation: same service, same pods.

    `restart`: a mark that starts new pods when it changes. `mirror_image`: of the proxy that copies requests.
    """
    annotations = _annotations(service, secret_digests)
    if restart is not None:
        annotations = {**annotations, names.RESTART: restart}
    metadata: dict[str, JsonValue] = {"labels": {**service_labels(context, service.name)}}
    if annotations:
        metadata["annotations"] = {**annotations}
    spec = pod_spec(service, restart_policy="Always")
    if mirror_of(service) is not None:
        spec["initContainers"] = [proxy_container(service, context.namespace, mirror_image)]
    return {"metadata": metadata, "spec": spec}


def pod_spec(service: Service, *, restart_policy: str) -> dict[str, JsonValue]:
    """The pod's spec, with its main container and the mock beside it, when there is one."""
    containers: list[JsonValue] = [container(service)]
    mock = service.mock
    if mock is not None and mock.mode is MockMode.SIDECAR:
        readiness = mock_readiness(mock.ports)
        containers.append(
            {
                "name": f"{service.name}-mock",
                "image": mock.image,
                "imagePullPolicy": pull_policy(mock.image),
                **({"ports": _ports(mock.ports)} if mock.ports else {}),
                **({} if readiness is None else {"readinessProbe": _probe(readiness)}),
                **({"volumeMounts": [_mount(mock_volume(mock))]} if mock.files else {}),
                "securityContext": _container_security(),
            }
        )
    spec: dict[str, JsonValue] = {
        "serviceAccountName": POD_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": restart_policy,
        "terminationGracePeriodSeconds": 30,
        # No fsGroup and no runAsUser: the official database images start as root, make their data directory
        # their own and step down by themselves; a group forced on the volume makes postgres refuse it.
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": containers,
    }
    if service.image_pull_secrets:
        spec["imagePullSecrets"] = [
            {"name": pull_secret_object_name(name)} for name in service.image_pull_secrets
        ]
    volumes = _pod_volumes(service)
    if volumes:
        spec["volumes"] = volumes
    return spec


def container(service: Service) -> dict[str, JsonValue]:
    """The service's own container; it bears the service's name."""
    rendered: dict[str, JsonValue] = {
        "name": service.name,
        "image": service.image,
        "imagePullPolicy": pull_policy(service.image),
    }
    if service.command:
        rendered["command"] = [*service.command]
    if service.args:
        rendered["args"] = [*service.args]
    if service.ports:
        rendered["ports"] = _ports(service.ports)
    env = environment_variables(service)
    if env:
        rendered["env"] = env
    resources = _resources(service)
    if resources:
        rendered["resources"] = resources
    for field, probe in (
        ("startupProbe", service.probes.startup),
        ("readinessProbe", service.probes.readiness),
        ("livenessProbe", service.probes.liveness),
    ):
        if probe is not None:
            rendered[field] = _probe(probe)
    if service.volumes:
        rendered["volumeMounts"] = [_mount(volume) for volume in service.volumes]
    rendered["securityContext"] = _container_security()
    return rendered


def environment_variables(service: Service) -> list[JsonValue]:
    """The container's environment: secrets first, then plain values, each after those it refers to.

    Kubernetes expands `$(NAME)` only from entries further up, so the order has to follow the references; it
    must not depend on the order of the mapping, which storage may change and which would roll the pods.
    """
    entries: list[JsonValue] = [
        {
            "name": secret.env_key,
            "valueFrom": {"secretKeyRef": {"name": secret_object_name(secret.name), "key": SECRET_KEY}},
        }
        for secret in sorted(service.secrets, key=lambda secret: secret.env_key)
    ]
    placed: set[str] = set()

    def place(key: str) -> None:
        placed.add(key)
        for reference in sorted(_references(service.env[key])):
            if reference in service.env and reference not in placed:
                place(reference)
        entries.append({"name": key, "value": service.env[key]})

    for key in sorted(service.env):
        if key not in placed:
            place(key)
    return entries


def pull_policy(image: str) -> str:
    """`Always` for an image whose tag moves (`latest` or none), else `IfNotPresent`: Kubernetes' own default.

    Said out loud because the server keeps the default of the first write when only the image changes later.
    """
    if "@" in image:
        return "IfNotPresent"
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def file_keys(service: Service) -> dict[tuple[str, str], str]:
    """Key in the service's ConfigMap of each inline file: (volume, path) -> key.

    Keys cannot hold slashes. A path that had to be changed gets a digest, so that no two paths meet.
    """
    keys = {}
    for volume in pod_volumes(service):
        for path in volume.files:
            fit = _UNFIT_FOR_KEY.sub("_", path)
            if fit != path or len(fit) > 150:
                fit = f"{fit[:150]}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
            keys[volume.name, path] = f"{volume.name}.{fit}"
    return keys


def _references(value: str) -> set[str]:
    return {match[1] for match in _REFERENCE.finditer(value) if match[1] is not None}


def _annotations(service: Service, secret_digests: Mapping[str, str]) -> dict[str, str]:
    annotations = {}
    used = {secret.name: secret_digests.get(secret.name) for secret in service.secrets}
    if any(used.values()):
        annotations[SECRETS_ANNOTATION] = _digest(used)
    files = {volume.name: volume.files for volume in pod_volumes(service) if volume.files}
    if files:
        annotations[FILES_ANNOTATION] = _digest(files)
    return annotations


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _container_security() -> dict[str, JsonValue]:
    """No way to more rights than the start gave.

    `allowPrivilegeEscalation: false` stops setuid programs and file capabilities at exec (sudo, ping). It
    does not stop a process that starts as root from stepping down, which is what gosu, su-exec and setpriv
    do in the official database images; they need the default capabilities for it (SETUID, SETGID, CHOWN).
    """
    return {"allowPrivilegeEscalation": False}


def _ports(ports: tuple[Port, ...]) -> list[JsonValue]:
    return [
        {
            **({"name": port.name} if port.name else {}),
            "containerPort": port.container_port,
            "protocol": port.protocol.value,
        }
        for port in ports
    ]


def _resources(service: Service) -> dict[str, JsonValue]:
    wanted = service.resources
    rendered: dict[str, JsonValue] = {}
    for field, cpu, memory in (
        ("requests", wanted.cpu, wanted.memory),
        ("limits", wanted.limits.cpu, wanted.limits.memory),
    ):
        amounts: dict[str, JsonValue] = {}
        if cpu is not None:
            amounts["cpu"] = cpu
        if memory is not None:
            amounts["memory"] = memory
        if amounts:
            rendered[field] = amounts
    return rendered


def _probe(probe: Probe) -> dict[str, JsonValue]:
    action: dict[str, JsonValue] = {}
    if probe.http is not None:
        action["httpGet"] = {
            "path": probe.http.path,
            "port": probe.http.port,
            "scheme": probe.http.scheme.value,
        }
    elif probe.tcp is not None:
        action["tcpSocket"] = {"port": probe.tcp.port}
    elif probe.exec is not None:
        action["exec"] = {"command": [*probe.exec.command]}
    return {
        **action,
        "periodSeconds": probe.period_seconds,
        "timeoutSeconds": probe.timeout_seconds,
        "initialDelaySeconds": probe.initial_delay_seconds,
        "failureThreshold": probe.failure_threshold,
        "successThreshold": probe.success_threshold,
    }


def _mount(volume: Volume) -> dict[str, JsonValue]:
    return {"name": volume.name, "mountPath": volume.mount_path}


def _pod_volumes(service: Service) -> list[JsonValue]:
    """Volumes that the pod itself declares; a StatefulSet adds those of its claim templates."""
    keys = file_keys(service)
    volumes: list[JsonValue] = []
    for volume in pod_volumes(service):
        if volume.type is VolumeType.EMPTY_DIR:
            bounds: dict[str, JsonValue] = {"sizeLimit": volume.size} if volume.size else {}
            volumes.append({"name": volume.name, "emptyDir": bounds})
        elif volume.type is VolumeType.FILES:
            items: list[JsonValue] = [
                {"key": keys[volume.name, path], "path": path} for path in sorted(volume.files)
            ]
            volumes.append({"name": volume.name, "configMap": {"name": service.name, "items": items}})
    return volumes
