"""Accepting replays from a snapshot, on both databases: their steps, and what is written of the data."""

import asyncio

import pytest
from pydantic import JsonValue

from activities.db import ledger
from activities.db.acceptance import Accepted, ReplayPreview, ReplayWish, cancel_operation
from activities.db.engine import Database
from activities.db.errors import Busy, NotFound, ReplayInvalid, SnapshotInUse, SnapshotNotReady
from activities.db.records import Actor
from activities.db.repositories import audit, snapshots
from activities.db.restored import DATA_WHOLE
from tests.activities.test_acceptance_replay import (
    ALL,
    accept,
    begun,
    did,
    into,
    preview,
    provisioned,
    succeeded,
    whys,
)
from tests.helpers.changes import (
    DONE,
    edited,
    ended,
    overrides_of,
    running,
    scale,
    steps_of,
    update,
    values_of,
)
from tests.helpers.snapshots import publish, restore_in, restore_new, stored, take, taken
from tests.helpers.tenants import (
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
from workflows.contracts.operation import LedgerEntry
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import FailureKind, failure
from workflows.domain.masking import MaskingRules
from workflows.domain.operations import EnvironmentPhase, OperationKind, OperationState, StepChange, StepState
from workflows.domain.replay import Why, decide
from workflows.domain.snapshot import Consistency, Engine
from workflows.domain.snapshot_manifest import SnapshotRun, StoredComponent, StoredVolume

pytestmark = pytest.mark.slow

S, P = OperationState, EnvironmentPhase
DB = stored("db", DataStore.POSTGRES, "shop")
KEPT = StoredComponent(
    service="db",
    store=DataStore.POSTGRES,
    engine=Engine.CSI,
    consistency=Consistency.CRASH_VOLUME,
    volumes=(StoredVolume(volume="data", driver="csi.test", handle="h", content="c"),),
)
GRAPH = ["namespace", "check/db", "stop/api", "secrets", "service/db", "load/db", "service/api"]
BEFORE = {"check/db", "stop/api"}
"""What is done in place, before anything is replaced."""


async def prepared(database: Database, tenant: Tenant) -> tuple[str, str, str]:
    """An environment that runs: its id, its provision's, and a snapshot of it."""
    environment_id, provision = await provisioned(database, tenant)
    return environment_id, provision, await taken(database, tenant, environment_id, DB)


async def run_of(database: Database, operation_id: str) -> SnapshotRun | None:
    async with database.reading() as session:
        return await snapshots.run_of(session, operation_id)


async def delete(database: Database, actor: Actor, snapshot_id: str) -> None:
    async with database.transaction() as session:
        await snapshots.ask_to_delete(session, actor, snapshot_id)


def decisions(found: ReplayPreview, existing: set[str]) -> dict[str, Why]:
    """Why each step that is no plumbing is run or skipped."""
    decided = decide(found.steps, found.replay, found.earlier, existing)
    return {each.step: each.why for each in decided if each.why is not Why.ALWAYS}


async def test_in_place_its_data_are_loaded_and_what_depends_on_them_is_run(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, provision, snapshot = await prepared(database, tenant)
    wish = ReplayWish(snapshot_id=snapshot)
    found = await preview(database, tenant, environment_id, wish)
    assert decisions(found, ALL) == {
        "check/db": Why.SNAPSHOT,
        "stop/api": Why.SNAPSHOT,
        "service/db": Why.UNCHANGED,
        "load/db": Why.SNAPSHOT,
        "service/api": Why.DEPENDS,
    }
    accepted = await accept(database, tenant, environment_id, wish)
    assert (accepted.operation.kind, accepted.operation.replay_of) == (OperationKind.REPLAY, provision)
    assert await steps_of(database, tenant, accepted) == GRAPH
    assert (await overrides_of(database, tenant, environment_id)).loaded == {"db": snapshot}
    assert await run_of(database, accepted.operation.id) == SnapshotRun(snapshot_id=snapshot)
    assert await begun(database, accepted, ALL) == {"db": Why.UNCHANGED, "api": Why.DEPENDS}
    # Nobody takes it away meanwhile.
    with pytest.raises(SnapshotInUse):
        await delete(database, tenant.actor, snapshot)
    await finish(database, accepted.operation.id, S.SUCCEEDED)
    environment = await environment_of(database, tenant, environment_id)
    told = {each.type: (each.status, each.reason) for each in environment.conditions}
    assert (environment.phase, told[DATA_WHOLE]) == (P.RUNNING, ("True", "Restored"))
    async with database.reading() as session:
        entries = await audit.list_entries(
            session, tenant.id, wanted=audit.AuditFilter(action="environment.replay")
        )
        linked = await snapshots.snapshots_of(session, [provision, accepted.operation.id])
    assert [each.data["snapshot"] for each in entries.items] == [snapshot]
    assert linked == {accepted.operation.id: snapshot}
    await delete(database, tenant.actor, snapshot)


async def test_a_dry_run_writes_nothing_of_the_snapshot(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _, snapshot = await prepared(database, tenant)
    await preview(database, tenant, environment_id, ReplayWish(snapshot_id=snapshot))
    assert (await overrides_of(database, tenant, environment_id)).loaded == {}
    await delete(database, tenant.actor, snapshot)


async def test_of_an_update_it_has_the_services_whose_data_are_loaded_too(database: Database) -> None:
    """And these are compared with what made them last before that update."""
    tenant = await make_tenant(database)
    environment_id, _, snapshot = await prepared(database, tenant)
    blueprint = edited(aside={}, api={"env": {"A": "1"}})
    first = (await update(database, tenant, environment_id, blueprint)).accepted
    assert first is not None
    await succeeded(database, first.operation.id, {"api": "api-1", "aside": "aside-1"})
    blueprint = edited(blueprint, aside={"env": {"B": "1"}})
    second = (await update(database, tenant, environment_id, blueprint)).accepted
    assert second is not None
    await succeeded(database, second.operation.id, {"aside": "aside-1"})
    there = {*ALL, "aside-1"}
    wish = ReplayWish(snapshot_id=snapshot)
    assert whys(await preview(database, tenant, environment_id), there) == {"aside": Why.UNCHANGED}
    found = await preview(database, tenant, environment_id, wish)
    assert found.operation.id == second.operation.id
    assert whys(found, there) == {"db": Why.UNCHANGED, "api": Why.DEPENDS, "aside": Why.UNCHANGED}
    assert whys(found, there - {"db-1"})["db"] is Why.GONE
    third = (
        await update(database, tenant, environment_id, edited(blueprint, db={"env": {"C": "1"}}))
    ).accepted
    assert third is not None
    await succeeded(database, third.operation.id, {"db": "db-1"})
    older = ReplayWish(second.operation.id, snapshot_id=snapshot)
    assert whys(await preview(database, tenant, environment_id, older), there)["db"] is Why.CHANGED
    accepted = await accept(database, tenant, environment_id, older)
    expected = {"db": Why.CHANGED, "api": Why.DEPENDS, "aside": Why.UNCHANGED}
    assert await begun(database, accepted, there) == expected


async def test_a_new_environment_has_the_snapshots_data_and_the_present_blueprint(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _, snapshot = await prepared(database, tenant)
    before = await values_of(database, tenant, environment_id)
    secrets: list[JsonValue] = [
        {"name": "db-password", "envKey": "DB_PASSWORD", "value": "auto-generated"},
        {"name": "api-token", "envKey": "API_TOKEN", "value": "rewritten"},
    ]
    blueprint = edited(api={"env": {"A": "1"}, "secrets": secrets})
    changed = (await update(database, tenant, environment_id, blueprint)).accepted
    await ended(database, changed)
    await ended(database, await scale(database, tenant, environment_id, 3))
    wish = ReplayWish(snapshot_id=snapshot)
    accepted = await into(database, tenant, environment_id, "shop-2", wish)
    new = accepted.environment.id
    assert changed is not None
    assert (accepted.operation.replay_of, accepted.operation.change) == (changed.operation.id, None)
    assert await steps_of(database, tenant, accepted) == [each for each in GRAPH if each not in BEFORE]
    values = await values_of(database, tenant, new)
    # What was generated is a password in the data; what was written out is what it is now.
    assert values == {"db-password": before["db-password"], "api-token": "rewritten"}
    assert (await overrides_of(database, tenant, new)).loaded == {"db": snapshot}
    assert (await overrides_of(database, tenant, environment_id)).loaded == {}
    told = await begin(database, accepted.operation.id)
    assert (told.replay, told.earlier) == (None, {})
    with pytest.raises(SnapshotInUse):
        await delete(database, tenant.actor, snapshot)
    await finish(database, accepted.operation.id, S.SUCCEEDED)

    # A replay of this replay: in place it is about all services, and into another one it has the data again.
    again = await preview(database, tenant, new)
    assert again.operation.id == accepted.operation.id
    assert set(whys(again, set())) == {"api", "db"}
    third = await into(database, tenant, new, "shop-3", wish)
    assert third.operation.replay_of == accepted.operation.id
    assert await values_of(database, tenant, third.environment.id) == values
    without = await into(database, tenant, new, "shop-4")
    assert "load/db" not in await steps_of(database, tenant, without)
    assert (await values_of(database, tenant, without.environment.id))["db-password"] != before["db-password"]


@pytest.mark.parametrize("replayed", [True, False])
async def test_rules_are_surveyed_in_a_step_before_data_are_loaded(
    database: Database, replayed: bool
) -> None:
    tenant = await make_tenant(database)
    environment_id, _, snapshot = await prepared(database, tenant)
    rule = {"table": "users", "column": "email", "how": "hash"}
    rules = MaskingRules.model_validate({"services": {"db": {"columns": [rule]}}})
    wish = ReplayWish(snapshot_id=snapshot, masking=rules)
    new = await (
        into(database, tenant, environment_id, "shop-2", wish)
        if replayed
        else restore_new(database, tenant, snapshot, masking=rules)
    )
    standing = await (
        accept(database, tenant, environment_id, wish)
        if replayed
        else restore_in(database, tenant, snapshot, environment_id, masking=rules)
    )
    # All of what is masked is read by that step, to its end.
    masked = ["masking" if each == "check/db" else each for each in GRAPH]
    assert await steps_of(database, tenant, standing) == masked
    assert await steps_of(database, tenant, new) == [each for each in masked if each != "stop/api"]
    # Another attempt has the step, too.
    await finish(database, standing.operation.id, S.FAILED)
    again = await retry(database, tenant, environment_id)
    assert await steps_of(database, tenant, again) == masked


@pytest.mark.parametrize("new", [True, False])
async def test_all_that_does_not_fit_is_told_at_once(database: Database, new: bool) -> None:
    tenant = await make_tenant(database)
    environment_id, _ = await provisioned(database, tenant)
    snapshot = await taken(
        database, tenant, environment_id, stored("db", DataStore.REDIS), stored("gone", DataStore.POSTGRES)
    )
    rules = MaskingRules.model_validate({"services": {"web": {}}})
    wish = ReplayWish(None, "service/nothing", snapshot, rules)
    asking = (
        into(database, tenant, environment_id, "shop-2", wish)
        if new
        else accept(database, tenant, environment_id, wish)
    )
    with pytest.raises(ReplayInvalid) as refused:
        await asking
    assert {fault.path[:2] for fault in refused.value.errors} == {
        ("fromStep",),
        ("services", "db"),
        ("services", "gone"),
        ("masking", "services"),
    }
    assert (await environment_of(database, tenant, environment_id)).phase is P.RUNNING


async def test_volumes_that_the_storage_keeps_go_into_new_environments_only(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _ = await provisioned(database, tenant)
    wish = ReplayWish(snapshot_id=await taken(database, tenant, environment_id, KEPT))
    with pytest.raises(ReplayInvalid, match="volumes that stand"):
        await accept(database, tenant, environment_id, wish)
    accepted = await into(database, tenant, environment_id, "shop-2", wish)
    assert await steps_of(database, tenant, accepted) == [
        *("namespace", "secrets", "claim/db", "service/db", "load/db", "service/api")
    ]
    other = KEPT.model_copy(
        update={"volumes": (KEPT.volumes[0].model_copy(update={"volume": "other", "ordinal": 2}),)}
    )
    unfit = ReplayWish(snapshot_id=await taken(database, tenant, environment_id, other))
    with pytest.raises(ReplayInvalid, match="has 1 replicas"):
        await into(database, tenant, environment_id, "shop-3", unfit)


@pytest.mark.parametrize("new", [True, False])
async def test_only_a_snapshot_of_ones_own_that_is_whole_is_loaded(database: Database, new: bool) -> None:
    tenant, other = await make_tenant(database), await make_tenant(database, "two")
    environment_id, _ = await provisioned(database, tenant)
    _, _, foreign = await prepared(database, other)
    taking = await take(database, tenant, environment_id)

    async def ask(snapshot: str) -> None:
        wish = ReplayWish(snapshot_id=snapshot)
        if new:
            await into(database, tenant, environment_id, "shop-2", wish)
        else:
            await accept(database, tenant, environment_id, wish)

    if new:  # in place it is busy, with that very snapshot
        with pytest.raises(SnapshotNotReady):
            await ask(taking.snapshot.id)
    await publish(database, taking.accepted.operation.id, DB)
    for unknown in (foreign, "snap_nothing"):
        with pytest.raises(NotFound):
            await ask(unknown)
    await delete(database, tenant.actor, taking.snapshot.id)
    with pytest.raises(SnapshotNotReady):
        await ask(taking.snapshot.id)


async def test_a_replay_that_never_began_leaves_no_trace(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _, snapshot = await prepared(database, tenant)
    accepted = await accept(database, tenant, environment_id, ReplayWish(snapshot_id=snapshot))
    async with database.transaction() as session:
        await cancel_operation(session, tenant.actor, accepted.operation.id, cleanup=False, reason="")
    environment = await environment_of(database, tenant, environment_id)
    assert environment.phase is P.RUNNING
    assert DATA_WHOLE not in {each.type for each in environment.conditions}
    assert (await overrides_of(database, tenant, environment_id)).loaded == {}


@pytest.mark.parametrize("new", [True, False])
async def test_another_attempt_loads_what_was_not_loaded(database: Database, new: bool) -> None:
    tenant = await make_tenant(database)
    environment_id, provision, snapshot = await prepared(database, tenant)
    wish = ReplayWish(snapshot_id=snapshot)
    if new:
        first = await into(database, tenant, environment_id, "shop-2", wish)
    else:
        first = await accept(database, tenant, environment_id, wish)
    target = first.environment.id
    await begin(database, first.operation.id)
    loading = StepChange(step="load/db", state=StepState.RUNNING)
    await record(database, first.operation.id, did("namespace"), did("service/db", "db-2"), loading)
    reason = failure(FailureKind.SNAPSHOT_CORRUPT, "part 3 is missing")
    await finish(database, first.operation.id, S.FAILED, failure=reason)

    async def whole() -> tuple[str, str]:
        [found] = [
            each
            for each in (await environment_of(database, tenant, target)).conditions
            if each.type == DATA_WHOLE
        ]
        return found.status, found.message

    assert await whole() == ("False", "Not loaded to the end: db (part 3 is missing)")
    second = await retry(database, tenant, target)
    assert (second.operation.kind, second.operation.replay_of) == (OperationKind.REPLAY, provision)
    assert await steps_of(database, tenant, second) == await steps_of(database, tenant, first)
    assert await run_of(database, second.operation.id) == SnapshotRun(snapshot_id=snapshot)
    with pytest.raises(SnapshotInUse):
        await delete(database, tenant.actor, snapshot)

    async def decided(operation_id: str) -> dict[str, Why]:
        told = await begin(database, operation_id)
        assert told.replay is not None
        assert told.touched == ("load/db",)
        found = decide(told.steps, told.replay, told.earlier, {"db-2"})
        return {each.step: each.why for each in found if each.why is not Why.ALWAYS}

    before = {} if new else dict.fromkeys(BEFORE, Why.SNAPSHOT)
    owed = {"service/db": Why.UNCHANGED, "load/db": Why.SNAPSHOT, "service/api": Why.NEVER_SUCCEEDED}
    assert await decided(second.operation.id) == owed | before
    skipped = StepChange(step="service/db", state=StepState.SKIPPED, output={"uid": "db-2"})
    loading = StepChange(step="load/db", state=StepState.SUCCEEDED, output={"parts": 1})
    running = StepChange(step="load/db", state=StepState.RUNNING)
    await record(database, second.operation.id, did("namespace"), skipped, running, loading)
    await finish(database, second.operation.id, S.FAILED, failure=failure(FailureKind.CRASH_LOOP, "broken"))
    assert await whole() == ("False", "Loaded, and something else failed (broken)")

    # What was loaded stays loaded, also when an attempt ended before it knew what was there.
    third = await retry(database, tenant, target)
    await begin(database, third.operation.id)
    await finish(database, third.operation.id, S.FAILED)
    fourth = await retry(database, tenant, target)
    before = {} if new else dict.fromkeys(BEFORE, Why.UNCHANGED)
    assert await decided(fourth.operation.id) == owed | before | {"load/db": Why.UNCHANGED}
    await finish(database, fourth.operation.id, S.SUCCEEDED)
    assert await whole() == ("True", "")
    assert (await environment_of(database, tenant, target)).phase is P.RUNNING


async def test_it_is_not_retried_without_its_snapshot(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _, snapshot = await prepared(database, tenant)
    first = await accept(database, tenant, environment_id, ReplayWish(snapshot_id=snapshot))
    await ended(database, first, S.FAILED)
    await delete(database, tenant.actor, snapshot)
    with pytest.raises(SnapshotNotReady):
        await retry(database, tenant, environment_id)
    assert (await operation_of(database, tenant, first.operation.id)).state is S.FAILED


async def test_what_was_taken_back_is_as_if_nothing_had_been_loaded(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _, snapshot = await prepared(database, tenant)
    accepted = await accept(database, tenant, environment_id, ReplayWish(snapshot_id=snapshot))
    await begin(database, accepted.operation.id)
    async with database.transaction() as session:
        marks = LedgerEntry(operation_id=accepted.operation.id, restarts={"api": accepted.operation.id})
        await ledger.record(session, marks)
    await finish(database, accepted.operation.id, S.CANCELLED, cleanup=DONE)
    left = await overrides_of(database, tenant, environment_id)
    assert (left.loaded, left.restarts) == ({}, {})


async def test_deletions_restores_and_replays_at_once_end_and_none_lacks_its_snapshot(
    database: Database,
) -> None:
    """They lock organisation, environment and snapshot in one order: none is ended for a deadlock."""
    tenant = await make_tenant(database)
    for turn in range(4):
        environment_id = await running(database, tenant, shop(f"shop-{turn}"))
        snapshot = await taken(database, tenant, environment_id, DB)
        wish = ReplayWish(snapshot_id=snapshot)
        ends = await asyncio.gather(
            into(database, tenant, environment_id, f"one-{turn}", wish),
            accept(database, tenant, environment_id, wish),
            restore_new(database, tenant, snapshot, f"two-{turn}"),
            restore_in(database, tenant, snapshot, environment_id),
            into(database, tenant, environment_id, f"three-{turn}", wish),
            restore_new(database, tenant, snapshot, f"four-{turn}"),
            delete(database, tenant.actor, snapshot),
            return_exceptions=True,
        )
        refused = {type(each) for each in ends if isinstance(each, BaseException)}
        assert refused <= {Busy, SnapshotInUse, SnapshotNotReady}
        loading = [each for each in ends if isinstance(each, Accepted)]
        assert (ends[-1] is None) == (not loading)
        for each in loading:
            assert await run_of(database, each.operation.id) is not None
