"""Telling a running workflow what was asked of it: nothing is lost, whatever comes in between."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from activities.db.acceptance import cancel_operation, delete_environment
from activities.db.engine import Database
from activities.db.records import OperationRecord
from activities.db.repositories import operations
from activities.delivery import deliver
from activities.temporal import OperationStart, TemporalUnavailable
from tests.helpers.tenants import Tenant, accept, begin, make_tenant
from workflows.contracts.delete import FORCE_SIGNAL
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest


@dataclass
class Workflow:
    """The one workflow in Temporal's place. `meanwhile` happens while a signal is under way."""

    running: bool = True
    away: bool = False
    meanwhile: Callable[[], Awaitable[object]] | None = None
    signals: list[tuple[str, CancelRequest | None]] = field(default_factory=list)

    async def start(self, operation: OperationStart) -> None:
        raise AssertionError("it runs already")

    async def signal(self, workflow_id: str, name: str, argument: CancelRequest | None) -> bool:
        if self.away:
            raise TemporalUnavailable("Temporal does not answer (unavailable)")
        if self.running:
            self.signals.append((name, argument))
        if self.meanwhile is not None:
            await self.meanwhile()
        return self.running

    async def check(self) -> None:
        return


async def cancel(
    database: Database, tenant: Tenant, operation_id: str, *, cleanup: bool = False
) -> OperationRecord:
    async with database.transaction() as session:
        return await cancel_operation(session, tenant.actor, operation_id, cleanup=cleanup, reason="")


async def undelivered(database: Database) -> list[OperationRecord]:
    async with database.reading() as session:
        return list(await operations.undelivered(session))


async def running(database: Database, tenant: Tenant) -> str:
    accepted = await accept(database, tenant)
    await begin(database, accepted.operation.id)
    return accepted.operation.id


async def forced(database: Database, tenant: Tenant) -> OperationRecord:
    """A delete that runs, forced since."""
    environment_id = (await accept(database, tenant)).environment.id
    async with database.transaction() as session:
        deleting = await delete_environment(session, tenant.actor, environment_id, force=False)
    await begin(database, deleting.operation.id)
    async with database.transaction() as session:
        return (await delete_environment(session, tenant.actor, environment_id, force=True)).operation


async def test_a_request_between_anothers_signal_and_its_mark_is_not_lost(database: Database) -> None:
    """The second's own delivery is lost: only the reconciler can still find it."""
    tenant = await make_tenant(database)
    identifier = await running(database, tenant)
    first = await cancel(database, tenant, identifier)
    workflow = Workflow(meanwhile=lambda: cancel(database, tenant, identifier, cleanup=True))
    assert await deliver(database, workflow, first)
    workflow.meanwhile = None
    [left] = await undelivered(database)
    assert (left.id, left.asked, left.told) == (identifier, 2, 1)
    assert await deliver(database, workflow, left)
    assert workflow.signals == [
        (CANCEL_SIGNAL, CancelRequest(cleanup=False)),
        (CANCEL_SIGNAL, CancelRequest(cleanup=True)),
    ]
    assert await undelivered(database) == []


async def test_a_force_is_told_without_more(database: Database) -> None:
    tenant = await make_tenant(database)
    deleting, workflow = await forced(database, tenant), Workflow()
    assert [each.id for each in await undelivered(database)] == [deleting.id]
    assert await deliver(database, workflow, deleting)
    assert workflow.signals == [(FORCE_SIGNAL, None)]
    assert await undelivered(database) == []


async def test_what_nobody_took_stays_to_be_told(database: Database) -> None:
    tenant = await make_tenant(database)
    deleting = await forced(database, tenant)
    assert not await deliver(database, Workflow(running=False), deleting)
    with pytest.raises(TemporalUnavailable):
        await deliver(database, Workflow(away=True), deleting)
    assert [each.id for each in await undelivered(database)] == [deleting.id]
