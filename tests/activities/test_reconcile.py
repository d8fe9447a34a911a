"""The reconciler tells running workflows what they were not told when it was asked."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from sqlmodel import update
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.db.acceptance import cancel_operation, delete_environment
from activities.db.engine import Database
from activities.db.repositories.installation import installation_id
from activities.db.repositories.operations import get_operation
from activities.db.tables import Installation, Operation
from activities.reconcile import ControlReconcile
from activities.temporal import TemporalRefused
from tests.helpers.attempts import handed_out
from tests.helpers.tenants import Tenant, accept, begin, make_tenant, shop
from workflows.contracts.delete import FORCE_SIGNAL
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest
from workflows.contracts.reconcile import Reconciled
from workflows.domain.operations import OperationState


@dataclass
class Description:
    """A workflow that runs."""

    status: WorkflowExecutionStatus = WorkflowExecutionStatus.RUNNING
    close_time: None = None


@dataclass
class FakeTemporal:
    """The part of Temporal's client that the reconciler uses. Every workflow runs; `deaf` takes no signal."""

    signals: list[tuple[str, str, list[CancelRequest]]] = field(default_factory=list)
    deaf: bool = False
    forgetful: bool = False
    """Knows no workflow."""
    refused: str = ""
    """Of this workflow it takes nothing."""
    started: list[str] = field(default_factory=list)

    async def start_workflow(self, _workflow: str, _argument: object, *, id: str, **_: object) -> None:  # noqa: A002 - the client's name
        if id == self.refused:
            raise RPCError("no such search attribute", RPCStatusCode.INVALID_ARGUMENT, b"")
        self.started.append(id)

    def get_workflow_handle(self, workflow_id: str) -> "Handle":
        return Handle(self, workflow_id)


@dataclass
class Handle:
    """One workflow."""

    temporal: FakeTemporal
    workflow_id: str

    async def signal(self, name: str, *, args: list[CancelRequest], rpc_timeout: timedelta) -> None:
        if self.workflow_id == self.temporal.refused:
            raise RPCError("too large", RPCStatusCode.INVALID_ARGUMENT, b"")
        if self.temporal.deaf:
            raise RPCError("workflow execution already completed", RPCStatusCode.NOT_FOUND, b"")
        self.temporal.signals.append((self.workflow_id, name, args))

    async def describe(self) -> Description:
        if self.temporal.forgetful:
            raise RPCError("workflow not found", RPCStatusCode.NOT_FOUND, b"")
        return Description()


async def reconcile(database: Database, temporal: FakeTemporal) -> Reconciled:
    activity = ControlReconcile(database, cast(Client, temporal))
    return await handed_out().run(activity.reconcile)


async def asked(database: Database, tenant: Tenant) -> tuple[str, str]:
    """A delete that runs and was forced since, and a cancelled provision beside it; their workflow ids."""
    accepted = await accept(database, tenant)
    await begin(database, accepted.operation.id)
    async with database.transaction() as session:
        await cancel_operation(session, tenant.actor, accepted.operation.id, cleanup=True, reason="wrong")
        deleting = await delete_environment(session, tenant.actor, accepted.environment.id, force=False)
    await begin(database, deleting.operation.id)
    async with database.transaction() as session:
        await delete_environment(session, tenant.actor, accepted.environment.id, force=True)
    return accepted.operation.workflow_id, deleting.operation.workflow_id


async def test_what_was_asked_is_told_once(database: Database) -> None:
    provision, deletion = await asked(database, await make_tenant(database))
    temporal = FakeTemporal()
    assert await reconcile(database, temporal) == Reconciled(examined=2, delivered=2)
    assert sorted(temporal.signals, key=lambda signal: signal[0]) == [
        (deletion, FORCE_SIGNAL, []),
        (provision, CANCEL_SIGNAL, [CancelRequest(cleanup=True, reason="wrong")]),
    ]
    assert await reconcile(database, temporal) == Reconciled(examined=2)


async def test_what_no_workflow_took_is_told_again(database: Database) -> None:
    await asked(database, await make_tenant(database))
    temporal = FakeTemporal(deaf=True)
    assert await reconcile(database, temporal) == Reconciled(examined=2)
    temporal.deaf = False
    assert (await reconcile(database, temporal)).delivered == 2


async def test_what_ran_when_the_backup_was_taken_says_so(database: Database) -> None:
    """Of two operations without a workflow, one had begun before the backup that this database came from."""
    tenant = await make_tenant(database)
    before = await accept(database, tenant, shop("before"))
    await begin(database, before.operation.id)
    async with database.transaction() as session:
        await installation_id(session)
        now = datetime.now(UTC)
        await session.exec(update(Installation).values(restored_at=now, restored_to=now))
    after = await accept(database, tenant, shop("after"))
    await begin(database, after.operation.id)
    assert (await reconcile(database, FakeTemporal(forgetful=True))).failed == 2
    async with database.reading() as session:
        ended = [await get_operation(session, tenant.id, each.operation.id) for each in (before, after)]
    assert [each.state for each in ended] == [OperationState.FAILED] * 2
    messages = [each.failure.message for each in ended if each.failure is not None]
    assert ["restored from a backup" in message for message in messages] == [True, False]


async def test_what_is_refused_of_one_holds_up_nobody_else(database: Database) -> None:
    tenant = await make_tenant(database)
    starts = [(await accept(database, tenant, shop(name))).operation for name in ("first", "second", "third")]
    async with database.transaction() as session:
        await session.exec(update(Operation).values(created_at=datetime.now(UTC) - timedelta(minutes=1)))
    temporal = FakeTemporal(refused=starts[0].workflow_id)
    with pytest.raises(TemporalRefused, match="no such search attribute"):
        await reconcile(database, temporal)
    assert temporal.started == [each.workflow_id for each in starts[1:]]
    async with database.reading() as session:
        first = await get_operation(session, tenant.id, starts[0].id)
    assert first.state is OperationState.ACCEPTED

    provision, deletion = await asked(database, await make_tenant(database))
    temporal = FakeTemporal(refused=provision)
    with pytest.raises(TemporalRefused, match="too large"):
        await reconcile(database, temporal)
    assert [workflow_id for workflow_id, *_ in temporal.signals] == [deletion]
