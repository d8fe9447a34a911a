"""Answers about operations: accepted, waited for, read in full."""

from __future__ import annotations

import asyncio

import structlog
from fastapi import Request, Response
from pydantic import JsonValue

from activities.db.acceptance import Accepted
from activities.db.records import OperationRecord, StepRecord
from activities.db.repositories import environments, operations, snapshots
from api.deferred import wait_for_end
from api.envelope import answer
from api.idempotency import Outcome, Replayed, answer_outcome
from api.operations.schemas import OperationOut
from api.operations.shapes import operation_out
from api.state import AppState
from api.transfers import TransferOut, by_step
from workflows.domain.operations import MOVES_DATA, WITH_SNAPSHOT, StepState

_log = structlog.get_logger("perdure.api")


async def answer_accepted(
    request: Request, state: AppState, outcome: Outcome[Accepted] | Replayed, wait: int
) -> Response:
    """Answer 202 with the operation; after waiting for its end 200 with how it ended."""
    if isinstance(outcome, Replayed):
        return answer_outcome(request, outcome)
    accepted = outcome.result
    operation = await wait_for_end(state, accepted.operation, wait, after=accepted.environment.last_event)
    if wait and operation.ended:
        shaped = await read_operation(state, operation.organization_id, operation.id)
        return answer(request, shaped, headers=outcome.headers)
    return answer_outcome(request, outcome)


async def read_operation(state: AppState, organization_id: str, operation_id: str) -> OperationOut:
    """Read an operation with its steps and its evidence. Raises NotFound."""
    async with state.database.reading() as session:
        record = await operations.get_operation(session, organization_id, operation_id)
        name = await environments.environment_name(session, organization_id, record.environment_id)
        steps = await operations.steps(session, organization_id, record.id)
        run = await snapshots.run_of(session, record.id) if record.kind in WITH_SNAPSHOT else None
    evidence, transfers = await asyncio.gather(
        _evidence(state, record, steps), _transfers(state, record, steps)
    )
    return operation_out(
        state.settings,
        record,
        environment_name=name,
        steps=steps,
        evidence=evidence,
        snapshot_id=None if run is None else run.snapshot_id,
        transfers=transfers,
    )


async def _transfers(
    state: AppState, record: OperationRecord, steps: tuple[StepRecord, ...]
) -> dict[str, TransferOut]:
    """Return by step how far its data are, which is asked of Temporal only while a step moves some."""
    moving = any(step.kind in MOVES_DATA and step.state is StepState.RUNNING for step in steps)
    if record.ended or not moving:
        return {}
    return by_step(await state.transfers.of(record.workflow_id), steps)


async def _evidence(
    state: AppState, record: OperationRecord, steps: tuple[StepRecord, ...]
) -> dict[str, JsonValue]:
    """Load the evidence of all failures; what the store does not give stays a key in the answer."""
    failures = [record.failure, *(step.failure for step in steps)]
    keys = list(dict.fromkeys(key for failure in failures if failure for key in failure.evidence))
    documents = await asyncio.gather(*(_document(state, key) for key in keys))
    return {key: document for key, document in zip(keys, documents, strict=True) if document is not None}


async def _document(state: AppState, key: str) -> JsonValue:
    try:
        return await state.objects.get_json(key)
    except Exception as error:  # noqa: BLE001 - a store that is away must not take the operation's answer along
        _log.warning("evidence_unreadable", key=key, error=type(error).__name__)
        return None
