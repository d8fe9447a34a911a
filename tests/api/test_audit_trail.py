"""Every route that changes something writes the one audit entry that it declares, with the change or not.

The routes and what they are sent are those of `contract.csv`; what a route writes stands beside it, in
`documented(audit=...)`, and so in `openapi.json` as `x-audit`.
"""

import json
from typing import Any

import pytest
from sqlmodel import col, select
from structlog.testing import capture_logs

from activities.db import tables
from activities.db.repositories import audit
from activities.db.repositories.keys import create_key
from activities.db.tables import AuditEntry, Role
from tests.api.arrangements import ARRANGEMENTS, HTTP, Call, Row, World
from tests.api.support import Api
from tests.api.test_contract import DOCUMENT, bare, cases, operation_of
from tests.helpers.tenants import Tenant

READING = ("GET", "HEAD")
CHANGING = [row for row in HTTP if row.method not in READING]
WRITING = [row for row in CHANGING if row.audit]
UNKNOWN = "env_01JZX5Q0V6H2M9K4T7B3C8D1EF"
MAKING = {"/environments/by-name/{}", "/secrets/{}"}
"""A name that is not there yet is made by a PUT."""


@pytest.fixture
async def world(api: Api, tenant: Tenant) -> World:
    await api.state.installation.id()  # made by whoever asks first, in a transaction of its own
    return World(api)


def declared() -> dict[tuple[str, str], list[str]]:
    """What the routes say that they write, by method and path."""
    return {
        (method.upper(), bare(path)): operation.get("x-audit")
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
        if method.upper() not in READING
    }


async def entries(api: Api) -> list[AuditEntry]:
    """The whole trail, oldest first."""
    async with api.database.reading() as session:
        query = select(AuditEntry).order_by(col(AuditEntry.at), col(AuditEntry.id))
        return list(await session.exec(query))


async def everything(api: Api) -> dict[str, list[str]]:
    """All rows of all tables."""
    found = {}
    async with api.database.reading() as session:
        for table in tables.Table.__subclasses__():
            rows = (await session.exec(select(table))).all()
            found[table.__name__] = sorted(repr(row.model_dump()) for row in rows)
    return found


async def send(api: Api, row: Row, call: Call, **headers: str) -> Any:
    """Send a row's request."""
    content = call.content()
    content["headers"] |= headers
    return await api.client.request(row.method, f"/v1{call.path(row)}", **content)


def test_every_route_that_is_no_reading_declares_what_it_writes() -> None:
    missing = [route for route, actions in declared().items() if actions is None]
    assert missing == []


def test_every_declared_action_has_a_row() -> None:
    in_table: dict[tuple[str, str], set[str]] = {}
    for row in CHANGING:
        in_table.setdefault((row.method, row.template), set()).update([row.audit] if row.audit else [])
    assert {route: set(actions) for route, actions in declared().items()} == in_table


@pytest.mark.parametrize("row", cases(CHANGING))
async def test_a_success_writes_its_entry_and_no_other(world: World, tenant: Tenant, row: Row) -> None:
    call = await ARRANGEMENTS[row.arrangement](world)
    before = await entries(world.api)
    response = await send(world.api, row, call)
    assert response.status_code == row.status, response.text
    added = (await entries(world.api))[len(before) :]
    assert [each.action for each in added] == ([row.audit] if row.audit else [])
    for each in added:
        assert (each.organization_id, each.principal_id, each.key_id) == (
            tenant.id,
            tenant.actor.principal_id,
            tenant.actor.key_id,
        )
        # The target stands in the address or in the answer; what has no id there is told by its name.
        told = each.subject_id in call.ids or each.subject_id in response.text
        assert told or each.data["name"] in call.ids


@pytest.mark.parametrize("row", cases(WRITING))
async def test_a_refusal_writes_nothing(world: World, tenant: Tenant, row: Row) -> None:
    call = await ARRANGEMENTS[row.arrangement](world)
    async with world.api.database.transaction() as session:
        viewer = await create_key(
            session, tenant.id, tenant.actor.principal_id, name="viewer", role=Role.VIEWER
        )
    before = await everything(world.api)
    refused = await send(world.api, row, call, Authorization=f"Bearer {viewer.token}")
    assert refused.status_code == 403
    if call.ids and row.template not in MAKING:
        unknown = Call((UNKNOWN, *call.ids[1:]), call.body, call.query)
        assert (await send(world.api, row, unknown)).status_code == 404
    if "412" in operation_of(row)["responses"]:
        assert (await send(world.api, row, call, **{"If-Match": '"999999"'})).status_code == 412
    assert await everything(world.api) == before


@pytest.mark.parametrize("row", cases(WRITING))
async def test_without_its_entry_nothing_is_done(
    world: World, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await ARRANGEMENTS[row.arrangement](world)
    before = await everything(world.api)
    started = list(await world.api.started())

    async def fails(*_: object) -> None:
        raise RuntimeError("the trail cannot be written")

    monkeypatch.setattr(audit, "insert_rows", fails)
    with capture_logs():
        response = await send(world.api, row, call)
    assert response.status_code == 500, response.text
    assert json.loads(response.text)["code"] == "internal"
    assert await everything(world.api) == before
    assert await world.api.started() == started
