"""Taking an orphan back: what its namespace says, with a Blueprint that the cluster cannot tell."""

import base64
import binascii
from pathlib import Path

import yaml

from activities.db.acceptance import Accepted, FoundNamespace, adopt_environment
from activities.db.engine import Database
from activities.db.errors import DomainError
from activities.db.records import OPERATOR, Actor
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.installation import installation_id
from activities.db.tables import Role
from activities.secrets import MasterKeys
from admin.errors import AdminError, NotUsable
from admin.orphans import OrphanNamespace
from clusters.fencing import fence_of
from clusters.gateway import Cluster
from clusters.objects import Manifest, ObjectRef
from workflows.domain.blueprint import Blueprint, BlueprintInvalid, parse_blueprint, secret_sources
from workflows.domain.environment import GuardRails
from workflows.domain.json_reading import text
from workflows.domain.manifests_secrets import SECRET_KEY, secret_object_name
from workflows.domain.names import REVISION


def read_blueprint(path: Path, *, name: str, plan: str | None) -> Blueprint:
    """Read the Blueprint of an environment of that name. Raises NotUsable with every fault."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NotUsable(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error
    try:
        blueprint = parse_blueprint(document, plan=plan)
    except BlueprintInvalid as error:
        raise NotUsable(f"{path} is not valid.", details=[str(each) for each in error.errors]) from error
    if blueprint.name != name:
        raise NotUsable(f"{path} is the Blueprint of {blueprint.name!r}; the namespace is of {name!r}.")
    return blueprint


async def adopt(
    database: Database,
    cluster: Cluster,
    orphan: OrphanNamespace,
    blueprint: Blueprint,
    *,
    keys: MasterKeys,
    guard_rails: GuardRails,
) -> Accepted:
    """Accept an orphan as an environment, to be made what the Blueprint says. Raises AdminError."""
    if orphan.going:
        raise AdminError(f"{orphan.name} is being deleted.")
    if not orphan.environment_id or not orphan.organization_id:
        raise AdminError(f"{orphan.name} does not say whose environment it is.")
    live = await _standing(cluster, orphan)
    revision = text(live, "metadata", "annotations", REVISION)
    found = FoundNamespace(
        environment_id=orphan.environment_id,
        instance=orphan.environment_name,
        cluster=cluster.name,
        namespace=orphan.name,
        revision=int(revision) if revision.isdigit() and int(revision) else 1,
        fence=fence_of(live) or 0,
        values=await _values(cluster, orphan.name, blueprint),
    )
    actor = Actor(orphan.organization_id, OPERATOR, None, Role.OWNER)
    try:
        async with database.transaction() as session:
            # Whoever purges it holds this lock until the deletion is accepted.
            await locked_organization(session, orphan.organization_id)
            await _standing(cluster, orphan)
            return await adopt_environment(
                session,
                actor,
                blueprint,
                found,
                installation_id=await installation_id(session),
                keys=keys,
                guard_rails=guard_rails,
            )
    except DomainError as error:
        raise AdminError(f"{orphan.name} cannot be taken back: {error}.") from error


async def _standing(cluster: Cluster, orphan: OrphanNamespace) -> Manifest:
    """Return the namespace as it is now. Raises AdminError when it is gone, another, or being deleted."""
    live = await cluster.get(ObjectRef("Namespace", orphan.name))
    if live is None or text(live, "metadata", "uid") != orphan.uid:
        raise AdminError(f"{orphan.name} is gone, or another namespace by now.")
    if text(live, "metadata", "deletionTimestamp"):
        raise AdminError(f"{orphan.name} is being deleted.")
    return live


async def _values(cluster: Cluster, namespace: str, blueprint: Blueprint) -> dict[str, str]:
    """Read the values of secrets that stand in the namespace, by the Blueprint's names."""
    values: dict[str, str] = {}
    for name in secret_sources(blueprint):
        secret = await cluster.get(ObjectRef("Secret", secret_object_name(name), namespace))
        written = "" if secret is None else text(secret, "data", SECRET_KEY)
        try:
            if written:
                values[name] = base64.b64decode(written, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return values
