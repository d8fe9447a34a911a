"""Use cases on snapshots."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import acceptance
from activities.db.acceptance import Accepted, AsNew, SnapshotWish
from activities.db.errors import SnapshotNotReady
from activities.db.records import OperationRecord
from activities.db.repositories import environments, operations, snapshots, verifications
from activities.db.repositories.snapshots import SnapshotRecord
from activities.db.repositories.verifications import VerificationRecord
from activities.temporal import TemporalError, VerificationStart
from api.deferred import TELL_SECONDS
from api.environments.service import Caller, accept, accepted_operation, site_of
from api.filters import SnapshotQuery, VerificationQuery
from api.idempotency import Outcome, Replayed, once
from api.snapshots.schemas import (
    CheckOut,
    ComponentOut,
    CreateSnapshot,
    RestoreSnapshot,
    SnapshotOut,
    VerificationOut,
)
from api.state import AppState
from api.transfers import TransferOut, transfer_out
from workflows.domain.snapshot_manifest import SnapshotManifest, StoredComponent
from workflows.domain.verification import VerificationState, VerifyLevel, verification_workflow_id

_log = structlog.get_logger("perdure.api")


async def take(caller: Caller, environment_id: str, wish: CreateSnapshot) -> Outcome[Accepted] | Replayed:
    """Take a snapshot of an environment."""
    lifetime = None if wish.expires_in_days is None else timedelta(days=wish.expires_in_days)
    wanted = SnapshotWish(name=wish.name, floor=wish.consistency_floor, lifetime=lifetime)

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        taken = await acceptance.snapshot_environment(
            session, caller.actor, environment_id, wanted, keys=caller.state.master_keys
        )
        return accepted_operation(caller.state, taken.accepted, snapshot_id=taken.snapshot.id)

    return await accept(caller, work)


async def restore(caller: Caller, snapshot_id: str, wish: RestoreSnapshot) -> Outcome[Accepted] | Replayed:
    """Load a snapshot's data into an environment, or make a new one of the whole."""
    state, actor = caller.state, caller.actor
    installation = await state.installation.id()

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        if wish.environment_id is not None:
            accepted = await acceptance.restore_in_place(
                session,
                actor,
                snapshot_id,
                wish.environment_id,
                keys=state.master_keys,
                masking=wish.masking,
                init=wish.run_init,
            )
        else:
            site = site_of(state, installation)
            new = AsNew(
                wish.name or "",
                wish.storage_classes,
                masking=wish.masking,
                init=wish.run_init,
                current_images=wish.current_images,
            )
            accepted = await acceptance.restore_as_new(
                session, actor, snapshot_id, new, site, keys=state.master_keys
            )
        return accepted_operation(state, accepted, snapshot_id=snapshot_id)

    return await accept(caller, work)


