"""Where the secrets of a Blueprint come from, and how literals are taken out of it before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from workflows.domain.blueprint_models import Blueprint, SecretRef, SecretValueFrom


class SecretSourceKind(StrEnum):
    """Where a secret's value comes from."""

    GENERATED = "generated"
    LITERAL = "literal"
    STORED = "stored"


@dataclass(frozen=True, slots=True)
class SecretSource:
    """The one source of a secret; `stored` is the name of the stored secret for that kind."""

    kind: SecretSourceKind
    stored: str | None = None


def secret_sources(blueprint: Blueprint) -> dict[str, SecretSource]:
    """The source of each secret of a valid Blueprint, by the secret's name, in the order of first mention."""
    sources: dict[str, SecretSource | None] = {}
    for secret in _secrets(blueprint):
        source = _source(secret)
        if source is not None or secret.name not in sources:
            sources[secret.name] = source
    return {name: source for name, source in sources.items() if source is not None}


def literal_secrets(blueprint: Blueprint) -> dict[str, str]:
    """The values written out in the Blueprint, by secret name: to be stored encrypted under that name."""
    return {secret.name: secret.literal for secret in _secrets(blueprint) if secret.literal is not None}


def without_literals(blueprint: Blueprint) -> Blueprint:
    """The Blueprint with each literal replaced by a reference to the stored secret of the same name.

    This form alone may be kept, shown or sent; `literal_secrets` of the original says what to store first.
    """
    services = tuple(
        service.model_copy(update={"secrets": tuple(_referenced(secret) for secret in service.secrets)})
        for service in blueprint.services
    )
    return blueprint.model_copy(update={"services": services})


def _secrets(blueprint: Blueprint) -> list[SecretRef]:
    return [secret for service in blueprint.services for secret in service.secrets]


def _source(secret: SecretRef) -> SecretSource | None:
    if secret.value_from is not None:
        return SecretSource(SecretSourceKind.STORED, secret.value_from.secret)
    if secret.literal is not None:
        return SecretSource(SecretSourceKind.LITERAL)
    return SecretSource(SecretSourceKind.GENERATED) if secret.value is not None else None


def _referenced(secret: SecretRef) -> SecretRef:
    if secret.literal is None:
        return secret
    return secret.model_copy(update={"value": None, "value_from": SecretValueFrom(secret=secret.name)})
