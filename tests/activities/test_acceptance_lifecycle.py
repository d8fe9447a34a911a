"""Accepting stop, resume, scale and restart: in which phase, what is recorded, what an end makes of it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from activities.db.acceptance import Accepted, cancel_operation, delete_environment
from activities.db.engine import Database
from activities.db.errors import (
    AlreadyDeleted,
    Busy,
    CapExceeded,
    Deleting,
    InvalidReferences,
    NotApplicable,
    NotFound,
    Protected,
)
from activities.db.records import Caps
from activities.db.repositories import audit
from tests.helpers.changes import (
    DONE,
    PARTLY,
    edited,
    ended,
    overrides_of,
    restart,
    resume,
    running,
    scale,
    scale_or_not,
    steps_of,
    stop,
)
from tests.helpers.tenants import (
    Tenant,
    accept,
    begin,
    degrade,
    environment_of,
    make_tenant,
    shop,
)
from workflows.domain.environment import Overrides
from workflows.domain.operations import (
    Cleanup,
    EnvironmentPhase,
    OnFailure,
    OperationKind,
    OperationState,
)

pytestmark = pytest.mark.slow

S, P = OperationState, EnvironmentPhase
Act = Callable[[Database, Tenant, str], Awaitable[Accepted]]


async def to_three(database: Database, tenant: Tenant, environment_id: str) -> Accepted:
    return await scale(database, tenant, environment_id, 3)


ACTS: dict[str, Act] = {"stop": stop, "resume": resume, "scale": to_three, "restart": restart}
every_act = pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)


async def stopped(database: Database, tenant: Tenant) -> str:
    environment_id = await running(database, tenant)
    await ended(database, await stop(database, tenant, environment_id))
    return environment_id


async def in_error(database: Database, tenant: Tenant) -> str:
    accepted = await accept(database, tenant)
    await ended(database, accepted, S.FAILED)
    return accepted.environment.id


async def degraded(database: Database, tenant: Tenant) -> str:
    environment_id = await running(database, tenant)
    await degrade(database, tenant, environment_id)
    return environment_id


PHASES = {P.RUNNING: running, P.DEGRADED: degraded, P.STOPPED: stopped, P.ERROR: in_error}
ALLOWED = {
    "stop": {P.RUNNING, P.DEGRADED, P.ERROR},
    "resume": {P.STOPPED, P.ERROR},
    "scale": {P.RUNNING, P.DEGRADED},
    "restart": {P.RUNNING, P.DEGRADED},
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ACTS)
async def test_each_is_accepted_in_the_phases_where_it_makes_sense(
    database: Database, name: str, phase: EnvironmentPhase
) -> None:
    tenant = await make_tenant(database)
    environment_id = await PHASES[phase](database, tenant)
    if phase not in ALLOWED[name]:
        before = await environment_of(database, tenant, environment_id)
        with pytest.raises(NotApplicable, match=str(phase)):
            await ACTS[name](database, tenant, environment_id)
        assert await environment_of(database, tenant, environment_id) == before
        assert await overrides_of(database, tenant, environment_id) == Overrides()
        return
    accepted = await ACTS[name](database, tenant, environment_id)
    assert accepted.operation.kind == name
    assert accepted.operation.change is not None
    assert accepted.operation.change.phase is phase
    async with database.reading() as session:
        trail = await audit.list_entries(session, tenant.id)
    assert trail.items[0].action == f"environment.{name}"


@every_act
async def test_each_is_refused_while_something_runs(database: Database, act: Act) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    with pytest.raises(Busy) as busy:
        await act(database, tenant, accepted.environment.id)
    assert busy.value.operation_id == accepted.operation.id


@every_act
async def test_a_delete_wins_over_each(database: Database, act: Act) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    async with database.transaction() as session:
        deleting = await delete_environment(session, tenant.actor, environment_id, force=False)
    with pytest.raises(Deleting):
        await act(database, tenant, environment_id)
    await ended(database, deleting)
    with pytest.raises(AlreadyDeleted):
        await act(database, tenant, environment_id)


@every_act
async def test_another_organisation_can_do_none(database: Database, act: Act) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database, "two")
    environment_id = await running(database, tenant)
    with pytest.raises(NotFound):
        await act(database, other, environment_id)


@pytest.mark.parametrize(
    ("name", "state", "cleanup", "phase"),
    [
        ("stop", S.SUCCEEDED, None, P.STOPPED),
        ("stop", S.FAILED, None, P.ERROR),
        ("stop", S.CANCELLED, None, P.ERROR),
        ("stop", S.CANCELLED, DONE, P.RUNNING),
        ("stop", S.CANCELLED, PARTLY, P.ERROR),
        ("resume", S.SUCCEEDED, None, P.RUNNING),
        ("resume", S.FAILED, None, P.ERROR),
        ("resume", S.CANCELLED, DONE, P.STOPPED),
        ("scale", S.SUCCEEDED, None, P.RUNNING),
        ("scale", S.ROLLED_BACK, DONE, P.RUNNING),
        ("scale", S.FAILED, PARTLY, P.ERROR),
        ("restart", S.SUCCEEDED, None, P.RUNNING),
        ("restart", S.FAILED, None, P.ERROR),
        ("restart", S.CANCELLED, DONE, P.RUNNING),
    ],
)
async def test_an_end_settles_the_phase(
    database: Database, name: str, state: OperationState, cleanup: Cleanup | None, phase: EnvironmentPhase
) -> None:
    tenant = await make_tenant(database)
    environment_id = await (stopped if name == "resume" else running)(database, tenant)
    accepted = await ACTS[name](database, tenant, environment_id)
    await ended(database, accepted, state, cleanup)
    environment = await environment_of(database, tenant, environment_id)
    assert environment.phase is phase
    assert environment.conditions[0].status == ("True" if phase is P.RUNNING else "False")


@every_act
async def test_a_cancel_before_it_begins_leaves_all_as_it_was(database: Database, act: Act) -> None:
    tenant = await make_tenant(database)
    environment_id = await (stopped if act is resume else running)(database, tenant)
    before = await environment_of(database, tenant, environment_id)
    accepted = await act(database, tenant, environment_id)
    async with database.transaction() as session:
        await cancel_operation(session, tenant.actor, accepted.operation.id, cleanup=False, reason="")
    after = await environment_of(database, tenant, environment_id)
    assert (after.phase, after.revision) == (before.phase, before.revision)
    assert await overrides_of(database, tenant, environment_id) == Overrides()


async def test_a_stop_plans_dependants_first_and_renders_no_pods(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    accepted = await stop(database, tenant, environment_id)
    assert await steps_of(database, tenant, accepted) == ["namespace", "stop/api", "stop/db"]
    assert (await begin(database, accepted.operation.id)).overrides.stopped


async def test_a_resume_plans_all_and_renders_pods(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await stopped(database, tenant)
    accepted = await resume(database, tenant, environment_id)
    assert {"service/api", "service/db"} <= set(await steps_of(database, tenant, accepted))
    assert accepted.operation.change is not None
    assert accepted.operation.change.overrides.stopped, "an undo stops it again"
    assert not (await begin(database, accepted.operation.id)).overrides.stopped


async def test_a_protected_environment_is_not_stopped(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, shop(protected=True))
    with pytest.raises(Protected):
        await stop(database, tenant, environment_id)
    await scale(database, tenant, environment_id, 2)


async def test_replicas_hold_over_stop_and_resume_and_go_back_when_they_do_not_come_up(
    database: Database,
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    accepted = await scale(database, tenant, environment_id, 2)
    assert accepted.operation.on_failure is OnFailure.ROLLBACK
    assert await steps_of(database, tenant, accepted) == ["namespace", "secrets", "service/api"]
    assert (await begin(database, accepted.operation.id)).overrides.replicas == {"api": 2}
    await ended(database, accepted)
    await ended(database, await stop(database, tenant, environment_id))
    await ended(database, await resume(database, tenant, environment_id))
    await ended(database, await scale(database, tenant, environment_id, 5), S.ROLLED_BACK, DONE)
    assert (await overrides_of(database, tenant, environment_id)).replicas == {"api": 2}
    await ended(database, await scale(database, tenant, environment_id, 5), S.FAILED, PARTLY)
    assert (await overrides_of(database, tenant, environment_id)).replicas == {"api": 5}


async def test_the_number_that_there_is_changes_nothing(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    assert await scale_or_not(database, tenant, environment_id, 1) is None
    assert await overrides_of(database, tenant, environment_id) == Overrides()
    for replicas in (3, 1):
        await ended(database, await scale(database, tenant, environment_id, replicas))
        assert await scale_or_not(database, tenant, environment_id, replicas) is None
        assert await overrides_of(database, tenant, environment_id) == Overrides(replicas={"api": replicas})
    # What went back leaves the number before, and asking for the other one is no repetition.
    await ended(database, await scale(database, tenant, environment_id, 5), S.ROLLED_BACK, DONE)
    assert await scale_or_not(database, tenant, environment_id, 1) is None
    await scale(database, tenant, environment_id, 5)


async def test_a_restart_marks_its_service_and_keeps_what_scale_set(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await ended(database, await scale(database, tenant, environment_id, 2))
    await ended(database, await restart(database, tenant, environment_id, "one"))
    accepted = await restart(database, tenant, environment_id, "two")
    begun = await begin(database, accepted.operation.id)
    assert begun.overrides == Overrides(replicas={"api": 2}, restarts={"api": "two"})
    await ended(database, accepted, S.CANCELLED, DONE)
    assert (await overrides_of(database, tenant, environment_id)).restarts == {"api": "one"}


@pytest.mark.parametrize(("service", "replicas"), [("api", -1), ("api", 101), ("db", 2), ("once", 2)])
async def test_what_cannot_be_scaled_is_refused(database: Database, service: str, replicas: int) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, edited(once={"kind": "job"}))
    with pytest.raises(InvalidReferences):
        await scale(database, tenant, environment_id, replicas, service)
    assert (await environment_of(database, tenant, environment_id)).phase is P.RUNNING
    with pytest.raises(NotFound):
        await scale(database, tenant, environment_id, 1, "none")


async def test_a_job_is_not_restarted(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, edited(once={"kind": "job"}))
    with pytest.raises(InvalidReferences):
        await restart(database, tenant, environment_id, service="once")
    with pytest.raises(NotFound):
        await restart(database, tenant, environment_id, service="none")


async def test_replicas_count_against_the_caps(database: Database) -> None:
    tenant = await make_tenant(database, caps=Caps(memory="128Mi"))
    environment_id = await running(database, tenant)
    with pytest.raises(CapExceeded):
        await scale(database, tenant, environment_id, 4)
    await ended(database, await scale(database, tenant, environment_id, 3))
    await ended(database, await scale(database, tenant, environment_id, 1))


async def test_of_two_at_once_one_is_accepted(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    answers = await asyncio.gather(
        stop(database, tenant, environment_id),
        scale(database, tenant, environment_id, 2),
        restart(database, tenant, environment_id),
        return_exceptions=True,
    )
    accepted = [each for each in answers if isinstance(each, Accepted)]
    assert len(accepted) == 1
    assert sum(isinstance(each, Busy) for each in answers) == 2, answers
    recorded = await overrides_of(database, tenant, environment_id)
    kind = accepted[0].operation.kind
    assert bool(recorded.replicas) == (kind is OperationKind.SCALE)
    assert bool(recorded.restarts) == (kind is OperationKind.RESTART)
