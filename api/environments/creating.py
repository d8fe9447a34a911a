"""Creating an environment at once from what was turned into a Blueprint: the answer holds both."""

from __future__ import annotations

from fastapi import Response
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance import Accepted
from api.deferred import start_workflow, wait_for_end
from api.envelope import ApiModel, answer
from api.environments import service
from api.environments.service import Caller, accept_environment, location
from api.idempotency import Outcome, Replayed, answer_outcome, once
from workflows.domain.blueprint import Blueprint


async def create_beside(
    caller: Caller, blueprint: Blueprint, plan: str | None, shaped: ApiModel, wait: int
) -> Response:
    """Accept the environment and answer 202 with `shaped`, whose field `environment` it becomes.

    When its end was waited for, 200 with how it ended. The answer is kept for a repeated request: `shaped`
    must hold no secret.
    """
    state, organization = caller.state, caller.actor.organization_id
    installation = await state.installation.id()

    async def work(session: AsyncSession) -> Outcome[Accepted]:
        accepted, environment = await accept_environment(session, caller, blueprint, plan, installation)
        data = shaped.model_copy(update={"environment": environment})
        return Outcome(accepted, 202, data, headers=location(accepted.operation))

    outcome = await once(caller.request, state, caller.actor, caller.key, work)
    if isinstance(outcome, Replayed):
        return answer_outcome(caller.request, outcome)
    accepted = outcome.result
    start_workflow(state, accepted)
    operation = await wait_for_end(state, accepted.operation, wait, after=accepted.environment.last_event)
    if not (wait and operation.ended):
        return answer_outcome(caller.request, outcome)
    state.live.forget(organization, accepted.environment.id)
    environment = await service.get(state, organization, accepted.environment.id)
    return answer(
        caller.request, shaped.model_copy(update={"environment": environment}), headers=outcome.headers
    )
