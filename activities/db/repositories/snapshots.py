"""Snapshots: what each is, and what operations do with them.

A snapshot becomes available in the transaction that ends its operation as succeeded, never before.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, and_
from sqlalchemy.orm import Mapped
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from activities.db.core import table_of
from activities.db.errors import NotFound, SnapshotBusy, SnapshotInUse, SnapshotNotReady
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, JsonObject
from activities.db.repositories._rows import FRESH
from activities.db.repositories.audit import add_entry
from activities.db.repositories.paging import Filter, Listing, Page, among, filled, holding, only, since
from activities.db.tables import Environment, Installation, Operation, Snapshot, SnapshotVerification
from activities.db.tables import SnapshotRun as RunRow
from workflows.domain.operations import LIVE_STATES, OperationState
from workflows.domain.snapshot import Consistency, Scope
from workflows.domain.snapshot_manifest import SnapshotManifest, SnapshotRun, SnapshotState
from workflows.domain.verification import VerificationState


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """A snapshot. `manifest` is None until it is published; `secrets`: see `tables.Snapshot`."""

    id: str
    organization_id: str
    environment_id: str
    environment_name: str
    operation_id: str
    name: str
    scheduled: bool
    state: SnapshotState
    consistency: Consistency | None
    scope: Scope | None
    manifest: SnapshotManifest | None
    secrets: Mapping[str, JsonObject] = field(repr=False)
    stored_bytes: int
    plain_bytes: int
    created_by: str
    created_at: datetime
    published_at: datetime | None
    expires_at: datetime | None
    last_verified_at: datetime | None
    verified_level: int | None
    standing: str
    removed_at: datetime | None


class SnapshotSort(StrEnum):
    """Order of a list of snapshots; `-`: the newest, or the largest in the store, first."""

    OLDEST = "createdAt"
    NEWEST = "-createdAt"
    SMALLEST = "storedBytes"
    LARGEST = "-storedBytes"


@dataclass(frozen=True, slots=True)
class SnapshotFilter(Filter):
    """Which snapshots a list holds. `part` stands in the name; `verified`: one passed, or none has."""

    environment_id: str | None = None
    states: frozenset[SnapshotState] = frozenset()
    scheduled: bool | None = None
    verified: bool | None = None
    part: str | None = None
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        return [
            *only(col(Snapshot.environment_id), self.environment_id),
            *among(col(Snapshot.state), self.states),
            *only(col(Snapshot.scheduled), self.scheduled),
            *filled(col(Snapshot.last_verified_at), self.verified),
            *holding(col(Snapshot.name), self.part),
            *since(col(Snapshot.created_at), self.since),
        ]


@dataclass(frozen=True, slots=True)
class NewSnapshot:
    """What a snapshot is to be; `lifetime` None: it is kept until somebody deletes it."""

    id: str
    name: str
    lifetime: timedelta | None
    scheduled: bool
    secrets: Mapping[str, JsonObject] = field(repr=False)


def new_snapshot_id() -> str:
    """Return the id of a snapshot that is about to be taken."""
    return new_id(IdPrefix.SNAPSHOT)


async def create_snapshot(
    session: AsyncSession,
    actor: Actor,
    environment: Environment,
    operation_id: str,
    wanted: NewSnapshot,
    *,
    now: datetime,
) -> SnapshotRecord:
    """Add a snapshot that an accepted operation on a locked environment takes."""
    row = Snapshot(
        id=wanted.id,
        organization_id=environment.organization_id,
        environment_id=environment.id,
        environment_name=environment.name,
        operation_id=operation_id,
        name=wanted.name,
        scheduled=wanted.scheduled,
        state=SnapshotState.CREATING,
        secrets={**wanted.secrets},
        created_by=actor.principal_id,
        created_at=now,
        expires_at=None if wanted.lifetime is None else now + wanted.lifetime,
    )
    session.add(row)
    await session.flush()
    return _record(row)


async def add_run(session: AsyncSession, organization_id: str, operation_id: str, run: SnapshotRun) -> None:
    """Keep what a new operation does with a snapshot."""
    row = RunRow(
        operation_id=operation_id,
        organization_id=organization_id,
        snapshot_id=run.snapshot_id,
        run=run.model_dump(mode="json"),
    )
    session.add(row)
    await session.flush()


async def run_of(session: AsyncSession, operation_id: str) -> SnapshotRun | None:
    """Return what an operation does with a snapshot; None when it has to do with none."""
    row = await session.get(RunRow, operation_id)
    return None if row is None else SnapshotRun.model_validate(row.run)


async def snapshots_of(session: AsyncSession, operation_ids: Collection[str]) -> dict[str, str]:
    """Return the snapshots that these operations take or load, by operation; those without are left out."""
    query = select(RunRow.operation_id, RunRow.snapshot_id).where(col(RunRow.operation_id).in_(operation_ids))
    return dict((await session.exec(query)).all())


async def describe(session: AsyncSession, manifest: SnapshotManifest) -> None:
    """Write the manifest to a snapshot that is being taken; one that has ended keeps what it has.

    Raises NotFound.
    """
    row = await locked_snapshot(session, manifest.snapshot_id)
    if row.state is SnapshotState.CREATING:
        row.manifest = manifest.model_dump(mode="json")
        row.consistency = manifest.consistency
        row.scope = manifest.scope
        row.stored_bytes = manifest.stored_bytes
        row.plain_bytes = manifest.plain_bytes
        await session.flush()


async def settle_snapshot(
    session: AsyncSession, operation_id: str, state: OperationState, now: datetime
) -> None:
    """Say what the end of an operation makes of the snapshot that it takes.

    Without a manifest there is none, whatever the operation says.
    """
    query = select(Snapshot).where(col(Snapshot.operation_id) == operation_id).with_for_update()
    row = (await session.exec(query)).one_or_none()
    if row is None or row.state is not SnapshotState.CREATING:
        return
    if state is OperationState.SUCCEEDED and row.manifest is not None:
        row.state = SnapshotState.AVAILABLE
        row.published_at = now
        return
    row.state = SnapshotState.FAILED
    row.manifest, row.consistency, row.scope = None, None, None
    row.stored_bytes = row.plain_bytes = 0
    row.secrets = {}


async def get_snapshot(session: AsyncSession, organization_id: str, snapshot_id: str) -> SnapshotRecord:
    """Return a snapshot of the organisation. Raises NotFound, for one that was deleted too."""
    row = await session.get(Snapshot, snapshot_id)
    if row is None or row.organization_id != organization_id or row.state is SnapshotState.DELETED:
        raise NotFound("snapshot", snapshot_id)
    return _record(row)


async def usable_snapshot(
    session: AsyncSession, organization_id: str, snapshot_id: str
) -> tuple[SnapshotRecord, SnapshotManifest]:
    """Return a snapshot of the organisation that is available, and locked: nobody takes it out of use now.

    Raises NotFound, or SnapshotNotReady.
    """
    record = _record(await locked_snapshot(session, snapshot_id, organization_id))
    if record.state is not SnapshotState.AVAILABLE or record.manifest is None:
        raise SnapshotNotReady(record.id, record.state)
    return record, record.manifest


async def environment_of(session: AsyncSession, snapshot_id: str) -> str:
    """Return the id of the environment that a snapshot is of, whoever's it is. Raises NotFound."""
    row = await session.get(Snapshot, snapshot_id)
    if row is None:
        raise NotFound("snapshot", snapshot_id)
    return row.environment_id


