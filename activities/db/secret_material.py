"""The secret values that one environment uses, opened in memory: to be sealed for its cluster or digested."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.repositories import registry_credentials, secrets
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, SecretSource, secret_sources
from workflows.domain.manifests import pull_credential_names
from workflows.domain.plan import digest


@dataclass(frozen=True, slots=True)
class SecretMaterial:
    """Values by the name that the Blueprint uses; credentials as `.dockerconfigjson` documents."""

    values: dict[str, str] = field(repr=False)
    registry_credentials: dict[str, str] = field(repr=False)


async def secret_material(
    session: AsyncSession,
    organization_id: str,
    environment_id: str,
    blueprint: Blueprint,
    keys: MasterKeys,
    *,
    revision: int,
) -> SecretMaterial:
    """Open all secrets and pull credentials that the Blueprint of this revision uses.

    A reference to a secret of its own name is one to the environment's own (generated, or once written out)
    where there is one, else to the organisation's. What exists no more is left out. Raises SecretsError.
    """
    own: dict[str, str] = {}
    if secret_sources(blueprint):
        own = await secrets.secret_values(session, organization_id, environment_id, keys, revision=revision)
    return await material_beside(session, organization_id, blueprint, own, keys)


async def material_beside(
    session: AsyncSession,
    organization_id: str,
    blueprint: Blueprint,
    own: Mapping[str, str],
    keys: MasterKeys,
) -> SecretMaterial:
    """Do the same for an environment whose own values are at hand. Raises SecretsError."""
    sources = secret_sources(blueprint)
    shared: dict[str, str] = {}
    if any(not _is_own(name, source, own) for name, source in sources.items()):
        shared = await secrets.secret_values(session, organization_id, None, keys)
    values: dict[str, str] = {}
    for name, source in sources.items():
        if _is_own(name, source, own):
            values[name] = own[name]
        elif source.stored is not None and source.stored in shared:
            values[name] = shared[source.stored]
    logins: dict[str, str] = {}
    if names := pull_credential_names(blueprint):
        logins = await registry_credentials.docker_configs(session, organization_id, names, keys)
    return SecretMaterial(values=values, registry_credentials=logins)


def _is_own(name: str, source: SecretSource, own: Mapping[str, str]) -> bool:
    return name in own and source.stored in (None, name)


def digests(hash_key: bytes, values: Mapping[str, str]) -> dict[str, str]:
    """Return a keyed digest of each value, by name; the same value under two names gives two digests."""
    return {name: digest(hash_key, {"name": name, "value": value}) for name, value in values.items()}
