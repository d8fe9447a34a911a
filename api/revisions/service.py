"""Use cases on revisions: list, read, compare, name."""

from __future__ import annotations

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.planning import context_of
from activities.db.records import CheckpointRecord, EnvironmentRecord, RevisionRecord
from activities.db.repositories import checkpoints, environments, revisions
from api.environments.service import Caller
from api.environments.shapes import read_blueprint, service_changes_out
from api.filters import CheckpointQuery, RevisionQuery
from api.idempotency import Outcome, Replayed, once
from api.operations.schemas import ServiceChangeOut
from api.preconditions import check_precondition
from api.revisions.schemas import CheckpointOut, CreateCheckpoint, DiffOut, RevisionDetailOut, RevisionOut
from api.state import AppState
from workflows.domain.environment import Overrides
from workflows.domain.plan import provision_inputs
from workflows.domain.update import Desired, service_changes


async def find(
    state: AppState,
    organization_id: str,
    environment_id: str,
    query: RevisionQuery,
    *,
    limit: int,
    cursor: str | None,
) -> tuple[list[RevisionOut], str | None]:
    """Return a page of revisions, and the next one's cursor. Raises NotFound, InvalidCursor."""
    async with state.database.reading() as session:
        record = await environments.get_environment(session, organization_id, environment_id)
        page = await revisions.list_revisions(
            session,
            organization_id,
            record.id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
        names = await checkpoints.names_of_revisions(session, organization_id, record.id)
        parents = await _parents(session, record, page.items)
    items = [
        RevisionOut.model_validate(_fields(record, row, parents.get(row.parent or 0), names))
        for row in page.items
    ]
    return items, page.next_cursor


async def get(state: AppState, organization_id: str, environment_id: str, number: int) -> RevisionDetailOut:
    """Return one revision with its Blueprint. Raises NotFound."""
    async with state.database.reading() as session:
        record = await environments.get_environment(session, organization_id, environment_id)
        row = await revisions.get_revision(session, organization_id, record.id, number)
        names = await checkpoints.names_of_revisions(session, organization_id, record.id)
        parents = await _parents(session, record, (row,))
    fields = _fields(record, row, parents.get(row.parent or 0), names)
    return RevisionDetailOut.model_validate({**fields, "blueprint": row.blueprint})


async def diff(
    state: AppState, organization_id: str, environment_id: str, *, source: int | None, target: int | None
) -> DiffOut:
    """Return what differs between two revisions, by default of the present one from its parent.

    Raises NotFound.
    """
    async with state.database.reading() as session:
        record = await environments.get_environment(session, organization_id, environment_id)
        after = await revisions.get_revision(session, organization_id, record.id, target or record.revision)
        number = source or after.parent or after.number
        before = await revisions.get_revision(session, organization_id, record.id, number)
    return DiffOut(
        environment_id=record.id,
        source=before.number,
        target=after.number,
        changes=_changes(record, before, after),
    )


async def name(
    caller: Caller, environment_id: str, wanted: CreateCheckpoint
) -> Outcome[CheckpointRecord] | Replayed:
    """Give a revision a name."""

    async def work(session: AsyncSession) -> Outcome[CheckpointRecord]:
        record = await checkpoints.add_checkpoint(
            session, caller.actor, environment_id, wanted.name, wanted.revision
        )
        return Outcome(record, 201, checkpoint_out(record))

    return await once(caller.request, caller.state, caller.actor, caller.key, work)


async def names(
    state: AppState,
    organization_id: str,
    environment_id: str,
    query: CheckpointQuery,
    *,
    limit: int,
    cursor: str | None,
) -> tuple[list[CheckpointOut], str | None]:
    """Return a page of an environment's checkpoints, and the next one's cursor.

    Raises NotFound, InvalidCursor.
    """
    async with state.database.reading() as session:
        record = await environments.get_environment(session, organization_id, environment_id)
        page = await checkpoints.list_checkpoints(
            session,
            organization_id,
            record.id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
    return [checkpoint_out(each) for each in page.items], page.next_cursor


async def unname(caller: Caller, environment_id: str, checkpoint: str) -> None:
    """Take a checkpoint's name away. Raises NotFound, ProblemError for a stale If-Match."""
    async with caller.state.database.transaction() as session:
        await check_precondition(caller.request, session, caller.actor.organization_id)
        await checkpoints.remove_checkpoint(session, caller.actor, environment_id, checkpoint)


def checkpoint_out(record: CheckpointRecord) -> CheckpointOut:
    """Shape a checkpoint."""
    return CheckpointOut(
        name=record.name,
        revision=record.revision,
        created_at=record.created_at,
        created_by=record.created_by,
    )


async def _parents(
    session: AsyncSession, record: EnvironmentRecord, rows: tuple[RevisionRecord, ...]
) -> dict[int, RevisionRecord]:
    numbers = {row.parent for row in rows if row.parent is not None}
    found = await revisions.revisions_by_number(session, record.organization_id, record.id, numbers)
    return {each.number: each for each in found}


def _fields(
    record: EnvironmentRecord,
    row: RevisionRecord,
    parent: RevisionRecord | None,
    names_of: dict[int, list[str]],
) -> dict[str, object]:
    return {
        "number": row.number,
        "parent": row.parent,
        "message": row.message,
        "current": row.number == record.revision,
        "checkpoints": names_of.get(row.number, []),
        "created_at": row.created_at,
        "created_by": row.created_by,
        "changes": None if parent is None else _changes(record, parent, row),
    }


def _changes(
    record: EnvironmentRecord, before: RevisionRecord, after: RevisionRecord
) -> list[ServiceChangeOut]:
    """Compare two revisions as they were written: values of secrets take no part."""
    return service_changes_out(service_changes(_desired(record, before), _desired(record, after)))


def _desired(record: EnvironmentRecord, revision: RevisionRecord) -> Desired:
    blueprint = read_blueprint(revision.blueprint)
    context = context_of(record, "", revision=0, fence=0)
    inputs = provision_inputs(blueprint, context, record.guard_rails, Overrides(), {})
    return Desired(blueprint=blueprint, inputs=inputs)
