"""Accepting seeds, on both databases: when, what is kept of them, and what their end changes."""

import pytest

from activities.db.acceptance import Accepted, SeedWish, cancel_operation, seed_environment
from activities.db.engine import Database
from activities.db.errors import NotApplicable, NotFound
from activities.db.repositories.seed_runs import get_run
from activities.db.sweeping import forget_history
from activities.db.types import utc_now
from tests.activities.test_acceptance_lifecycle import PHASES
from tests.helpers.changes import DONE, ended, running, steps_of
from tests.helpers.tenants import (
    KEYS,
    Tenant,
    begin,
    degrade,
    environment_of,
    make_tenant,
    retry,
)
from workflows.domain.operations import EnvironmentPhase, OperationKind, OperationState
from workflows.domain.seeds import SeedContent, SeedType

pytestmark = pytest.mark.slow

S, P = OperationState, EnvironmentPhase
SHELL = SeedContent(type=SeedType.SHELL, script="exit 0")


async def seed(database: Database, tenant: Tenant, environment_id: str, *, force: bool = False) -> Accepted:
    """Accept a seed of its own."""
    wish = SeedWish(seed=SHELL, service="api", given={}, force=force)
    async with database.transaction() as session:
        return await seed_environment(session, tenant.actor, environment_id, wish, keys=KEYS)


@pytest.mark.parametrize("phase", PHASES)
async def test_only_what_runs_is_seeded(database: Database, phase: EnvironmentPhase) -> None:
    tenant = await make_tenant(database)
    environment_id = await PHASES[phase](database, tenant)
    before = await environment_of(database, tenant, environment_id)
    if phase not in (P.RUNNING, P.DEGRADED):
        with pytest.raises(NotApplicable, match=str(phase)):
            await seed(database, tenant, environment_id)
        assert await environment_of(database, tenant, environment_id) == before
        return
    accepted = await seed(database, tenant, environment_id)
    assert await steps_of(database, tenant, accepted) == ["namespace", "seed"]
    during = await environment_of(database, tenant, environment_id)
    assert (during.phase, during.conditions) == (before.phase, before.conditions)


async def test_another_organisations_environment_is_not_found(database: Database) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database, "two")
    environment_id = await running(database, tenant)
    with pytest.raises(NotFound):
        await seed(database, other, environment_id)


@pytest.mark.parametrize("state", [S.SUCCEEDED, S.FAILED, S.CANCELLED, S.ROLLED_BACK])
async def test_no_end_changes_the_environment(database: Database, state: OperationState) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    before = await environment_of(database, tenant, environment_id)
    await ended(database, await seed(database, tenant, environment_id), state, DONE)
    after = await environment_of(database, tenant, environment_id)
    assert (after.phase, after.conditions, after.revision) == (before.phase, before.conditions, 1)


async def test_its_workflow_is_told_what_to_run(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    accepted = await seed(database, tenant, environment_id, force=True)
    await begin(database, accepted.operation.id)
    async with database.reading() as session:
        run = await get_run(session, accepted.operation.id)
    assert (run.content, run.service, run.force, run.first) == (SHELL, "api", True, None)
    assert run.key.startswith(f"seed/{environment_id}/")


async def test_a_retry_names_the_first_attempt(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = await seed(database, tenant, environment_id)
    await ended(database, first, S.FAILED)
    second = await retry(database, tenant, environment_id)
    assert second.operation.kind is OperationKind.SEED
    await ended(database, second, S.FAILED)
    third = await retry(database, tenant, environment_id)
    async with database.reading() as session:
        runs = [await get_run(session, each.operation.id) for each in (first, second, third)]
    assert [run.first for run in runs] == [None, first.operation.id, first.operation.id]
    assert len({run.key for run in runs}) == 1


async def test_a_cancelled_one_that_never_began_may_be_asked_for_again(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    accepted = await seed(database, tenant, environment_id)
    async with database.transaction() as session:
        await cancel_operation(session, tenant.actor, accepted.operation.id, cleanup=False, reason="")
    assert (await environment_of(database, tenant, environment_id)).phase is P.RUNNING
    assert (await seed(database, tenant, environment_id)).operation.kind is OperationKind.SEED


async def test_what_is_degraded_is_repaired_whatever_became_of_a_seed(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await degrade(database, tenant, environment_id)
    await ended(database, await seed(database, tenant, environment_id), S.FAILED)
    assert (await retry(database, tenant, environment_id)).operation.kind is OperationKind.PROVISION


async def test_what_was_run_is_forgotten_with_its_operation(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    first = await seed(database, tenant, environment_id)
    await ended(database, first)
    await ended(database, await seed(database, tenant, environment_id))
    async with database.transaction() as session:
        while await forget_history(session, events_before=utc_now(), operations_before=utc_now()):
            pass
    async with database.reading() as session:
        with pytest.raises(NotFound):
            await get_run(session, first.operation.id)
