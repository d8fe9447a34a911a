"""Answers to requests that make an environment."""

from __future__ import annotations

from fastapi import Request, Response

from activities.db.acceptance import Accepted
from activities.db.records import Actor
from api.deferred import wait_for_end
from api.envelope import answer
from api.environments import service
from api.idempotency import Outcome, Replayed, answer_outcome
from api.operations.answers import read_operation
from api.preconditions import entity_tag
from api.state import AppState


async def answer_environment(
    request: Request, state: AppState, actor: Actor, outcome: Outcome[Accepted] | Replayed, wait: int
) -> Response:
    """Answer 202 with the environment and its operation; 200 when the operation ended while waiting."""
    if isinstance(outcome, Replayed):
        return answer_outcome(request, outcome)
    accepted = outcome.result
    operation = await wait_for_end(state, accepted.operation, wait, after=accepted.environment.last_event)
    if not (wait and operation.ended):
        return answer_outcome(request, outcome)
    state.live.forget(actor.organization_id, accepted.environment.id)
    environment = await service.get(state, actor.organization_id, accepted.environment.id)
    full = await read_operation(state, actor.organization_id, operation.id)
    shown = environment.model_copy(update={"operation": full})
    tag = entity_tag(shown.version, shown)
    return answer(request, shown, headers={**outcome.headers, "ETag": tag})
