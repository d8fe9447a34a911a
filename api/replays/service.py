"""Use cases on replays: accept one, say what one would do, list those that there were."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import acceptance
from activities.db.acceptance import Accepted, ReplayWish
from activities.db.records import EnvironmentRecord, StepRecord
from activities.db.repositories import environments, operations, snapshots
from activities.db.repositories.operations import list_replays
from api.environments.live import CLUSTER_SECONDS
from api.environments.reading import read_workloads
from api.environments.service import Caller, accept, accepted_operation, site_of
from api.filters import ReplayQuery
from api.idempotency import Outcome, Replayed
from api.operations.schemas import OperationOut
from api.operations.shapes import operation_out, passing_data
from api.preconditions import check_precondition
from api.problems import ProblemError, ProblemField, RequestProblem
from api.replays.schemas import Action, ReplayOperation, ReplayOut, ReplayStepOut, Target
from api.state import AppState
from clusters.errors import Unavailable
from workflows.domain.operations import PlannedStep
from workflows.domain.replay import Decision, decide, run_all

_NAME_FOR_NEW: Final = "is for a new environment: say target new, or leave it out"
_NEEDS_SNAPSHOT: Final = "is for a snapshot's data: say snapshotId, or leave it out"
_NEW_NEEDS_NAME: Final = "is required: the new environment has to be called something"


async def replay(
    caller: Caller, environment_id: str, wanted: ReplayOperation
) -> Outcome[Accepted] | Replayed:
    """Have an operation run again."""
    _check(wanted)
    installation = await caller.state.installation.id()

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        accepted = await _accept(session, caller, environment_id, wanted, installation)
        return accepted_operation(caller.state, accepted, snapshot_id=wanted.snapshot_id)

    return await accept(caller, work)


async def preview(caller: Caller, environment_id: str, wanted: ReplayOperation) -> ReplayOut:
    """Say what a replay would do with each step. Writes nothing.

    Raises what accepting it would raise, and ClusterError: in place it depends on what is in the cluster.
    """
    _check(wanted)
    state = caller.state
    if wanted.name is not None:
        return await _preview_new(caller, environment_id, wanted)
    async with state.database.transaction() as session:
        await check_precondition(caller.request, session, caller.actor.organization_id)
        found = await acceptance.preview_replay(
            session, caller.actor, environment_id, _wish(wanted), keys=state.master_keys
        )
        await session.rollback()
    existing = await _existing(state, found.environment)
    decisions = decide(found.steps, found.replay, found.earlier, existing)
    out = _out(found.environment.id, found.operation.id, wanted, found.steps, decisions)
    return out.model_copy(update={"warnings": passing_data(found.in_pods_alone)})


async def replays(
    state: AppState,
    organization_id: str,
    environment_id: str,
    query: ReplayQuery,
    *,
    limit: int,
    cursor: str | None,
) -> tuple[list[OperationOut], str | None]:
    """Return a page of an environment's replays. Raises NotFound, InvalidCursor."""
    async with state.database.reading() as session:
        record = await environments.get_environment(session, organization_id, environment_id)
        page = await list_replays(
            session,
            organization_id,
            record.id,
            wanted=query.wanted,
            sort=query.sort,
            limit=limit,
            cursor=cursor,
        )
        names = await environments.environment_names(
            session, organization_id, {each.environment_id for each in page.items}
        )
        loaded = await snapshots.snapshots_of(session, [each.id for each in page.items])
    shaped = [
        operation_out(
            state.settings,
            each,
            environment_name=names.get(each.environment_id),
            snapshot_id=loaded.get(each.id),
        )
        for each in page.items
    ]
    return shaped, page.next_cursor


async def _preview_new(caller: Caller, environment_id: str, wanted: ReplayOperation) -> ReplayOut:
    """Accept it, look at what was accepted, and take all of it back: nothing is left to be worked out."""
    installation = await caller.state.installation.id()
    async with caller.state.database.transaction() as session:
        await check_precondition(caller.request, session, caller.actor.organization_id)
        accepted = await _accept(session, caller, environment_id, wanted, installation)
        steps = await operations.steps(session, caller.actor.organization_id, accepted.operation.id)
        await session.rollback()
    replay_of = accepted.operation.replay_of or ""
    out = _out(environment_id, replay_of, wanted, steps, run_all([each.name for each in steps]))
    return out.model_copy(update={"warnings": passing_data(accepted.in_pods_alone)})


async def _accept(
    session: AsyncSession,
    caller: Caller,
    environment_id: str,
    wanted: ReplayOperation,
    installation: str,
) -> Accepted:
    wish, keys, actor = _wish(wanted), caller.state.master_keys, caller.actor
    if wanted.name is None:
        return await acceptance.replay_environment(session, actor, environment_id, wish, keys=keys)
    site = site_of(caller.state, installation)
    return await acceptance.replay_into(session, actor, environment_id, wish, wanted.name, site, keys=keys)


def _wish(wanted: ReplayOperation) -> ReplayWish:
    return ReplayWish(
        operation_id=wanted.operation_id,
        from_step=wanted.from_step,
        snapshot_id=wanted.snapshot_id,
        masking=wanted.masking,
        init=wanted.run_init,
    )


def _check(wanted: ReplayOperation) -> None:
    """Raise ProblemError when what is wished does not fit together."""
    faults: list[ProblemField] = []
    if (wanted.target is Target.NEW) != (wanted.name is not None):
        message = _NEW_NEEDS_NAME if wanted.name is None else _NAME_FOR_NEW
        faults.append(ProblemField(path="name", message=message))
    if wanted.masking is not None and wanted.snapshot_id is None:
        faults.append(ProblemField(path="masking", message=_NEEDS_SNAPSHOT))
    if wanted.run_init and wanted.snapshot_id is None:
        faults.append(ProblemField(path="runInit", message=_NEEDS_SNAPSHOT))
    if faults:
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "The replay cannot be run as it is asked for.",
            errors=faults,
        )


async def _existing(state: AppState, record: EnvironmentRecord) -> frozenset[str]:
    """UIDs of the environment's workloads. Raises ClusterError."""
    try:
        async with asyncio.timeout(CLUSTER_SECONDS):
            return await read_workloads(await state.clusters.get(record.cluster), record)
    except TimeoutError:
        raise Unavailable(f"no answer within {CLUSTER_SECONDS:g} s") from None


def _out(
    environment_id: str,
    replay_of: str,
    wanted: ReplayOperation,
    steps: Sequence[PlannedStep | StepRecord],
    decisions: Sequence[Decision],
) -> ReplayOut:
    return ReplayOut(
        environment_id=environment_id,
        replay_of=replay_of,
        snapshot_id=wanted.snapshot_id,
        target=wanted.target,
        steps=[
            ReplayStepOut(
                step=step.name,
                kind=step.kind,
                service=step.service,
                action=Action.RUN if decision.run else Action.SKIP,
                reason=decision.why,
                message=decision.text,
            )
            for step, decision in zip(steps, decisions, strict=True)
        ],
    )
