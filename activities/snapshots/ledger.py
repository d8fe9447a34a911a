"""What snapshots need of Perdure's own state: keys of what is stored, and their manifests."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession
from temporalio import activity

from activities._state import sealer_of, told_as_failures
from activities._step import application_error
from activities.db.engine import Database
from activities.db.errors import NotFound, SnapshotNotReady
from activities.db.repositories import operations, secrets, snapshots
from activities.db.repositories.environments import get_environment
from activities.db.repositories.snapshots import SnapshotRecord
from activities.secrets import DataKey, MasterKeys, Sealer
from activities.snapshots.frames import Component, ComponentKey, FileKey, SealBroken, data_key_id
from workflows.contracts.snapshot import (
    ComponentKeys,
    ComponentKeysWanted,
    Loadable,
    SealedComponentKey,
    SnapshotLedgerActivities,
    StreamKeysWanted,
)
from workflows.domain.failures import FailureKind, failure
from workflows.domain.snapshot_manifest import SnapshotManifest, StoredPart


@dataclass(frozen=True, slots=True)
class SnapshotLedger(SnapshotLedgerActivities):
    """The local activities of snapshots."""

    database: Database
    keys: MasterKeys
    sealers: Mapping[str, Sealer]

    @activity.defn(name="snapshot.component_keys")
    async def component_keys(self, request: ComponentKeysWanted) -> ComponentKeys:
        """See `SnapshotLedgerActivities`."""
        async with told_as_failures(), self.database.transaction() as session:
            ref = await operations.operation_ref(session, request.operation_id)
            environment = await get_environment(session, ref.organization_id, ref.environment_id)
            key = await secrets.data_key(session, ref.organization_id, self.keys)
        sealer = sealer_of(self.sealers, environment.cluster)
        made = {
            service: ComponentKey.new(key, Component(request.snapshot_id, service))
            for service in request.services
        }
        return ComponentKeys(
            keys={
                service: SealedComponentKey(
                    body=base64.b64encode(each.body).decode(),
                    key=sealer.seal(base64.b64encode(each.key).decode()),
                )
                for service, each in made.items()
            }
        )

    @activity.defn(name="snapshot.stream_keys")
    async def stream_keys(self, request: StreamKeysWanted) -> Loadable:
        """See `SnapshotLedgerActivities`."""
        async with told_as_failures(), self.database.reading() as session:
            ref = await operations.operation_ref(session, request.operation_id)
            environment = await get_environment(session, ref.organization_id, ref.environment_id)
            snapshot = await snapshots.get_snapshot(session, ref.organization_id, request.snapshot_id)
            sealer = sealer_of(self.sealers, environment.cluster)
            found = await loadable(session, snapshot, request.service, self.keys, sealer)
            if not request.masked:
                return found
            key = await secrets.data_key(session, ref.organization_id, self.keys)
            masking_key = base64.b64encode(key.masking_key()).decode()
            return found.model_copy(update={"masking_key": sealer.seal(masking_key)})

    @activity.defn(name="snapshot.expect_volumes")
    async def expect_volumes(self, snapshot_id: str) -> None:
        """See `SnapshotLedgerActivities`."""
        async with told_as_failures(), self.database.transaction() as session:
            await snapshots.expect_volumes(session, snapshot_id)

    @activity.defn(name="snapshot.describe")
    async def describe(self, manifest: SnapshotManifest) -> None:
        """See `SnapshotLedgerActivities`."""
        async with told_as_failures(), self.database.transaction() as session:
            await snapshots.describe(session, manifest)


async def loadable(
    session: AsyncSession, snapshot: SnapshotRecord, service: str, keys: MasterKeys, sealer: Sealer
) -> Loadable:
    """Return a stored component with its keys, sealed for a cluster.

    Raises SnapshotNotReady, SecretsError; ends the activity when a stored key cannot be opened.
    """
    if snapshot.manifest is None:
        raise SnapshotNotReady(snapshot.id, snapshot.state)
    stored = snapshot.manifest.component(service)
    of = Component(snapshot.id, service)
    data_keys: dict[str, DataKey] = {}
    sealed: dict[str, str] = {}
    try:
        for part in stored.parts:
            header = _header(part)
            key_id = data_key_id(header)
            if key_id not in data_keys:
                data_keys[key_id] = await secrets.open_data_key(
                    session, snapshot.organization_id, key_id, keys
                )
            key = FileKey.open(data_keys[key_id], header, of)
            sealed[part.prefix] = sealer.seal(base64.b64encode(key.key).decode())
    except (SealBroken, NotFound) as fault:
        # Also when the header names no data key of this organisation: nobody will ever open that.
        raise application_error(failure(FailureKind.SNAPSHOT_CORRUPT, f"{fault}.")) from fault
    return Loadable(component=stored, keys=sealed)


def _header(part: StoredPart) -> bytes:
    """Return the header of a stream as the manifest has it. Raises SealBroken when it has none."""
    try:
        return base64.b64decode(part.header, validate=True)
    except ValueError as fault:
        raise SealBroken(f"the header of {part.subject} cannot be read") from fault
