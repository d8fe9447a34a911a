"""The keys of what is stored: for whom they open, and what is said of a manifest that was changed."""

import base64

import pytest
from temporalio.exceptions import ApplicationError

from activities.db.engine import Database
from activities.db.repositories import secrets, snapshots
from activities.secrets import Opener, Sealer, new_private_key
from activities.snapshots.frames import Component, ComponentKey, FileKey
from activities.snapshots.ledger import loadable
from tests.helpers.changes import running
from tests.helpers.snapshots import describe, stored, take
from tests.helpers.tenants import KEYS, Tenant, make_tenant
from workflows.contracts.snapshot import Loadable
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import FailureKind

pytestmark = pytest.mark.slow

OPENER = Opener(new_private_key())


async def sealed(database: Database, tenant: Tenant, component: Component) -> FileKey:
    """The key of a stream of a tenant."""
    async with database.transaction() as session:
        key = await secrets.data_key(session, tenant.id, KEYS)
    return ComponentKey.new(key, component).stream_key()


async def loaded(database: Database, tenant: Tenant, snapshot_id: str) -> Loadable:
    async with database.reading() as session:
        snapshot = await snapshots.get_snapshot(session, tenant.id, snapshot_id)
        return await loadable(session, snapshot, "db", KEYS, Sealer(OPENER.public_key))


async def written(database: Database, tenant: Tenant) -> tuple[str, str]:
    """A snapshot whose manifest is about to be written, and the operation that takes it."""
    taking = await take(database, tenant, await running(database, tenant))
    return taking.snapshot.id, taking.accepted.operation.id


async def with_header(database: Database, operation_id: str, header: str) -> None:
    """Write down what was stored, with this header."""
    component = stored("db", DataStore.POSTGRES, "shop")
    parts = tuple(each.model_copy(update={"header": header}) for each in component.parts)
    await describe(database, operation_id, component.model_copy(update={"parts": parts}))


async def test_the_key_of_a_stream_is_sealed_for_the_cluster(database: Database) -> None:
    tenant = await make_tenant(database)
    snapshot, operation = await written(database, tenant)
    key = await sealed(database, tenant, Component(snapshot, "db"))
    await with_header(database, operation, base64.b64encode(key.header).decode())
    [told] = (await loaded(database, tenant, snapshot)).keys.values()
    assert base64.b64decode(OPENER.open(told)) == key.key


@pytest.mark.parametrize(
    "whose", ["another organisation's", "another snapshot's", "no base64", "cut", "none"]
)
async def test_a_header_that_is_not_its_own_is_damage(database: Database, whose: str) -> None:
    """It is told at once: trying again would open nothing."""
    tenant, other = await make_tenant(database), await make_tenant(database)
    snapshot, operation = await written(database, tenant)
    own, foreign = Component(snapshot, "db"), Component("snap_another", "db")
    header = base64.b64encode((await sealed(database, tenant, own)).header).decode()
    headers = {
        "another organisation's": base64.b64encode((await sealed(database, other, own)).header).decode(),
        "another snapshot's": base64.b64encode((await sealed(database, tenant, foreign)).header).decode(),
        "no base64": f"!{header[1:]}",
        "cut": header[:-3],
        "none": "",
    }
    await with_header(database, operation, headers[whose])
    with pytest.raises(ApplicationError) as caught:
        await loaded(database, tenant, snapshot)
    assert caught.value.type == FailureKind.SNAPSHOT_CORRUPT
    assert caught.value.non_retryable
