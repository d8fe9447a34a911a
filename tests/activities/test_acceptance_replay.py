"""Accepting replays, on both databases: of what, over which steps, and what each of them goes by."""

from collections.abc import Mapping

import pytest

from activities.db import ledger
from activities.db.acceptance import (
    Accepted,
    ReplayPreview,
    ReplayWish,
    Site,
    create_environment,
    delete_environment,
    preview_replay,
    replay_environment,
    replay_into,
)
from activities.db.engine import Database
from activities.db.errors import (
    AlreadyDeleted,
    Busy,
    CapExceeded,
    NameTaken,
    NotApplicable,
    NotFound,
    NotReplayable,
    ReplayInvalid,
)
from activities.db.records import Caps
from activities.db.repositories import operations
from activities.db.repositories.installation import installation_id
from tests.activities.test_acceptance_lifecycle import PHASES
from tests.helpers.changes import (
    DONE,
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
    values_of,
)
from tests.helpers.tenants import (
    KEYS,
    PLANTED,
    Tenant,
    begin,
    environment_of,
    finish,
    make_tenant,
    operation_of,
    record,
    retry,
    shop,
)
from workflows.contracts.operation import LedgerEntry, PreImage
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.operations import (
    EnvironmentPhase,
    OnFailure,
    OperationKind,
    OperationState,
    StepChange,
    StepState,
)
from workflows.domain.replay import Why, decide

pytestmark = pytest.mark.slow

S, P = OperationState, EnvironmentPhase
ALL = {"api-1", "db-1"}
"""UIDs of what `provisioned` makes."""


async def accept(
    database: Database, tenant: Tenant, environment_id: str, wish: ReplayWish | None = None
) -> Accepted:
    """Accept a replay in place."""
    async with database.transaction() as session:
        return await replay_environment(
            session, tenant.actor, environment_id, wish or ReplayWish(), keys=KEYS
        )


async def preview(
    database: Database, tenant: Tenant, environment_id: str, wish: ReplayWish | None = None
) -> ReplayPreview:
    """Work one out."""
    async with database.transaction() as session:
        return await preview_replay(session, tenant.actor, environment_id, wish or ReplayWish(), keys=KEYS)


async def into(
    database: Database, tenant: Tenant, environment_id: str, name: str, wish: ReplayWish | None = None
) -> Accepted:
    """Accept a replay into a new environment."""
    async with database.transaction() as session:
        site = Site("local", await installation_id(session), GuardRails())
        return await replay_into(
            session, tenant.actor, environment_id, wish or ReplayWish(), name, site, keys=KEYS
        )


def did(name: str, uid: str = "") -> StepChange:
    """A step that succeeded, and what it made."""
    return StepChange(step=name, state=StepState.SUCCEEDED, output={"uid": uid} if uid else None)


async def succeeded(
    database: Database, operation_id: str, made: Mapping[str, str], state: OperationState = S.SUCCEEDED
) -> str:
    """Run an operation: the namespace and these services; return its id."""
    await begin(database, operation_id)
    changes = [did(f"service/{service}", uid) for service, uid in made.items()]
    await record(database, operation_id, did("namespace"), *changes)
    await finish(database, operation_id, state)
    return operation_id


async def provisioned(database: Database, tenant: Tenant) -> tuple[str, str]:
    """An environment that runs: its id, and that of its provision."""
    async with database.transaction() as session:
        site = Site("local", await installation_id(session), GuardRails())
        made = await create_environment(session, tenant.actor, shop(), site, plan=None, keys=KEYS)
    await succeeded(database, made.operation.id, {"api": "api-1", "db": "db-1"})
    return made.environment.id, made.operation.id


def whys(found: ReplayPreview, existing: set[str]) -> dict[str, Why]:
    """Why each service is run or skipped."""
    decisions = decide(found.steps, found.replay, found.earlier, existing)
    return {
        each.step.removeprefix("service/"): each.why for each in decisions if each.step.startswith("service/")
    }


