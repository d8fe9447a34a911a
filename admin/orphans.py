"""Namespaces that no environment answers for: found, chosen by their names, and removed."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from activities.db.engine import Database
from activities.db.errors import NotFound as NoOrganization
from activities.db.records import OPERATOR, Actor, JsonObject
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.audit import add_entry
from activities.db.repositories.installation import installation_id
from activities.db.repositories.orphans import (
    KnownEnvironment,
    SeenNamespace,
    answers_for,
    known_environments,
    note_orphans,
)
from activities.db.tables import Role
from admin.errors import AdminError
from clusters.errors import Forbidden, NotFound, PreconditionFailed
from clusters.fencing import fence_of
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef
from workflows.domain.json_reading import instant, mapping, text
from workflows.domain.names import ENVIRONMENT, INSTALLATION, INSTANCE, ORGANIZATION
from workflows.domain.operations import EnvironmentPhase

GONE_SECONDS: Final = 90.0
_STANDING: Final = frozenset({EnvironmentPhase.RUNNING, EnvironmentPhase.DEGRADED, EnvironmentPhase.STOPPED})


@dataclass(frozen=True, slots=True)
class OrphanNamespace:
    """One. `volumes`: names of its claims; None: we may not look, so that there may be some."""

    name: str
    uid: str
    environment_id: str
    environment_name: str
    organization_id: str
    made_at: datetime | None
    seen_at: datetime
    volumes: tuple[str, ...] | None
    going: bool
    """Whether it is being deleted already."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A cluster compared with the database. `namespaces`: all of this installation.

    `missing`: environments whose namespace is not there; `changed`: those that were written to under a fence
    which no operation in the database has.
    """

    cluster: str
    namespaces: int
    orphans: tuple[OrphanNamespace, ...]
    missing: tuple[KnownEnvironment, ...]
    changed: tuple[KnownEnvironment, ...]


async def survey(database: Database, cluster: Cluster) -> Survey:
    """Look at all namespaces of this installation, and note since when which are orphans."""
    async with database.transaction() as session:
        installation = await installation_id(session)
    # First the cluster, then the rows: an environment is a row before it has a namespace.
    found = (await cluster.list("Namespace", labels={INSTALLATION: installation})).items
    live = {text(each, "metadata", "name"): each for each in found}
    async with database.transaction() as session:
        known = await known_environments(session, cluster.name)
        strays = {name: each for name, each in live.items() if name not in known}
        since = await note_orphans(
            session, cluster.name, [_seen(name, each) for name, each in strays.items()]
        )
    orphans = [
        await _orphan(cluster, name, each, since[text(each, "metadata", "uid")])
        for name, each in sorted(strays.items())
    ]
    return Survey(
        cluster.name,
        len(live),
        tuple(orphans),
        tuple(each for name, each in known.items() if name not in live and each.phase in _STANDING),
        tuple(each for name, each in known.items() if _newer(live.get(name), each)),
    )


def chosen(found: Survey, names: Sequence[str]) -> list[OrphanNamespace]:
    """Return the orphans of these names. Raises AdminError for what is none."""
    by_name = {each.name: each for each in found.orphans}
    others = [name for name in names if name not in by_name]
    if others:
        raise AdminError(
            f"Not an orphan of this installation on {found.cluster}: {', '.join(others)}.",
            hints=["`perdure admin orphans` lists them."],
        )
    return [by_name[name] for name in dict.fromkeys(names)]


async def remove(database: Database, cluster: Cluster, orphan: OrphanNamespace) -> str:
    """Delete an orphan and wait a while until it is gone; return what became of it, for people.

    Only the very namespace that was looked at, and only while no environment answers for it: whoever would
    adopt it waits for the organisation's lock until the deletion is accepted. The audit has what was
    accepted, and nothing of what was refused. Raises AdminError.
    """
    ref = ObjectRef("Namespace", orphan.name)
    async with database.transaction() as session:
        try:
            await locked_organization(session, orphan.organization_id)
        except NoOrganization:
            audited = False  # nobody's audit to write into, and nobody to adopt it
        else:
            audited = True
        if await answers_for(session, cluster.name, orphan.name):
            raise AdminError(f"{orphan.name} belongs to an environment by now.")
        if audited:
            actor = Actor(orphan.organization_id, OPERATOR, None, Role.OWNER)
            volumes: list[str] = list(orphan.volumes or ())
            data: JsonObject = {"namespace": orphan.name, "cluster": cluster.name, "volumes": [*volumes]}
            await add_entry(session, actor, "orphan.purge", orphan.environment_id, data)
        try:
            await cluster.delete(ref, uid=orphan.uid, propagation=Propagation.BACKGROUND)
        except PreconditionFailed as error:
            raise AdminError(f"{orphan.name} is another namespace by now; it was left alone.") from error
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        live = await cluster.get(ref)
        if live is None or text(live, "metadata", "uid") != orphan.uid:
            return "gone"
        await asyncio.sleep(0.5)
    held = (
        ", ".join(str(each.object) for each in await cluster.blockers(orphan.name)) or "nothing that we see"
    )
    return f"is still being deleted, held by {held}"


async def _orphan(cluster: Cluster, name: str, live: Manifest, since: datetime) -> OrphanNamespace:
    labels = mapping(live, "metadata", "labels")
    try:
        claims = (await cluster.list("PersistentVolumeClaim", name)).items
        volumes: tuple[str, ...] | None = tuple(sorted(text(each, "metadata", "name") for each in claims))
    except (Forbidden, NotFound):
        volumes = None
    return OrphanNamespace(
        name=name,
        uid=text(live, "metadata", "uid"),
        environment_id=text(labels, ENVIRONMENT),
        environment_name=text(labels, INSTANCE),
        organization_id=text(labels, ORGANIZATION),
        made_at=instant(live, "metadata", "creationTimestamp"),
        seen_at=since,
        volumes=volumes,
        going=bool(text(live, "metadata", "deletionTimestamp")),
    )


def _seen(name: str, live: Manifest) -> SeenNamespace:
    organization = text(live, "metadata", "labels", ORGANIZATION)
    return SeenNamespace(text(live, "metadata", "uid"), name, organization)


def _newer(live: Manifest | None, known: KnownEnvironment) -> bool:
    fence = None if live is None else fence_of(live)
    return fence is not None and fence > known.highest_fence
