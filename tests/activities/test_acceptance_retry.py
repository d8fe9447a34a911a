"""Retries of changes: what they go on with, what an undo of theirs goes back to, and what they are not of."""

from collections.abc import Awaitable, Callable

import pytest

from activities.db.acceptance import Accepted, cancel_operation
from activities.db.engine import Database
from activities.db.errors import NotRetryable
from tests.helpers.changes import (
    DONE,
    PARTLY,
    edited,
    ended,
    note_pre_image,
    overrides_of,
    restart,
    resume,
    running,
    scale,
    steps_of,
    stop,
    update,
)
from tests.helpers.tenants import (
    Tenant,
    begin,
    degrade,
    environment_of,
    finish,
    make_tenant,
    operation_of,
    retry,
    shop,
)
from workflows.contracts.operation import PreImage
from workflows.domain.environment import ObjectIdentity
from workflows.domain.operations import EnvironmentPhase, OnFailure, OperationKind, OperationState

pytestmark = pytest.mark.slow

S, P = OperationState, EnvironmentPhase
NEW_IMAGE = edited(api={"image": "registry.test/api:2"})
BEFORE = PreImage(
    namespace_existed=True, objects=(ObjectIdentity(kind="Deployment", name="api", uid="u"),), revision=1
)
Act = Callable[[Database, Tenant, str], Awaitable[Accepted]]


async def update_it(database: Database, tenant: Tenant, environment_id: str) -> Accepted:
    accepted = (await update(database, tenant, environment_id, NEW_IMAGE)).accepted
    assert accepted is not None
    return accepted


async def scale_it(database: Database, tenant: Tenant, environment_id: str) -> Accepted:
    return await scale(database, tenant, environment_id, 3)


ACTS: dict[str, Act] = {
    "update": update_it,
    "stop": stop,
    "resume": resume,
    "scale": scale_it,
    "restart": restart,
}


async def cancel(database: Database, tenant: Tenant, accepted: Accepted) -> None:
    async with database.transaction() as session:
        await cancel_operation(session, tenant.actor, accepted.operation.id, cleanup=False, reason="")


@pytest.mark.parametrize("name", ACTS)
async def test_a_retry_goes_on_with_the_same_steps_towards_the_same(database: Database, name: str) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    if name == "resume":
        await ended(database, await stop(database, tenant, environment_id))
    first = await ACTS[name](database, tenant, environment_id)
    await begin(database, first.operation.id)
    await note_pre_image(database, first.operation.id, BEFORE)
    await finish(database, first.operation.id, S.FAILED)
    again = await retry(database, tenant, environment_id)
    assert (again.operation.kind, again.operation.retry_of) == (name, first.operation.id)
    assert again.operation.change == first.operation.change
    assert again.operation.on_failure is first.operation.on_failure
    assert again.operation.revision == first.operation.revision
    assert await steps_of(database, tenant, again) == await steps_of(database, tenant, first)
    begun = await begin(database, again.operation.id)
    assert begun.overrides.stopped == (name == "stop")


async def test_the_undo_of_a_retry_goes_back_to_before_the_first_attempt(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = await update_it(database, tenant, environment_id)
    await begin(database, first.operation.id)
    await note_pre_image(database, first.operation.id, BEFORE)
    await finish(database, first.operation.id, S.FAILED, cleanup=PARTLY)
    again = await retry(database, tenant, environment_id)
    await begin(database, again.operation.id)
    made = ObjectIdentity(kind="Deployment", name="web", uid="made-by-the-first-attempt")
    now = BEFORE.model_copy(update={"objects": (*BEFORE.objects, made)})
    await note_pre_image(database, again.operation.id, now)
    assert (await operation_of(database, tenant, again.operation.id)).pre_image == BEFORE
    await finish(database, again.operation.id, S.ROLLED_BACK, cleanup=DONE)
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.revision, environment.phase) == (1, P.RUNNING)


async def test_a_retry_that_is_cancelled_before_it_begins_took_nothing_back(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await ended(database, await update_it(database, tenant, environment_id), S.FAILED)
    again = await retry(database, tenant, environment_id)
    await cancel(database, tenant, again)
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.revision, environment.phase) == (2, P.ERROR), "as the first attempt left it"
    third = await retry(database, tenant, environment_id)
    assert third.operation.retry_of == again.operation.id
    assert third.operation.change == again.operation.change


@pytest.mark.parametrize("name", ACTS)
async def test_what_was_taken_back_is_asked_for_anew_not_retried(database: Database, name: str) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    if name == "resume":
        await ended(database, await stop(database, tenant, environment_id))
    await ended(database, await ACTS[name](database, tenant, environment_id), S.CANCELLED, DONE)
    with pytest.raises(NotRetryable, match=f"ask for the {name} again"):
        await retry(database, tenant, environment_id)
    await ACTS[name](database, tenant, environment_id)


async def test_an_operation_that_was_taken_back_hides_no_failure_before_it(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    failing = await update_it(database, tenant, environment_id)
    await ended(database, failing, S.FAILED)
    await cancel(database, tenant, await stop(database, tenant, environment_id))
    other = (await update(database, tenant, environment_id, shop())).accepted
    await ended(database, other, S.ROLLED_BACK, DONE)
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.revision, environment.phase) == (2, P.ERROR)
    again = await retry(database, tenant, environment_id)
    assert again.operation.retry_of == failing.operation.id
    assert (await begin(database, again.operation.id)).revision.number == 2


async def test_a_retry_that_went_back_took_its_first_attempt_along(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await ended(database, await update_it(database, tenant, environment_id), S.FAILED)
    await ended(database, await retry(database, tenant, environment_id), S.ROLLED_BACK, DONE)
    with pytest.raises(NotRetryable, match="ask for the update again"):
        await retry(database, tenant, environment_id)
    await degrade(database, tenant, environment_id)
    repair = await retry(database, tenant, environment_id)
    assert (repair.operation.kind, repair.operation.revision) == (OperationKind.PROVISION, 1)
    assert repair.operation.change is None


async def test_a_repair_keeps_what_it_made(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await ended(database, await update_it(database, tenant, environment_id))
    await degrade(database, tenant, environment_id)
    repair = await retry(database, tenant, environment_id)
    assert repair.operation.on_failure is OnFailure.KEEP
    assert (repair.operation.kind, repair.operation.revision) == (OperationKind.PROVISION, 2)


async def test_a_scale_that_did_not_go_back_is_retried_with_its_number(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await ended(database, await scale_it(database, tenant, environment_id), S.FAILED, PARTLY)
    again = await retry(database, tenant, environment_id)
    assert (await begin(database, again.operation.id)).overrides.replicas == {"api": 3}
    await finish(database, again.operation.id, S.ROLLED_BACK, cleanup=DONE)
    assert (await overrides_of(database, tenant, environment_id)).replicas == {}