async def begun(database: Database, accepted: Accepted, existing: set[str]) -> dict[str, Why]:
    """The same, as the operation is told when it begins."""
    told = await begin(database, accepted.operation.id)
    assert told.replay is not None
    decisions = decide(told.steps, told.replay, told.earlier, existing)
    return {
        each.step.removeprefix("service/"): each.why for each in decisions if each.step.startswith("service/")
    }


async def test_nothing_has_changed_after_a_provision(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    found = await preview(database, tenant, environment_id)
    assert found.operation.id == provision
    assert whys(found, ALL) == {"api": Why.UNCHANGED, "db": Why.UNCHANGED}
    assert whys(found, {"api-1"}) == {"api": Why.DEPENDS, "db": Why.GONE}
    accepted = await accept(database, tenant, environment_id)
    assert await begun(database, accepted, ALL) == {"api": Why.UNCHANGED, "db": Why.UNCHANGED}
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.phase, environment.revision) == (P.PROVISIONING, 1)
    await finish(database, accepted.operation.id, S.SUCCEEDED)
    environment = await environment_of(database, tenant, environment_id)
    assert (environment.phase, environment.conditions[0].reason) == (P.RUNNING, "Replayed")


async def test_an_edit_is_seen_by_the_operation_before_it_and_not_by_its_own(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    changed = (await update(database, tenant, environment_id, edited(db={"env": {"A": "1"}}))).accepted
    assert changed is not None
    await succeeded(database, changed.operation.id, {"db": "db-1"})
    found = await preview(database, tenant, environment_id, ReplayWish(provision))
    assert whys(found, ALL) == {"db": Why.CHANGED, "api": Why.DEPENDS}
    newest = await preview(database, tenant, environment_id)
    assert newest.operation.id == changed.operation.id
    # The graph of an update is of what it changed, and of nothing else.
    assert whys(newest, ALL) == {"db": Why.UNCHANGED}


async def test_a_scale_is_an_edit_and_a_restart_is_none(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _ = await provisioned(database, tenant)
    restarted = await restart(database, tenant, environment_id)
    await succeeded(database, restarted.operation.id, {"api": "api-1"})
    assert whys(await preview(database, tenant, environment_id), ALL)["api"] is Why.UNCHANGED
    scaled = await scale(database, tenant, environment_id, 3)
    await succeeded(database, scaled.operation.id, {"api": "api-1"})
    assert whys(await preview(database, tenant, environment_id), ALL)["api"] is Why.CHANGED


async def test_the_newest_object_of_a_step_is_the_one_that_is_looked_for(database: Database) -> None:
    """A repair has made another Deployment: the provision's own is gone, and nothing is missing."""
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    first = await accept(database, tenant, environment_id)
    await succeeded(database, first.operation.id, {"api": "api-2"})
    found = await preview(database, tenant, environment_id, ReplayWish(provision))
    assert whys(found, {"api-2", "db-1"}) == {"api": Why.UNCHANGED, "db": Why.UNCHANGED}
    assert whys(found, ALL)["api"] is Why.GONE


async def test_a_replay_of_a_replay_goes_by_what_that_one_found(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    changed = (await update(database, tenant, environment_id, edited(api={"env": {"B": "2"}}))).accepted
    assert changed is not None
    await succeeded(database, changed.operation.id, {"api": "api-1"})
    first = await accept(database, tenant, environment_id, ReplayWish(provision))
    await begin(database, first.operation.id)
    skipped = StepChange(step="service/db", state=StepState.SKIPPED, output={"uid": "db-1"})
    await record(database, first.operation.id, did("namespace"), skipped, did("service/api", "api-1"))
    await finish(database, first.operation.id, S.SUCCEEDED)
    second = await preview(database, tenant, environment_id)
    assert second.operation.id == first.operation.id
    assert whys(second, ALL) == {"api": Why.UNCHANGED, "db": Why.UNCHANGED}


async def test_a_service_that_is_gone_is_no_step_and_one_that_came_is_one(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    blueprint = edited(api={"dependsOn": ["cache"]}, cache={}, db=None)
    changed = (await update(database, tenant, environment_id, blueprint)).accepted
    assert changed is not None
    await succeeded(database, changed.operation.id, {"cache": "cache-1"})
    found = await preview(database, tenant, environment_id, ReplayWish(provision))
    assert whys(found, {"api-1", "cache-1"}) == {"cache": Why.ADDED, "api": Why.DEPENDS}


async def test_an_update_of_services_that_are_gone_is_not_replayed(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _ = await provisioned(database, tenant)
    added = (await update(database, tenant, environment_id, edited(cache={}))).accepted
    assert added is not None
    await succeeded(database, added.operation.id, {"cache": "cache-1"})
    taken = (await update(database, tenant, environment_id, shop())).accepted
    await ended(database, taken)
    with pytest.raises(NotReplayable, match="none of the services"):
        await preview(database, tenant, environment_id, ReplayWish(added.operation.id))


async def test_what_a_failed_update_left_behind_is_removed(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    failed = (
        await update(
            database,
            tenant,
            environment_id,
            edited(api={"dependsOn": []}, db=None),
            on_failure=OnFailure.KEEP,
        )
    ).accepted
    await ended(database, failed, S.FAILED)
    accepted = await accept(database, tenant, environment_id, ReplayWish(provision))
    assert await steps_of(database, tenant, accepted) == ["namespace", "secrets", "service/api", "remove/db"]
    assert accepted.operation.change is not None
    assert set(accepted.operation.change.obsolete) == {"db"}


async def test_a_step_that_is_not_in_the_graph_is_refused_with_those_that_are(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    with pytest.raises(ReplayInvalid) as refused:
        await accept(database, tenant, environment_id, ReplayWish(None, "service/web"))
    [fault] = refused.value.errors
    assert fault.path == ("fromStep",)
    assert provision in fault.message
    assert fault.suggestion == "one of: namespace, secrets, service/db, service/api"
    accepted = await accept(database, tenant, environment_id, ReplayWish(None, "service/api"))
    assert accepted.operation.from_step == "service/api"
    assert await begun(database, accepted, ALL) == {"api": Why.FORCED, "db": Why.UNCHANGED}


async def test_only_operations_that_made_the_environment_are_replayed(database: Database) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database, "two")
    environment_id, provision = await provisioned(database, tenant)
    foreign, of_other = await provisioned(database, other)
    stopped = await ended(database, await stop(database, tenant, environment_id))
    resumed = await ended(database, await resume(database, tenant, environment_id))
    scaled = await ended(database, await scale(database, tenant, environment_id, 2))
    for refused in (stopped, scaled):
        with pytest.raises(NotReplayable):
            await accept(database, tenant, environment_id, ReplayWish(refused))
    for unknown in (of_other, "op_nothing"):
        with pytest.raises(NotFound):
            await accept(database, tenant, environment_id, ReplayWish(unknown))
    with pytest.raises(NotFound):
        await accept(database, other, environment_id)
    assert (await preview(database, tenant, environment_id)).operation.id == resumed
    assert (await preview(database, tenant, environment_id, ReplayWish(provision))).operation.id == provision
    assert foreign != environment_id


async def test_what_was_taken_back_did_not_make_the_environment(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    taken = (await update(database, tenant, environment_id, edited(api={"env": {"A": "1"}}))).accepted
    await ended(database, taken, S.ROLLED_BACK, cleanup=DONE)
    assert (await preview(database, tenant, environment_id)).operation.id == provision


@pytest.mark.parametrize("phase", PHASES)
async def test_it_is_accepted_unless_there_are_no_pods(database: Database, phase: EnvironmentPhase) -> None:
    tenant = await make_tenant(database)
    environment_id = await PHASES[phase](database, tenant)
    if phase is P.STOPPED:
        with pytest.raises(NotApplicable, match="stopped"):
            await accept(database, tenant, environment_id)
        return
    accepted = await accept(database, tenant, environment_id)
    assert accepted.operation.change is not None
    assert accepted.operation.change.phase is phase


async def test_some_services_do_not_mend_an_environment_in_error(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    first = (await update(database, tenant, environment_id, edited(db={"env": {"A": "1"}}))).accepted
    some = await ended(database, first)
    blueprint = edited(db={"env": {"A": "1"}}, api={"env": {"A": "1"}})
    second = (await update(database, tenant, environment_id, blueprint, on_failure=OnFailure.KEEP)).accepted
    failed = await ended(database, second, S.FAILED)
    with pytest.raises(NotApplicable, match="error"):
        await preview(database, tenant, environment_id, ReplayWish(some))
    assert (await preview(database, tenant, environment_id)).operation.id == failed
    assert (await preview(database, tenant, environment_id, ReplayWish(provision))).operation.id == provision


async def test_it_waits_for_nobody(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _ = await provisioned(database, tenant)
    first = await accept(database, tenant, environment_id)
    for ask in (accept, preview):
        with pytest.raises(Busy) as busy:
            await ask(database, tenant, environment_id)
        assert busy.value.operation_id == first.operation.id


async def test_marks_stay_with_the_services_and_go_with_an_undo(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _ = await provisioned(database, tenant)
    await succeeded(
        database, (await scale(database, tenant, environment_id, 3)).operation.id, {"api": "api-1"}
    )

    async def mark(accepted: Accepted) -> None:
        entry = LedgerEntry(operation_id=accepted.operation.id, restarts={"api": accepted.operation.id})
        for _ in range(2):  # a delivery that is repeated
            async with database.transaction() as session:
                await ledger.record(session, entry)

    first = await accept(database, tenant, environment_id)
    await begin(database, first.operation.id)
    await mark(first)
    marked = Overrides(replicas={"api": 3}, restarts={"api": first.operation.id})
    assert await overrides_of(database, tenant, environment_id) == marked
    await finish(database, first.operation.id, S.SUCCEEDED)

    second = await accept(database, tenant, environment_id)
    await begin(database, second.operation.id)
    await mark(second)
    await finish(database, second.operation.id, S.CANCELLED, cleanup=DONE)
    await mark(second)  # one that comes late
    assert await overrides_of(database, tenant, environment_id) == marked


async def test_a_retry_goes_on_with_what_the_attempt_before_it_still_owed(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    first = await accept(database, tenant, environment_id, ReplayWish(None, "service/db"))
    await succeeded(database, first.operation.id, {"db": "db-1"}, S.FAILED)
    again = await retry(database, tenant, environment_id)
    operation = await operation_of(database, tenant, again.operation.id)
    assert (operation.kind, operation.retry_of) == (OperationKind.REPLAY, first.operation.id)
    assert (operation.replay_of, operation.from_step) == (provision, "service/db")
    assert operation.change == first.operation.change
    assert await begun(database, again, ALL) == {"db": Why.UNCHANGED, "api": Why.NEVER_SUCCEEDED}
    # One that did not get as far as to decide owes nothing: the attempt before it counts.
    await finish(database, again.operation.id, S.FAILED)
    third = await retry(database, tenant, environment_id)
    assert await begun(database, third, ALL) == {"db": Why.UNCHANGED, "api": Why.NEVER_SUCCEEDED}


async def test_a_retry_of_one_that_decided_nothing_decides_anew(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _ = await provisioned(database, tenant)
    first = await accept(database, tenant, environment_id, ReplayWish(None, "service/api"))
    await ended(database, first, S.FAILED)
    again = await retry(database, tenant, environment_id)
    assert await begun(database, again, ALL) == {"db": Why.UNCHANGED, "api": Why.FORCED}


async def test_a_new_environment_begins_with_a_replay(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision = await provisioned(database, tenant)
    await ended(database, await scale(database, tenant, environment_id, 3))
    accepted = await into(database, tenant, environment_id, "shop-2")
    assert accepted.environment.name == "shop-2"
    assert (accepted.operation.kind, accepted.operation.replay_of) == (OperationKind.REPLAY, provision)
    assert accepted.operation.change is None
    assert accepted.operation.workflow_id.startswith("replay/shop-2/")
    assert await steps_of(database, tenant, accepted) == ["namespace", "secrets", "service/db", "service/api"]
    old = await values_of(database, tenant, environment_id)
    new = await values_of(database, tenant, accepted.environment.id)
    assert new["api-token"] == old["api-token"] == PLANTED
    assert new["db-password"] != old["db-password"]
    told = await begin(database, accepted.operation.id)
    assert (told.replay, told.earlier) == (None, {})
    # An undo of the retry has to find out for itself what is there: that it began with nothing is past.
    await note_pre_image(database, accepted.operation.id, PreImage(namespace_existed=False))
    await record(database, accepted.operation.id, did("namespace"), did("service/db", "db-9"))
    await finish(database, accepted.operation.id, S.FAILED)
    # As with a provision, a retry skips what was made.
    again = await retry(database, tenant, accepted.environment.id)
    assert (again.operation.kind, again.operation.replay_of) == (OperationKind.REPLAY, provision)
    assert (again.operation.change, again.operation.pre_image) == (None, None)
    told = await begin(database, again.operation.id)
    assert (told.replay, set(told.earlier)) == (None, {"service/db"})
    await finish(database, again.operation.id, S.SUCCEEDED)
    assert (await environment_of(database, tenant, accepted.environment.id)).phase is P.RUNNING


async def test_a_new_environment_is_refused_as_any(database: Database) -> None:
    tenant = await make_tenant(database, caps=Caps(environments=2))
    environment_id = await running(database, tenant)
    with pytest.raises(NameTaken):
        await into(database, tenant, environment_id, "shop")
    with pytest.raises(ReplayInvalid, match="all steps are run"):
        await into(database, tenant, environment_id, "shop-2", ReplayWish(None, "service/api"))
    with pytest.raises(NotFound):
        await into(database, tenant, environment_id, "shop-2", ReplayWish("op_nothing"))
    # Also from one that is stopped: nothing of it is touched.
    await ended(database, await stop(database, tenant, environment_id))
    await into(database, tenant, environment_id, "shop-2")
    with pytest.raises(CapExceeded):
        await into(database, tenant, environment_id, "shop-3")


async def test_replays_are_listed_where_they_came_from_and_where_they_went(database: Database) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database, "two")
    environment_id, _ = await provisioned(database, tenant)
    here = await accept(database, tenant, environment_id)
    await ended(database, here)
    there = await into(database, tenant, environment_id, "shop-2")
    async with database.reading() as session:
        page = await operations.list_replays(session, tenant.id, environment_id, limit=1, cursor=None)
        assert [each.id for each in page.items] == [there.operation.id]
        rest = await operations.list_replays(
            session, tenant.id, environment_id, limit=1, cursor=page.next_cursor
        )
        assert ([each.id for each in rest.items], rest.next_cursor) == ([here.operation.id], None)
        new = await operations.list_replays(session, tenant.id, there.environment.id, limit=9, cursor=None)
        assert [each.id for each in new.items] == [there.operation.id]
        nobodys = await operations.list_replays(session, other.id, environment_id, limit=9, cursor=None)
        assert nobodys.items == ()


async def test_nothing_is_replayed_of_what_is_deleted(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _ = await provisioned(database, tenant)
    async with database.transaction() as session:
        deleted = await delete_environment(session, tenant.actor, environment_id, force=False)
    await ended(database, deleted)
    with pytest.raises(AlreadyDeleted):
        await accept(database, tenant, environment_id)
    with pytest.raises(AlreadyDeleted):
        await into(database, tenant, environment_id, "shop-2")
