"""Accepting updates: the next revision, what is refused, who wins, and what an end makes of it."""

import asyncio

import pytest
from pydantic import JsonValue
from sqlalchemy import func
from sqlmodel import col, select

from activities.db.acceptance import Updated, cancel_operation, delete_environment
from activities.db.engine import Database
from activities.db.errors import (
    AlreadyDeleted,
    Busy,
    CapExceeded,
    Deleting,
    DomainError,
    InvalidReferences,
    NotFound,
    UpdateRefused,
)
from activities.db.records import Caps
from activities.db.repositories import audit, revisions
from activities.db.tables import (
    AuditEntry,
    Environment,
    Event,
    Operation,
    Organization,
    Revision,
    Secret,
    Step,
)
from tests.helpers.changes import (
    DONE,
    PARTLY,
    edited,
    ended,
    overrides_of,
    preview,
    rollback,
    running,
    scale,
    steps_of,
    stop,
    update,
)
from tests.helpers.tenants import (
    Tenant,
    accept,
    begin,
    degrade,
    environment_of,
    finish,
    make_tenant,
    operation_of,
    shop,
)
from workflows.domain.operations import Cleanup, EnvironmentPhase, OperationKind, OperationState
from workflows.domain.update import Effect

pytestmark = pytest.mark.slow

S, P = OperationState, EnvironmentPhase
NEW_IMAGE = edited(api={"image": "registry.test/api:2"})


async def usage_of(database: Database, environment_id: str) -> tuple[int, int, int]:
    async with database.reading() as session:
        row = await session.get_one(Environment, environment_id)
        return row.cpu_millis, row.memory_bytes, row.storage_bytes


async def counts(database: Database) -> dict[str, int]:
    tables = (AuditEntry, Environment, Event, Operation, Revision, Secret, Step)
    async with database.reading() as session:
        return {
            table.__name__: (await session.exec(select(func.count()).select_from(table))).one()
            for table in tables
        }


async def set_caps(database: Database, tenant: Tenant, caps: Caps) -> None:
    async with database.transaction() as session:
        row = await session.get_one(Organization, tenant.id)
        row.caps = caps.model_dump(mode="json", exclude_none=True)
        session.add(row)