async def list_snapshots(
    session: AsyncSession,
    organization_id: str,
    *,
    wanted: SnapshotFilter = SnapshotFilter(),
    sort: SnapshotSort = SnapshotSort.NEWEST,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[SnapshotRecord]:
    """Return a page of the snapshots that were not deleted. Raises InvalidCursor."""
    query = select(Snapshot).where(
        col(Snapshot.organization_id) == organization_id, col(Snapshot.state) != SnapshotState.DELETED
    )
    return await _LISTING.page(session, query, sort=sort, wanted=wanted, limit=limit, cursor=cursor)


async def ask_to_delete(session: AsyncSession, actor: Actor, snapshot_id: str) -> SnapshotRecord:
    """Take a snapshot out of use. What is stored of it is removed afterwards, by whoever cleans up.

    The same again is answered alike. Raises NotFound, or SnapshotInUse while an operation takes or loads it.
    """
    row = await locked_snapshot(session, snapshot_id, actor.organization_id)
    if row.state is SnapshotState.DELETING:
        return _record(row)
    using = (
        select(Operation)
        .join(RunRow, col(RunRow.operation_id) == col(Operation.id))
        .where(col(RunRow.snapshot_id) == snapshot_id, col(Operation.state).in_(LIVE_STATES))
    )
    live = (await session.exec(using.limit(1))).one_or_none()
    if live is not None:
        raise SnapshotInUse(snapshot_id, live.id, live.kind)
    verification = (await session.exec(verifying(snapshot_id).limit(1))).one_or_none()
    if verification is not None:
        raise SnapshotBusy(snapshot_id, f"verification {verification}")
    await take_out_of_use(session, actor, row, "snapshot.delete")
    return _record(row)


async def take_out_of_use(session: AsyncSession, actor: Actor, row: Snapshot, action: str) -> None:
    """Say of a locked snapshot that it cannot be used any more, and forget its secrets."""
    row.state = SnapshotState.DELETING
    row.secrets = {}
    await add_entry(session, actor, action, row.id, {"environment": row.environment_id})
    await session.flush()


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A snapshot that is of no use, and may have objects.

    `at_storage`: the storage of its environment's cluster may have something of it, too. `standing_at`: when
    that was last asked to remove it, and has not.
    """

    organization_id: str
    snapshot_id: str
    environment_id: str
    at_storage: bool
    standing_at: datetime | None


async def left_behind(session: AsyncSession, *, limit: int, after: str = "") -> tuple[LeftBehind, ...]:
    """Return snapshots that are of no use, in the order of their ids, `after` the one given.

    Not those that got lost in a restore of the database: see `_undecided`.
    """
    query = select(Snapshot).where(
        col(Snapshot.removed_at).is_(None),
        col(Snapshot.state).in_((SnapshotState.FAILED, SnapshotState.DELETING)),
        col(Snapshot.id) > after,
        ~_undecided(),
    )
    rows = (await session.exec(query.order_by(col(Snapshot.id)).limit(limit))).all()
    return tuple(
        LeftBehind(
            row.organization_id,
            row.id,
            row.environment_id,
            at_storage=_at_storage(row),
            standing_at=row.standing_at,
        )
        for row in rows
    )


def _at_storage(row: Snapshot) -> bool:
    if row.at_storage or row.manifest is None:
        return row.at_storage
    return bool(SnapshotManifest.model_validate(row.manifest).volumes)


async def expect_volumes(session: AsyncSession, snapshot_id: str) -> None:
    """Note that a cluster's storage may have something of a snapshot from now on. Raises NotFound."""
    row = await locked_snapshot(session, snapshot_id)
    row.at_storage = True
    await session.flush()


async def note_standing(session: AsyncSession, snapshot_id: str, standing: str, now: datetime) -> None:
    """Note what a cluster's storage has not removed of a snapshot, and why. Raises NotFound."""
    row = await locked_snapshot(session, snapshot_id)
    row.standing, row.standing_at = standing, now
    await session.flush()


async def forget_volumes(session: AsyncSession, snapshot_id: str) -> None:
    """Note that no cluster keeps anything of a snapshot any more. Raises NotFound."""
    row = await locked_snapshot(session, snapshot_id)
    if row.state not in (SnapshotState.FAILED, SnapshotState.DELETING):
        return
    row.at_storage, row.standing, row.standing_at = False, "", None
    if row.manifest is not None:
        manifest = SnapshotManifest.model_validate(row.manifest)
        components = tuple(each.model_copy(update={"volumes": ()}) for each in manifest.components)
        row.manifest = manifest.model_copy(update={"components": components}).model_dump(mode="json")
    await session.flush()


async def mark_removed(session: AsyncSession, snapshot_id: str, now: datetime) -> None:
    """Note that nothing is left of a snapshot in the store. Raises NotFound."""
    row = await locked_snapshot(session, snapshot_id)
    if row.state is SnapshotState.DELETING:
        row.state = SnapshotState.DELETED
        row.manifest = None
    row.removed_at = now
    await session.flush()


async def of_use(session: AsyncSession, snapshot_ids: Collection[str]) -> dict[tuple[str, str], bool]:
    """Return by organisation and id whether these are of use, or may be; unknown ones are left out."""
    query = select(Snapshot.organization_id, Snapshot.id, Snapshot.state, _undecided()).where(
        col(Snapshot.id).in_(snapshot_ids)
    )
    useful = (SnapshotState.CREATING, SnapshotState.AVAILABLE)
    return {
        (organization, identifier): state in useful or undecided
        for organization, identifier, state, undecided in await session.exec(query)
    }


def _undecided() -> ColumnElement[bool]:
    """Whether a snapshot was being taken when a backup was, and got lost when that was restored.

    It may have become available in between: what is stored of it may be all there is.
    """
    return and_(
        col(Snapshot.state) == SnapshotState.FAILED,
        select(Operation.id)
        .join(Installation, col(Installation.restored_to) >= col(Snapshot.created_at))
        .where(
            col(Operation.id) == col(Snapshot.operation_id),
            col(Operation.finished_at) >= col(Installation.restored_at),
        )
        .correlate(Snapshot)
        .exists(),
    )


async def locked_snapshot(
    session: AsyncSession, snapshot_id: str, organization_id: str | None = None
) -> Snapshot:
    """Lock and return a snapshot's row; of this organisation, and not deleted, when one is given.

    Raises NotFound.
    """
    query = select(Snapshot).where(col(Snapshot.id) == snapshot_id)
    if organization_id is not None:
        query = query.where(
            col(Snapshot.organization_id) == organization_id, col(Snapshot.state) != SnapshotState.DELETED
        )
    found = await session.exec(query.with_for_update(), execution_options=FRESH)
    row = found.one_or_none()
    if row is None:
        raise NotFound("snapshot", snapshot_id)
    return row


def verifying(snapshot_id: str | Mapped[str]) -> SelectOfScalar[str]:
    """The verification of a snapshot that is under way."""
    return select(col(SnapshotVerification.id)).where(
        col(SnapshotVerification.snapshot_id) == snapshot_id,
        col(SnapshotVerification.state) == VerificationState.RUNNING,
    )


def _record(row: Snapshot) -> SnapshotRecord:
    return SnapshotRecord(
        id=row.id,
        organization_id=row.organization_id,
        environment_id=row.environment_id,
        environment_name=row.environment_name,
        operation_id=row.operation_id,
        name=row.name,
        scheduled=row.scheduled,
        state=row.state,
        consistency=row.consistency,
        scope=row.scope,
        manifest=None if row.manifest is None else SnapshotManifest.model_validate(row.manifest),
        secrets={name: value for name, value in row.secrets.items() if isinstance(value, dict)},
        stored_bytes=row.stored_bytes,
        plain_bytes=row.plain_bytes,
        created_by=row.created_by,
        created_at=row.created_at,
        published_at=row.published_at,
        expires_at=row.expires_at,
        last_verified_at=row.last_verified_at,
        verified_level=row.verified_level,
        standing=row.standing,
        removed_at=row.removed_at,
    )


_TABLE: Final = table_of(Snapshot)
_LISTING: Final = Listing(
    name="snapshots",
    copy=_record,
    by={"createdAt": _TABLE.c.created_at, "storedBytes": _TABLE.c.stored_bytes},
    identifier=_TABLE.c.id,
)
