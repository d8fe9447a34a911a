"""Accepting snapshots and restores, on both databases: what is kept of them, and what their ends change."""

import asyncio
from datetime import timedelta

import pytest
from pydantic import JsonValue
from sqlmodel import SQLModel, col, select

from activities.db import tables
from activities.db.acceptance import (
    Accepted,
    ReplayWish,
    cancel_operation,
    delete_environment,
    replay_environment,
)
from activities.db.engine import Database
from activities.db.errors import NotReplayable, NotRetryable, Protected, SnapshotInUse, SnapshotNotReady
from activities.db.records import Actor, Condition
from activities.db.repositories import environments, operations, snapshots
from activities.db.restored import DATA_WHOLE
from activities.db.sweeping import forget_history
from activities.db.tables import Override, SnapshotRun
from activities.db.types import utc_now
from tests.activities.test_acceptance_lifecycle import PHASES
from tests.helpers.changes import (
    DONE,
    edited,
    ended,
    overrides_of,
    restart,
    running,
    scale,
    steps_of,
    stop,
    update,
    values_of,
)
from tests.helpers.snapshots import (
    describe,
    publish,
    restore_in,
    restore_new,
    snapshot_of,
    stored,
    take,
    taken,
)
from tests.helpers.tenants import (
    KEYS,
    PLANTED,
    Tenant,
    begin,
    degrade,
    environment_of,
    finish,
    make_tenant,
    operation_of,
    record,
    retry,
)
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import Failure, FailureKind, failure
from workflows.domain.operations import (
    Cleanup,
    EnvironmentPhase,
    OperationKind,
    OperationState,
    StepChange,
    StepState,
)
from workflows.domain.snapshot_manifest import SnapshotState

pytestmark = pytest.mark.slow

S, P = OperationState, EnvironmentPhase
DB = stored("db", DataStore.POSTGRES, "shop")
_VOLUME = {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}
EMPTIED: dict[str, dict[str, JsonValue]] = {
    "without volumes": {"allowReplace": True, "volumes": []},
    "another volume": {"allowReplace": True, "volumes": [{**_VOLUME, "name": "other"}]},
    "another class": {"allowReplace": True, "volumes": [{**_VOLUME, "storageClass": "fast"}]},
}
"""Changes of the database after which its data is not what was restored."""


async def rows_with(database: Database, text: str) -> list[str]:
    """The tables that have this text in a row."""
    found = []
    async with database.reading() as session:
        for table in vars(tables).values():
            if isinstance(table, type) and issubclass(table, SQLModel) and hasattr(table, "__table__"):
                rows = (await session.exec(select(table))).all()
                found += [table.__name__ for row in rows if text in str(row.model_dump())]
    return found


@pytest.mark.parametrize("phase", PHASES)
async def test_taking_one_leaves_the_environment_as_it_is(
    database: Database, phase: EnvironmentPhase
) -> None:
    tenant = await make_tenant(database)
    environment_id = await PHASES[phase](database, tenant)
    before = await environment_of(database, tenant, environment_id)
    if phase not in (P.RUNNING, P.DEGRADED):
        with pytest.raises(Exception, match=str(phase)):
            await take(database, tenant, environment_id)
        return
    accepted = await take(database, tenant, environment_id)
    assert await steps_of(database, tenant, accepted.accepted) == [
        *("namespace", "survey", "capture/db", "publish")
    ]
    await publish(database, accepted.accepted.operation.id, DB)
    after = await environment_of(database, tenant, environment_id)
    assert (after.phase, after.conditions, after.revision) == (before.phase, before.conditions, 1)


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("state", [S.SUCCEEDED, S.FAILED, S.CANCELLED, S.ROLLED_BACK])
async def test_only_a_success_with_a_manifest_makes_it_available(
    database: Database, state: OperationState, described: bool
) -> None:
    """However an operation ends: by its workflow, or by whoever finds that its workflow is lost."""
    tenant = await make_tenant(database)
    accepted = await take(database, tenant, await running(database, tenant))
    operation_id, identifier = accepted.accepted.operation.id, accepted.snapshot.id
    if described:
        await describe(database, operation_id, DB)
    else:
        await begin(database, operation_id)
    assert (await snapshot_of(database, tenant, identifier)).state is SnapshotState.CREATING
    await finish(database, operation_id, state)
    found = await snapshot_of(database, tenant, identifier)
    if described and state is S.SUCCEEDED:
        assert found.state is SnapshotState.AVAILABLE
        assert found.published_at is not None
        assert (found.stored_bytes, found.plain_bytes) == (1024, 4096)
        assert set(found.secrets) == {"db-password", "api-token"}
        return
    assert found.state is SnapshotState.FAILED
    assert (found.manifest, found.stored_bytes, found.plain_bytes) == (None, 0, 0)
    assert (found.consistency, found.scope, found.published_at) == (None, None, None)
    assert found.secrets == {}