async def test_an_update_writes_the_next_revision_and_its_operation(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    updated = await update(database, tenant, environment_id, NEW_IMAGE, message="api 2", plan="small")
    assert updated.accepted is not None
    operation, environment = updated.accepted.operation, updated.accepted.environment
    assert (operation.kind, operation.revision, operation.fence) == (OperationKind.UPDATE, 2, 3)
    assert operation.change is not None
    assert (operation.change.revision, operation.change.phase) == (1, P.RUNNING)
    assert (environment.revision, environment.phase, environment.plan) == (2, P.PROVISIONING, "small")
    assert await steps_of(database, tenant, updated.accepted) == ["namespace", "secrets", "service/api"]
    async with database.reading() as session:
        revision = await revisions.get_revision(session, tenant.id, environment_id, 2)
        trail = await audit.list_entries(session, tenant.id)
    assert (revision.parent, revision.message) == (1, "api 2")
    assert revision.created_by == tenant.actor.principal_id
    assert trail.items[0].action == "environment.update"
    begun = await begin(database, operation.id)
    assert begun.revision.number == 2
    assert [step.name for step in begun.steps] == ["namespace", "secrets", "service/api"]


async def test_the_same_blueprint_again_is_no_operation_while_it_runs(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    before = await counts(database)
    assert (await update(database, tenant, environment_id, shop())).accepted is None
    await degrade(database, tenant, environment_id)
    assert (await update(database, tenant, environment_id, shop())).accepted is None
    assert await counts(database) == before
    await ended(database, await stop(database, tenant, environment_id))
    starts = await update(database, tenant, environment_id, shop())
    assert not starts.preview.noop
    assert {"service/api", "service/db"} <= set(await steps_of(database, tenant, starts.accepted))


async def test_a_preview_writes_nothing_and_tells_what_would_be_refused(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    before = await counts(database)
    worse = edited(db={"volumes": []}, api={"secrets": [{"name": "fresh", "envKey": "F", "value": "x1"}]})
    seen = await preview(database, tenant, environment_id, worse)
    assert {each.service: each.effect for each in seen.changes} == {
        "api": Effect.IN_PLACE,
        "db": Effect.REFUSED,
    }
    assert not seen.noop
    assert await counts(database) == before
    assert (await environment_of(database, tenant, environment_id)).revision == 1


async def test_an_update_that_loses_data_is_refused_and_leaves_nothing(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    before = await counts(database)
    with pytest.raises(UpdateRefused) as refused:
        await update(database, tenant, environment_id, edited(db={"volumes": []}))
    assert [error.path for error in refused.value.errors] == [("services", 1)]
    assert await counts(database) == before
    allowed = edited(db={"volumes": [], "allowReplace": True})
    updated = await update(database, tenant, environment_id, allowed)
    assert updated.accepted is not None
    change = updated.accepted.operation.change
    assert change is not None
    assert change.replaced == {"db": ()}
    assert {each.kind for each in change.obsolete["db"]} == {"StatefulSet", "Service"}
    assert (await steps_of(database, tenant, updated.accepted))[-1] == "remove/db"


async def test_all_that_speaks_against_an_update_comes_together(database: Database) -> None:
    tenant = await make_tenant(database, caps=Caps(memory="1Gi"))
    environment_id = await running(database, tenant)
    secret: JsonValue = {"name": "absent", "envKey": "A", "valueFrom": {"secret": "absent"}}
    wrong = edited(shop("other"), api={"resources": {"memory": "2Gi"}, "secrets": [secret]})
    with pytest.raises(InvalidReferences) as refused:
        await update(database, tenant, environment_id, wrong)
    assert [error.path[:1] for error in refused.value.errors] == [("name",), (), ("services",)]


async def test_caps_are_compared_without_what_is_given_up(database: Database) -> None:
    tenant = await make_tenant(database, caps=Caps(environments=1, memory="1Gi"))
    sized: dict[str, JsonValue] = {"resources": {"memory": "600Mi"}}
    environment_id = await running(database, tenant, edited(api=sized))
    updated = await update(database, tenant, environment_id, edited(api={"resources": {"memory": "700Mi"}}))
    await ended(database, updated.accepted)
    assert (await usage_of(database, environment_id))[1] == (700 + 32) * 2**20
    with pytest.raises(CapExceeded) as over:
        await update(database, tenant, environment_id, edited(api={"resources": {"memory": "1100Mi"}}))
    assert over.value.cap == "memory"


async def test_below_a_lowered_cap_less_is_accepted_and_more_is_not(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, edited(api={"resources": {"memory": "900Mi"}}))
    await set_caps(database, tenant, Caps(memory="512Mi"))
    unchanged = await update(database, tenant, environment_id, edited(api={"resources": {"memory": "900Mi"}}))
    assert unchanged.preview.noop
    with pytest.raises(CapExceeded):
        await update(database, tenant, environment_id, edited(api={"resources": {"memory": "901Mi"}}))
    less = await update(database, tenant, environment_id, edited(api={"resources": {"memory": "800Mi"}}))
    assert less.accepted is not None


async def test_labels_and_protection_follow_the_revision_there_and_back(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    wanted = shop(labels={"team": "a"}, protected=True, description="ours")
    updated = await update(database, tenant, environment_id, wanted, plan="small")
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.labels, environment.protected) == ({"team": "a"}, True)
    assert (environment.description, environment.plan) == ("ours", "small")
    await ended(database, updated.accepted, S.ROLLED_BACK, DONE)
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.labels, environment.protected) == ({}, False)
    assert (environment.description, environment.plan) == ("", None)


async def test_overrides_hold_over_updates_and_go_with_their_service(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, edited(web={}))
    await ended(database, await scale(database, tenant, environment_id, 3))
    await ended(database, await scale(database, tenant, environment_id, 2, "web"))
    updated = await update(database, tenant, environment_id, edited(api={"env": {"A": "1"}}))
    assert (await overrides_of(database, tenant, environment_id)).replicas == {"api": 3}
    await ended(database, updated.accepted, S.ROLLED_BACK, DONE)
    assert (await overrides_of(database, tenant, environment_id)).replicas == {"api": 3, "web": 2}


@pytest.mark.parametrize(
    ("state", "cleanup", "revision", "phase"),
    [
        (S.SUCCEEDED, None, 2, P.RUNNING),
        (S.FAILED, None, 2, P.ERROR),
        (S.FAILED, PARTLY, 2, P.ERROR),
        (S.ROLLED_BACK, DONE, 1, P.RUNNING),
        (S.CANCELLED, None, 2, P.ERROR),
        (S.CANCELLED, PARTLY, 2, P.ERROR),
        (S.CANCELLED, DONE, 1, P.RUNNING),
    ],
)
async def test_an_end_keeps_what_is_there_and_restores_what_was_taken_back(
    database: Database, state: OperationState, cleanup: Cleanup | None, revision: int, phase: EnvironmentPhase
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    small = await usage_of(database, environment_id)
    bigger = edited(api={"replicas": 3, "resources": {"cpu": "1"}})
    updated = await update(database, tenant, environment_id, bigger)
    big = await usage_of(database, environment_id)
    assert big > small
    await ended(database, updated.accepted, state, cleanup)
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.revision, environment.phase) == (revision, phase)
    assert environment.conditions[0].status == ("True" if phase is P.RUNNING else "False")
    assert await usage_of(database, environment_id) == (small if revision == 1 else big)


async def test_a_stopped_environment_is_stopped_again_after_an_update_that_went_back(
    database: Database,
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await ended(database, await stop(database, tenant, environment_id))
    updated = await update(database, tenant, environment_id, NEW_IMAGE)
    assert updated.accepted is not None
    change = updated.accepted.operation.change
    assert change is not None
    assert change.overrides.stopped
    await ended(database, updated.accepted, S.ROLLED_BACK, DONE)
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.phase, environment.conditions[0].status) == (P.STOPPED, "False")


async def test_a_cancel_before_it_begins_leaves_all_as_it_was(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, edited(web={}))
    await ended(database, await scale(database, tenant, environment_id, 2, "web"))
    before = await usage_of(database, environment_id)
    updated = await update(database, tenant, environment_id, edited(api={"replicas": 4}))
    assert updated.accepted is not None
    async with database.transaction() as session:
        await cancel_operation(
            session, tenant.actor, updated.accepted.operation.id, cleanup=False, reason="no"
        )
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.revision, environment.phase) == (1, P.RUNNING)
    assert (await overrides_of(database, tenant, environment_id)).replicas == {"web": 2}
    assert await usage_of(database, environment_id) == before
    assert not (await begin(database, updated.accepted.operation.id)).proceed
    again = await update(database, tenant, environment_id, NEW_IMAGE)
    assert again.accepted is not None
    assert again.accepted.environment.revision == 3, "no number is given twice"


async def test_rollback_makes_the_earlier_blueprint_the_next_revision(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await ended(database, (await update(database, tenant, environment_id, NEW_IMAGE, plan="small")).accepted)
    back = await rollback(database, tenant, environment_id, 1)
    assert back.accepted is not None
    assert back.accepted.environment.revision == 3
    assert back.accepted.environment.plan == "small"
    async with database.reading() as session:
        first, _, third = [
            await revisions.get_revision(session, tenant.id, environment_id, number) for number in (1, 2, 3)
        ]
        trail = await audit.list_entries(session, tenant.id)
    assert third.blueprint == first.blueprint
    assert (third.parent, third.message) == (2, "rollback to revision 1")
    assert trail.items[0].action == "environment.rollback"
    await ended(database, back.accepted)
    assert (await rollback(database, tenant, environment_id, 1)).preview.noop
    with pytest.raises(NotFound):
        await rollback(database, tenant, environment_id, 9)
    with pytest.raises(NotFound):
        await rollback(database, tenant, environment_id, checkpoint="none")


async def test_after_a_failed_update_the_next_one_does_everything_and_removes_what_was_left(
    database: Database,
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, edited(old={}))
    failing = await update(
        database, tenant, environment_id, edited(api={"image": "registry.test/api:broken"})
    )
    assert (await steps_of(database, tenant, failing.accepted))[-1] == "remove/old"
    await ended(database, failing.accepted, S.FAILED)
    fixed = await update(database, tenant, environment_id, NEW_IMAGE)
    names = await steps_of(database, tenant, fixed.accepted)
    assert {"service/api", "service/db"} <= set(names)
    assert names[-1] == "remove/old", "it still runs, though it is in neither of the two Blueprints"
    await ended(database, fixed.accepted)
    later = await update(database, tenant, environment_id, shop())
    assert "remove/old" not in await steps_of(database, tenant, later.accepted)


async def test_what_a_failed_update_left_goes_with_a_stop(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant, edited(old={}))
    await ended(database, (await update(database, tenant, environment_id, NEW_IMAGE)).accepted, S.FAILED)
    stopping = await stop(database, tenant, environment_id)
    assert (await steps_of(database, tenant, stopping))[:2] == ["namespace", "remove/old"]
    assert stopping.operation.change is not None
    assert "old" in stopping.operation.change.obsolete


async def test_a_degraded_environment_is_updated_as_a_whole(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    await degrade(database, tenant, environment_id)
    updated = await update(database, tenant, environment_id, NEW_IMAGE)
    assert {"service/api", "service/db"} <= set(await steps_of(database, tenant, updated.accepted))


async def test_of_two_updates_at_once_one_is_accepted(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    answers = await asyncio.gather(
        *(
            update(database, tenant, environment_id, edited(api={"image": f"registry.test/api:{number}"}))
            for number in (2, 3)
        ),
        return_exceptions=True,
    )
    accepted = [each for each in answers if isinstance(each, Updated)]
    refused = [each for each in answers if isinstance(each, Busy)]
    assert (len(accepted), len(refused)) == (1, 1), answers
    assert accepted[0].accepted is not None
    assert refused[0].operation_id == accepted[0].accepted.operation.id
    async with database.reading() as session:
        numbers = (await session.exec(select(Revision.number).order_by(col(Revision.number)))).all()
    assert list(numbers) == [1, 2]


async def test_a_delete_wins_over_an_update(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    updated = await update(database, tenant, environment_id, NEW_IMAGE)
    assert updated.accepted is not None
    await begin(database, updated.accepted.operation.id)
    async with database.transaction() as session:
        deleting = await delete_environment(session, tenant.actor, environment_id, force=False)
    told = await operation_of(database, tenant, updated.accepted.operation.id)
    assert told.cancel is not None
    with pytest.raises(Deleting):
        await update(database, tenant, environment_id, shop())
    await finish(database, updated.accepted.operation.id, S.CANCELLED, cleanup=DONE)
    assert (await environment_of(database, tenant, environment_id)).phase is P.DELETING
    await ended(database, deleting)
    with pytest.raises(AlreadyDeleted):
        await update(database, tenant, environment_id, shop())


async def test_another_organisation_cannot_update_or_look(database: Database) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database, "two")
    environment_id = await running(database, tenant)
    for attempt in (
        update(database, other, environment_id, NEW_IMAGE),
        preview(database, other, environment_id, NEW_IMAGE),
        rollback(database, other, environment_id, 1),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_an_update_is_refused_while_something_runs(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    refused: list[DomainError] = []
    for attempt in (
        update(database, tenant, accepted.environment.id, NEW_IMAGE),
        preview(database, tenant, accepted.environment.id, NEW_IMAGE),
        rollback(database, tenant, accepted.environment.id, 1),
    ):
        with pytest.raises(Busy) as busy:
            await attempt
        refused.append(busy.value)
    assert len(refused) == 3


async def test_the_revisions_that_a_way_back_needs_are_kept(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    for number in range(2, 5):
        wanted = edited(api={"image": f"registry.test/api:{number}"})
        updated = await update(database, tenant, environment_id, wanted, keep=1)
        await ended(database, updated.accepted)
    failing = await update(database, tenant, environment_id, NEW_IMAGE, keep=1)
    await ended(database, failing.accepted, S.ROLLED_BACK, DONE)
    assert (await environment_of(database, tenant, environment_id)).revision == 4
    async with database.reading() as session:
        numbers = (await session.exec(select(Revision.number).order_by(col(Revision.number)))).all()
    # Revision 3 stays too: the operation before this one came from there.
    assert list(numbers) == [3, 4, 5]