async def find(
    state: AppState,
    organization_id: str,
    query: SnapshotQuery,
    *,
    limit: int,
    cursor: str | None,
    environment_id: str | None = None,
) -> tuple[list[SnapshotOut], str | None]:
    """Return a page of snapshots; those of one environment. Raises NotFound for an unknown one."""
    async with state.database.reading() as session:
        if environment_id is not None:
            await environments.get_environment(session, organization_id, environment_id)
        page = await snapshots.list_snapshots(
            session,
            organization_id,
            wanted=replace(query.wanted, environment_id=environment_id),
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
    return [_shaped(record) for record in page.items], page.next_cursor


async def get(state: AppState, organization_id: str, snapshot_id: str) -> SnapshotOut:
    """Return one snapshot with its components. Raises NotFound."""
    async with state.database.reading() as session:
        return _shaped(await snapshots.get_snapshot(session, organization_id, snapshot_id), full=True)


async def manifest(state: AppState, organization_id: str, snapshot_id: str) -> SnapshotManifest:
    """Return a snapshot's manifest as it is kept. Raises NotFound, SnapshotNotReady."""
    async with state.database.reading() as session:
        record = await snapshots.get_snapshot(session, organization_id, snapshot_id)
    if record.manifest is None:
        raise SnapshotNotReady(record.id, record.state)
    return record.manifest


async def delete(caller: Caller, snapshot_id: str) -> Outcome[None] | Replayed:
    """Ask for a snapshot's deletion: it cannot be used any more, and its objects go within minutes."""

    async def work(session: AsyncSession) -> Outcome[None]:
        record = await snapshots.ask_to_delete(session, caller.actor, snapshot_id)
        return Outcome(None, 202, _shaped(record))

    return await once(caller.request, caller.state, caller.actor, caller.key, work)


async def verify(
    caller: Caller, snapshot_id: str, level: VerifyLevel
) -> Outcome[VerificationRecord] | Replayed:
    """Verify a snapshot; a start that gets lost is made by the sweep."""

    async def work(session: AsyncSession) -> Outcome[VerificationRecord]:
        record = await verifications.ask(session, caller.actor, snapshot_id, level)
        return Outcome(
            record,
            202,
            _verification(record),
            headers={"Location": f"/v1/snapshots/{snapshot_id}/verifications/{record.id}"},
        )

    outcome = await once(caller.request, caller.state, caller.actor, caller.key, work)
    if isinstance(outcome, Outcome):
        await _start(caller.state, outcome.result)
    return outcome


async def find_verifications(
    state: AppState,
    organization_id: str,
    snapshot_id: str,
    query: VerificationQuery,
    *,
    limit: int,
    cursor: str | None,
) -> tuple[list[VerificationOut], str | None]:
    """Return a page of a snapshot's verifications. Raises NotFound."""
    async with state.database.reading() as session:
        await snapshots.get_snapshot(session, organization_id, snapshot_id)
        page = await verifications.list_verifications(
            session,
            organization_id,
            snapshot_id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
    return [_verification(record) for record in page.items], page.next_cursor


async def get_verification(
    state: AppState, organization_id: str, snapshot_id: str, verification_id: str
) -> VerificationOut:
    """Return one verification with all that was found, and how far it is. Raises NotFound."""
    async with state.database.reading() as session:
        record = await verifications.get_verification(session, organization_id, snapshot_id, verification_id)
        restore: OperationRecord | None = None
        if record.operation_id is not None:
            restore = await operations.get_operation(session, organization_id, record.operation_id)
    if record.state is not VerificationState.RUNNING:
        return _verification(record)
    moving = verification_workflow_id(record.snapshot_id, record.id)
    if restore is not None and not restore.ended:
        moving = restore.workflow_id
    readings = await state.transfers.of(moving)
    return _verification(record, transfer=transfer_out(readings[0]) if readings else None)


async def _start(state: AppState, record: VerificationRecord) -> None:
    async with state.database.reading() as session:
        environment_id = await snapshots.environment_of(session, record.snapshot_id)
    start = VerificationStart(record.id, record.snapshot_id, record.organization_id, environment_id)
    try:
        async with asyncio.timeout(TELL_SECONDS):
            await state.starter.verify(start)
    except (TemporalError, TimeoutError) as error:
        state.metrics.starts_deferred.inc()
        _log.warning("verification_start_deferred", verificationId=record.id, error=str(error))


def _verification(record: VerificationRecord, *, transfer: TransferOut | None = None) -> VerificationOut:
    return VerificationOut(
        id=record.id,
        snapshot_id=record.snapshot_id,
        level=record.level,
        state=record.state,
        checks=[CheckOut.model_validate(check.model_dump()) for check in record.checks],
        environment_id=record.environment_id,
        operation_id=record.operation_id,
        transfer=transfer,
        requested_by=record.requested_by,
        created_at=record.created_at,
        finished_at=record.finished_at,
    )


def _shaped(record: SnapshotRecord, *, full: bool = False) -> SnapshotOut:
    manifest = record.manifest
    return SnapshotOut(
        id=record.id,
        name=record.name,
        scheduled=record.scheduled,
        state=record.state,
        environment_id=record.environment_id,
        environment_name=record.environment_name,
        operation_id=record.operation_id,
        revision=None if manifest is None else manifest.revision,
        consistency=record.consistency,
        scope=record.scope,
        plain_bytes=record.plain_bytes,
        stored_bytes=record.stored_bytes,
        created_by=record.created_by,
        created_at=record.created_at,
        published_at=record.published_at,
        expires_at=record.expires_at,
        last_verified_at=record.last_verified_at,
        verified_level=None if record.verified_level is None else VerifyLevel(record.verified_level),
        standing=record.standing or None,
        components=[_component(each) for each in manifest.components] if full and manifest else None,
    )


def _component(component: StoredComponent) -> ComponentOut:
    return ComponentOut(
        service=component.service,
        store=component.store,
        engine=component.engine,
        consistency=component.consistency,
        quiesced=component.quiesced,
        captured_at=component.captured_at,
        instead_of=component.instead_of,
        because=component.because or None,
        parts=len(component.parts),
        volumes=len(component.volumes),
        plain_bytes=sum(part.plain_bytes for part in component.parts),
        stored_bytes=component.stored_bytes,
    )
