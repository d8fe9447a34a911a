"""Logins for container registries; passwords are encrypted like secrets."""

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from activities.db.core import table_of
from activities.db.errors import NameTaken, NotFound
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, RegistryCredentialRecord, registry_credential_record
from activities.db.repositories import secrets
from activities.db.repositories._rows import locked_organization, owned_row
from activities.db.repositories.audit import add_entry
from activities.db.repositories.paging import ByNameOrChange, Filter, Listing, Page, holding, only
from activities.db.tables import RegistryCredential
from activities.db.types import utc_now
from activities.secrets import MasterKeys


@dataclass(frozen=True, slots=True)
class RegistryCredentialFilter(Filter):
    """Which logins a list holds: those for a registry. `part` stands in the name."""

    host: str | None = None
    part: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        return [
            *only(col(RegistryCredential.host), self.host),
            *holding(col(RegistryCredential.name), self.part),
        ]


_TABLE: Final = table_of(RegistryCredential)
_LISTING: Final = Listing(
    name="registry credentials",
    copy=registry_credential_record,
    by={"name": _TABLE.c.name, "updatedAt": _TABLE.c.updated_at},
    identifier=_TABLE.c.id,
)


async def create_registry_credential(
    session: AsyncSession,
    actor: Actor,
    *,
    name: str,
    host: str,
    username: str,
    password: str,
    keys: MasterKeys,
) -> RegistryCredentialRecord:
    """Store a login under a name that Blueprints use in `imagePullSecrets`. Raises NameTaken."""
    await locked_organization(session, actor.organization_id)
    taken = (await session.exec(_named(actor.organization_id, (name,)))).one_or_none()
    if taken is not None:
        raise NameTaken("registry credential", name, taken.id)
    key = await secrets.data_key(session, actor.organization_id, keys)
    now = utc_now()
    row = RegistryCredential(
        id=new_id(IdPrefix.REGISTRY_CREDENTIAL),
        organization_id=actor.organization_id,
        name=name,
        host=host,
        username=username,
        data_key_id=key.id,
        ciphertext=b"",
        created_by=actor.principal_id,
        created_at=now,
        updated_at=now,
    )
    row.ciphertext = key.encrypt(password, subject=row.id)
    session.add(row)
    await add_entry(session, actor, "registry_credential.create", row.id, {"name": name, "host": host})
    await session.flush()
    return registry_credential_record(row)


async def get_registry_credential(
    session: AsyncSession, organization_id: str, credential_id: str
) -> RegistryCredentialRecord:
    """Return a login of this organisation, without its password. Raises NotFound."""
    row = await owned_row(session, RegistryCredential, credential_id, organization_id, "registry credential")
    return registry_credential_record(row)


async def find_registry_credential(
    session: AsyncSession, organization_id: str, id_or_name: str
) -> RegistryCredentialRecord:
    """Return the login of this id or name, without its password. Raises NotFound."""
    query = select(RegistryCredential).where(
        col(RegistryCredential.organization_id) == organization_id,
        or_(col(RegistryCredential.id) == id_or_name, col(RegistryCredential.name) == id_or_name),
    )
    row = (await session.exec(query)).one_or_none()
    if row is None:
        raise NotFound("registry credential", id_or_name)
    return registry_credential_record(row)


async def replace_registry_credential(
    session: AsyncSession,
    actor: Actor,
    credential_id: str,
    *,
    host: str,
    username: str,
    password: str,
    keys: MasterKeys,
) -> RegistryCredentialRecord:
    """Give a login another host, user and password; its name and id stay. Raises NotFound."""
    await locked_organization(session, actor.organization_id)
    row = await owned_row(
        session, RegistryCredential, credential_id, actor.organization_id, "registry credential"
    )
    key = await secrets.data_key(session, actor.organization_id, keys)
    row.host, row.username = host, username
    row.data_key_id, row.ciphertext = key.id, key.encrypt(password, subject=row.id)
    row.updated_at = utc_now()
    session.add(row)
    await add_entry(session, actor, "registry_credential.replace", row.id, {"name": row.name, "host": host})
    await session.flush()
    return registry_credential_record(row)


async def list_registry_credentials(
    session: AsyncSession,
    organization_id: str,
    *,
    wanted: RegistryCredentialFilter = RegistryCredentialFilter(),
    sort: ByNameOrChange = ByNameOrChange.NAME,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[RegistryCredentialRecord]:
    """Return a page of an organisation's logins, without passwords. Raises InvalidCursor."""
    query = select(RegistryCredential).where(col(RegistryCredential.organization_id) == organization_id)
    return await _LISTING.page(session, query, sort=sort, wanted=wanted, limit=limit, cursor=cursor)


async def delete_registry_credential(session: AsyncSession, actor: Actor, credential_id: str) -> None:
    """Remove a login for good. Raises NotFound."""
    row = await owned_row(
        session, RegistryCredential, credential_id, actor.organization_id, "registry credential"
    )
    await session.delete(row)
    await add_entry(session, actor, "registry_credential.delete", row.id, {"name": row.name})
    await session.flush()


async def existing_names(session: AsyncSession, organization_id: str, names: Collection[str]) -> set[str]:
    """Return which of these names are logins of the organisation."""
    return {row.name for row in await session.exec(_named(organization_id, names))}


async def docker_configs(
    session: AsyncSession, organization_id: str, names: Collection[str], keys: MasterKeys
) -> dict[str, str]:
    """Return a `.dockerconfigjson` document for each of these logins, by name. Raises SecretsError.

    Format: https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets
    """
    documents: dict[str, str] = {}
    for row in await session.exec(_named(organization_id, names)):
        key = await secrets.open_data_key(session, organization_id, row.data_key_id, keys)
        password = key.decrypt(row.ciphertext, subject=row.id)
        login = {
            "username": row.username,
            "password": password,
            "auth": base64.b64encode(f"{row.username}:{password}".encode()).decode(),
        }
        documents[row.name] = json.dumps({"auths": {row.host: login}})
    return documents


def _named(organization_id: str, names: Collection[str]) -> SelectOfScalar[RegistryCredential]:
    return select(RegistryCredential).where(
        col(RegistryCredential.organization_id) == organization_id, col(RegistryCredential.name).in_(names)
    )
