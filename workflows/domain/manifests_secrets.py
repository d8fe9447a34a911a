"""Secrets of an environment: which Kubernetes Secret holds which value, and how it is written."""

import base64
from collections.abc import Mapping
from typing import Final

from workflows.domain.blueprint_models import Blueprint
from workflows.domain.environment import EnvironmentContext
from workflows.domain.manifests_common import Manifest, environment_object, running_as

SECRET_KEY: Final = "value"  # noqa: S105 - the key's name
"""Key inside a Kubernetes Secret under which the value stands."""


def secret_object_name(secret: str) -> str:
    """Name of the Kubernetes Secret of a Blueprint's secret. The prefixes keep the two sorts apart."""
    return f"secret-{secret}"


def pull_secret_object_name(credential: str) -> str:
    """Name of the Kubernetes Secret that holds a registry credential of the organisation."""
    return f"registry-{credential}"


def secret_names(blueprint: Blueprint) -> tuple[str, ...]:
    """Names of all secrets that services use, sorted. The same name in two services is one secret."""
    return tuple(sorted({secret.name for service in blueprint.services for secret in service.secrets}))


def pull_credential_names(blueprint: Blueprint) -> tuple[str, ...]:
    """Names of all registry credentials that services pull with, sorted."""
    return tuple(
        sorted({name for service in blueprint.services for name in running_as(service).image_pull_secrets})
    )


def secrets(blueprint: Blueprint) -> dict[str, dict[str, str]]:
    """The layout: Kubernetes Secret name -> key in it -> name of the Blueprint's secret."""
    return {secret_object_name(name): {SECRET_KEY: name} for name in secret_names(blueprint)}


def pull_secrets(blueprint: Blueprint) -> dict[str, str]:
    """The layout of pull secrets: Kubernetes Secret name -> name of the registry credential."""
    return {pull_secret_object_name(name): name for name in pull_credential_names(blueprint)}


def secret_manifest(context: EnvironmentContext, name: str, data: Mapping[str, str]) -> Manifest:
    """One Secret. `name` is the Kubernetes name, `data` key -> value in clear.

    Written as `data`: the server merges `stringData` into it and forgets that we own it, so keys would stay.
    """
    return environment_object(
        "v1",
        "Secret",
        name,
        context,
        {"type": "Opaque", "data": {key: _encoded(value) for key, value in data.items()}},
    )


def pull_secret_manifest(context: EnvironmentContext, name: str, docker_config_json: str) -> Manifest:
    """One image pull secret. `name` is the Kubernetes name, the rest a `.dockerconfigjson` in clear."""
    return environment_object(
        "v1",
        "Secret",
        name,
        context,
        {
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": _encoded(docker_config_json)},
        },
    )


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()