async def test_what_is_written_after_the_end_changes_nothing(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await take(database, tenant, await running(database, tenant))
    manifest = await describe(database, accepted.accepted.operation.id, DB)
    await finish(database, accepted.accepted.operation.id, S.CANCELLED)
    async with database.transaction() as session:
        await snapshots.describe(session, manifest)
    found = await snapshot_of(database, tenant, accepted.snapshot.id)
    assert (found.state, found.manifest) == (SnapshotState.FAILED, None)


async def test_one_that_never_began_fails_when_it_is_cancelled(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await take(database, tenant, await running(database, tenant))
    async with database.transaction() as session:
        await cancel_operation(
            session, tenant.actor, accepted.accepted.operation.id, cleanup=False, reason=""
        )
    assert (await snapshot_of(database, tenant, accepted.snapshot.id)).state is SnapshotState.FAILED


async def test_it_outlives_its_environment_and_comes_back_with_its_secrets(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    before = await values_of(database, tenant, environment_id)
    identifier = await taken(database, tenant, environment_id, DB)
    taking = await take(database, tenant, environment_id)
    await begin(database, taking.accepted.operation.id)
    async with database.transaction() as session:
        deleting = await delete_environment(session, tenant.actor, environment_id, force=False)
    await finish(database, taking.accepted.operation.id, S.CANCELLED)
    await ended(database, deleting)
    assert (await snapshot_of(database, tenant, taking.snapshot.id)).state is SnapshotState.FAILED
    assert await values_of(database, tenant, environment_id) == {}

    accepted = await restore_new(database, tenant, identifier)
    restored = accepted.environment
    assert restored.id != environment_id
    # What was generated in the first is a password in the data: it stays what it was.
    assert await values_of(database, tenant, restored.id) == before
    assert before["api-token"] == PLANTED
    for value in before.values():
        assert await rows_with(database, value) == []
    await ended(database, accepted)
    assert (await environment_of(database, tenant, restored.id)).phase is P.RUNNING


async def test_a_snapshot_does_not_open_for_another(database: Database) -> None:
    """What is kept is sealed for its own snapshot and name: rows that were exchanged do not open."""
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    one = await taken(database, tenant, environment_id, DB)
    other = await taken(database, tenant, environment_id, DB)
    async with database.transaction() as session:
        row = await session.get_one(tables.Snapshot, one)
        row.secrets = (await session.get_one(tables.Snapshot, other)).secrets
    with pytest.raises(Exception, match="cannot be opened"):
        await restore_new(database, tenant, one)


async def test_scaling_and_hosts_are_the_new_ones_own(database: Database) -> None:
    tenant = await make_tenant(database)
    wanted = edited(api={"expose": {"host": "shop.example.test"}})
    environment_id = await running(database, tenant, wanted)
    await ended(database, await scale(database, tenant, environment_id, 3))
    identifier = await taken(database, tenant, environment_id, DB)
    accepted = await restore_new(database, tenant, identifier)
    async with database.reading() as session:
        [blueprint] = (
            await session.exec(
                select(tables.Revision.blueprint).where(
                    col(tables.Revision.environment_id) == accepted.environment.id
                )
            )
        ).all()
    [api] = [each for each in blueprint["services"] if each["name"] == "api"]
    assert api["replicas"] == 3
    assert "shop.example.test" not in str(blueprint)


async def test_what_came_from_a_snapshot_is_remembered_until_it_goes(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    accepted = await restore_new(database, tenant, identifier)
    restored = accepted.environment.id
    loaded = {"db": identifier}
    assert (await overrides_of(database, tenant, restored)).loaded == loaded
    await ended(database, accepted)
    await ended(database, await scale(database, tenant, restored, 2))
    assert (await overrides_of(database, tenant, restored)).loaded == loaded
    await ended(database, await restart(database, tenant, restored, service="db"))
    assert (await overrides_of(database, tenant, restored)).loaded == loaded


@pytest.mark.parametrize("how", EMPTIED)
async def test_an_update_that_replaces_the_volume_forgets_where_its_data_came_from(
    database: Database, how: str
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB, stored("api", DataStore.FILES, "/docs"))
    accepted = await restore_new(database, tenant, identifier)
    await ended(database, accepted)
    restored = accepted.environment.id
    assert set((await overrides_of(database, tenant, restored)).loaded) == {"api", "db"}
    copy = edited().model_copy(update={"name": "copy"})
    kept = await update(database, tenant, restored, edited(copy, db={"env": {"LEVEL": "debug"}}))
    await ended(database, kept.accepted)
    assert set((await overrides_of(database, tenant, restored)).loaded) == {"api", "db"}
    emptied = await update(database, tenant, restored, edited(copy, db=EMPTIED[how]))
    await ended(database, emptied.accepted)
    assert (await overrides_of(database, tenant, restored)).loaded == {"api": identifier}
    gone = await update(database, tenant, restored, edited(copy, db=EMPTIED[how], api=None))
    await ended(database, gone.accepted)
    assert (await overrides_of(database, tenant, restored)).loaded == {}


async def test_in_place_the_blueprint_and_secrets_stay(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    other = await running(database, tenant, edited().model_copy(update={"name": "other"}))
    before = await values_of(database, tenant, other)
    accepted = await restore_in(database, tenant, identifier, other)
    assert (await environment_of(database, tenant, other)).phase is P.PROVISIONING
    assert await steps_of(database, tenant, accepted) == [
        *("namespace", "check/db", "stop/api", "secrets", "service/db", "load/db", "service/api"),
    ]
    await ended(database, accepted)
    after = await environment_of(database, tenant, other)
    assert (after.phase, after.revision) == (P.RUNNING, 1)
    assert await values_of(database, tenant, other) == before
    assert (await overrides_of(database, tenant, other)).loaded == {"db": identifier}


async def test_what_is_protected_keeps_its_data(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    async with database.transaction() as session:
        (await session.get_one(tables.Environment, environment_id)).protected = True
    with pytest.raises(Protected):
        await restore_in(database, tenant, identifier, environment_id)
    async with database.transaction() as session:
        with pytest.raises(Protected):
            await replay_environment(
                session, tenant.actor, environment_id, ReplayWish(snapshot_id=identifier), keys=KEYS
            )


async def test_data_that_came_in_part_are_not_replayed_over(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    accepted = await restore_in(database, tenant, identifier, environment_id)
    await begin(database, accepted.operation.id)
    await record(database, accepted.operation.id, StepChange(step="load/db", state=StepState.RUNNING))
    await finish(database, accepted.operation.id, S.FAILED)
    async with database.transaction() as session:
        with pytest.raises(NotReplayable, match="in part"):
            await replay_environment(session, tenant.actor, environment_id, ReplayWish(), keys=KEYS)
    async with database.transaction() as session:
        await replay_environment(
            session, tenant.actor, environment_id, ReplayWish(snapshot_id=identifier), keys=KEYS
        )


async def test_a_restore_that_never_began_leaves_no_trace(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    accepted = await restore_in(database, tenant, identifier, environment_id)
    async with database.transaction() as session:
        await cancel_operation(session, tenant.actor, accepted.operation.id, cleanup=False, reason="")
    assert (await environment_of(database, tenant, environment_id)).phase is P.RUNNING
    assert (await overrides_of(database, tenant, environment_id)).loaded == {}


FENCED = StepChange(step="namespace", state=StepState.SUCCEEDED, output={"existed": True})
UNREAD = StepChange(step="check/db", state=StepState.FAILED)
CORRUPT = failure(FailureKind.SNAPSHOT_CORRUPT, "part 0 is another", step="check/db")


async def refused(
    database: Database, operation_id: str, *changes: StepChange, why: Failure | None = CORRUPT
) -> None:
    """Let an operation fail once these steps have changed."""
    await begin(database, operation_id)
    await record(database, operation_id, *changes)
    await finish(database, operation_id, S.FAILED, failure=why)


async def marred(database: Database, environment_id: str, phase: EnvironmentPhase, ready: Condition) -> None:
    """Set how an environment is found."""
    async with database.transaction() as session:
        row = await session.get_one(tables.Environment, environment_id)
        environments.apply_phase(row, phase, ready, utc_now())


@pytest.mark.parametrize("phase", [P.RUNNING, P.DEGRADED, P.ERROR])
@pytest.mark.parametrize("replayed", [False, True])
async def test_one_refused_before_it_touched_anything_leaves_the_environment_as_it_was(
    database: Database, phase: EnvironmentPhase, replayed: bool
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    status = "True" if phase is P.RUNNING else "False"
    since = utc_now() - timedelta(days=1)
    ready = Condition(type="Ready", status=status, reason="Found", message="so", since=since)
    await marred(database, environment_id, phase, ready)
    before = await environment_of(database, tenant, environment_id)
    if replayed:
        async with database.transaction() as session:
            wish = ReplayWish(snapshot_id=identifier)
            accepted = await replay_environment(session, tenant.actor, environment_id, wish, keys=KEYS)
    else:
        accepted = await restore_in(database, tenant, identifier, environment_id)
    await refused(database, accepted.operation.id, FENCED, UNREAD)
    after = await environment_of(database, tenant, environment_id)
    assert (after.phase, after.conditions) == (phase, before.conditions)
    assert (await overrides_of(database, tenant, environment_id)).loaded == {}
    told = await operation_of(database, tenant, accepted.operation.id)
    assert (told.state, told.failure, told.cleanup) == (S.FAILED, CORRUPT, Cleanup(complete=True))
    if phase is not P.DEGRADED:  # that is repaired
        with pytest.raises(NotRetryable):
            await retry(database, tenant, environment_id)
    again = await restore_in(database, tenant, identifier, environment_id)
    assert again.operation.kind is OperationKind.RESTORE
    await ended(database, again)
    assert (await environment_of(database, tenant, environment_id)).phase is P.RUNNING


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([FENCED, UNREAD, StepChange(step="stop/api", state=StepState.RUNNING)], CORRUPT),
        # Begun and cancelled in one write: it has no time at which it began.
        ([FENCED, UNREAD, StepChange(step="secrets", state=StepState.CANCELLED)], CORRUPT),
        ([FENCED.model_copy(update={"output": {"existed": False}}), UNREAD], CORRUPT),
        ([FENCED.model_copy(update={"output": None}), UNREAD], CORRUPT),
        ([FENCED.model_copy(update={"state": StepState.FAILED}), UNREAD], CORRUPT),
        ([FENCED, UNREAD], failure(FailureKind.TIMEOUT, "late", step="load/db")),
        ([FENCED, UNREAD], failure(FailureKind.INTERNAL, "the workflow is gone")),
        ([FENCED, UNREAD], None),
        ([FENCED, StepChange(step="check/db", state=StepState.RUNNING)], CORRUPT),
        ([FENCED, StepChange(step="check/db", state=StepState.SUCCEEDED)], CORRUPT),
    ],
)
async def test_where_something_may_have_been_touched_it_is_an_error(
    database: Database, changes: list[StepChange], why: Failure | None
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    accepted = await restore_in(database, tenant, identifier, environment_id)
    await refused(database, accepted.operation.id, *changes, why=why)
    assert (await environment_of(database, tenant, environment_id)).phase is P.ERROR
    assert (await operation_of(database, tenant, accepted.operation.id)).cleanup is None
    assert (await retry(database, tenant, environment_id)).operation.kind is OperationKind.RESTORE


async def test_a_retry_that_is_refused_leaves_the_error_of_the_attempt_before(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    first = await restore_in(database, tenant, identifier, environment_id)
    await refused(database, first.operation.id, StepChange(step="load/db", state=StepState.FAILED))
    again = await retry(database, tenant, environment_id)
    await refused(database, again.operation.id, FENCED, UNREAD)
    assert (await environment_of(database, tenant, environment_id)).phase is P.ERROR
    assert (await whole_of(database, tenant, environment_id))[:2] == ("False", "RestoreFailed")
    assert (await retry(database, tenant, environment_id)).operation.retry_of == again.operation.id


@pytest.mark.parametrize("new", [True, False])
async def test_a_failed_restore_is_retried_with_the_same_snapshot(database: Database, new: bool) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    if new:
        first = await restore_new(database, tenant, identifier)
    else:
        first = await restore_in(database, tenant, identifier, environment_id)
    await ended(database, first, S.FAILED)
    target = first.environment.id
    assert (await environment_of(database, tenant, target)).phase is P.ERROR
    again = await retry(database, tenant, target)
    assert (again.operation.kind, again.operation.retry_of) == (OperationKind.RESTORE, first.operation.id)
    assert await steps_of(database, tenant, again) == await steps_of(database, tenant, first)
    async with database.reading() as session:
        run = await snapshots.run_of(session, again.operation.id)
    assert run is not None
    assert run.snapshot_id == identifier
    # Nobody takes it away meanwhile.
    with pytest.raises(SnapshotInUse):
        async with database.transaction() as session:
            await snapshots.ask_to_delete(session, tenant.actor, identifier)
    await ended(database, again)
    assert (await environment_of(database, tenant, target)).phase is P.RUNNING
    assert (await overrides_of(database, tenant, target)).loaded == {"db": identifier}


async def test_data_that_came_in_part_are_told_of_until_all_came(database: Database) -> None:
    """An update makes the services run again, and says nothing about half a database."""
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)

    async def whole() -> tuple[str, str] | None:
        found = (await environment_of(database, tenant, environment_id)).conditions
        return next(((each.status, each.message) for each in found if each.type == DATA_WHOLE), None)

    first = await restore_in(database, tenant, identifier, environment_id)
    await begin(database, first.operation.id)
    await record(database, first.operation.id, StepChange(step="load/db", state=StepState.RUNNING))
    reason = failure(FailureKind.SNAPSHOT_CORRUPT, "part 3 is missing")
    await finish(database, first.operation.id, S.FAILED, failure=reason)
    told = ("False", "Not loaded to the end: db (part 3 is missing)")
    assert await whole() == told
    changed = await update(database, tenant, environment_id, edited(api={"env": {"A": "1"}}))
    await ended(database, changed.accepted)
    assert (await environment_of(database, tenant, environment_id)).phase is P.RUNNING
    assert await whole() == told
    await ended(database, await restore_in(database, tenant, identifier, environment_id))
    assert await whole() == ("True", "")


async def whole_of(database: Database, tenant: Tenant, environment_id: str) -> tuple[str, str, str]:
    """What the environment says of its data, once."""
    found = (await environment_of(database, tenant, environment_id)).conditions
    [told] = [(each.status, each.reason, each.message) for each in found if each.type == DATA_WHOLE]
    return told


async def without_volume(database: Database, tenant: Tenant) -> tuple[str, str]:
    """An environment whose database keeps in its pod alone what was restored, and the snapshot."""
    bare = edited(db={"volumes": []})
    environment_id = await running(database, tenant, bare)
    identifier = await taken(database, tenant, environment_id, DB)
    await ended(database, await restore_in(database, tenant, identifier, environment_id))
    return environment_id, identifier


async def test_data_without_a_volume_are_told_of(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, _ = await without_volume(database, tenant)
    told = await whole_of(database, tenant, environment_id)
    assert told[:2] == ("True", "Restored")
    assert "db: no volume keeps them" in told[2]
    # What leaves the pod where it is changes nothing about that.
    await ended(database, await restart(database, tenant, environment_id))
    await ended(database, (await take(database, tenant, environment_id)).accepted, S.FAILED)
    await ended(database, await scale(database, tenant, environment_id, 0))
    assert await whole_of(database, tenant, environment_id) == told


@pytest.mark.parametrize("how", ["stop", "restart", "scale", "update", "replay"])
async def test_data_that_went_with_their_pod_are_not_called_whole(database: Database, how: str) -> None:
    tenant = await make_tenant(database)
    environment_id, identifier = await without_volume(database, tenant)

    async def asked() -> Accepted:
        match how:
            case "stop":
                return await stop(database, tenant, environment_id)
            case "restart":
                return await restart(database, tenant, environment_id, service="db")
            case "scale":
                return await scale(database, tenant, environment_id, 0, service="db")
            case "update":
                changed = edited(edited(db={"volumes": []}), db={"env": {"A": "1"}})
                made = (await update(database, tenant, environment_id, changed)).accepted
                assert made is not None
                return made
            case _:
                async with database.transaction() as session:
                    return await replay_environment(
                        session, tenant.actor, environment_id, ReplayWish(), keys=KEYS
                    )

    accepted = await asked()
    step = "stop/db" if how == "stop" else "service/db"
    await begin(database, accepted.operation.id)
    for state in (StepState.RUNNING, StepState.SUCCEEDED):
        await record(database, accepted.operation.id, StepChange(step=step, state=state))
    await finish(database, accepted.operation.id, S.SUCCEEDED)
    told = await whole_of(database, tenant, environment_id)
    assert told[:2] == ("False", "DataGone")
    assert "no longer in db" in told[2]
    # Its init is run again: another pod has nothing.
    assert (await overrides_of(database, tenant, environment_id)).loaded == {}
    if how not in ("stop", "scale"):
        await ended(database, await restore_in(database, tenant, identifier, environment_id))
        told = await whole_of(database, tenant, environment_id)
        assert told[0] == "True"


async def test_a_stop_that_did_not_get_there_forgets_no_data(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, identifier = await without_volume(database, tenant)
    accepted = await stop(database, tenant, environment_id)
    await begin(database, accepted.operation.id)
    await finish(database, accepted.operation.id, S.FAILED)
    told = await whole_of(database, tenant, environment_id)
    assert told[0] == "True"
    again = await stop(database, tenant, environment_id)
    await begin(database, again.operation.id)
    await record(database, again.operation.id, StepChange(step="stop/db", state=StepState.RUNNING))
    await finish(database, again.operation.id, S.FAILED)
    # Whether the pod is gone is not known: its init is not run over what may be there.
    assert (await whole_of(database, tenant, environment_id))[:2] == ("False", "DataGone")
    assert (await overrides_of(database, tenant, environment_id)).loaded == {"db": identifier}


async def test_data_on_volumes_outlive_pods(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    await ended(database, await restore_in(database, tenant, identifier, environment_id))
    await ended(database, await restart(database, tenant, environment_id, service="db"))
    await ended(database, await stop(database, tenant, environment_id))
    assert await whole_of(database, tenant, environment_id) == ("True", "Restored", "")
    assert (await overrides_of(database, tenant, environment_id)).loaded == {"db": identifier}


async def test_a_restore_is_not_retried_without_its_snapshot(database: Database) -> None:
    tenant = await make_tenant(database)
    identifier = await taken(database, tenant, await running(database, tenant), DB)
    first = await restore_new(database, tenant, identifier)
    await ended(database, first, S.FAILED)
    async with database.transaction() as session:
        await snapshots.ask_to_delete(session, tenant.actor, identifier)
    with pytest.raises(SnapshotNotReady):
        await retry(database, tenant, first.environment.id)
    assert (await operation_of(database, tenant, first.operation.id)).state is S.FAILED
    assert (await environment_of(database, tenant, first.environment.id)).phase is P.ERROR


async def test_a_snapshot_that_failed_is_not_retried_but_what_is_degraded_is_repaired(
    database: Database,
) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    taking = await take(database, tenant, environment_id)
    await ended(database, taking.accepted, S.FAILED, DONE)
    with pytest.raises(NotRetryable, match="take another one"):
        await retry(database, tenant, environment_id)
    await degrade(database, tenant, environment_id)
    repair = await retry(database, tenant, environment_id)
    assert repair.operation.kind is OperationKind.PROVISION
    await ended(database, repair)
    assert (await environment_of(database, tenant, environment_id)).phase is P.RUNNING


async def test_it_outlives_the_operation_that_took_it(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id = await running(database, tenant)
    identifier = await taken(database, tenant, environment_id, DB)
    await ended(database, await restore_in(database, tenant, identifier, environment_id))
    await ended(database, await scale(database, tenant, environment_id, 2))
    async with database.transaction() as session:
        while await forget_history(session, events_before=utc_now(), operations_before=utc_now()):
            pass
    found = await snapshot_of(database, tenant, identifier)
    assert found.state is SnapshotState.AVAILABLE
    async with database.reading() as session:
        assert (await session.exec(select(SnapshotRun))).all() == []
        assert (await session.exec(select(Override.loaded).where(col(Override.service) == "db"))).all() == [
            identifier
        ]
    assert (await restore_new(database, tenant, identifier)).operation.kind is OperationKind.RESTORE
    async with database.reading() as session:
        page = await operations.list_operations(session, tenant.id, limit=10)
    assert found.operation_id not in {each.id for each in page.items}


async def test_a_deletion_and_a_restore_at_once_do_not_both_win(database: Database) -> None:
    tenant = await make_tenant(database)
    identifier = await taken(database, tenant, await running(database, tenant), DB)

    async def delete(actor: Actor) -> None:
        async with database.transaction() as session:
            await snapshots.ask_to_delete(session, actor, identifier)

    ends = await asyncio.gather(
        restore_new(database, tenant, identifier), delete(tenant.actor), return_exceptions=True
    )
    refused = [each for each in ends if isinstance(each, Exception)]
    assert [type(each) for each in refused] in ([SnapshotInUse], [SnapshotNotReady])


async def test_what_is_told_of_the_data_is_true_of_all_attempts(database: Database) -> None:
    """A later attempt that replaced less, or nothing, does not make whole what one before it left in part."""
    tenant = await make_tenant(database)
    bare = edited(cache={"image": "registry.test/redis:7"})
    environment_id = await running(database, tenant, bare)
    identifier = await taken(database, tenant, environment_id, DB, stored("cache", DataStore.REDIS))
    first = await restore_in(database, tenant, identifier, environment_id)
    assert (await begin(database, first.operation.id)).touched == ()
    for step, state in (
        ("load/db", StepState.RUNNING),
        ("load/cache", StepState.RUNNING),
        ("load/cache", StepState.FAILED),
    ):
        await record(database, first.operation.id, StepChange(step=step, state=state))
    await finish(database, first.operation.id, S.FAILED, failure=failure(FailureKind.TIMEOUT, "one"))
    told = await whole_of(database, tenant, environment_id)
    assert told == ("False", "RestoreFailed", "Not loaded to the end: cache, db (one)")

    second = await retry(database, tenant, environment_id)
    assert set((await begin(database, second.operation.id)).touched) == {"load/db", "load/cache"}
    left = Cleanup(complete=False, not_undone=("load/db: its data may be replaced, in part or whole",))
    await finish(database, second.operation.id, S.CANCELLED, cleanup=left)
    assert await whole_of(database, tenant, environment_id) == told
    environment = await environment_of(database, tenant, environment_id)
    assert environment.phase is EnvironmentPhase.ERROR
    assert set((await overrides_of(database, tenant, environment_id)).loaded) == {"db", "cache"}

    third = await retry(database, tenant, environment_id)
    assert set((await begin(database, third.operation.id)).touched) == {"load/db", "load/cache"}
    for state in (StepState.RUNNING, StepState.SUCCEEDED):
        await record(database, third.operation.id, StepChange(step="load/cache", state=state))
    await finish(database, third.operation.id, S.FAILED, failure=failure(FailureKind.TIMEOUT, "three"))
    told = await whole_of(database, tenant, environment_id)
    assert told == ("False", "RestoreFailed", "Not loaded to the end: db (three)")


async def test_a_stop_for_a_load_that_did_not_come_takes_away_what_a_pod_alone_had(
    database: Database,
) -> None:
    tenant = await make_tenant(database)
    bare = edited(cache={"image": "registry.test/redis:7", "dependsOn": ["db"]})
    environment_id = await running(database, tenant, bare)
    cached = await taken(database, tenant, environment_id, stored("cache", DataStore.REDIS))
    await ended(database, await restore_in(database, tenant, cached, environment_id))
    only_db = await taken(database, tenant, environment_id, DB)
    accepted = await restore_in(database, tenant, only_db, environment_id)
    await begin(database, accepted.operation.id)
    await record(database, accepted.operation.id, StepChange(step="stop/cache", state=StepState.RUNNING))
    await finish(database, accepted.operation.id, S.FAILED)
    assert (await whole_of(database, tenant, environment_id))[:2] == ("False", "DataGone")


async def test_a_pod_made_anew_for_a_load_that_did_not_come_has_nothing(database: Database) -> None:
    tenant = await make_tenant(database)
    environment_id, identifier = await without_volume(database, tenant)
    async with database.transaction() as session:
        wish = ReplayWish(snapshot_id=identifier)
        accepted = await replay_environment(session, tenant.actor, environment_id, wish, keys=KEYS)
    assert accepted.in_pods_alone == ("db",)
    await begin(database, accepted.operation.id)
    for state in (StepState.RUNNING, StepState.SUCCEEDED):
        await record(database, accepted.operation.id, StepChange(step="service/db", state=state))
    await finish(database, accepted.operation.id, S.FAILED)
    assert (await whole_of(database, tenant, environment_id))[:2] == ("False", "DataGone")
