"""Snapshots for tests of our own state: as their workflow writes them, with nothing in a store."""

from activities.db.acceptance import (
    Accepted,
    AsNew,
    Site,
    SnapshotAccepted,
    SnapshotWish,
    restore_as_new,
    restore_in_place,
    snapshot_environment,
)
from activities.db.engine import Database
from activities.db.repositories import environments, snapshots
from activities.db.repositories.installation import installation_id
from activities.db.repositories.snapshots import SnapshotRecord
from tests.helpers.contexts import CONTEXT
from tests.helpers.tenants import KEYS, Tenant, begin, finish
from workflows.contracts.snapshot import Publish
from workflows.domain.blueprint_models import DataStore
from workflows.domain.environment import GuardRails
from workflows.domain.masking import MaskingRules
from workflows.domain.operations import OperationState
from workflows.domain.snapshot import Consistency, Engine, Scope
from workflows.domain.snapshot_manifest import SnapshotManifest, StoredComponent, StoredPart, stream_name


def stored(service: str, store: DataStore, *subjects: str, pods: int = 1) -> StoredComponent:
    """A component with a stream for each subject of each pod: files are copied, all else is dumped."""
    copied = store is DataStore.FILES
    return StoredComponent(
        service=service,
        store=store,
        engine=Engine.LIVE_COPY if copied else Engine.EXEC_DUMP,
        consistency=Consistency.LIVE_COPY if copied else Consistency.APPLICATION,
        parts=tuple(
            StoredPart(
                key=subject.strip("/"),
                subject=subject,
                ordinal=ordinal,
                prefix=f"snapshots/test/{stream_name(service, subject.strip('/'), ordinal)}",
                part_bytes=8_388_608,
                header="aGVhZGVy",
                plain_bytes=4096,
                plain_sha256="0" * 64,
                stored_bytes=1024,
                stored_sha256="1" * 64,
            )
            for ordinal in range(pods)
            for subject in subjects or ("all",)
        ),
    )


async def describe(
    database: Database, operation_id: str, *components: StoredComponent, images: dict[str, str] | None = None
) -> SnapshotManifest:
    """Begin an operation that takes a snapshot, and write what it took, as its last step does."""
    begun = await begin(database, operation_id)
    environment = begun.environment
    async with database.transaction() as session:
        run = await snapshots.run_of(session, operation_id)
        assert run is not None
        manifest = SnapshotManifest(
            snapshot_id=run.snapshot_id,
            organization_id=environment.organization_id,
            environment_id=environment.id,
            environment_name=environment.name,
            revision=begun.revision.number,
            blueprint=begun.revision.blueprint,
            overrides=await environments.overrides(session, environment.organization_id, environment.id),
            images=images or {},
            consistency=min(
                (each.consistency for each in components),
                key=[*Consistency][::-1].index,
                default=Consistency.CONFIG_ONLY,
            ),
            scope=Scope.INDEPENDENT,
            components=components,
        )
        await snapshots.describe(session, manifest)
    return manifest


async def publish(
    database: Database, operation_id: str, *components: StoredComponent, images: dict[str, str] | None = None
) -> None:
    """Let the operation that takes a snapshot succeed; `images`: what it saw, by service."""
    await describe(database, operation_id, *components, images=images)
    await finish(database, operation_id, OperationState.SUCCEEDED)


async def take(
    database: Database, tenant: Tenant, environment_id: str, wish: SnapshotWish | None = None
) -> SnapshotAccepted:
    """Accept a snapshot."""
    async with database.transaction() as session:
        return await snapshot_environment(
            session, tenant.actor, environment_id, wish or SnapshotWish(), keys=KEYS
        )


async def taken(database: Database, tenant: Tenant, environment_id: str, *components: StoredComponent) -> str:
    """Take a snapshot; return its id."""
    accepted = await take(database, tenant, environment_id)
    await publish(database, accepted.accepted.operation.id, *components)
    return accepted.snapshot.id


async def restore_in(
    database: Database,
    tenant: Tenant,
    snapshot_id: str,
    environment_id: str,
    *,
    masking: MaskingRules | None = None,
) -> Accepted:
    """Accept a restore in place."""
    async with database.transaction() as session:
        return await restore_in_place(
            session, tenant.actor, snapshot_id, environment_id, keys=KEYS, masking=masking
        )


async def restore_new(
    database: Database,
    tenant: Tenant,
    snapshot_id: str,
    name: str = "copy",
    *,
    masking: MaskingRules | None = None,
    **classes: str,
) -> Accepted:
    """Accept a restore as a new environment; `classes`: storage classes by those in the snapshot."""
    async with database.transaction() as session:
        place = Site("local", await installation_id(session), GuardRails())
        wish = AsNew(name, classes, masking=masking)
        return await restore_as_new(session, tenant.actor, snapshot_id, wish, place, keys=KEYS)


async def snapshot_of(database: Database, tenant: Tenant, snapshot_id: str) -> SnapshotRecord:
    """Read a snapshot of the tenant."""
    async with database.reading() as session:
        return await snapshots.get_snapshot(session, tenant.id, snapshot_id)


def to_publish(snapshot_id: str, prefix: str, stored_bytes: int) -> Publish:
    """What is to be published of a service with one stream, which is stored below `prefix`."""
    plain = stored("db", DataStore.POSTGRES, "globals")
    part = plain.parts[0].model_copy(update={"prefix": prefix, "stored_bytes": stored_bytes})
    manifest = SnapshotManifest(
        snapshot_id=snapshot_id,
        organization_id=CONTEXT.organization_id,
        environment_id=CONTEXT.environment_id,
        environment_name=CONTEXT.environment_name,
        revision=1,
        blueprint={},
        consistency=Consistency.APPLICATION,
        scope=Scope.ONE_POINT,
        components=(plain.model_copy(update={"parts": (part,)}),),
    )
    return Publish(context=CONTEXT, manifest=manifest)
